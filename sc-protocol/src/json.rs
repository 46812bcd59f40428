//! A scanner over JSON text that follows `JSON.parse` and builds nothing.
//!
//! A packet is an envelope around data that only the application understands. The scanner checks that the whole text is
//! JSON and lends the members of the envelope as raw text, so the data of a publish crosses the server as it came.
//! Each function makes one pass, keeps 64 levels of nesting in a register and allocates only beyond them.
//!
//! What `JSON.parse` does and a typical parser does not:
//!
//! - absent and `null` stay apart;
//! - the last of equal keys wins, and keys are equal if they are so after unescaping;
//! - any depth is fine (there is no recursion: the limit is the size of the message);
//! - `\ud800` without its partner is allowed inside a string; [`string`] reads it as U+FFFD.
//!
//! The grammar is RFC 8259's: no byte order mark, no trailing comma, no control characters in strings.
//!
//! ```
//! use sc_protocol::json;
//!
//! let [event, data, cid] = json::object(r#"{"event":"ping","data":[1, 2]}"#, ["event", "data", "cid"]).unwrap();
//! assert_eq!(json::string(event.unwrap()).as_deref(), Some("ping"));
//! assert_eq!(data, Some("[1, 2]"));
//! assert_eq!(cid, None);
//! ```

use std::borrow::Cow;
use std::ops::Range;

use bytes::BytesMut;

mod plain;
mod scan;
mod text;

/// The type of a JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// The type of the value that `text` is, with nothing around it but white space. `None`: it is not JSON.
#[must_use]
pub fn validate(text: &str) -> Option<Kind> {
    let bytes = text.as_bytes();
    let start = scan::blank(bytes, 0);
    let end = scan::value(bytes, start)?;
    (scan::blank(bytes, end) == bytes.len()).then(|| kind_at(bytes, start))
}

/// The type of `raw`, which is known to be valid; its first character tells. ([`Kind::Null`] for text that is no JSON.)
#[must_use]
pub fn kind(raw: &str) -> Kind {
    let bytes = raw.as_bytes();
    kind_at(bytes, scan::blank(bytes, 0))
}

/// The members of an object under `names`, as raw text without the white space around them.
///
/// Checks all of `text`. Of equal keys the last one counts, as in JavaScript. `None`: not JSON, or no object.
#[must_use]
pub fn object<'a, const N: usize>(text: &'a str, names: [&str; N]) -> Option<[Option<&'a str>; N]> {
    let mut found = [None; N];
    walk(text, |key, has_escapes, value| {
        if let Some(place) = names.iter().position(|name| text::key_is(text.as_bytes(), &key, has_escapes, name)) {
            found[place] = Some(text.get(value)?);
        }
        Some(())
    })?;
    Some(found)
}

/// Gives every member of an object to `f` in order: the key as a raw string token, and the raw value. Equal keys come
/// as often as they stand there.
///
/// Checks all of `text`, but `f` has already seen members when an error is found behind them. `None`: as [`object`].
pub fn for_each_member<'a>(text: &'a str, mut f: impl FnMut(&'a str, &'a str)) -> Option<()> {
    walk(text, |key, _, value| {
        f(text.get(key)?, text.get(value)?);
        Some(())
    })
}

/// Gives the places of every member of an object to `f`: of the key's token, whether it has escapes, of the value. Ends with `None` if
/// `f` does.
#[inline]
fn walk(text: &str, mut f: impl FnMut(Range<usize>, bool, Range<usize>) -> Option<()>) -> Option<()> {
    let bytes = text.as_bytes();
    let mut at = scan::blank(bytes, 0);
    if bytes.get(at) != Some(&b'{') {
        return None;
    }
    at = scan::blank(bytes, at + 1);
    if bytes.get(at) == Some(&b'}') {
        return (scan::blank(bytes, at + 1) == bytes.len()).then_some(());
    }
    loop {
        let (key_end, has_escapes) = scan::string_and_escapes(bytes, at)?;
        let start = scan::colon(bytes, key_end)?;
        let end = scan::value(bytes, start)?;
        f(at..key_end, has_escapes, start..end)?;
        at = scan::blank(bytes, end);
        match bytes.get(at)? {
            b',' => at = scan::blank(bytes, at + 1),
            b'}' => return (scan::blank(bytes, at + 1) == bytes.len()).then_some(()),
            _ => return None,
        }
    }
}

/// The elements of an array, after a check of all of `text`. `None`: not JSON, or no array.
#[must_use]
pub fn array(text: &str) -> Option<Elements<'_>> {
    if validate(text)? != Kind::Array {
        return None;
    }
    let open = scan::blank(text.as_bytes(), 0);
    Some(Elements { text, at: scan::blank(text.as_bytes(), open + 1) })
}

/// The elements of a valid array as raw text, without the white space around them.
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    text: &'a str,
    /// The next element, or the closing bracket.
    at: usize,
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let bytes = self.text.as_bytes();
        // A closing bracket is no value: the end stays the end.
        let end = scan::value(bytes, self.at)?;
        let element = self.text.get(self.at..end);
        let after = scan::blank(bytes, end);
        self.at = match bytes.get(after) {
            Some(b',') => scan::blank(bytes, after + 1),
            _ => after,
        };
        element
    }
}

impl std::iter::FusedIterator for Elements<'_> {}

/// The text that a string token means; borrowed if it has no escapes. A lone surrogate is read as U+FFFD, the only
/// place where this is not what JavaScript has. `None`: `raw` is no string token.
#[must_use]
pub fn string(raw: &str) -> Option<Cow<'_, str>> {
    let (end, has_escapes) = scan::string_and_escapes(raw.as_bytes(), 0)?;
    if end != raw.len() {
        return None;
    }
    let inner = raw.get(1..end - 1)?;
    Some(if has_escapes { Cow::Owned(text::unescape(inner)) } else { Cow::Borrowed(inner) })
}

/// The value of a number token, as JavaScript has it: `1e999` is infinite. `None`: `raw` is no number token.
#[must_use]
pub fn number(raw: &str) -> Option<f64> {
    if scan::number(raw.as_bytes(), 0)? != raw.len() {
        return None;
    }
    raw.parse().ok()
}

/// Appends `s` as a string token, escaped as `JSON.stringify` does: `"`, `\` and the control characters below U+0020.
pub fn write_string(out: &mut BytesMut, s: &str) {
    text::write(out, s);
}

fn kind_at(bytes: &[u8], at: usize) -> Kind {
    match bytes.get(at) {
        Some(b'{') => Kind::Object,
        Some(b'[') => Kind::Array,
        Some(b'"') => Kind::String,
        Some(b't' | b'f') => Kind::Bool,
        Some(b'-' | b'0'..=b'9') => Kind::Number,
        _ => Kind::Null,
    }
}
