//! Events, acks and errors.

use serde_json::{Value, json};

use super::Check;
use crate::check::{Verdict, ensure, equal, member};
use crate::peer::Peer;
use crate::target::Target;

pub(super) const CHECKS: &[Check] = &[
    Check::both("events/echo", "SC server: data comes back as it was", echo),
    Check::both("events/absent-data", "SC server: absent data comes back absent or null", absent_data),
    Check::both("events/no-cid-no-answer", "SC server: no cid, no answer", no_cid),
    Check::v1("events/cid-zero", "SC 14: a cid that is falsy wants no answer", cid_zero_v1),
    Check::v2("events/cid-zero", "SC 20: any number is a cid", cid_zero_v2),
    Check::v1("events/cid-text", "SC 14: a cid is echoed as it came", cid_text_v1),
    Check::v2("events/cid-text", "SC 20: only a number is a cid", cid_text_v2),
    Check::both("events/unknown", "SC server: nobody listens, nobody answers", unknown),
    Check::both("events/never-acked", "SC server: the caller's own timeout", never_acked),
    Check::both("events/error-with-properties", "sc-errors: dehydrateError", error_properties),
    Check::both("events/error-text", "sc-errors: a text is sent as it is", error_text),
    Check::both("events/argument-error", "CONTRACT 3: add", add),
    Check::both("events/late-answer", "CONTRACT 3: late", late),
    Check::both("events/in-order", "SC server: a connection is a queue", in_order),
    Check::v1("events/emits-before-ack", "SC 14: what a handler emits precedes its ack", push),
    Check::both("events/server-call", "SC server: the client's ack", ask),
    Check::both("events/server-call-refused", "SC server: the client's error", ask_refused),
    Check::both("events/blocked", "SC server: emit middleware", blocked),
    Check::both("events/blocked-silently", "SC server: SilentMiddlewareBlockedError", silent),
    Check::both("batch/in-order", "SC 8: arrays are batches", batch),
    Check::both("batch/empty", "SC 8: nothing comes of it", batch_empty),
];

fn echo(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    let values = [
        json!(0),
        json!(-1.5e300),
        json!(true),
        json!(null),
        json!(""),
        json!("é😀\u{2028}\"\\/\n\u{1}"),
        json!([]),
        json!({}),
        json!([1, [2, [3, { "deep": [null] }]]]),
        json!({ "event": "echo", "rid": 1, "cid": 2 }),
    ];
    for value in values {
        equal("an echo", peer.call("echo", Some(value.clone()))?.ok()?, value)?;
    }
    Ok(())
}

fn absent_data(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    equal("an echo of nothing", peer.call("echo", None)?.ok()?, Value::Null)
}

/// Sends a packet and answers whether it was answered before a later one.
fn answered(target: &Target, packet: &str, rid: &Value) -> Verdict<bool> {
    let mut peer = Peer::open(target)?;
    peer.send(packet)?;
    peer.barrier()?;
    Ok(peer.log.iter().any(|packet| packet.get("rid") == Some(rid)))
}

fn no_cid(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    let before = peer.log.len();
    peer.transmit("echo", &json!(1))?;
    peer.barrier()?;
    equal("packets that came, with the barrier's answer", peer.log.len() - before, 1)
}

