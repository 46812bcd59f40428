//! Whatever clients send, in whatever order: nothing panics, nobody else notices, and no call is answered twice.

mod rig;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;
use rig::{Got, Rig};
use sc_protocol::codec::{Codec, MinBin};
use sc_protocol::heartbeat::Policy;
use sc_protocol::ws::OpCode;
use sc_server::{Block, Config, Cx, Pass, Reply, Request, Verdict, Worker};
use serde_json::{Value, json};

/// An application that does everything which a handler can do, on request.
fn app() -> Worker<()> {
    Worker::new(())
        .on("echo", |(), _cx, request| Reply::data(request.data.clone()))
        .on("refuse", |(), _cx, request| Reply::refuse_with(sc_server::ScError::text("no"), request.data.clone()))
        .on("never", |(), _cx, _request| Ok(Reply::Never))
        .on("later", |(), cx, _request| cx.later(|| 7, |(), _cx, seven| Reply::data(seven)).into())
        .on("soon", |(), cx, _request| cx.after(Duration::from_millis(30), |(), _cx| Ok(Reply::Empty)).into())
        .on("call", |(), cx, request| {
            let answered = cx.call(request.socket, "question", &1, |(), _cx, answer| answer.and_then(Reply::data));
            answered.into()
        })
        .on("act", |(), cx, request| act(cx, &request))
        .emit(|(), cx, request| wait_if(cx, request.event.starts_with("slow")))
        .subscribe(|(), cx, request| match request.channel.as_ref() {
            "forbidden" => Err(Block::named("Forbidden", "not for you")),
            "secret" => Err(Block::silent()),
            channel => wait_if(cx, channel.starts_with("slow")),
        })
        .publish_in(|(), cx, request| wait_if(cx, request.channel.starts_with("slow")))
        .authenticate(|(), cx, _request| wait_if(cx, true))
        .handshake_sc(|(), cx, request| {
            let slow = cx.version(request.socket) == Some(sc_protocol::Version::V2);
            wait_if(cx, slow)
        })
}

fn wait_if(cx: &mut Cx<'_, ()>, wait: bool) -> Verdict {
    match wait {
        true => cx.later(|| (), |(), _cx, ()| Ok(Pass::Now)).into(),
        false => Ok(Pass::Now),
    }
}

fn act(cx: &mut Cx<'_, ()>, request: &Request<'_>) -> sc_server::Answer {
    let socket = request.socket;
    match request.data.get::<u64>().unwrap_or_default() % 9 {
        0 => cx.kick_out(socket, None, Some("out")),
        1 => cx.kick_out(socket, Some("a"), None),
        2 => cx.set_auth_token(socket, &json!({ "name": "x" }), Some(1))?,
        3 => cx.deauthenticate(socket),
        4 => cx.start_batching(socket),
        5 => cx.stop_batching(socket),
        6 => cx.publish("a", &2)?,
        7 => cx.disconnect(socket, 4321, "bye"),
        _ => cx.terminate(socket),
    }
    Ok(Reply::Empty)
}

fn events() -> impl Strategy<Value = Value> {
    let names = [
        "#handshake",
        "#authenticate",
        "#removeAuthToken",
        "#subscribe",
        "#unsubscribe",
        "#publish",
        "#disconnect",
        "#setAuthToken",
        "#kickOut",
        "#unknown",
        "error",
        "message",
        "disconnect",
        "raw",
        "",
        "__proto__",
        "echo",
        "refuse",
        "never",
        "later",
        "soon",
        "call",
        "act",
        "slow",
        "slowly",
    ];
    prop_oneof![8 => prop::sample::select(names.to_vec()).prop_map(Value::from), 1 => json_value()]
}

fn channels() -> impl Strategy<Value = Value> {
    let names = ["a", "b", "slow-a", "forbidden", "secret", "", "__proto__", "constructor"];
    prop_oneof![6 => prop::sample::select(names.to_vec()).prop_map(Value::from), 1 => json_value()]
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            vec(("(data|channel|code|authToken|toString|x)", inner), 0..3)
                .prop_map(|members| members.into_iter().collect()),
        ]
    })
}

