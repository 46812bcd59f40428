//! Shared data and the application's queries, over the link.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::{Duration, Instant};

use bytes::BytesMut;
use sc_broker::{Broker, BrokerCall, BrokerEvent, BrokerLimits, LinkId, StoreLimits};
use sc_protocol::ScError;
use sc_protocol::ipc::CallKind::{self, *};
use sc_protocol::ipc::{LINK_VERSION, LinkMsg, LinkReader};

const LIMITS: StoreLimits = StoreLimits { store_bytes_max: 100_000, store_answer_max: 200 };

struct Bench {
    broker: Broker,
    link: LinkId,
    now: Instant,
    cid: u64,
}

impl Bench {
    fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "a test is a driver")]
        let now = Instant::now();
        let mut broker = Broker::new(BrokerLimits { store: LIMITS, ..BrokerLimits::default() }, 7);
        let link = Self::greeted(&mut broker, now, 3);
        Self { broker, link, now, cid: 0 }
    }

    fn greeted(broker: &mut Broker, now: Instant, worker: u32) -> LinkId {
        let link = broker.attach(now);
        let mut out = BytesMut::new();
        LinkMsg::Hello { version: LINK_VERSION, worker, pid: 1 }.write(&mut out);
        broker.handle_bytes(now, link, &out).unwrap();
        link
    }

    /// One call, and the one answer to it.
    fn call(&mut self, what: CallKind, key: &str, data: Option<&str>) -> String {
        self.cid += 1;
        let mut out = BytesMut::new();
        LinkMsg::Call { cid: self.cid, what, key, data }.write(&mut out);
        self.broker.handle_bytes_with(self.now, self.link, &out, application).unwrap();
        let mut answers = Vec::new();
        while let Some((link, bytes)) = self.broker.poll_transmit() {
            let n = bytes.len();
            let read = LinkReader::new().handle_bytes(bytes, |msg| {
                answers.push(match msg {
                    LinkMsg::Answer { cid, data } => (cid, data.unwrap_or("undefined").to_owned()),
                    LinkMsg::Nack { cid, error } => (cid, ScError::parse(error).to_string()),
                    other => panic!("{other:?}"),
                });
            });
            read.unwrap();
            self.broker.wrote(link, n);
        }
        assert_eq!(answers.len(), 1, "{what:?} is answered once");
        assert_eq!(answers[0].0, self.cid);
        answers.remove(0).1
    }
}

fn application(broker: &mut Broker, call: BrokerCall<'_>) {
    match call {
        BrokerCall::Run { call, query: "size", .. } => {
            let size = broker.store().bytes().to_string();
            broker.answer(call, Ok(Some(&size)));
        }
        BrokerCall::Run { call, .. } => broker.answer(call, Err(&ScError::new("QueryError", "no such query"))),
        BrokerCall::Send { call, data } => broker.answer(call, Ok(data)),
        _ => {}
    }
}

