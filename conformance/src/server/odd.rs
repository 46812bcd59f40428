//! Messages that no good client sends: none of them ends the connection, the server, or anybody else's connection.

use sc_protocol::ws::OpCode;
use serde_json::json;

use super::Check;
use crate::check::{Verdict, equal, member};
use crate::peer::Peer;
use crate::target::Target;

pub(super) const CHECKS: &[Check] = &[
    Check::both("raw/reaches-the-application", "SC server: anything else is raw", raw),
    Check::both("raw/from-the-server", "SC server: send", raw_from_server),
    Check::both("odd/no-packets", "SC server: what is no packet is raw", no_packets),
    Check::both("odd/strange-members", "SC server: what is no packet is raw", strange_members),
    Check::both("odd/strange-answers", "SC server: an unknown rid is ignored", strange_answers),
    Check::both("odd/object-members-as-names", "SC server: lookups on plain objects", object_members),
    Check::both("odd/deep-nesting", "SC server: 20,000 arrays", deep),
    Check::both("odd/strange-reserved", "SC server: invalid channels and tokens", strange_reserved),
    Check::v1("odd/local-events", "SC 14: names of local events are dropped", local_events),
    Check::both("odd/unknown-reserved", "SC server: nobody answers #foo", unknown_reserved),
];

fn raw(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    peer.send("just a text")?;
    member("what the application got", &peer.event("rawReceived")?["data"], json!({ "message": "just a text" }))
}

fn raw_from_server(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    peer.emit("sendRaw", Some(json!("a raw text")))?;
    while !peer.log.contains(&json!("a raw text")) {
        peer.packet()?;
    }
    Ok(())
}

/// Sends each message, and holds that the socket is there after it.
fn survives(target: &Target, messages: &[&str]) -> Verdict {
    let mut peer = Peer::open(target)?;
    let mut bystander = Peer::open(target)?;
    for message in messages {
        peer.send(message)?;
        peer.barrier().map_err(|stop| match stop {
            crate::check::Stop::Fail(why) => crate::check::Stop::Fail(format!("after {message}: {why}")),
            skip => skip,
        })?;
    }
    bystander.barrier()
}

fn no_packets(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    peer.send_frame(OpCode::Binary, b"\xff\x00\xfe")?;
    peer.send_frame(OpCode::Binary, b"")?;
    peer.barrier()?;
    survives(
        target,
        &[
            "null",
            "true",
            "5",
            "\"x\"",
            "{}",
            "{\"foo\":1}",
            "[1,2]",
            "[null]",
            "[[]]",
            "{",
            "#1",
            "#3",
            "  ",
            "\u{feff}{}",
        ],
    )
}

fn strange_members(target: &Target) -> Verdict {
    survives(
        target,
        &[
            r#"{"event":5}"#,
            r#"{"event":["echo"],"cid":1000}"#,
            r#"{"event":{},"data":1}"#,
            r#"{"event":"","cid":1001}"#,
            r#"{"event":null,"cid":1002}"#,
            r#"{"event":"count","cid":{"a":1}}"#,
            r#"{"event":"count","cid":[1]}"#,
            r#"{"event":"count","cid":1e400}"#,
            r#"{"event":"count","event":"count","cid":1003}"#,
            r#"{"__proto__":{"event":"count"},"constructor":1}"#,
        ],
    )
}

fn strange_answers(target: &Target) -> Verdict {
    survives(
        target,
        &[
            r#"{"rid":999}"#,
            r#"{"rid":-1,"data":1}"#,
            r#"{"rid":"constructor"}"#,
            r#"{"rid":"__proto__","error":{}}"#,
            r#"{"rid":null}"#,
            r#"{"rid":{"a":1},"data":null}"#,
            r#"{"rid":1.5,"error":"x"}"#,
        ],
    )
}

fn object_members(target: &Target) -> Verdict {
    survives(
        target,
        &[
            r#"{"event":"constructor","cid":1100}"#,
            r#"{"event":"__proto__","cid":1101}"#,
            r#"{"event":"hasOwnProperty","cid":1102}"#,
            r#"{"event":"toString","data":{"toString":1}}"#,
            r##"{"event":"#subscribe","data":{"channel":"__proto__"},"cid":1103}"##,
            r##"{"event":"#publish","data":{"channel":"__proto__","data":1},"cid":1104}"##,
            r##"{"event":"#subscribe","data":{"channel":"constructor"},"cid":1105}"##,
            r##"{"event":"#unsubscribe","data":"constructor","cid":1106}"##,
        ],
    )
}

fn deep(target: &Target) -> Verdict {
    let deep = format!(r#"{{"event":"count","data":{}{},"cid":1200}}"#, "[".repeat(20_000), "]".repeat(20_000));
    survives(target, &[&deep])
}

fn strange_reserved(target: &Target) -> Verdict {
    survives(
        target,
        &[
            r##"{"event":"#subscribe","cid":1300}"##,
            r##"{"event":"#subscribe","data":{"channel":{"a":1}},"cid":1301}"##,
            r##"{"event":"#subscribe","data":[{"channel":"a"},null],"cid":1302}"##,
            r##"{"event":"#unsubscribe","data":[null],"cid":1303}"##,
            r##"{"event":"#unsubscribe","cid":1304}"##,
            r##"{"event":"#publish","cid":1305}"##,
            r##"{"event":"#publish","data":null,"cid":1306}"##,
            r##"{"event":"#publish","data":{"channel":5},"cid":1307}"##,
            r##"{"event":"#authenticate","data":{"a":1},"cid":1308}"##,
            r##"{"event":"#authenticate","data":5,"cid":1309}"##,
        ],
    )
}

fn local_events(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    let mut cids = Vec::new();
    for name in ["error", "disconnect", "subscribe", "authenticate", "raw", "message"] {
        cids.push(peer.emit(name, Some(json!(1)))?);
    }
    peer.barrier()?;
    let answered: Vec<_> = cids.into_iter().filter(|cid| peer.place_of_answer(*cid).is_some()).collect();
    equal("answered", answered, Vec::<u64>::new())
}

fn unknown_reserved(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    let cid = peer.emit("#foo", Some(json!(1)))?;
    peer.barrier()?;
    equal("is answered", peer.place_of_answer(cid).is_some(), false)
}
