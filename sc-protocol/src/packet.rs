//! What a text message means: events, responses, batches, pings.
//!
//! | Message | Packet |
//! |---|---|
//! | `#1`, `#2`, the empty one | ping or pong, see [`parse_control`] |
//! | `{"event":E,"data":D,"cid":N}` | [`Event`]; without `cid` nobody waits for an answer |
//! | `{"rid":N,"error":X,"data":D}` | [`Response`] to the peer's own `cid` N |
//! | `[p1,p2,…]` | [`Packet::Batch`]: each element as if sent alone, not nested |
//! | anything else | [`Packet::Raw`], for the application |
//!
//! Parsing lends: `data` and `error` are raw JSON text, and the names allocate only if they have escapes.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};

use crate::json::{self, Elements, Kind};

pub mod write;

/// Which of its two protocols a SocketCluster peer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// Protocol 1: SocketCluster 3 to 14. The rules here are those of server 14.7.2.
    V1,
    /// Protocol 2: SocketCluster 15 to 20. The rules here are those of server 20.0.1.
    V2,
}

/// The number of a call, by which its answer finds back: `cid` in an event, `rid` in the response.
///
/// Our own are integers from 1. A peer may use others, which get echoed as they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cid<'a> {
    /// An integer.
    Int(u64),
    /// The JSON text of any other number, or of a string (V1 only).
    Token(Cow<'a, str>),
}

impl Cid<'_> {
    /// A copy that owns its text, to keep it beyond the message.
    #[must_use]
    pub fn into_owned(self) -> Cid<'static> {
        match self {
            Self::Int(number) => Cid::Int(number),
            Self::Token(raw) => Cid::Token(Cow::Owned(raw.into_owned())),
        }
    }

    /// The integer, if it is one; a response with any other `rid` answers none of our calls.
    #[must_use]
    pub fn int(&self) -> Option<u64> {
        match self {
            Self::Int(number) => Some(*number),
            Self::Token(_) => None,
        }
    }

    /// Appends it as JSON.
    pub fn write(&self, out: &mut BytesMut) {
        match self {
            Self::Int(number) => write::integer(out, *number),
            Self::Token(raw) => out.put_slice(raw.as_bytes()),
        }
    }
}

/// A message, as far as the protocol understands it.
#[derive(Debug, Clone)]
pub enum Packet<'a> {
    /// `#1`. (The empty message is a ping as well when a V2 server sends it: [`parse_control`] calls it a pong.)
    Ping(Version),
    /// `#2` in V1, the empty message in V2.
    Pong(Version),
    /// An event, with or without a wish for an answer.
    Event(Event<'a>),
    /// The answer to a call of ours.
    Response(Response<'a>),
    /// Packets sent together; read each with [`parse_element`]. May be empty.
    Batch(Elements<'a>),
    /// No packet: the message as such goes to the application.
    Raw,
}

/// `{"event":…}`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'a> {
    /// Its name; may be empty.
    pub name: Cow<'a, str>,
    /// Raw JSON text. Absent is not `null`.
    pub data: Option<&'a str>,
    /// Somebody waits for the answer with this number.
    pub cid: Option<Cid<'a>>,
}

/// `{"rid":…}`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response<'a> {
    /// The number of the call.
    pub rid: Cid<'a>,
    /// Raw JSON text of an error, for [`ScError::parse`](crate::ScError::parse). `None` also for the values that
    /// JavaScript takes for "no error": `null`, `false`, `0` and `""`.
    pub error: Option<&'a str>,
    /// Raw JSON text. Absent is not `null`.
    pub data: Option<&'a str>,
}

/// A ping or pong, if the whole message is one. Try this before [`parse`], but only for the kinds of ping that the
/// connection knows: in V1 the empty message is raw, in V2 `#2` is.
///
/// The empty message is both ping and pong of V2; here it is always the pong, which is what servers receive. A client
/// takes it for the ping and answers with the same.
///
/// ```
/// use sc_protocol::packet::{parse_control, Packet, Version};
///
/// assert!(matches!(parse_control("#2"), Some(Packet::Pong(Version::V1))));
/// assert!(matches!(parse_control(""), Some(Packet::Pong(Version::V2))));
/// assert!(parse_control("#3").is_none());
/// ```
#[must_use]
#[inline]
pub fn parse_control(text: &str) -> Option<Packet<'static>> {
    match text.as_bytes() {
        [] => Some(Packet::Pong(Version::V2)),
        b"#1" => Some(Packet::Ping(Version::V1)),
        b"#2" => Some(Packet::Pong(Version::V1)),
        _ => None,
    }
}

