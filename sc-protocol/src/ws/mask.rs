//! The XOR mask on a client's payloads (RFC 6455 section 5.3).

/// Masks or unmasks in place; the two are the same.
///
/// `offset` is the place of `payload[0]` in its frame's payload, so that a payload that comes in pieces can be unmasked
/// piece by piece.
///
/// ```
/// use sc_protocol::ws::mask::apply_mask;
///
/// let mut hello = [0x7f, 0x9f, 0x4d, 0x51, 0x58]; // RFC 6455 section 5.7
/// apply_mask(&mut hello, [0x37, 0xfa, 0x21, 0x3d], 0);
/// assert_eq!(&hello, b"Hello");
/// ```
#[inline]
pub fn apply_mask(payload: &mut [u8], mut key: [u8; 4], offset: usize) {
    key.rotate_left(offset & 3);

    // A fixed number of byte operations without a branch becomes vector instructions; every chunk size is a multiple of
    // the key's, so the key stays in step.
    let (blocks, rest) = payload.as_chunks_mut::<32>();
    if !blocks.is_empty() {
        let mut wide = [0; 32];
        wide.as_chunks_mut::<4>().0.fill(key);
        for block in blocks {
            for (byte, key) in block.iter_mut().zip(wide) {
                *byte ^= key;
            }
        }
    }
    let word = u32::from_ne_bytes(key);
    let (words, rest) = rest.as_chunks_mut::<4>();
    for bytes in words {
        *bytes = (u32::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(payload: &mut [u8], key: [u8; 4], offset: usize) {
        for (i, byte) in payload.iter_mut().enumerate() {
            *byte ^= key[(offset + i) % 4];
        }
    }

    #[test]
    fn agrees_with_the_definition_at_every_length_start_and_offset() {
        let key = [0x12, 0x34, 0xf6, 0x78];
        for len in 0..140 {
            for start in 0..4 {
                for offset in 0..9 {
                    let mut fast: Vec<u8> = (0..len + start).map(|i| (i * 7) as u8).collect();
                    let mut slow = fast.clone();
                    apply_mask(&mut fast[start..], key, offset);
                    naive(&mut slow[start..], key, offset);
                    assert_eq!(fast, slow, "length {len}, start {start}, offset {offset}");
                }
            }
        }
    }

    #[test]
    fn pieces_give_what_the_whole_gives() {
        let key = [9, 8, 7, 6];
        let mut whole: Vec<u8> = (0..200).collect();
        let mut pieces = whole.clone();
        apply_mask(&mut whole, key, 0);
        let mut at = 0;
        for size in [1, 2, 3, 50, 61, 83] {
            apply_mask(&mut pieces[at..at + size], key, at);
            at += size;
        }
        assert_eq!(at, 200);
        assert_eq!(whole, pieces);
    }
}
