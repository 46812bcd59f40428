//! How connections end.

use serde_json::json;

use super::{Check, is_v1};
use crate::check::{Stop, Verdict, ensure, equal, member};
use crate::peer::{Message, Peer};
use crate::target::Target;

pub(super) const CHECKS: &[Check] = &[
    Check::both("close/by-the-server", "SC 14: #disconnect and the code; SC 20: code and reason", by_the_server),
    Check::both("close/without-a-word", "SC server: terminate", without_a_word),
    Check::v1("close/by-the-client", "SC 14.7.1: #disconnect ends the connection", by_the_client),
    Check::v2("close/disconnect-is-an-event", "SC 20: #disconnect has no meaning", disconnect_is_an_event),
    Check::both("close/ends-subscriptions", "SC server: nothing outlives a connection", ends_subscriptions),
];

fn by_the_server(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    let cid = peer.emit("closeMe", Some(json!({ "code": 4321, "reason": "as you wish" })))?;
    let (code, reason) = peer.closed()?;
    ensure(peer.place_of_answer(cid).is_some(), || "the close came before the ack".to_owned())?;
    equal("the close code", code, 4321)?;
    if is_v1(target) {
        equal("the reason in the close frame", reason.as_str(), "")?;
        let packet = peer.log.iter().find(|packet| packet["event"] == "#disconnect");
        let data = packet.map(|packet| &packet["data"]);
        return equal("#disconnect", data, Some(&json!({ "code": 4321, "data": "as you wish" })));
    }
    equal("the reason", reason.as_str(), "as you wish")?;
    ensure(peer.place_of_event("#disconnect").is_none(), || "#disconnect in protocol 2".to_owned())
}

fn without_a_word(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    peer.transmit("terminate", &json!(null))?;
    loop {
        match peer.message()? {
            Message::End => return Ok(()),
            Message::Close(code, _) => return Err(Stop::fail(format!("a close frame comes, with {code}"))),
            _ => {}
        }
    }
}

fn by_the_client(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    peer.transmit("#disconnect", &json!({ "code": 1000 }))?;
    loop {
        match peer.message()? {
            Message::End | Message::Close(..) => return Ok(()),
            _ => {}
        }
    }
}

fn disconnect_is_an_event(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    peer.transmit("#disconnect", &json!({ "code": 1000 }))?;
    peer.barrier()
}

fn ends_subscriptions(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    peer.call("#subscribe", Some(json!({ "channel": "gone" })))?.ok()?;
    drop(peer);
    let mut again = Peer::open(target)?;
    let who = again.call("whoami", None)?.ok()?;
    member("subscriptions of a new connection", &who["subscriptions"], json!([]))
}
