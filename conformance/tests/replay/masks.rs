//! What differs from run to run and says nothing: ids, tokens, times, ports.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sc_protocol::codec::{Codec, MinBin};
use serde_json::{Map, Value, json};

use crate::recording::{From, Kind, Recording};

pub(crate) fn base64(text: &str) -> Vec<u8> {
    STANDARD.decode(text).expect("a binary line is base64")
}

/// What a binary message of a server says; servers send them only where they have the codec for it.
pub(crate) fn binary(bytes: &[u8]) -> String {
    MinBin.decode(bytes).unwrap_or_else(|error| panic!("{bytes:x?}: {error}"))
}

/// When a recording began, in milliseconds since 1970, as far as the first token that it made tells it. Where that token
/// runs out later on, the second of its making is not enough: it has to run out between the same two messages.
pub(crate) fn begin_ms(recording: &Recording) -> u64 {
    const DEFAULT: u64 = 1_795_357_000_500;
    let signed = recording.lines.iter().filter(|line| line.from == From::Server && line.kind == Kind::Text);
    let first = signed.filter_map(|line| {
        let packet: Value = serde_json::from_str(line.data.as_str()?).ok()?;
        let claims = token_claims(packet["data"]["token"].as_str()?)?;
        Some((line.t, claims.get("iat")?.as_u64()? * 1000, claims.get("exp")?.as_u64()? * 1000))
    });
    let Some((made, iat, exp)) = first.min() else { return DEFAULT };
    let moments = iat + 20..=iat + 980;
    let moment = removed_between(recording, made).map_or(iat + 500, |(before, after)| {
        (exp + made).saturating_sub(before.midpoint(after)).clamp(*moments.start(), *moments.end())
    });
    moment - made
}

/// The last message of the client that did not have its token removed yet, and the removal.
fn removed_between(recording: &Recording, made: u64) -> Option<(u64, u64)> {
    let removal = recording
        .lines
        .iter()
        .find(|line| line.t > made && line.data.as_str().is_some_and(|text| text.contains("#removeAuthToken")))?;
    const ANSWER: u64 = 100;
    let earlier = recording.lines.iter().filter(|line| line.from == From::Client && line.t + ANSWER < removal.t);
    Some((earlier.map(|line| line.t).max()?.max(made), removal.t))
}

fn token_claims(token: &str) -> Option<Map<String, Value>> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

/// An HTTP answer: its status, what it negotiates, and the body of a refusal.
pub(crate) fn http(data: &Value) -> String {
    let Some(raw) = data.as_str().or_else(|| data["raw"].as_str()) else {
        let body = data["body"].as_str().unwrap_or_default();
        return format!("HTTP {} {body}", data["status"]).trim_end().to_owned();
    };
    let (head, body) = raw.split_once("\r\n\r\n").unwrap_or((raw, ""));
    let status = head.split(' ').nth(1).unwrap_or_default();
    let mut line = format!("HTTP {status}");
    for header in head.split("\r\n").skip(1) {
        let name = header.split(':').next().unwrap_or_default().to_ascii_lowercase();
        // The accept key is checked where the bytes are tested; here all requests have the same.
        if ["sec-websocket-protocol", "sec-websocket-extensions"].contains(&name.as_str()) {
            line = format!("{line} [{header}]");
        }
    }
    format!("{line} {body}").replace("\r\n", " ").trim_end().to_owned()
}

/// The text of a client that answers an event of the recorded server, made to answer the same event of ours.
pub(crate) fn answer_ours(text: String, theirs: &[String], ours: &[String]) -> String {
    let Ok(Value::Object(mut packet)) = serde_json::from_str::<Value>(&text) else { return text };
    let Some(rid) = packet.get("rid").and_then(Value::as_u64).filter(|_| !packet.contains_key("event")) else {
        return text;
    };
    let Some(event) = calls(theirs).find(|(_, cid)| *cid == Some(rid)).map(|(event, _)| event) else { return text };
    let ordinal = calls(theirs).take_while(|(_, cid)| *cid != Some(rid)).filter(|(name, _)| *name == event).count();
    let own = calls(ours).filter(|(name, _)| *name == event).nth(ordinal).and_then(|(_, cid)| cid);
    match own {
        Some(cid) => {
            packet.insert("rid".to_owned(), json!(cid));
            Value::Object(packet).to_string()
        }
        None => text,
    }
}

/// The events among what a server sent, with their cids.
fn calls(lines: &[String]) -> impl Iterator<Item = (String, Option<u64>)> {
    lines.iter().filter_map(|line| {
        let packet: Value = serde_json::from_str(line).ok()?;
        Some((packet["event"].as_str()?.to_owned(), packet["cid"].as_u64()))
    })
}

/// One line with everything masked. `ids`: the socket ids of this side, each with what stands for it.
pub(crate) fn masked(line: &str, ids: &HashMap<String, String>) -> String {
    let mut line = line.to_owned();
    for (id, name) in ids {
        line = line.replace(id.as_str(), name);
    }
    match serde_json::from_str::<Value>(&line) {
        Ok(mut value @ (Value::Object(_) | Value::Array(_))) => {
            mask(&mut value);
            shortened(&value.to_string())
        }
        _ if line.is_empty() => "(empty)".to_owned(),
        _ => line,
    }
}

/// The socket ids that a side gave out.
pub(crate) fn ids<'a>(lines: impl Iterator<Item = (&'a String, &'a Vec<String>)>) -> HashMap<String, String> {
    let mut ids = HashMap::new();
    for (conn, lines) in lines {
        for line in lines {
            let Ok(packet) = serde_json::from_str::<Value>(line) else { continue };
            if let Some(id) = packet["data"]["id"].as_str().filter(|_| packet["data"].get("pingTimeout").is_some()) {
                ids.insert(id.to_owned(), format!("<id of {conn}>"));
            }
        }
    }
    ids
}

fn shortened(text: &str) -> String {
    const LONG: usize = 400;
    match text.len() > LONG && text.is_char_boundary(LONG) {
        true => format!("{}… ({} bytes)", &text[..LONG], text.len()),
        false => text.to_owned(),
    }
}

fn mask(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(mask),
        Value::Object(members) => {
            mask_times(members);
            for name in ["pid", "worker"] {
                if members.contains_key("pid") && members.get(name).is_some_and(Value::is_number) {
                    members.insert(name.to_owned(), json!("<process>"));
                }
            }
            if let Some(claims) = members.get("token").and_then(Value::as_str).and_then(token_claims) {
                members.insert("token".to_owned(), json!({ "claims": claims }));
            }
            members.values_mut().for_each(mask);
        }
        _ => {}
    }
}

/// Times become lifetimes.
fn mask_times(members: &mut Map<String, Value>) {
    if let Some(iat) = members.get("iat").and_then(Value::as_i64) {
        if let Some(exp) = members.get("exp").and_then(Value::as_i64).filter(|exp| *exp < 4_000_000_000) {
            members.insert("exp".to_owned(), json!(format!("<iat + {}>", exp - iat)));
        }
        members.insert("iat".to_owned(), json!("<iat>"));
    }
    if members.get("expiry").is_some_and(Value::is_number) {
        members.insert("expiry".to_owned(), json!("<seconds>"));
    }
}
