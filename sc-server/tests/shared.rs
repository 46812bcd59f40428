//! The data that all workers share, through handlers and over real brokers.

#![allow(clippy::unwrap_used, reason = "handlers of tests are tests")]

mod rig;

use std::time::Duration;

use rig::{BEGIN_MS, Rig};
use sc_server::{Config, Data, Key, Mapped, Reply, Worker};

/// A worker whose events are the methods of the exchange.
fn worker() -> Worker<()> {
    Worker::new(())
        .on("set", |(), cx, request| {
            let (key, value): (String, serde_json::Value) = request.data()?;
            cx.exchange().set(key, &value).then(|(), _, done| done.map(|()| Reply::Empty)).into()
        })
        .on("get", |(), cx, request| {
            let path: Vec<String> = request.data()?;
            let names: Vec<&str> = path.iter().map(String::as_str).collect();
            cx.exchange().get(names.as_slice()).then(|(), _, value| Reply::data(value?)).into()
        })
        .on("push", |(), cx, _| {
            cx.exchange().add("list", &1).forget()?;
            cx.exchange().concat("list", &[2, 3]).forget()?;
            cx.exchange().splice("list", 1, 1, &["x", "y"]).forget()?;
            cx.exchange().splice("list", -1, 1, &[(); 0]).forget()?;
            cx.exchange().get("list").then(|(), _, list| Reply::data(list?)).into()
        })
        .on("part", |(), cx, _| {
            cx.exchange().set("o", &serde_json::json!({ "a": 1, "b": 2, "c": 3 })).forget()?;
            let _ = cx.exchange().get_range("list", 1..2).then(|(), cx, range| {
                cx.log(sc_server::Level::Debug, "range", range.as_ref().ok().and_then(Data::json).unwrap_or("none"));
            });
            cx.exchange().remove_range("o", "a".."c").then(|(), _, part| Reply::data(part?)).into()
        })
        .on("all", |(), cx, _| cx.exchange().get_all().then(|(), _, all| Reply::data(all?)).into())
        .on("clear", |(), cx, _| cx.exchange().remove_all().then(|(), _, done| done.map(|()| Reply::Empty)).into())
        .on("expire", |(), cx, _| {
            cx.exchange().expire("list", Duration::from_millis(1600)).forget()?;
            cx.exchange().get_expiry("list").then(|(), _, end| Reply::data(end?)).into()
        })
        .on("counts", |(), cx, _| {
            let _ = cx.exchange().has_key("list").then(|(), cx, has| {
                cx.log(sc_server::Level::Debug, "has", &has.unwrap().to_string());
            });
            cx.exchange().count("list").then(|(), _, count| Reply::data(count?)).into()
        })
        .on("run", |(), cx, _| cx.exchange().run("none", "list", &1).then(|(), _, data| Reply::data(data?)).into())
        .on("nowhere", |(), cx, _| cx.exchange().send_to_broker(9, &1).then(|(), _, data| Reply::data(data?)).into())
}

fn cluster() -> Rig<()> {
    Rig::new(2, 3, Config::default(), |_| worker())
}

/// Emits, and answers the `rid` message without its number.
fn ask(rig: &mut Rig<()>, client: usize, event: &str, data: &str) -> String {
    let cid = rig.emit(client, event, data);
    let texts = rig.texts(client);
    assert_eq!(texts.len(), 1, "{event}: {texts:?}");
    texts[0].strip_prefix(&format!("{{\"rid\":{cid}")).unwrap().to_owned()
}

