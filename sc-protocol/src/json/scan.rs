//! Positions in JSON text: where a token or a value ends. `None` is "not JSON" throughout.

use super::plain::plain;

/// The first position at or after `at` that holds no white space.
#[inline]
pub(super) fn blank(bytes: &[u8], mut at: usize) -> usize {
    // One comparison where there is none, as in everything that `JSON.stringify` wrote.
    while let Some(&byte @ ..=b' ') = bytes.get(at)
        && matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
    {
        at += 1;
    }
    at
}

/// The end of the value that begins at `at`.
#[inline]
pub(super) fn value(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'{' | b'[' => container(bytes, at),
        _ => scalar(bytes, at),
    }
}

fn scalar(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'"' => string(bytes, at),
        b'-' | b'0'..=b'9' => number(bytes, at),
        b't' => literal(bytes, at, b"true"),
        b'f' => literal(bytes, at, b"false"),
        b'n' => literal(bytes, at, b"null"),
        _ => None,
    }
}

fn container(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut nesting = Nesting::default();
    loop {
        at = match bytes.get(at)? {
            b'{' => {
                at = blank(bytes, at + 1);
                if bytes.get(at) == Some(&b'}') {
                    at + 1
                } else {
                    nesting.open(true);
                    at = key(bytes, at)?;
                    continue;
                }
            }
            b'[' => {
                at = blank(bytes, at + 1);
                if bytes.get(at) == Some(&b']') {
                    at + 1
                } else {
                    nesting.open(false);
                    continue;
                }
            }
            _ => scalar(bytes, at)?,
        };
        // A value has ended: so may the containers it was the last of.
        loop {
            let Some(object) = nesting.innermost() else { return Some(at) };
            at = blank(bytes, at);
            match (bytes.get(at)?, object) {
                (b',', true) => {
                    at = key(bytes, blank(bytes, at + 1))?;
                    break;
                }
                (b',', false) => {
                    at = blank(bytes, at + 1);
                    break;
                }
                (b'}', true) | (b']', false) => {
                    at += 1;
                    nesting.close();
                }
                _ => return None,
            }
        }
    }
}

/// The end of the string token that begins at `at`.
#[inline]
pub(super) fn string(bytes: &[u8], at: usize) -> Option<usize> {
    string_and_escapes(bytes, at).map(|(end, _)| end)
}

/// The end of the string token that begins at `at`, and whether there are escapes in it.
#[inline]
pub(super) fn string_and_escapes(bytes: &[u8], at: usize) -> Option<(usize, bool)> {
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let at = plain(bytes, at + 1);
    match bytes.get(at)? {
        b'"' => Some((at + 1, false)),
        _ => string_with_escapes(bytes, at).map(|end| (end, true)),
    }
}

/// From the first special byte of a string token to its end.
fn string_with_escapes(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => match bytes.get(at + 1)? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => at += 2,
                b'u' => {
                    let digits = bytes.get(at + 2..at + 6)?;
                    if !digits.iter().all(u8::is_ascii_hexdigit) {
                        return None;
                    }
                    at += 6;
                }
                _ => return None,
            },
            _ => return None,
        }
        at = plain(bytes, at);
    }
}

/// The end of the number that begins at `at`.
pub(super) fn number(bytes: &[u8], mut at: usize) -> Option<usize> {
    if bytes.get(at) == Some(&b'-') {
        at += 1;
    }
    at = match bytes.get(at)? {
        b'0' => at + 1,
        b'1'..=b'9' => digits(bytes, at)?,
        _ => return None,
    };
    if bytes.get(at) == Some(&b'.') {
        at = digits(bytes, at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = bytes.get(at) {
            at += 1;
        }
        at = digits(bytes, at)?;
    }
    Some(at)
}

/// Behind the key's string token that ends at `at`: where the value begins.
#[inline]
pub(super) fn colon(bytes: &[u8], at: usize) -> Option<usize> {
    let at = blank(bytes, at);
    (bytes.get(at) == Some(&b':')).then(|| blank(bytes, at + 1))
}

/// From a key at `at` to its value.
#[inline]
fn key(bytes: &[u8], at: usize) -> Option<usize> {
    colon(bytes, string(bytes, at)?)
}

/// The end of one or more digits.
fn digits(bytes: &[u8], at: usize) -> Option<usize> {
    let mut end = at;
    while bytes.get(end).is_some_and(u8::is_ascii_digit) {
        end += 1;
    }
    (end > at).then_some(end)
}

fn literal(bytes: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    bytes.get(at..)?.starts_with(word).then_some(at + word.len())
}

/// The containers that are open, innermost last: one bit each, set for an object.
#[derive(Default)]
struct Nesting {
    depth: usize,
    /// The innermost `depth % 64` levels (64 of them just before more is needed), the innermost in the lowest bit.
    bits: u64,
    /// The levels outside those, 64 to an entry. Its growth is bounded by the text: a level costs a byte there and an
    /// eighth here.
    outer: Vec<u64>,
}

impl Nesting {
    #[inline]
    fn open(&mut self, object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.outer.push(self.bits);
        }
        self.bits = self.bits << 1 | u64::from(object);
        self.depth += 1;
    }

    #[inline]
    fn close(&mut self) {
        self.depth -= 1;
        self.bits >>= 1;
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.bits = self.outer.pop().unwrap_or_default();
        }
    }

    #[inline]
    fn innermost(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.bits & 1 == 1)
    }
}
