//! What the generator's messages say: a number, so that every one of them is known again, and padding.

/// The shortest body: the marks and the number.
pub const MIN_LEN: usize = 10;

/// The JSON text of body `number` with `len` characters between its quotes.
///
/// ```
/// use benches::body;
///
/// let text = body::text(0x2a, 16);
/// assert_eq!(text, "\"~0000002a~xxxxxx\"");
/// assert_eq!(body::number(text.as_bytes(), 16), Some(0x2a));
/// ```
#[must_use]
pub fn text(number: u32, len: usize) -> String {
    let mut text = String::with_capacity(len + 2);
    write(&mut text, number, len);
    text
}

/// Appends what [`text`] answers.
pub fn write(out: &mut String, number: u32, len: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push_str("\"~");
    for shift in (0..8).rev() {
        out.push(char::from(DIGITS[(number >> (shift * 4) & 15) as usize]));
    }
    out.push('~');
    let padding = len.saturating_sub(MIN_LEN);
    const X: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
    for _ in 0..padding / X.len() {
        out.push_str(X);
    }
    out.push_str(&X[..padding % X.len()]);
    out.push('"');
}

/// The number of the body in `message`, if there is one and it is whole: of this length and within its quotes.
#[must_use]
pub fn number(message: &[u8], len: usize) -> Option<u32> {
    let at = memchr::memchr(b'~', message)?;
    let body = message.get(at..at + len.max(MIN_LEN))?;
    if at == 0 || message[at - 1] != b'"' || message.get(at + body.len()) != Some(&b'"') || body[9] != b'~' {
        return None;
    }
    let mut number = 0;
    for &digit in &body[1..9] {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        number = number << 4 | u32::from(value);
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_is_not_whole_has_no_number() {
        let text = text(0xdead_beef, 128);
        assert_eq!(text.len(), 130);
        assert_eq!(number(text.as_bytes(), 128), Some(0xdead_beef));
        assert_eq!(number(&text.as_bytes()[..129], 128), None);
        assert_eq!(number(text.as_bytes(), 127), None);
        assert_eq!(number(b"{\"rid\":1}", 128), None);
        assert_eq!(number(text.replace("~x", "!x").as_bytes(), 128), None);
    }
}
