//! UTF-8 that comes in pieces.

use std::str;

use super::ProtocolError;

/// Validates text whose pieces may be cut within a character, and fails at the first byte that no continuation could
/// make valid (RFC 6455 section 8.1 with the strict grammar of RFC 3629: no surrogates, no overlong forms).
///
/// It keeps no more than the three bytes of an unfinished character.
///
/// ```
/// use sc_protocol::ws::utf8::Utf8Validator;
///
/// let mut text = Utf8Validator::new();
/// text.feed(b"caf\xc3")?;
/// assert!(!text.is_complete());
/// text.feed(b"\xa9")?;
/// assert!(text.is_complete());
/// # Ok::<(), sc_protocol::ws::ProtocolError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Utf8Validator {
    tail: [u8; 4],
    tail_len: u8,
}

impl Utf8Validator {
    /// A validator at the start of a text.
    pub const fn new() -> Self {
        Self { tail: [0; 4], tail_len: 0 }
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// [`ProtocolError::InvalidUtf8`] as soon as the text cannot become valid any more. The validator has no use after
    /// it.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), ProtocolError> {
        let mut rest = piece;
        while self.tail_len > 0 {
            let Some((&byte, after)) = rest.split_first() else { return Ok(()) };
            rest = after;
            let len = usize::from(self.tail_len);
            debug_assert!(len < 4, "no character has more than four bytes");
            self.tail[len] = byte;
            match str::from_utf8(&self.tail[..=len]) {
                Ok(_) => self.tail_len = 0,
                Err(e) if e.error_len().is_none() => self.tail_len += 1,
                Err(_) => return Err(ProtocolError::InvalidUtf8),
            }
        }
        let Err(e) = str::from_utf8(rest) else { return Ok(()) };
        if e.error_len().is_some() {
            return Err(ProtocolError::InvalidUtf8);
        }
        let unfinished = &rest[e.valid_up_to()..];
        self.tail[..unfinished.len()].copy_from_slice(unfinished);
        self.tail_len = unfinished.len() as u8;
        Ok(())
    }

    /// Whether the text may end here, that is: not within a character.
    pub const fn is_complete(&self) -> bool {
        self.tail_len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails_at(text: &[u8]) -> Option<usize> {
        let mut validator = Utf8Validator::new();
        text.iter().position(|&byte| validator.feed(&[byte]).is_err())
    }

    #[test]
    fn fails_at_the_first_impossible_byte() {
        assert_eq!(fails_at("κόσμε 😀".as_bytes()), None);
        assert_eq!(fails_at(b"a\x80"), Some(1)); // a continuation byte alone
        assert_eq!(fails_at(b"\xc0\x80"), Some(0)); // overlong
        assert_eq!(fails_at(b"\xe0\x80\x80"), Some(1)); // overlong, seen at its second byte
        assert_eq!(fails_at(b"\xed\xa0\x80"), Some(1)); // a surrogate
        assert_eq!(fails_at(b"\xf4\x90\x80\x80"), Some(1)); // beyond U+10FFFF
        assert_eq!(fails_at(b"\xf0\x9f\x98a"), Some(3)); // cut short by another character
        assert_eq!(fails_at(b"\xff"), Some(0));
    }

    #[test]
    fn an_unfinished_character_is_not_complete() {
        let mut validator = Utf8Validator::new();
        validator.feed(b"ok \xf0\x9f").unwrap();
        assert!(!validator.is_complete());
        validator.feed(b"").unwrap();
        validator.feed(b"\x98\x80!\xe2").unwrap();
        assert!(!validator.is_complete());
        validator.feed(b"\x82\xac").unwrap();
        assert!(validator.is_complete());
    }
}
