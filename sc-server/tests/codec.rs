//! A server whose clients use `sc-codec-min-bin`.

mod rig;

use std::time::Duration;

use bytes::BytesMut;
use rig::{Got, Rig};
use sc_protocol::codec::{Codec, JsonCodec, MinBin};
use sc_protocol::heartbeat::Policy;
use sc_protocol::ws::OpCode;
use sc_server::{Config, Reply, Worker};
use serde_json::Value;

fn app() -> Worker<()> {
    Worker::new(())
        .codec(MinBin)
        .on("echo", |(), _cx, request| Reply::data(request.data.clone()))
        .on("batch", |(), cx, request| {
            cx.start_batching(request.socket);
            Ok(Reply::Empty)
        })
        .publish_out(|(), _cx, request| match request.value().as_str() {
            Some("secret") => Err(sc_server::Block::silent()),
            Some("other") => Ok(request.replace("replaced")?),
            _ => Ok(()),
        })
}

fn config(protocol_version: Policy) -> Config {
    Config { protocol_version, ..Config::default() }
}

fn send(rig: &mut Rig<()>, client: usize, packet: &str) {
    let mut message = BytesMut::new();
    MinBin.encode(packet, &mut message).expect("a packet");
    rig.send_frame(client, OpCode::Binary, &message);
}

/// What came, as JSON; a message that is not binary as it is.
fn got(rig: &mut Rig<()>, client: usize) -> Vec<String> {
    let decoded = |got| match got {
        Got::Binary(bytes) => MinBin.decode(&bytes).expect("a packet"),
        other => format!("{other:?}"),
    };
    rig.take(client).into_iter().map(decoded).collect()
}

fn connected(rig: &mut Rig<()>) -> usize {
    let client = rig.upgrade(0, "/socketcluster/");
    send(rig, client, r##"{"event":"#handshake","data":{"authToken":null},"cid":1}"##);
    let got = got(rig, client);
    assert_eq!(got.len(), 2, "the 101 and the answer, no pings to find out the version: {got:?}");
    let answer: Value = serde_json::from_str(&got[1]).expect("an answer");
    assert_eq!((&answer["rid"], &answer["data"]["isAuthenticated"]), (&1.into(), &false.into()));
    client
}

#[test]
fn publishes_are_coded_once_and_filters_see_their_data() {
    for policy in [Policy::V1, Policy::V2] {
        let mut rig = Rig::new(2, 1, config(policy), |_| app());
        let (client, publisher) = (connected(&mut rig), connected(&mut rig));
        send(&mut rig, client, r##"{"event":"#subscribe","data":{"channel":"a"},"cid":2}"##);
        assert_eq!(got(&mut rig, client), [r#"{"rid":2,"error":null,"data":null}"#]);
        for data in [r#"{"x":[1,null]}"#, r#""secret""#, r#""other""#] {
            send(&mut rig, publisher, &format!(r##"{{"event":"#publish","data":{{"channel":"a","data":{data}}}}}"##));
        }
        let publish = |data: &str| format!(r##"{{"event":"#publish","data":{{"channel":"a","data":{data}}}}}"##);
        assert_eq!(got(&mut rig, client), [publish(r#"{"x":[1,null]}"#), publish(r#""replaced""#)]);
    }
}

#[test]
fn pings_are_coded_in_protocol_1_and_empty_texts_in_protocol_2() {
    for policy in [Policy::V1, Policy::V2] {
        let mut rig = Rig::new(1, 1, config(policy), |_| app());
        let client = connected(&mut rig);
        for _ in 0..6 {
            rig.pass(Duration::from_secs(8));
            let pings = got(&mut rig, client);
            if policy == Policy::V1 {
                assert_eq!(pings, ["\"#1\""]);
                send(&mut rig, client, "\"#2\"");
            } else {
                assert_eq!(pings, [format!("{:?}", Got::Text(String::new()))]);
                rig.send(client, "");
            }
        }
        assert!(rig.is_connected(client));
        send(&mut rig, client, r#"{"event":"echo","data":1,"cid":2}"#);
        assert_eq!(got(&mut rig, client), [r#"{"rid":2,"error":null,"data":1}"#]);
    }
}

#[test]
fn what_cannot_be_decoded_is_reported_and_costs_nothing() {
    let mut rig = Rig::new(1, 1, config(Policy::V2), |_| app());
    let client = connected(&mut rig);
    rig.send(client, r#"{"event":"echo","cid":9}"#);
    for bytes in [&b"\xc1"[..], b"", b"\xdd\xff\xff\xff\xff", b"\x91"] {
        rig.send_frame(client, OpCode::Binary, bytes);
    }
    assert_eq!(rig.reports.iter().filter(|report| report.name == "InvalidMessageError").count(), 5);
    send(&mut rig, client, r#"[{"event":"echo","data":1,"cid":2},{"event":"echo","data":2,"cid":3}]"#);
    let answers = [r#"{"rid":2,"error":null,"data":1}"#, r#"{"rid":3,"error":null,"data":2}"#];
    assert_eq!(got(&mut rig, client), answers);
}

#[test]
fn batches_are_coded_as_one() {
    let mut rig = Rig::new(1, 1, config(Policy::V2), |_| app());
    let client = connected(&mut rig);
    send(&mut rig, client, r##"{"event":"#subscribe","data":{"channel":"a"},"cid":2}"##);
    send(&mut rig, client, r#"{"event":"batch","cid":3}"#);
    send(&mut rig, client, r##"{"event":"#publish","data":{"channel":"a","data":1},"cid":4}"##);
    got(&mut rig, client);
    rig.pass(Duration::from_millis(60));
    let ack = |rid| format!(r#"{{"rid":{rid},"error":null,"data":null}}"#);
    let publish = r##"{"event":"#publish","data":{"channel":"a","data":1}}"##;
    assert_eq!(got(&mut rig, client), [format!("[{},{},{publish}]", ack(3), ack(4))]);
}

#[test]
fn its_clients_cannot_be_asked_for_their_version() {
    let error = app().check(&config(Policy::Auto)).expect_err("the version has to be named");
    assert_eq!(error.name(), Some("InvalidOptionsError"));
    assert!(app().check(&config(Policy::V1)).is_ok() && app().check(&config(Policy::V2)).is_ok());
    let json = Worker::new(()).codec(JsonCodec);
    assert!(json.check(&config(Policy::Auto)).is_ok());
}
