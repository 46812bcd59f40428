//! The compact serialization (RFC 7515, section 7.1), read as jws 3.2 and jsonwebtoken 8.5 read it, for the errors to
//! come out alike.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::{Algorithm, AuthError, Claims, js};

/// Node.js minds no bits left over at the end. Only header and payload are read so: the signature is over their text,
/// so that nothing can be changed in them.
const LENIENT: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));

const INVALID_TOKEN: AuthError = AuthError::invalid("invalid token");

/// The three parts of a token, of the right alphabet, none decoded.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) header: &'a str,
    payload: &'a str,
    /// Empty is possible; the caller refuses it.
    pub(crate) signature: &'a str,
    /// What the signature is over.
    pub(crate) signed: &'a [u8],
}

impl<'a> Parts<'a> {
    pub(crate) fn split(token: &'a str) -> Result<Self, AuthError> {
        if token.is_empty() {
            return Err(AuthError::missing());
        }
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(AuthError::invalid("jwt malformed"));
        };
        let alphabet = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if header.is_empty() || payload.is_empty() || ![header, payload, signature].into_iter().all(alphabet) {
            return Err(INVALID_TOKEN);
        }
        let signed = &token.as_bytes()[..header.len() + 1 + payload.len()];
        Ok(Self { header, payload, signature, signed })
    }

    /// The signature, strictly decoded: one token has one spelling. `None` cannot be a signature.
    pub(crate) fn signature(&self) -> Option<Vec<u8>> {
        URL_SAFE_NO_PAD.decode(self.signature).ok()
    }

    /// The payload, not yet looked at. What is not UTF-8 is replaced, as Node.js does.
    pub(crate) fn payload(&self) -> String {
        let bytes = decode_lenient(self.payload);
        String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
    }
}

/// What of a header matters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Header {
    /// `None`: missing, `none`, or an unknown one.
    pub(crate) algorithm: Option<Algorithm>,
    /// With `typ: "JWT"` a payload that is not JSON is an error of its own, before all others.
    pub(crate) says_jwt: bool,
}

#[derive(Deserialize)]
struct RawHeader<'a> {
    #[serde(borrow)]
    alg: Option<&'a RawValue>,
    #[serde(borrow)]
    typ: Option<&'a RawValue>,
    /// Extensions that must be understood (RFC 7515, section 4.1.11); none is.
    crit: Option<IgnoredAny>,
}

impl Header {
    /// Reads a header part. Values that do not matter are skipped, not kept: nobody has vouched for them yet.
    pub(crate) fn decode(part: &str) -> Result<Self, AuthError> {
        let bytes = decode_lenient(part);
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) => Cow::Borrowed(text),
            // Node.js reads the header as Latin-1, which accepts anything.
            Err(_) => Cow::Owned(bytes.iter().map(|&b| char::from(b)).collect()),
        };
        if !text.trim_start().starts_with('{') {
            return Self::of_no_object(&text);
        }
        // A field twice is refused, which RFC 7515, section 4, permits.
        let raw: RawHeader<'_> = serde_json::from_str(&text).map_err(|_| INVALID_TOKEN)?;
        if raw.crit.is_some() {
            return Err(INVALID_TOKEN);
        }
        let string = |raw: Option<&RawValue>| raw.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
        Ok(Self {
            algorithm: string(raw.alg).and_then(|name| Algorithm::by_name(&name)),
            says_jwt: string(raw.typ).is_some_and(|typ| typ == "JWT"),
        })
    }

    /// Other JSON counts as a header without an algorithm, unless JavaScript takes it for false.
    fn of_no_object(text: &str) -> Result<Self, AuthError> {
        let falsy = match serde_json::from_str::<&RawValue>(text) {
            Err(_) => true,
            Ok(raw) => match raw.get() {
                "null" | "false" | "\"\"" => true,
                number => number.parse::<f64>().is_ok_and(|n| n == 0.0),
            },
        };
        if falsy { Err(INVALID_TOKEN) } else { Ok(Self { algorithm: None, says_jwt: false }) }
    }
}

