//! The innermost loop of the whole protocol: how far a string goes on without anything special in it.

use memchr::memchr2;

/// Looked at in one go. Bounded, so that text with many control characters, each of which ends a run, costs no more than its length.
const BLOCK: usize = 256;

/// The first position at or after `at` with a byte that is special in a string: a quote, a backslash or a control
/// character. The length of `bytes` if there is none.
///
/// Keys are short and end within the first word; what is longer is most likely data, and is looked at in vectors.
#[inline]
pub(super) fn plain(bytes: &[u8], at: usize) -> usize {
    let Some(rest) = bytes.get(at..) else { return bytes.len() };
    let Some((word, rest)) = rest.split_first_chunk() else {
        return at + rest.iter().position(|&byte| is_special(byte)).unwrap_or(rest.len());
    };
    match first_special(u64::from_le_bytes(*word)) {
        Some(place) => at + place,
        None => at + 8 + long_plain(rest),
    }
}

/// How many bytes `rest` begins with that are not special. Kept out of line, or the short way above pays for the registers
/// that this one needs.
#[inline(never)]
fn long_plain(rest: &[u8]) -> usize {
    let mut passed = 0;
    for block in rest.chunks(BLOCK) {
        let mark = memchr2(b'"', b'\\', block);
        let run = &block[..mark.unwrap_or(block.len())];
        if has_control(run) {
            return passed + run.iter().position(|&byte| byte < 0x20).unwrap_or(run.len());
        }
        passed += run.len();
        if mark.is_some() {
            break;
        }
    }
    passed
}

/// Whether a control character is among them. The smallest byte tells, and finding it is vector code.
#[inline]
fn has_control(run: &[u8]) -> bool {
    const LANES: usize = 16;
    let (Some(last), (lanes, _)) = (run.last_chunk::<LANES>(), run.as_chunks::<LANES>()) else {
        return run.iter().any(|&byte| byte < 0x20);
    };
    // The last lanes overlap those before them: there is no rest to go through byte by byte.
    let mut least = *last;
    for lanes in lanes {
        for (least, &byte) in least.iter_mut().zip(lanes) {
            *least = byte.min(*least);
        }
    }
    least.iter().fold(u8::MAX, |least, &byte| least.min(byte)) < 0x20
}

/// The place of the first special byte of a word, whose first byte is its lowest.
///
/// The high bits of the special bytes are found without a branch. A borrow can set the bit of the byte above a special one as
/// well, never one below, so the lowest bit is right.
#[inline]
fn first_special(word: u64) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let (quote, slash) = (word ^ (ONES * b'"' as u64), word ^ (ONES * b'\\' as u64));
    let special = ((word.wrapping_sub(ONES * 0x20) & !word)
        | (quote.wrapping_sub(ONES) & !quote)
        | (slash.wrapping_sub(ONES) & !slash))
        & HIGH;
    (special != 0).then_some(special.trailing_zeros() as usize / 8)
}

#[inline]
fn is_special(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_judged_rightly_wherever_it_stands() {
        for len in [0, 1, 7, 8, 9, 23, 24, 25, 40, 263, 264, 265, 600] {
            let text = vec![b'x'; len];
            assert_eq!(plain(&text, 0), len);
            for place in 0..len {
                for byte in [0, b'\n', 0x1f, 0x20, b'!', b'"', b'#', b'[', b'\\', b']', 0x7f, 0x80, 0xff] {
                    let mut text = text.clone();
                    text[place] = byte;
                    let wanted = if is_special(byte) { place } else { len };
                    assert_eq!(plain(&text, 0), wanted, "{byte} at {place} of {len}");
                    assert_eq!(plain(&text, place), wanted, "{byte} at {place} of {len}, from there");
                }
            }
        }
    }
}
