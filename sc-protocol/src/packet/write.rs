//! Packets as bytes, appended to a buffer of the caller. The members stand in the order in which server 14.7.2 and the
//! clients write them.
//!
//! `data` is raw JSON text and is copied as it is: it must be valid, which holds for what was parsed or serialised.

use std::ops::Range;

use bytes::{BufMut, BytesMut};

use super::Cid;
use crate::json;
use crate::sc_error::ScError;

/// `{"event":E,"data":D,"cid":N}`; what is `None` is left out.
pub fn event(out: &mut BytesMut, name: &str, data: Option<&str>, cid: Option<u64>) {
    out.reserve(name.len() + data.map_or(0, str::len) + 48);
    out.put_slice(b"{\"event\":");
    json::write_string(out, name);
    member(out, b",\"data\":", data);
    if let Some(cid) = cid {
        out.put_slice(b",\"cid\":");
        integer(out, cid);
    }
    out.put_u8(b'}');
}

/// `{"rid":N,"error":X,"data":D}`; what is `None` is left out.
pub fn response(out: &mut BytesMut, rid: &Cid<'_>, error: Option<&ScError>, data: Option<&str>) {
    out.reserve(data.map_or(0, str::len) + 40);
    out.put_slice(b"{\"rid\":");
    rid.write(out);
    if let Some(error) = error {
        out.put_slice(b",\"error\":");
        error.write(out);
    }
    member(out, b",\"data\":", data);
    out.put_u8(b'}');
}

/// `{"event":"#publish","data":{"channel":C,"data":D}}`, as a server sends it. Answers where in `out` the data stands.
///
/// ```
/// let mut out = bytes::BytesMut::new();
/// let data = sc_protocol::packet::write::publish(&mut out, "news", Some("[1]"));
/// assert_eq!(out, r##"{"event":"#publish","data":{"channel":"news","data":[1]}}"##);
/// assert_eq!(&out[data.unwrap()], b"[1]");
/// ```
pub fn publish(out: &mut BytesMut, channel: &str, data: Option<&str>) -> Option<Range<usize>> {
    out.reserve(channel.len() + data.map_or(0, str::len) + 64);
    out.put_slice(b"{\"event\":\"#publish\",\"data\":{\"channel\":");
    json::write_string(out, channel);
    member(out, b",\"data\":", data);
    let end = out.len();
    out.put_slice(b"}}");
    data.map(|data| end - data.len()..end)
}

/// A number in decimal digits.
pub(super) fn integer(out: &mut BytesMut, mut number: u64) {
    let mut digits = [0; 20];
    let mut from = digits.len();
    loop {
        from -= 1;
        digits[from] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.put_slice(&digits[from..]);
}

fn member(out: &mut BytesMut, key: &[u8], raw: Option<&str>) {
    if let Some(raw) = raw {
        out.put_slice(key);
        out.put_slice(raw.as_bytes());
    }
}
