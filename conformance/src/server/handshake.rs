//! `#handshake`: its answer, what may not come before it, and tokens that are refused.

use sc_protocol::ws::OpCode;
use serde_json::{Value, json};

use super::{Check, is_v1};
use crate::check::{Verdict, ensure, equal, member};
use crate::peer::Peer;
use crate::target::Target;

/// A token that nobody signed: `{"alg":"HS256","typ":"JWT"}.{"username":"eve"}.` and 32 bytes that are no signature of it.
pub(super) const FORGED: &str =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6ImV2ZSJ9.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

pub(super) const CHECKS: &[Check] = &[
    Check::both("handshake/answer", "SC server: id, pingTimeout, isAuthenticated", answer),
    Check::both("handshake/ids-differ", "base64id: an id for each connection", ids_differ),
    Check::both("handshake/without-data", "SC server: no data counts as no token", without_data),
    Check::both("handshake/welcome-comes-after", "SC server: connection follows the handshake", welcome),
    Check::both("handshake/events-carry-no-cid", "SC 5.3: cid only where an ack is wanted", no_cid),
    Check::both("handshake/packet-before", "SC 14.6: strictHandshake, 4009", packet_before),
    Check::both("handshake/raw-before", "SC 14.6: strictHandshake, 4009", raw_before),
    Check::both("handshake/malformed-token", "jsonwebtoken: jwt malformed", malformed_token),
    Check::both("handshake/forged-token", "jsonwebtoken: invalid signature", forged_token),
    Check::v1("handshake/second-is-ignored", "SC 14: the handshake happens once", second),
    Check::v1("handshake/without-cid", "SC 14: completes without an answer", without_cid_v1),
    Check::v2("handshake/without-cid", "SC 20: malformatted, 4008", without_cid_v2),
];

fn answer(target: &Target) -> Verdict {
    let mut peer = Peer::connect(target, "")?;
    let data = peer.handshake(None)?.ok()?;
    let id = data["id"].as_str().unwrap_or_default();
    ensure(!id.is_empty(), || format!("there is no id in {data}"))?;
    member("isAuthenticated", &data["isAuthenticated"], json!(false))?;
    ensure(data["pingTimeout"].as_u64().is_some_and(|ms| ms > 0), || format!("there is no pingTimeout in {data}"))?;
    ensure(data.get("authError").is_none(), || format!("an authError without a token: {data}"))
}

fn ids_differ(target: &Target) -> Verdict {
    let mut ids = Vec::new();
    for _ in 0..4 {
        let mut peer = Peer::connect(target, "")?;
        ids.push(peer.handshake(None)?.ok()?["id"].to_string());
    }
    ids.sort_unstable();
    ids.dedup();
    equal("different ids of four connections", ids.len(), 4)
}

fn without_data(target: &Target) -> Verdict {
    let mut peer = Peer::connect(target, "")?;
    let data = peer.call("#handshake", None)?.ok()?;
    member("isAuthenticated", &data["isAuthenticated"], json!(false))
}

fn welcome(target: &Target) -> Verdict {
    let mut peer = Peer::connect(target, "")?;
    let id = peer.handshake(None)?.ok()?["id"].clone();
    let welcome = peer.event("welcome")?;
    member("the id in welcome", &welcome["data"]["id"], id)?;
    // SC 14 raises `connection` before it answers, which its clients do not mind.
    let behind = peer.place_of_answer(1) < peer.place_of_event("welcome");
    ensure(behind || is_v1(target), || "welcome came before the ack".to_owned())
}

fn no_cid(target: &Target) -> Verdict {
    let mut peer = Peer::connect(target, "")?;
    peer.handshake(None)?.ok()?;
    let welcome = peer.event("welcome")?;
    ensure(welcome.get("cid").is_none(), || format!("nobody waits for an ack of {welcome}"))
}

fn packet_before(target: &Target) -> Verdict {
    let mut peer = Peer::connect(target, "")?;
    peer.emit("echo", Some(json!(1)))?;
    equal("the close code", peer.closed()?.0, 4009)
}

fn raw_before(target: &Target) -> Verdict {
    let mut peer = Peer::connect(target, "")?;
    peer.send_frame(OpCode::Text, b"no packet")?;
    equal("the close code", peer.closed()?.0, 4009)
}

fn refused(target: &Target, token: &str, message: &str) -> Verdict {
    let mut peer = Peer::connect(target, "")?;
    let data = peer.handshake(Some(token))?.ok()?;
    member("isAuthenticated", &data["isAuthenticated"], json!(false))?;
    member("the error's name", &data["authError"]["name"], json!("AuthTokenInvalidError"))?;
    member("its message", &data["authError"]["message"], json!(message))?;
    peer.event("#removeAuthToken")?;
    let before = peer.place_of_event("#removeAuthToken") < peer.place_of_answer(1);
    equal("#removeAuthToken comes before the ack", before, is_v1(target))
}

fn malformed_token(target: &Target) -> Verdict {
    refused(target, "not.atoken", "jwt malformed")
}

fn forged_token(target: &Target) -> Verdict {
    refused(target, FORGED, "invalid signature")
}

fn second(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    let cid = peer.emit("#handshake", Some(json!({ "authToken": null })))?;
    peer.barrier()?;
    ensure(peer.place_of_answer(cid).is_none(), || "a second handshake is answered".to_owned())
}

fn without_cid_v1(target: &Target) -> Verdict {
    let mut peer = Peer::connect(target, "")?;
    peer.transmit("#handshake", &json!({ "authToken": Value::Null }))?;
    peer.event("welcome")?;
    peer.barrier()
}

fn without_cid_v2(target: &Target) -> Verdict {
    let mut peer = Peer::connect(target, "")?;
    peer.transmit("#handshake", &json!({ "authToken": Value::Null }))?;
    equal("the close code", peer.closed()?.0, 4008)
}
