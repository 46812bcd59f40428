//! Where randomness comes from: the driver.
//!
//! The machines of this workspace take their random bytes from an [`Entropy`] that the driver hands in: the system's
//! generator in a server, a seeded one in a simulation, which then replays exactly.

/// A source of random bytes.
pub trait Entropy {
    /// Fills `buf` with random bytes. It cannot fail: a driver whose generator fails ends the process.
    fn fill(&mut self, buf: &mut [u8]);

    /// The next random 32 bits, for masking keys.
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        u32::from_ne_bytes(bytes)
    }

    /// The next random 64 bits, for the seeds of hash tables.
    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_ne_bytes(bytes)
    }
}

/// A seeded, reproducible source (SplitMix64) for simulations, tests and benchmarks. It is **not** fit for keys or ids that must not be
/// guessed.
#[derive(Debug, Clone)]
pub struct SeededEntropy(u64);

impl SeededEntropy {
    /// Equal seeds give equal streams of bytes.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl Entropy for SeededEntropy {
    fn fill(&mut self, buf: &mut [u8]) {
        for chunk in buf.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let bytes = (z ^ (z >> 31)).to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_bytes() {
        let (mut a, mut b, mut c) = (SeededEntropy::new(7), SeededEntropy::new(7), SeededEntropy::new(8));
        let draw = |e: &mut SeededEntropy| (e.next_u32(), e.next_u64());
        let first = draw(&mut a);
        assert_eq!(first, draw(&mut b));
        assert_ne!(first, draw(&mut c));
        assert_ne!(first, draw(&mut a));
    }
}