#[test]
fn what_one_worker_sets_another_gets() {
    let mut rig = cluster();
    let (one, other) = (rig.connect(0, "#2"), rig.connect(1, ""));
    for key in ["a", "b", "c", "d", "e"] {
        assert_eq!(ask(&mut rig, one, "set", &format!(r#"["{key}",{{"in":["{key}"]}}]"#)), "}");
        assert_eq!(ask(&mut rig, other, "get", &format!(r#"["{key}","in"]"#)), format!(r#","data":["{key}"]}}"#));
    }
    assert_eq!(ask(&mut rig, other, "get", r#"["nothing"]"#), "}", "absent is not null");
    let text = ask(&mut rig, other, "all", "null");
    let all: serde_json::Value = serde_json::from_str(&text[8..text.len() - 1]).unwrap();
    assert_eq!(all.as_object().unwrap().len(), 5, "the brokers' data is joined: {all}");
    assert_eq!(ask(&mut rig, one, "clear", "null"), "}");
    assert_eq!(ask(&mut rig, other, "all", "null"), r#","data":{}}"#);
}

#[test]
fn what_a_handler_asks_is_done_in_its_order() {
    let mut rig = cluster();
    let client = rig.connect(0, "#2");
    assert_eq!(ask(&mut rig, client, "push", "null"), r#","data":[1,"x","y"]}"#);
    assert_eq!(ask(&mut rig, client, "counts", "null"), r#","data":3}"#);
    assert_eq!(ask(&mut rig, client, "part", "null"), r#","data":{"a":1,"b":2}}"#);
    let said: Vec<_> = rig.reports.iter().map(|report| (report.name.as_str(), report.message.as_str())).collect();
    assert_eq!(said, [("has", "true"), ("range", r#"["x"]"#)]);
}

#[test]
fn an_end_is_told_in_seconds_since_1970() {
    let mut rig = cluster();
    let client = rig.connect(0, "#2");
    let end = BEGIN_MS / 1000 + 2;
    assert_eq!(ask(&mut rig, client, "expire", "null"), format!(r#","data":{end}}}"#));
}

#[test]
fn what_cannot_be_done_says_so() {
    let mut rig = cluster();
    let client = rig.connect(0, "#2");
    assert!(ask(&mut rig, client, "run", "null").contains(r#""name":"BrokerError""#), "there is no controller");
    assert!(ask(&mut rig, client, "nowhere", "null").contains("There is no such broker"));
    assert!(ask(&mut rig, client, "get", "[]").contains("InvalidArgumentsError"));
    let deep = serde_json::to_string(&vec!["a"; 100]).unwrap();
    assert!(ask(&mut rig, client, "get", &deep).contains("KEY_DEPTH_MAX"));
}

#[test]
fn without_its_broker_a_call_waits_and_the_data_is_lost() {
    let mut rig = cluster();
    let client = rig.connect(0, "#2");
    assert_eq!(ask(&mut rig, client, "set", r#"["k",1]"#), "}");
    let shard = sc_server::shard("k", 3);
    rig.kill_broker(shard);
    let cid = rig.emit(client, "get", r#"["k"]"#);
    let all = rig.emit(client, "all", "null");
    assert!(rig.texts(client).is_empty(), "both wait");
    rig.revive_broker(shard);
    let texts = rig.texts(client);
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(texts.contains(&format!(r#"{{"rid":{cid}}}"#)), "the value is gone: {texts:?}");
    assert!(texts.contains(&format!(r#"{{"rid":{all},"data":{{}}}}"#)), "{texts:?}");
}

#[test]
fn a_call_that_waits_too_long_times_out() {
    let mut rig = cluster();
    let client = rig.connect(0, "#2");
    rig.kill_broker(sc_server::shard("k", 3));
    rig.emit(client, "get", r#"["k"]"#);
    rig.emit(client, "all", "null");
    rig.pass(Duration::from_secs(10));
    let texts = rig.texts(client);
    let late = texts.iter().filter(|text| text.contains(r#""name":"TimeoutError""#)).count();
    assert_eq!(late, 2, "{texts:?}");
}

#[test]
fn the_mapper_is_for_keys_and_channels() {
    fn all_on_the_last(what: Mapped<'_>, brokers: u32) -> u32 {
        match what {
            Mapped::Channel(_) => brokers - 1,
            Mapped::Key(key) => u32::from(key.first() != "elsewhere") * (brokers - 1),
        }
    }
    let mut rig = Rig::new(2, 3, Config::default(), |_| {
        worker()
            .on_start(|(), cx| cx.exchange().set_mapper(all_on_the_last).unwrap())
            .on("where", |(), cx, request| Reply::data(cx.exchange().broker_of(&request.data::<String>()?)))
    });
    let client = rig.connect(0, "#2");
    for key in ["a", "b", "c"] {
        ask(&mut rig, client, "set", &format!(r#"["{key}",1]"#));
        assert_eq!(ask(&mut rig, client, "where", &format!("\"{key}\"")), r#","data":2}"#);
        assert!(rig.broker(2).store().has_key(&Key::from(key)));
    }
    ask(&mut rig, client, "set", r#"["elsewhere",1]"#);
    assert!(rig.broker(0).store().has_key(&Key::from("elsewhere")));
}