fn data() -> impl Strategy<Value = Value> {
    let token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1IjoxfQ.dGhlc2UgYXJlIG5vIHNpZ25hdHVyZSBieXRlcw";
    prop_oneof![
        3 => channels(),
        6 => (channels(), json_value(), any::<bool>(), any::<bool>()).prop_map(|(channel, data, wait, batch)| {
            json!({ "channel": channel, "data": data, "waitForAuth": wait, "batch": batch })
        }),
        2 => (0..12_u64).prop_map(Value::from),
        1 => Just(json!({ "authToken": token })),
        1 => Just(Value::from(token)),
        1 => (900..5100).prop_map(|code| json!({ "code": code, "data": "why" })),
        2 => json_value(),
    ]
}

fn cids() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        2 => Just(None),
        6 => (1..40_u64).prop_map(|cid| Some(Value::from(cid))),
        1 => prop::sample::select(vec![json!(0), json!(-3), json!(1.5), json!("s"), json!(""), json!([1]), json!({ "a": 1 }), json!(true)]).prop_map(Some),
    ]
}

fn packets() -> impl Strategy<Value = Value> {
    let event = (events(), proptest::option::weighted(0.9, data()), cids()).prop_map(|(event, data, cid)| {
        let mut packet = json!({ "event": event });
        if let Some(data) = data {
            packet["data"] = data;
        }
        if let Some(cid) = cid {
            packet["cid"] = cid;
        }
        packet
    });
    let response = (cids(), proptest::option::of(json_value()), proptest::option::of(json_value())).prop_map(
        |(rid, error, data)| {
            let mut packet = json!({ "rid": rid });
            if let Some(error) = error {
                packet["error"] = error;
            }
            if let Some(data) = data {
                packet["data"] = data;
            }
            packet
        },
    );
    prop_oneof![10 => event, 2 => response, 1 => json_value()]
}

/// The text of a message, mostly well formed.
fn messages() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => packets().prop_map(|packet| packet.to_string()),
        2 => vec(packets(), 0..4).prop_map(|packets| Value::from(packets).to_string()),
        1 => prop::sample::select(&["#1", "#2", "", "null", "[[]]", "{", "\u{feff}{}"][..]).prop_map(str::to_owned),
        1 => (packets(), any::<prop::sample::Index>(), ".").prop_map(|(packet, at, instead)| {
            let mut text: Vec<char> = packet.to_string().chars().collect();
            let at = at.index(text.len());
            text.splice(at..=at, instead.chars());
            text.into_iter().collect()
        }),
    ]
}

