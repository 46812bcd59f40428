//! What the middleware of the full application allows.

use sc_cluster::prelude::*;
use sc_cluster::server::{Emit, Handshake, PublishIn, PublishOut, Subscribe, Token};
use serde_json::{Value, json};

pub(crate) fn handshake(request: &Handshake<'_>) -> Verdict {
    match request.query() {
        Some(query) if query.split('&').any(|pair| pair == "deny=1") => Err(Block::named("ForbiddenError", "denied")),
        _ => Ok(Pass::Now),
    }
}

pub(crate) fn emit(request: &Emit<'_>) -> Verdict {
    let event = request.event.as_ref();
    if event.starts_with("blocked.") {
        return Err(forbidden("Event is blocked", "EBLOCKED").with("event", event).into());
    }
    match event {
        _ if event.starts_with("silent.") => Err(Block::silent()),
        _ if event.starts_with("user.") => logged_in(request.auth.as_ref(), request.expired.as_ref()),
        _ => Ok(Pass::Now),
    }
}

/// `None`: what is allowed, but not at once.
pub(crate) fn subscribe(request: &Subscribe<'_>) -> Option<Verdict> {
    let channel = request.channel.as_ref();
    Some(match channel.split_once('.').map(|(kind, _)| kind) {
        Some("forbidden") => Err(forbidden("Channel is forbidden", "ECHANNEL").with("channel", channel).into()),
        Some("silent") => Err(Block::silent()),
        Some("private") => logged_in(request.auth.as_ref(), request.expired.as_ref()),
        Some("slow") => return None,
        Some("member") => match request.data.get::<Value>() {
            Ok(data) if data["pass"] == "open" => Ok(Pass::Now),
            _ => Err(forbidden("Bad pass", "EPASS").into()),
        },
        _ => Ok(Pass::Now),
    })
}

pub(crate) fn publish_in(request: &mut PublishIn<'_>) -> Verdict {
    let channel = request.channel.as_ref();
    match channel.split_once('.').map(|(kind, _)| kind) {
        Some("readonly") => Err(forbidden("Channel is read-only", "EREADONLY").with("channel", channel).into()),
        Some("silent") => Err(Block::silent()),
        Some("private") => logged_in(request.auth.as_ref(), request.expired.as_ref()),
        Some("stamp") => {
            let data: Value = request.data.get()?;
            let by = request.auth.as_ref().and_then(|token| token.get("username"));
            request.data.set(&json!({ "data": data, "by": by }))?;
            Ok(Pass::Now)
        }
        _ => Ok(Pass::Now),
    }
}

/// `id`: the receiving socket's.
pub(crate) fn publish_out(request: &PublishOut<'_>, id: &str) -> Result<(), Block> {
    let kind = request.channel.split_once('.').map(|(kind, _)| kind);
    let is_for = |to: &str| request.auth.as_ref().is_some_and(|token| token.get("username") == Some(&json!(to)));
    match kind {
        Some("direct") => match &request.value()["to"] {
            Value::String(to) if !is_for(to) => Err(Block::silent()),
            _ => Ok(()),
        },
        Some("noecho") if request.value()["from"] == id => Err(Block::silent()),
        _ => Ok(()),
    }
}

fn forbidden(message: &'static str, code: &str) -> ScError {
    ScError::new("ForbiddenError", message).with("code", code)
}

fn logged_in(token: Option<&Token>, expired: Option<&ScError>) -> Verdict {
    match (token, expired) {
        (Some(_), _) => Ok(Pass::Now),
        (None, Some(expired)) => Err(expired.clone().into()),
        (None, None) => Err(Block::named("AuthRequiredError", "Login first")),
    }
}
