//! From string tokens to text and back.

use std::ops::Range;

use bytes::{BufMut, BytesMut};

use super::plain::plain;

/// Whether the valid string token that stands at `token` means `name`.
#[inline]
pub(super) fn key_is(bytes: &[u8], token: &Range<usize>, has_escapes: bool, name: &str) -> bool {
    // What lies between the quotes; unescaping only shortens it.
    let len = token.len().saturating_sub(2);
    if has_escapes {
        return len > name.len() && escaped_key_is(&bytes[token.start + 1..token.end - 1], name);
    }
    len == name.len() && bytes[token.start + 1..token.end - 1] == *name.as_bytes()
}

#[cold]
fn escaped_key_is(inner: &[u8], name: &str) -> bool {
    let Ok(inner) = std::str::from_utf8(inner) else { return false };
    let mut name = name.chars();
    Unescape(inner).all(|char| char.is_some() && char == name.next()) && name.next().is_none()
}

/// What lies between the quotes of a valid token, unescaped; lone surrogates become U+FFFD.
pub(super) fn unescape(inner: &str) -> String {
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(escape) = rest.find('\\') {
        text.push_str(&rest[..escape]);
        let mut chars = Unescape(&rest[escape..]);
        // One escape (or two, for a pair of surrogates) is one character.
        match chars.next() {
            Some(char) => text.push(char.unwrap_or(char::REPLACEMENT_CHARACTER)),
            None => return text,
        }
        rest = chars.0;
    }
    text.push_str(rest);
    text
}

/// `s` as a token, as `JSON.stringify` writes it.
pub(super) fn write(out: &mut BytesMut, s: &str) {
    let bytes = s.as_bytes();
    out.reserve(bytes.len() + 2);
    out.put_u8(b'"');
    let mut from = 0;
    loop {
        let to = plain(bytes, from);
        out.put_slice(&bytes[from..to]);
        let Some(&special) = bytes.get(to) else { break };
        match special {
            b'"' => out.put_slice(b"\\\""),
            b'\\' => out.put_slice(b"\\\\"),
            0x08 => out.put_slice(b"\\b"),
            b'\t' => out.put_slice(b"\\t"),
            b'\n' => out.put_slice(b"\\n"),
            0x0c => out.put_slice(b"\\f"),
            b'\r' => out.put_slice(b"\\r"),
            control => {
                let digit = b"0123456789abcdef"[usize::from(control & 15)];
                out.put_slice(&[b'\\', b'u', b'0', b'0', b'0' + (control >> 4), digit]);
            }
        }
        from = to + 1;
    }
    out.put_u8(b'"');
}

/// The characters that the inside of a valid token means; `Some(None)` is a lone surrogate.
struct Unescape<'a>(&'a str);

impl Iterator for Unescape<'_> {
    type Item = Option<char>;

    fn next(&mut self) -> Option<Option<char>> {
        let mut chars = self.0.chars();
        let first = chars.next()?;
        if first != '\\' {
            self.0 = chars.as_str();
            return Some(Some(first));
        }
        let plain = match chars.next()? {
            'u' => return self.unit_escape(),
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            same => same,
        };
        self.0 = chars.as_str();
        Some(Some(plain))
    }
}

impl Unescape<'_> {
    /// `\uXXXX`, and the second one of a pair.
    fn unit_escape(&mut self) -> Option<Option<char>> {
        let unit = unit(self.0)?;
        self.0 = self.0.get(6..)?;
        if !(0xd800..0xe000).contains(&unit) {
            return Some(char::from_u32(unit));
        }
        // A high surrogate takes what follows only if that is a low one: else it stays alone and the other counts.
        let low = self::unit(self.0).filter(|low| unit < 0xdc00 && (0xdc00..0xe000).contains(low));
        let Some(low) = low else { return Some(None) };
        self.0 = self.0.get(6..)?;
        Some(char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00)))
    }
}

/// The code unit of the `\uXXXX` that `text` begins with.
fn unit(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok()
}