/// What a message means that is no ping or pong.
///
/// Never fails: what is no packet is [`Packet::Raw`]. The rules for members of unexpected types are those of server
/// 14.7.2 or 20.0.1, except where those crash or echo arrays and objects as `rid`:
///
/// - `event` that is no string: raw, or in V2 a response if `rid` is a number; `null` is the same as absent.
/// - `cid` in V1: `0`, `""`, `null` and `false` ask for no answer; numbers and strings are echoed; others are ignored.
///   In V2 a number (also `0`) counts, everything else is ignored.
/// - `rid`: a number, or in V1 a string; otherwise raw.
///
/// ```
/// use sc_protocol::packet::{parse, Cid, Packet, Version};
///
/// let Packet::Event(event) = parse(r#"{"event":"chat","data":{"to": 7},"cid":3}"#, Version::V2) else { panic!() };
/// assert_eq!((&*event.name, event.data, event.cid), ("chat", Some(r#"{"to": 7}"#), Some(Cid::Int(3))));
/// ```
#[must_use]
pub fn parse(text: &str, version: Version) -> Packet<'_> {
    match json::kind(text) {
        Kind::Array => json::array(text).map_or(Packet::Raw, Packet::Batch),
        Kind::Object => parse_object(text, version),
        _ => Packet::Raw,
    }
}

/// What one element of a batch means. An array in an array is raw.
#[must_use]
pub fn parse_element(raw: &str, version: Version) -> Packet<'_> {
    match json::kind(raw) {
        Kind::Object => parse_object(raw, version),
        _ => Packet::Raw,
    }
}

fn parse_object(text: &str, version: Version) -> Packet<'_> {
    let Some([event, data, cid, rid, error]) = json::object(text, ["event", "data", "cid", "rid", "error"]) else {
        return Packet::Raw;
    };
    if let Some(event) = event.filter(|raw| *raw != "null") {
        if let Some(name) = json::string(event) {
            let cid = cid.and_then(|raw| parse_cid(raw, version));
            return Packet::Event(Event { name, data, cid });
        }
        if version == Version::V1 {
            return Packet::Raw;
        }
    }
    match rid.and_then(|raw| parse_id(raw, version)) {
        Some(rid) => Packet::Response(Response { rid, error: error.filter(|raw| is_truthy(raw)), data }),
        None => Packet::Raw,
    }
}

fn parse_cid(raw: &str, version: Version) -> Option<Cid<'_>> {
    let cid = parse_id(raw, version)?;
    (version == Version::V2 || is_truthy(raw)).then_some(cid)
}

fn parse_id(raw: &str, version: Version) -> Option<Cid<'_>> {
    match json::kind(raw) {
        Kind::Number => Some(integer(raw).map_or(Cid::Token(Cow::Borrowed(raw)), Cid::Int)),
        Kind::String if version == Version::V1 => Some(Cid::Token(Cow::Borrowed(raw))),
        _ => None,
    }
}

/// The integer that a number token is, also where it is not written as one: JavaScript echoes `1.0` and `1e0` as `1`.
fn integer(raw: &str) -> Option<u64> {
    /// With so many digits or fewer, nothing can overflow.
    const DIGITS: usize = 19;
    // JSON's own grammar admits no sign and no leading zero here, so the digits are the number's only spelling.
    let digits = |value: u64, byte: u8| byte.is_ascii_digit().then(|| value * 10 + u64::from(byte - b'0'));
    if raw.len() <= DIGITS
        && let Some(value) = raw.bytes().try_fold(0, digits)
    {
        return Some(value);
    }
    if raw.bytes().all(|byte| byte.is_ascii_digit()) {
        return raw.parse().ok();
    }
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    let number = json::number(raw)?;
    (number.fract() == 0.0 && (0.0..=EXACT_MAX).contains(&number)).then_some(number as u64)
}

/// Whether JavaScript takes the value for true.
fn is_truthy(raw: &str) -> bool {
    match json::kind(raw) {
        Kind::Null => false,
        Kind::Bool => raw == "true",
        Kind::Number => json::number(raw) != Some(0.0),
        Kind::String => raw != "\"\"",
        Kind::Array | Kind::Object => true,
    }
}
