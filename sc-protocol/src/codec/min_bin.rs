//! `sc-codec-min-bin` 3.0.0: packets as MessagePack, with one letter in the place of their member names.
//!
//! | packet | map |
//! |---|---|
//! | `#publish` with data | `{p: [channel, data]}` or `{p: [channel, data, cid]}` |
//! | any other event | `{e: [event, data]}` or `{e: [event, data, cid]}` |
//! | response | `{r: [rid, error, data]}` |
//! | batch | array of such maps |
//! | anything else | itself |
//!
//! What is absent is nil, so absent and `null` are the same on the other side. Bytes (`bin`) are `{"base64":true,"data":…}`
//! in JSON, and the other way round.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, BytesMut};
use rmp::Marker;

use super::Codec;
use crate::json::{self, Kind};
use crate::sc_error::ScError;

mod node;

use node::Node;

/// Deepest nesting of what is read; serde_json has the same for what is written.
const DEPTH_MAX: usize = 127;

/// The codec of the npm package `sc-codec-min-bin`. Written as that package writes it (integers in their shortest form up
/// to 32 bits, all other numbers as 64-bit floats), so that both can be held against each other byte by byte.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MinBin;

impl Codec for MinBin {
    fn encode(&self, packet: &str, message: &mut BytesMut) -> Result<(), ScError> {
        let node = Node::parse(packet).map_err(|error| ScError::invalid_message(error.to_string()))?;
        let mut out = message.writer();
        match node {
            Node::Array(packets) => {
                written(rmp::encode::write_array_len(&mut out, length(packets.len())?))?;
                packets.into_iter().try_for_each(|packet| compressed(packet).write(&mut out))
            }
            packet => compressed(packet).write(&mut out),
        }
    }

    fn decode(&self, message: &[u8]) -> Result<String, ScError> {
        let mut rest = message;
        let mut out = BytesMut::new();
        value(&mut rest, &mut out, 0).ok_or_else(|| ScError::invalid_message("BUFFER_SHORTAGE"))?;
        let text = String::from_utf8(out.to_vec()).map_err(|error| ScError::invalid_message(error.to_string()))?;
        Ok(match json::kind(&text) {
            Kind::Array => {
                let packets = json::array(&text).into_iter().flatten().map(expanded);
                format!("[{}]", packets.collect::<Vec<_>>().join(","))
            }
            _ => expanded(&text),
        })
    }
}

fn written<T, E: std::fmt::Display>(result: Result<T, E>) -> Result<(), ScError> {
    result.map(drop).map_err(|error| ScError::invalid_message(error.to_string()))
}

fn length(length: usize) -> Result<u32, ScError> {
    u32::try_from(length).map_err(|_| ScError::invalid_message("too long for MessagePack"))
}

/// A packet with one letter for its members.
fn compressed(packet: Node) -> Node {
    let Node::Object(mut members) = packet else { return packet };
    let mut take = |name: &str| {
        let at = members.iter().rposition(|(key, value)| key == name && !value.is_null())?;
        Some(members.remove(at).1)
    };
    let (letter, list) = if let Some(event) = take("event") {
        let (data, cid) = (take("data"), take("cid"));
        let (letter, mut list) = match data {
            Some(data) if event.is_text("#publish") => {
                let [channel, data] = data.members(["channel", "data"]);
                ("p", vec![channel, data])
            }
            data => ("e", vec![event, data.unwrap_or(Node::Null)]),
        };
        list.extend(cid);
        (letter, list)
    } else if let Some(rid) = take("rid") {
        ("r", vec![rid, take("error").unwrap_or(Node::Null), take("data").unwrap_or(Node::Null)])
    } else {
        return Node::Object(members);
    };
    members.retain(|(key, _)| !["event", "data", "cid", "rid", "error"].contains(&key.as_str()));
    members.push((letter.to_owned(), Node::Array(list)));
    Node::Object(members)
}

/// A packet with the names of its members, from the JSON text of one with letters.
fn expanded(text: &str) -> String {
    let Some([event, publish, response]) = json::object(text, ["e", "p", "r"]) else { return text.to_owned() };
    let list = |raw: Option<&'_ str>| -> Option<Vec<String>> {
        let items = raw.filter(|raw| json::kind(raw) == Kind::Array).and_then(json::array)?;
        Some(items.map(str::to_owned).collect())
    };
    let item = |list: &[String], at: usize| list.get(at).cloned().unwrap_or_else(|| "null".to_owned());
    let cid = |list: &[String]| {
        let cid = item(list, 2);
        if cid == "null" { String::new() } else { format!(",\"cid\":{cid}") }
    };
    if let Some(list) = list(publish) {
        let (channel, data, cid) = (item(&list, 0), item(&list, 1), cid(&list));
        return format!("{{\"event\":\"#publish\",\"data\":{{\"channel\":{channel},\"data\":{data}}}{cid}}}");
    }
    if let Some(list) = list(event) {
        let (event, data, cid) = (item(&list, 0), item(&list, 1), cid(&list));
        return format!("{{\"event\":{event},\"data\":{data}{cid}}}");
    }
    if let Some(list) = list(response) {
        let (rid, error, data) = (item(&list, 0), item(&list, 1), item(&list, 2));
        return format!("{{\"rid\":{rid},\"error\":{error},\"data\":{data}}}");
    }
    text.to_owned()
}