#[derive(Debug, Clone)]
enum Step {
    Text(usize, String),
    Binary(usize, String),
    Frame(usize, OpCode, Vec<u8>),
    Jobs,
    Pass(u64),
    Vanish(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = 0..ATTACKERS;
    let step = prop_oneof![
        12 => (who.clone(), messages()).prop_map(|(who, text)| Step::Text(who, text)),
        1 => (who.clone(), messages()).prop_map(|(who, text)| Step::Binary(who, text)),
        1 => (who.clone(), vec(any::<u8>(), 0..8)).prop_map(|(who, bytes)| Step::Frame(who, OpCode::Ping, bytes)),
        1 => (who.clone(), vec(any::<u8>(), 0..8)).prop_map(|(who, bytes)| Step::Frame(who, OpCode::Close, bytes)),
        3 => Just(Step::Jobs),
        2 => (1..9000_u64).prop_map(Step::Pass),
        1 => who.prop_map(Step::Vanish),
    ];
    vec(step, 1..60)
}

const ATTACKERS: usize = 3;
const HANDSHAKE: &str = r##"{"event":"#handshake","data":{"authToken":null},"cid":"hello"}"##;

/// How often each call was sent, or answered; a number is the same however it is written.
type Calls = BTreeMap<String, usize>;

fn count(calls: &mut Calls, text: &str, member: &str) {
    let Ok(value) = serde_json::from_str::<Value>(text) else { return };
    let packets = match &value {
        Value::Array(packets) => packets.as_slice(),
        packet => std::slice::from_ref(packet),
    };
    for id in packets.iter().filter_map(|packet| packet.get(member)) {
        let id = id.as_f64().map_or_else(|| id.to_string(), |number| number.to_string());
        *calls.entry(id).or_default() += 1;
    }
}

fn check(steps: Vec<Step>, strict: bool, policy: Policy) -> Result<(), TestCaseError> {
    let config =
        Config { protocol_version: policy, strict_handshake: strict, socket_channel_limit: 3, ..Config::default() };
    let mut rig = Rig::new(2, 2, config, |_| app());
    let bystander_pong = if policy == Policy::V2 { "" } else { "#2" };
    let bystander = connect(&mut rig, 0, bystander_pong);
    rig.send(bystander, r##"{"event":"#subscribe","data":{"channel":"quiet"},"cid":2}"##);
    prop_assert_eq!(rig.texts(bystander), [r#"{"rid":2}"#]);
    let attackers: Vec<usize> = (0..ATTACKERS).map(|at| rig.upgrade(at % 2, "/socketcluster/?a=1")).collect();
    let (mut sent, mut answered) = (vec![Calls::new(); ATTACKERS], vec![Calls::new(); ATTACKERS]);
    for (at, &client) in attackers.iter().enumerate() {
        // The first comes without a handshake.
        if at > 0 {
            rig.send(client, HANDSHAKE);
            rig.send(client, if at == 1 && policy != Policy::V2 { "#2" } else { "" });
            rig.run_jobs();
            count(&mut sent[at], HANDSHAKE, "cid");
        }
    }
    let mut bystander_calls = 2;
    for step in steps {
        match step {
            Step::Text(who, text) => {
                rig.send(attackers[who], &text);
                count(&mut sent[who], &text, "cid");
            }
            Step::Binary(who, text) => {
                rig.send_frame(attackers[who], OpCode::Binary, text.as_bytes());
                count(&mut sent[who], &text, "cid");
            }
            Step::Frame(who, opcode, bytes) => rig.send_frame(attackers[who], opcode, &bytes),
            Step::Jobs => rig.run_jobs(),
            Step::Pass(ms) => rig.pass(Duration::from_millis(ms)),
            Step::Vanish(who) if rig.is_connected(attackers[who]) => rig.vanish(attackers[who]),
            Step::Vanish(_) => {}
        }
        for (at, &client) in attackers.iter().enumerate() {
            for got in rig.take(client) {
                if let Got::Text(text) = got {
                    count(&mut answered[at], &text, "rid");
                }
            }
        }
        bystander_calls += 1;
        let call = format!(r#"{{"event":"echo","data":{bystander_calls},"cid":{bystander_calls}}}"#);
        rig.send(bystander, &call);
        let expected = format!(r#"{{"rid":{bystander_calls},"data":{bystander_calls}}}"#);
        prop_assert_eq!(rig.texts(bystander), [expected], "a bystander sees its own answers and nothing else");
    }
    for (sent, answered) in sent.iter().zip(&answered) {
        for (cid, times) in answered {
            let calls = sent.get(cid).copied().unwrap_or_default();
            prop_assert!(*times <= calls, "cid {} was sent {} times and answered {} times", cid, calls, times);
        }
    }
    finish(&mut rig, bystander, &attackers)
}

/// The bystander is still subscribed; and when all are gone, nothing is left of them.
fn finish(rig: &mut Rig<()>, bystander: usize, attackers: &[usize]) -> Result<(), TestCaseError> {
    rig.send(bystander, r##"{"event":"#publish","data":{"channel":"quiet","data":1}}"##);
    prop_assert_eq!(rig.texts(bystander), [r##"{"event":"#publish","data":{"channel":"quiet","data":1}}"##]);
    for &client in attackers.iter().chain([&bystander]) {
        if rig.is_connected(client) {
            rig.vanish(client);
        }
    }
    rig.run_jobs();
    rig.pass(Duration::from_secs(30));
    for worker in 0..2 {
        let counters = rig.engine(worker).counters();
        prop_assert_eq!((counters.clients, counters.sockets, counters.panics_total), (0, 0, 0));
    }
    prop_assert!(!rig.crashed);
    Ok(())
}

fn connect(rig: &mut Rig<()>, worker: usize, pong: &'static str) -> usize {
    let client = rig.upgrade(worker, "/socketcluster/");
    rig.answer_pings_with(client, pong);
    rig.send(client, r##"{"event":"#handshake","data":{"authToken":null},"cid":1}"##);
    rig.send(client, pong);
    rig.run_jobs();
    rig.take(client);
    client
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn nobody_else_notices(steps in steps(), strict: bool, policy in prop::sample::select(&[Policy::Auto, Policy::V1, Policy::V2][..])) {
        check(steps, strict, policy)?;
    }

    #[test]
    fn nor_where_packets_are_coded(messages in vec((0..ATTACKERS, coded()), 1..30), v1: bool) {
        check_coded(&messages, if v1 { Policy::V1 } else { Policy::V2 })?;
    }
}

/// A message of a server whose codec is not JSON: a packet that is written in it, bytes at random, or a text.
#[derive(Debug, Clone)]
enum Coded {
    Packet(String),
    Bytes(Vec<u8>),
    Text(String),
}

fn coded() -> impl Strategy<Value = Coded> {
    prop_oneof![
        6 => packets().prop_map(|packet| Coded::Packet(packet.to_string())),
        2 => vec(packets(), 0..4).prop_map(|packets| Coded::Packet(Value::from(packets).to_string())),
        2 => vec(any::<u8>(), 0..60).prop_map(Coded::Bytes),
        1 => messages().prop_map(Coded::Text),
    ]
}

fn check_coded(messages: &[(usize, Coded)], policy: Policy) -> Result<(), TestCaseError> {
    let config = Config { protocol_version: policy, ..Config::default() };
    let mut rig = Rig::new(1, 1, config, |_| app().codec(MinBin));
    let say = |rig: &mut Rig<()>, client, packet: &str| {
        let mut message = BytesMut::new();
        // What was written without JavaScript's numbers in mind may not be writable, and is left out.
        if MinBin.encode(packet, &mut message).is_ok() {
            rig.send_frame(client, OpCode::Binary, &message);
        }
    };
    let clients: Vec<usize> = (0..=ATTACKERS).map(|_| rig.upgrade(0, "/socketcluster/")).collect();
    for &client in &clients {
        say(&mut rig, client, HANDSHAKE.replace("\"hello\"", "1000").as_str());
        rig.run_jobs();
        rig.take(client);
    }
    let bystander = clients[ATTACKERS];
    for (at, (who, message)) in messages.iter().enumerate() {
        match message {
            Coded::Packet(packet) => say(&mut rig, clients[*who], packet),
            Coded::Bytes(bytes) => rig.send_frame(clients[*who], OpCode::Binary, bytes),
            Coded::Text(text) => rig.send(clients[*who], text),
        }
        rig.run_jobs();
        say(&mut rig, bystander, &format!(r#"{{"event":"echo","data":{at},"cid":{}}}"#, at + 1));
        let got = rig.take(bystander);
        let [Got::Binary(answer)] = &got[..] else { return Err(TestCaseError::fail(format!("{got:?}"))) };
        let expected = format!(r#"{{"rid":{},"error":null,"data":{at}}}"#, at + 1);
        prop_assert_eq!(MinBin.decode(answer).expect("a packet"), expected);
    }
    prop_assert!(!rig.crashed && rig.engine(0).counters().panics_total == 0);
    Ok(())
}

fn cases() -> u32 {
    if std::env::var_os("SC_TEST_LONG").is_some() { 20_000 } else { 300 }
}