fn cid_zero_v1(target: &Target) -> Verdict {
    equal("is answered", answered(target, r#"{"event":"echo","data":1,"cid":0}"#, &json!(0))?, false)
}

fn cid_zero_v2(target: &Target) -> Verdict {
    equal("is answered", answered(target, r#"{"event":"echo","data":1,"cid":0}"#, &json!(0))?, true)
}

fn cid_text_v1(target: &Target) -> Verdict {
    equal("is answered", answered(target, r#"{"event":"echo","data":1,"cid":"a"}"#, &json!("a"))?, true)
}

fn cid_text_v2(target: &Target) -> Verdict {
    equal("is answered", answered(target, r#"{"event":"echo","data":1,"cid":"a"}"#, &json!("a"))?, false)
}

fn unknown(target: &Target) -> Verdict {
    equal("is answered", answered(target, r#"{"event":"nobodyListens","cid":90}"#, &json!(90))?, false)
}

fn never_acked(target: &Target) -> Verdict {
    equal("is answered", answered(target, r#"{"event":"noAck","cid":90}"#, &json!(90))?, false)
}

fn error_properties(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    let data = json!({ "name": "OwnError", "message": "No", "props": { "code": "E1", "detail": { "a": [1, null] } } });
    let answer = peer.call("reject", Some(data))?;
    answer.refused("OwnError")?;
    equal("message", answer.error_member("message"), Some(&json!("No")))?;
    equal("code", answer.error_member("code"), Some(&json!("E1")))?;
    equal("detail", answer.error_member("detail"), Some(&json!({ "a": [1, null] })))
}

fn error_text(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    let answer = peer.call("rejectString", Some(json!("just a text")))?;
    let text = answer.error.as_ref().map(|error| error.get("message").unwrap_or(error).clone());
    equal("the error", text, Some(json!("just a text")))
}

fn add(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    equal("1 + 2", peer.call("add", Some(json!({ "a": 1, "b": 2 })))?.ok()?, json!(3))?;
    let answer = peer.call("add", Some(json!({ "a": null, "b": "x" })))?;
    answer.refused("ArgumentError")?;
    equal("code", answer.error_member("code"), Some(&json!("EARG")))?;
    equal("detail", answer.error_member("detail"), Some(&json!({ "got": ["object", "string"] })))
}

fn late(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    let late = peer.emit("late", Some(json!({ "ms": 300, "data": "late" })))?;
    let prompt = peer.emit("echo", Some(json!("prompt")))?;
    equal("the late answer", peer.answer(&json!(late))?.ok()?, json!("late"))?;
    let order = (peer.place_of_answer(prompt), peer.place_of_answer(late));
    ensure(order.0.is_some() && order.0 < order.1, || "a late answer delays others".to_owned())
}

fn in_order(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    let cids: Vec<u64> = (0..50).map(|_| peer.emit("count", None)).collect::<Verdict<_>>()?;
    for (n, cid) in cids.iter().enumerate() {
        equal("a count", peer.answer(&json!(cid))?.ok()?, json!(n + 1))?;
    }
    let places: Vec<_> = cids.iter().map(|cid| peer.place_of_answer(*cid)).collect();
    ensure(places.is_sorted(), || "answers overtake each other".to_owned())
}

fn push(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    let cid = peer.emit("push", Some(json!({ "event": "pushed", "data": "x", "count": 3 })))?;
    peer.answer(&json!(cid))?.ok()?;
    let pushed: Vec<&Value> = peer.log.iter().filter(|packet| packet["event"] == "pushed").collect();
    let numbers: Vec<&Value> = pushed.iter().map(|packet| &packet["data"]["seq"]).collect();
    equal("what came before the ack", numbers, vec![&json!(1), &json!(2), &json!(3)])
}

fn ask_for(target: &Target, answer: &str) -> Verdict<Value> {
    let mut peer = Peer::open(target)?;
    let cid = peer.emit("ask", Some(json!({ "event": "question", "data": 42 })))?;
    let question = peer.event("question")?;
    member("the question", &question["data"], json!(42))?;
    ensure(question["cid"].is_number(), || format!("a call without a cid: {question}"))?;
    peer.send(&answer.replace("CID", &question["cid"].to_string()))?;
    peer.answer(&json!(cid))?.ok()
}

fn ask(target: &Target) -> Verdict {
    let got = ask_for(target, r#"{"rid":CID,"data":{"answer":true}}"#)?;
    equal("what the server got", got, json!({ "ok": true, "reply": { "answer": true } }))
}

fn ask_refused(target: &Target) -> Verdict {
    let got = ask_for(target, r#"{"rid":CID,"error":{"name":"NoError","message":"No"}}"#)?;
    member("ok", &got["ok"], json!(false))?;
    member("the error's message", &got["error"]["message"], json!("No"))
}

fn blocked(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    let answer = peer.call("blocked.this", Some(json!(1)))?;
    answer.refused("ForbiddenError")?;
    equal("code", answer.error_member("code"), Some(&json!("EBLOCKED")))?;
    equal("event", answer.error_member("event"), Some(&json!("blocked.this")))
}

fn silent(target: &Target) -> Verdict {
    Peer::open(target)?.call("silent.this", None)?.refused("SilentMiddlewareBlockedError")
}

fn batch(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    peer.send(r#"[{"event":"count","cid":101},{"event":"echo","data":"b","cid":102},{"event":"count","cid":103}]"#)?;
    equal("the first count", peer.answer(&json!(101))?.ok()?, json!(1))?;
    equal("the echo", peer.answer(&json!(102))?.ok()?, json!("b"))?;
    equal("the second count", peer.answer(&json!(103))?.ok()?, json!(2))
}

fn batch_empty(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    let before = peer.log.len();
    peer.send("[]")?;
    peer.barrier()?;
    // An application hears of raw messages; an empty batch is none.
    let came = peer.log.len() - before;
    equal("packets that came, with the barrier's answer", came, 1)
}
