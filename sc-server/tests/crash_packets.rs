//! Single packets that end the process of a server of SocketCluster 4 or 14, or poison it. Here each of them costs at most
//! the socket that sends it.

mod rig;

use rig::{Got, Rig};
use sc_server::{Config, Reply, Worker};

fn server() -> Rig<()> {
    let app = |_| {
        Worker::new(())
            .on("echo", |(), _cx, request| Reply::data(request.data.clone()))
            .on("subs", |(), cx, request| Reply::data(cx.subscriptions(request.socket)))
    };
    Rig::new(1, 1, Config::default(), app)
}

/// Sends a packet as a client of each version; answers what came back. Another client must not notice.
fn send(packet: &str) -> [Vec<String>; 2] {
    ["#2", ""].map(|pong| {
        let mut rig = server();
        let (bystander, client) = (rig.connect(0, "#2"), rig.connect(0, pong));
        rig.send(client, packet);
        let answers = rig.texts(client);
        assert_eq!(rig.take(bystander), [], "nobody else is told");
        let cid = rig.emit(bystander, "echo", "1");
        assert_eq!(rig.texts(bystander), [format!(r#"{{"rid":{cid},"data":1}}"#)]);
        assert!(!rig.crashed && rig.engine(0).counters().panics_total == 0);
        let closed = answers.iter().any(|answer| answer.starts_with("Close"));
        if !closed {
            let cid = rig.emit(client, "echo", "2");
            assert_eq!(rig.texts(client), [format!(r#"{{"rid":{cid},"data":2}}"#)], "the session goes on");
        }
        answers
    })
}

fn assert_ignored(packet: &str) {
    let answers = send(packet);
    assert!(answers.iter().all(Vec::is_empty), "{packet}: {answers:?}");
}

#[test]
fn quirk_3_an_event_that_is_no_string() {
    for event in ["5", "true", "{}", r##"["#publish"]"##] {
        assert_ignored(&format!(r#"{{"event":{event},"cid":2}}"#));
    }
}

#[test]
fn quirk_4_a_rid_that_an_object_inherits() {
    for rid in [r#""constructor""#, r#""__proto__""#, r#""hasOwnProperty""#, "99", "-1", "1.5", "{}", "[1]"] {
        assert_ignored(&format!(r#"{{"rid":{rid},"data":1}}"#));
        assert_ignored(&format!(r#"{{"rid":{rid},"error":{{"message":"m"}}}}"#));
    }
}

#[test]
fn quirk_5_channels_that_cannot_be_made_strings() {
    let bad = r#"{"toString":1}"#;
    for (event, data) in [
        ("#subscribe", "[null]".to_owned()),
        ("#subscribe", format!(r#"{{"channel":{bad}}}"#)),
        ("#unsubscribe", bad.to_owned()),
        ("#publish", format!(r#"{{"channel":{bad},"data":1}}"#)),
        ("#publish", "[]".to_owned()),
    ] {
        for answers in send(&format!(r#"{{"event":"{event}","data":{data},"cid":2}}"#)) {
            let [answer] = &answers[..] else { panic!("{event} {data}: {answers:?}") };
            assert!(answer.starts_with(r#"{"rid":2,"error":{"message":"#), "{answer}");
        }
    }
}

#[test]
fn quirks_5_and_6_close_codes_that_are_none() {
    for code in ["42", r#""abc""#, r#"{"toString":1}"#, "-1", "1e400", "70000", "1005", "1006", "4000.5", "null"] {
        let [v1, v2] = send(&format!(r##"{{"event":"#disconnect","data":{{"code":{code}}}}}"##));
        assert_eq!(v1, [format!("{:?}", Got::Close(1000, String::new()))], "{code}");
        assert_eq!(v2, Vec::<String>::new(), "an event like any other in protocol 2");
    }
}

#[test]
fn quirk_7_channels_and_events_named_as_members_of_every_object() {
    for name in ["__proto__", "constructor", "toString", "hasOwnProperty", "valueOf"] {
        let mut rig = server();
        let (client, other) = (rig.connect(0, ""), rig.connect(0, "#2"));
        rig.send(client, &format!(r##"{{"event":"#subscribe","data":{{"channel":"{name}"}},"cid":2}}"##));
        rig.send(client, r#"{"event":"subs","cid":3}"#);
        assert_eq!(rig.texts(client), [r#"{"rid":2}"#.to_owned(), format!(r#"{{"rid":3,"data":["{name}"]}}"#)]);
        rig.vanish(client);
        rig.send(other, &format!(r##"{{"event":"#publish","data":{{"channel":"{name}","data":1}},"cid":2}}"##));
        assert_eq!(rig.texts(other), [r#"{"rid":2}"#], "no ghost is sent to");
        assert_eq!(rig.engine(0).counters().deliveries_total, 0);
    }
}

#[test]
fn a_session_survives_any_depth_and_length_of_name() {
    let deep = "[".repeat(20_000) + &"]".repeat(20_000);
    assert_ignored(&format!(r#"{{"event":"nobody","data":{deep},"cid":2}}"#));
    let long = "x".repeat(5000);
    for answers in send(&format!(r##"{{"event":"#subscribe","data":{{"channel":"{long}"}},"cid":2}}"##)) {
        assert!(answers[0].starts_with(r#"{"rid":2,"error""#) && answers[0].len() < 300);
    }
}