/// Reads the claims of a payload whose signature is good.
///
/// Upstream lets any JSON value pass as claims, and any text without `typ`; claims are an object here (RFC 7519,
/// section 7.2), nested at most 127 deep.
pub(crate) fn claims(payload: &str, header: Header) -> Result<Claims, AuthError> {
    serde_json::from_str(payload).map_err(|_| match syntax(payload, header) {
        Err(error) => error,
        Ok(()) => INVALID_TOKEN,
    })
}

/// Is the payload JSON, if it must be? Keeps nothing of it: this is for payloads that nobody has signed.
pub(crate) fn syntax(payload: &str, header: Header) -> Result<(), AuthError> {
    match serde_json::from_str::<IgnoredAny>(payload) {
        Err(error) if header.says_jwt => Err(AuthError::Other { message: Cow::Owned(js::json_error(payload, &error)) }),
        _ => Ok(()),
    }
}

/// Writes `header.payload` and leaves room for the signature.
pub(crate) fn encode(header: &str, payload: &str) -> String {
    let mut token = String::with_capacity(header.len() + payload.len() * 4 / 3 + 64);
    token.push_str(header);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut token);
    token
}

/// The header part of the tokens that are signed here, with the fields in the order of SC 14.
pub(crate) fn encode_header(algorithm: Algorithm) -> String {
    URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{algorithm}","typ":"JWT"}}"#))
}

pub(crate) fn append_signature(token: &mut String, signature: &[u8]) {
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, token);
}

/// The alphabet has been checked; a single character at the end, which stands for no byte, is passed over.
fn decode_lenient(part: &str) -> Vec<u8> {
    let whole = if part.len() % 4 == 1 { &part[..part.len() - 1] } else { part };
    LENIENT.decode(whole).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(json: &[u8]) -> Result<Header, AuthError> {
        Header::decode(&URL_SAFE_NO_PAD.encode(json))
    }

    #[test]
    fn headers_are_read_as_node_reads_them() {
        let hs256 = Some(Algorithm::HS256);
        for (json, algorithm, says_jwt) in [
            (&br#"{"alg":"HS256","typ":"JWT"}"#[..], hs256, true),
            (br#" {"typ":"JWT","alg":"HS256","kid":[[[{}]]]}"#, hs256, true),
            (br#"{"alg":"\u0048S256","typ":"jwt"}"#, hs256, false),
            (b"{\"alg\":\"HS256\",\"x\":\"\xff\"}", hs256, false),
            (br#"{"alg":"none","typ":5}"#, None, false),
            (br#"{"alg":["HS256"],"typ":null}"#, None, false),
            (b"{}", None, false),
            (b"5", None, false),
            (b"\"x\"", None, false),
            (br#"["HS256","JWT"]"#, None, false),
        ] {
            assert_eq!(header(json), Ok(Header { algorithm, says_jwt }), "{}", String::from_utf8_lossy(json));
        }
        for json in [
            &b""[..],
            b"null",
            b"false",
            b"0",
            b"-0.0",
            b"\"\"",
            b"{",
            b"{}x",
            b"\xff",
            br#"{"alg":"HS256","crit":["b64"]}"#,
            br#"{"alg":"HS256","alg":"none"}"#,
        ] {
            assert_eq!(header(json), Err(INVALID_TOKEN), "{}", String::from_utf8_lossy(json));
        }
    }

    #[test]
    fn a_payload_is_decoded_like_a_buffer_of_node() {
        let payload = |part| Parts { header: "", payload: part, signature: "", signed: b"" }.payload();
        assert_eq!(payload("e30"), "{}");
        assert_eq!(payload("e31"), "{}", "bits left over");
        assert_eq!(payload("e30ab"), "{}\u{1a}", "one character too many: dropped");
        assert_eq!(payload("_w"), "\u{fffd}", "not UTF-8");
        assert_eq!(payload("a"), "");
    }
}
