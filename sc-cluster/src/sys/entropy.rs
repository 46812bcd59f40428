//! The system's random number generator.

use sc_protocol::Entropy;

/// Random bytes from the kernel.
///
/// Small requests are served from a block that is drawn at once, since masking keys and ids ask for a few bytes each and a
/// system call per id would show. A block is used up in order and wiped as it goes.
#[derive(Debug, Clone)]
pub(crate) struct SystemEntropy {
    block: [u8; BLOCK],
    used: usize,
}

const BLOCK: usize = 256;

impl SystemEntropy {
    pub(crate) const fn new() -> Self {
        Self { block: [0; BLOCK], used: BLOCK }
    }

    /// `bytes` random bytes in hexadecimal, for keys and nonces.
    pub(crate) fn hex(&mut self, bytes: usize) -> String {
        let mut raw = vec![0; bytes];
        self.fill(&mut raw);
        raw.iter().fold(String::with_capacity(bytes * 2), |mut text, byte| {
            text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
            text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
            text
        })
    }
}

impl Entropy for SystemEntropy {
    fn fill(&mut self, buf: &mut [u8]) {
        if buf.len() > BLOCK / 4 {
            return from_kernel(buf);
        }
        if BLOCK - self.used < buf.len() {
            from_kernel(&mut self.block);
            self.used = 0;
        }
        let taken = &mut self.block[self.used..self.used + buf.len()];
        buf.copy_from_slice(taken);
        taken.fill(0);
        self.used += buf.len();
    }
}

/// Blocks only before the kernel's generator has been seeded, early at boot.
fn from_kernel(mut buf: &mut [u8]) {
    while !buf.is_empty() {
        match rustix::rand::getrandom(&mut *buf, rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => buf = &mut buf[n..],
            Err(rustix::io::Errno::INTR) => {}
            // Without randomness tokens and ids could be guessed: no process is better than such a one.
            Err(error) => {
                eprintln!("the kernel gives no random bytes: {error}");
                std::process::abort();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_differ_and_every_length_is_served() {
        let mut entropy = SystemEntropy::new();
        let ids: std::collections::BTreeSet<u64> = (0..1000).map(|_| entropy.next_u64()).collect();
        assert_eq!(ids.len(), 1000);
        for len in [0, 1, 63, 64, 65, 256, 257, 5000] {
            let mut buf = vec![0; len];
            entropy.fill(&mut buf);
            assert!(len < 16 || buf.iter().any(|b| *b != 0), "{len}");
        }
        assert_eq!(entropy.hex(32).len(), 64);
    }
}