#[test]
fn every_call_is_carried_out_and_answered() {
    let mut bench = Bench::new();
    let k = r#"["k"]"#;
    for (what, data, answer) in [
        (Get, None, "undefined"),
        (HasKey, None, "false"),
        (Count, None, "0"),
        (Set, Some("[1,2,3]"), "undefined"),
        (Get, None, "[1,2,3]"),
        (GetRange, Some("[1]"), "[2,3]"),
        (GetRange, Some("[0,1]"), "[1]"),
        (GetRange, Some(r#"["0",null]"#), "[1,2,3]"),
        (HasKey, None, "true"),
        (Count, None, "3"),
        (Add, Some("4"), "3"),
        (Concat, Some("[5,6]"), "undefined"),
        (Pop, None, "[6]"),
        (Splice, Some("[1,2,\"x\"]"), "[2,3]"),
        (Splice, Some("[-1]"), "[5]"),
        (RemoveRange, Some("[0,1]"), "[1]"),
        (Get, None, "[\"x\",4]"),
        (GetExpiry, None, "undefined"),
        (Expire, Some("1500"), "undefined"),
        (GetExpiry, None, "1500"),
        (Unexpire, None, "undefined"),
        (GetExpiry, None, "undefined"),
        (GetAll, None, r#"{"k":["x",4]}"#),
        (Remove, None, "[\"x\",4]"),
        (Remove, None, "undefined"),
        (RemoveAll, None, "undefined"),
        (GetAll, None, "{}"),
        (Send, Some("[1]"), "[1]"),
    ] {
        assert_eq!(bench.call(what, k, data), answer, "{what:?} {data:?}");
    }
    assert_eq!(bench.call(Run, "size", None), "0");
    assert!(bench.call(Run, "other", None).contains("no such query"));
}

#[test]
fn nonsense_is_refused_and_the_link_lives_on() {
    let mut bench = Bench::new();
    for (what, key, data) in [
        (Get, "k", None),
        (Set, r#"["k"]"#, None),
        (Set, r#"["k"]"#, Some("{")),
        (GetRange, r#"["k"]"#, Some("1")),
        (GetRange, r#"["k"]"#, Some("[]")),
        (GetRange, r#"["k"]"#, Some("[true]")),
        (Splice, r#"["k"]"#, Some("[0.5]")),
        (Expire, r#"["k"]"#, Some("-1")),
    ] {
        let answer = bench.call(what, key, data);
        assert!(answer.starts_with("InvalidArgumentsError"), "{what:?} {key} {data:?}: {answer}");
    }
    bench.call(Set, r#"["k"]"#, Some(&format!("\"{}\"", "x".repeat(300))));
    assert!(bench.call(Get, r#"["k"]"#, None).contains("store_answer_max"));
    assert!(bench.call(Remove, r#"["k"]"#, None).contains("store_answer_max"));
    assert_eq!(bench.call(HasKey, r#"["k"]"#, None), "true", "what could not be answered was not removed");
}

#[test]
fn values_go_when_their_time_is_over() {
    let mut bench = Bench::new();
    bench.call(Set, r#"["k"]"#, Some("1"));
    bench.call(Expire, r#"["k"]"#, Some("1000"));
    let due = bench.broker.poll_timeout().expect("something is to end");
    assert!(due > bench.now);
    bench.now += Duration::from_millis(999);
    bench.broker.handle_timeout(bench.now);
    assert_eq!(bench.call(HasKey, r#"["k"]"#, None), "true");
    bench.now += Duration::from_millis(101);
    bench.broker.handle_timeout(bench.now);
    assert_eq!(bench.call(HasKey, r#"["k"]"#, None), "false");
    assert_eq!(bench.broker.poll_timeout(), None);
}

#[test]
fn without_an_application_its_calls_are_refused() {
    let mut bench = Bench::new();
    let mut out = BytesMut::new();
    LinkMsg::Call { cid: 1, what: Run, key: "size", data: None }.write(&mut out);
    bench.broker.handle_bytes(bench.now, bench.link, &out).unwrap();
    let (_, bytes) = bench.broker.poll_transmit().expect("an answer");
    LinkReader::new()
        .handle_bytes(bytes, |msg| assert!(matches!(msg, LinkMsg::Nack { cid: 1, .. }), "{msg:?}"))
        .unwrap();
}

#[test]
fn the_query_for_the_end_is_told_of_once_the_link_ends() {
    let mut bench = Bench::new();
    bench.call(OnDeath, "first", Some("1"));
    let large = format!("\"{}\"", "x".repeat(64 << 10));
    assert!(bench.call(OnDeath, "large", Some(&large)).contains("death_bytes_max"));
    bench.call(OnDeath, "cleanUp", Some("{\"worker\":3}"));
    let other = Bench::greeted(&mut bench.broker, bench.now, 4);
    while bench.broker.poll_event().is_some() {}
    bench.broker.detached(bench.now, other);
    assert_eq!(bench.broker.poll_event(), None, "it had left none");
    bench.broker.detached(bench.now, bench.link);
    let data = Some("{\"worker\":3}".into());
    assert_eq!(bench.broker.poll_event(), Some(BrokerEvent::Death { worker: 3, query: "cleanUp".into(), data }));
    assert_eq!(bench.broker.poll_event(), None);
}

#[test]
fn the_application_hears_of_publishes_and_publishes_itself() {
    let mut bench = Bench::new();
    let subscriber = Bench::greeted(&mut bench.broker, bench.now, 4);
    let mut out = BytesMut::new();
    LinkMsg::Subscribe { cid: 1, channel: "out" }.write(&mut out);
    bench.broker.handle_bytes(bench.now, subscriber, &out).unwrap();
    out.clear();
    LinkMsg::Publish { cid: 1, channel: "in", data: Some("5") }.write(&mut out);
    LinkMsg::Publish { cid: 2, channel: "in", data: None }.write(&mut out);
    let mut heard = Vec::new();
    let sink = |broker: &mut Broker, call: BrokerCall<'_>| {
        if let BrokerCall::Published { channel, data } = call {
            heard.push(format!("{channel} {data:?}"));
            broker.publish("out", data).unwrap();
        }
    };
    bench.broker.handle_bytes_with(bench.now, bench.link, &out, sink).unwrap();
    assert_eq!(heard, ["in Some(\"5\")", "in None"]);
    let mut seen = Vec::new();
    while let Some((link, bytes)) = bench.broker.poll_transmit() {
        let n = bytes.len();
        LinkReader::new().handle_bytes(bytes, |msg| seen.push(format!("{} {msg:?}", link.0))).unwrap();
        bench.broker.wrote(link, n);
    }
    assert!(seen.contains(&"1 Deliver { channel: \"out\", data: Some(\"5\") }".to_owned()), "{seen:?}");
    assert!(seen.contains(&"1 Deliver { channel: \"out\", data: None }".to_owned()), "{seen:?}");
}

#[test]
fn a_worker_that_does_not_read_its_answers_gets_no_more_work_done() {
    let mut bench = Bench::new();
    let limits = BrokerLimits { link_bytes_max: 500, store: LIMITS, ..BrokerLimits::default() };
    bench.broker = Broker::new(limits, 7);
    bench.link = Bench::greeted(&mut bench.broker, bench.now, 0);
    let mut out = BytesMut::new();
    for cid in 1..=100 {
        LinkMsg::Call { cid, what: Add, key: r#"["k"]"#, data: Some("1") }.write(&mut out);
    }
    bench.broker.handle_bytes(bench.now, bench.link, &out).unwrap();
    let k = sc_broker::Key::from("k");
    let done = bench.broker.store().count(&k).unwrap();
    assert!(done > 0 && done < 100, "{done}");
}