fn take<'a>(from: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(count)?;
    *from = rest;
    Some(taken)
}

fn number(from: &mut &[u8], bytes: usize) -> Option<u64> {
    Some(take(from, bytes)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn size(from: &mut &[u8], bytes: usize) -> Option<usize> {
    usize::try_from(number(from, bytes)?).ok()
}

/// Reads one MessagePack value and appends it as JSON. `None`: it is cut off, too deep, or none.
fn value(from: &mut &[u8], out: &mut BytesMut, depth: usize) -> Option<()> {
    if depth > DEPTH_MAX {
        return None;
    }
    let marker = Marker::from_u8(take(from, 1)?[0]);
    match marker {
        Marker::Null => out.put_slice(b"null"),
        Marker::True => out.put_slice(b"true"),
        Marker::False => out.put_slice(b"false"),
        Marker::FixPos(number) => text(out, number),
        Marker::FixNeg(number) => text(out, number),
        Marker::U8 => text(out, number(from, 1)?),
        Marker::U16 => text(out, number(from, 2)?),
        Marker::U32 => text(out, number(from, 4)?),
        Marker::U64 => text(out, number(from, 8)?),
        Marker::I8 => text(out, number(from, 1)? as u8 as i8),
        Marker::I16 => text(out, number(from, 2)? as u16 as i16),
        Marker::I32 => text(out, number(from, 4)? as u32 as i32),
        Marker::I64 => text(out, number(from, 8)? as i64),
        Marker::F32 => float(out, f64::from(f32::from_bits(number(from, 4)? as u32))),
        Marker::F64 => float(out, f64::from_bits(number(from, 8)?)),
        Marker::FixStr(length) => string(take(from, usize::from(length))?, out),
        Marker::Str8 | Marker::Str16 | Marker::Str32 | Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => {
            let width = match marker {
                Marker::Str8 | Marker::Bin8 => 1,
                Marker::Str16 | Marker::Bin16 => 2,
                _ => 4,
            };
            let length = size(from, width)?;
            let bytes = take(from, length)?;
            match marker {
                Marker::Str8 | Marker::Str16 | Marker::Str32 => string(bytes, out),
                _ => binary(bytes, out),
            }
        }
        Marker::FixArray(length) => array(from, usize::from(length), out, depth)?,
        Marker::Array16 => array_of(from, 2, out, depth)?,
        Marker::Array32 => array_of(from, 4, out, depth)?,
        Marker::FixMap(length) => map(from, usize::from(length), out, depth)?,
        Marker::Map16 => map_of(from, 2, out, depth)?,
        Marker::Map32 => map_of(from, 4, out, depth)?,
        // Extensions are objects of JavaScript classes there; nobody sends any.
        _ => return None,
    }
    Some(())
}

fn text(out: &mut BytesMut, number: impl std::fmt::Display) {
    out.put_slice(number.to_string().as_bytes());
}

/// As `JSON.stringify`: what is no number is null, and a whole one has no fraction.
fn float(out: &mut BytesMut, number: f64) {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT_MAX {
        return text(out, number as i64);
    }
    match serde_json::Number::from_f64(number) {
        Some(number) => text(out, number),
        None => out.put_slice(b"null"),
    }
}

fn string(bytes: &[u8], out: &mut BytesMut) {
    json::write_string(out, &String::from_utf8_lossy(bytes));
}

fn binary(bytes: &[u8], out: &mut BytesMut) {
    out.put_slice(b"{\"base64\":true,\"data\":\"");
    out.put_slice(STANDARD.encode(bytes).as_bytes());
    out.put_slice(b"\"}");
}

fn array_of(from: &mut &[u8], width: usize, out: &mut BytesMut, depth: usize) -> Option<()> {
    let length = size(from, width)?;
    array(from, length, out, depth)
}

fn map_of(from: &mut &[u8], width: usize, out: &mut BytesMut, depth: usize) -> Option<()> {
    let length = size(from, width)?;
    map(from, length, out, depth)
}

fn array(from: &mut &[u8], length: usize, out: &mut BytesMut, depth: usize) -> Option<()> {
    out.put_u8(b'[');
    for at in 0..length {
        if at > 0 {
            out.put_u8(b',');
        }
        value(from, out, depth + 1)?;
    }
    out.put_u8(b']');
    Some(())
}

fn map(from: &mut &[u8], length: usize, out: &mut BytesMut, depth: usize) -> Option<()> {
    out.put_u8(b'{');
    for at in 0..length {
        if at > 0 {
            out.put_u8(b',');
        }
        key(from, out, depth + 1)?;
        out.put_u8(b':');
        value(from, out, depth + 1)?;
    }
    out.put_u8(b'}');
    Some(())
}

/// A key that is no string becomes the text that JavaScript makes of it, near enough: its JSON.
fn key(from: &mut &[u8], out: &mut BytesMut, depth: usize) -> Option<()> {
    let mut key = BytesMut::new();
    value(from, &mut key, depth)?;
    match key.first() {
        Some(b'"') => out.put_slice(&key),
        _ => json::write_string(out, std::str::from_utf8(&key).ok()?),
    }
    Some(())
}
