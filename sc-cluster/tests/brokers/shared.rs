//! The tests.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::client::Client;
use crate::server::{Server, send, wait_gone};

fn cluster() -> Server {
    Server::start(r#"{"workers":2,"brokers":2}"#)
}

/// Asks again until the answer is as expected; each time is a round trip, and the client's patience bounds each.
fn ask_until(client: &mut Client, event: &str, data: &str, expected: &Value) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let answer = client.ask(event, data);
        if answer.as_ref() == Ok(expected) {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{event} {data} is {answer:?}, not {expected}");
    }
}

pub(crate) fn set_and_get() {
    let server = cluster();
    let [mut one, mut other] = Client::pair(server.port);
    for broker in 0..2 {
        let key = format!("{broker}/key");
        one.ask("set", &format!(r#"["{key}",{{"n":{broker}}}]"#)).unwrap();
        assert_eq!(other.ask("get", &format!("\"{key}\"")).unwrap(), json!({ "n": broker }));
        for n in 0..10 {
            let client = if n % 2 == 0 { &mut one } else { &mut other };
            assert_eq!(client.ask("add", &format!(r#"["{broker}/list",{n}]"#)).unwrap(), n);
        }
        let list: Vec<u32> = (0..10).collect();
        assert_eq!(one.ask("get", &format!("\"{broker}/list\"")).unwrap(), json!(list));
    }
    let all = other.ask("all", "null").unwrap();
    let keys: Vec<_> = all.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["0/key", "0/list", "0/start", "1/key", "1/list", "1/start"]);
    assert!(server.stop().success());
}

pub(crate) fn expiry() {
    let server = cluster();
    let mut client = Client::connect(server.port);
    client.ask("set", r#"["0/key",1]"#).unwrap();
    client.ask("set", r#"["0/stays",1]"#).unwrap();
    client.ask("expire", r#"["0/key",300]"#).unwrap();
    client.ask("expire", r#"["0/stays",3000000]"#).unwrap();
    ask_until(&mut client, "get", "\"0/key\"", &Value::Null);
    assert_eq!(client.ask("get", "\"0/stays\"").unwrap(), 1);
    assert!(server.stop().success());
}

pub(crate) fn controller() {
    let server = cluster();
    let [mut one, mut other] = Client::pair(server.port);
    one.ask("set", r#"["1/stock",5]"#).unwrap();
    assert_eq!(one.ask("run", r#"["take","1/stock",["1/stock",3]]"#).unwrap(), 3);
    assert_eq!(other.ask("run", r#"["take","1/stock",["1/stock",3]]"#).unwrap(), 2);
    assert_eq!(other.ask("run", r#"["take","1/stock",["1/stock",3]]"#).unwrap(), 0);
    let refused = one.ask("run", r#"["refuse","1/stock",null]"#).unwrap_err();
    assert_eq!(refused, json!({ "message": "No more", "name": "QuotaError", "limit": 3 }));
    let unknown = one.ask("run", r#"["none","1/stock",null]"#).unwrap_err();
    assert_eq!(unknown["name"], "BrokerError");

    one.subscribe("0/room/out");
    other.subscribe("0/room/out");
    for n in 0..5 {
        other.ask("#publish", &format!(r#"{{"channel":"0/room/in","data":{n}}}"#)).unwrap();
    }
    for n in 0..5 {
        assert_eq!((one.message("0/room/out"), other.message("0/room/out")), (json!(n), json!(n)));
    }
    one.ask("#unsubscribe", "\"0/room/out\"").unwrap();
    other.ask("#unsubscribe", "\"0/room/out\"").unwrap();
    let heard = json!(["+0/room/out", "-0/room/out"]);
    let answers = json!([{ "broker": 0, "got": "hi", "heard": heard }, { "broker": 1, "got": "hi", "heard": [] }]);
    // The unsubscribe of the other worker may still be on its way.
    ask_until(&mut one, "send", "\"hi\"", &answers);
    assert!(server.stop().success());
}

pub(crate) fn master() {
    let server = cluster();
    let mut client = Client::connect(server.port);
    client.subscribe("0/master");
    client.ask("run", r#"["report","1/key",{"n":1}]"#).unwrap();
    assert_eq!(client.message("0/master"), json!({ "broker": 1, "was asked": { "n": 1 } }));
    assert!(server.stop().success());
}

pub(crate) fn panics() {
    let server = cluster();
    let mut client = Client::connect(server.port);
    let broker = server.child("broker 0");
    client.ask("set", r#"["0/key",1]"#).unwrap();
    assert_eq!(client.ask("run", r#"["panic","0/key",null]"#).unwrap_err()["name"], "InternalError");
    assert_eq!(client.ask("get", "\"0/key\"").unwrap(), 1, "the broker and its data are there");
    assert_eq!(server.child("broker 0"), broker);
    assert!(server.stop().success());
}

pub(crate) fn death() {
    let server = cluster();
    let [mut one, mut other] = Client::pair(server.port);
    other.subscribe("0/deaths");
    one.ask("onDeath", r#"["bury","0/deaths",["0/deaths",{"was":"here"}]]"#).unwrap();
    send(server.child(&format!("worker {}", one.worker)), Signal::KILL);
    assert_eq!(other.message("0/deaths"), json!({ "was": "here" }));
    assert!(server.stop().success());
}

pub(crate) fn broker_killed() {
    let server = cluster();
    let [mut one, mut other] = Client::pair(server.port);
    for key in ["0/key", "1/key"] {
        one.ask("set", &format!(r#"["{key}",1]"#)).unwrap();
    }
    other.subscribe("0/news");
    let broker = server.child("broker 0");
    send(broker, Signal::KILL);
    wait_gone(broker);
    // A call may be on its way when the link breaks, or wait for the next broker. It is answered in any case.
    let first = one.ask("get", "\"0/key\"");
    assert!(first.as_ref().map_or_else(|error| error["name"] == "BrokerError", Value::is_null), "{first:?}");
    ask_until(&mut one, "get", "\"0/start\"", &json!({ "again": true }));
    assert_eq!(one.ask("get", "\"0/key\"").unwrap(), Value::Null, "what it kept is lost");
    assert_eq!(other.ask("get", "\"1/key\"").unwrap(), 1, "what the other keeps is there");
    one.ask("#publish", r#"{"channel":"0/news","data":"again"}"#).unwrap();
    assert_eq!(other.message("0/news"), "again", "the subscription is restored");
    let port = server.port;
    drop((one, other));
    let warned = loop {
        let warned = server.logged("shared data");
        if !warned.is_empty() {
            break warned;
        }
        // The line comes through the master, which answers a connection meanwhile.
        drop(Client::connect(port));
    };
    assert!(warned[0].contains("broker 0"), "{warned:?}");
    assert!(server.stop().success());
}
