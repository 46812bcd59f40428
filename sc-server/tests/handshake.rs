//! The upgrade, the version probe and `#handshake`.

mod rig;

use std::time::Duration;

use rig::{Got, Rig};
use sc_protocol::heartbeat::Policy;
use sc_server::{Block, Config, Origins, Pass, Worker};

const HANDSHAKE: &str = r##"{"event":"#handshake","data":{"authToken":null},"cid":1}"##;

fn plain() -> Rig<()> {
    Rig::new(1, 1, Config::default(), |_| Worker::new(()))
}

fn text(text: &str) -> Got {
    Got::Text(text.to_owned())
}

#[test]
fn both_pings_come_with_the_101() {
    let mut rig = plain();
    let client = rig.upgrade(0, "/socketcluster/");
    let got = rig.take(client);
    assert!(
        matches!(&got[0], Got::Http(head) if head.starts_with("HTTP/1.1 101") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))
    );
    assert_eq!(got[1..], [text("#1"), text("")]);
}

#[test]
fn the_answer_waits_for_the_first_pong_and_follows_its_version() {
    for (pong, timeout) in [("#2", 20000), ("", 30000)] {
        for pong_first in [false, true] {
            let mut rig = plain();
            let client = rig.upgrade(0, "/socketcluster/");
            rig.take(client);
            let (first, second) = if pong_first { (pong, HANDSHAKE) } else { (HANDSHAKE, pong) };
            rig.send(client, first);
            assert_eq!(rig.take(client), [], "nothing is said before the version is known");
            rig.send(client, second);
            let texts = rig.texts(client);
            let [answer] = &texts[..] else { panic!("one answer, not {texts:?}") };
            let answer: serde_json::Value = serde_json::from_str(answer).unwrap();
            assert_eq!(answer["rid"], 1);
            assert_eq!(answer["data"]["pingTimeout"], timeout);
            assert_eq!(answer["data"]["isAuthenticated"], false);
            assert_eq!(answer["data"]["id"].as_str().unwrap().len(), 20);
            assert_eq!(answer["data"].as_object().unwrap().len(), 3);
        }
    }
}

#[test]
fn without_a_pong_it_is_answered_after_the_bound() {
    let mut rig = plain();
    let client = rig.upgrade(0, "/socketcluster/");
    rig.send(client, HANDSHAKE);
    rig.take(client);
    rig.pass(Duration::from_millis(99));
    assert_eq!(rig.take(client), []);
    rig.pass(Duration::from_millis(12));
    assert!(rig.texts(client)[0].contains(r#""pingTimeout":20000"#));
    // Both pings go on until one is answered, then only its kind.
    rig.pass(Duration::from_millis(8100));
    assert_eq!(rig.take(client), [text("#1"), text("")]);
    rig.send(client, "");
    rig.pass(Duration::from_secs(8));
    assert_eq!(rig.take(client), [text("")]);
}

#[test]
fn a_fixed_version_is_not_asked_for() {
    let config = Config { protocol_version: Policy::V2, ..Config::default() };
    let mut rig = Rig::new(1, 1, config, |_| Worker::new(()));
    let client = rig.upgrade(0, "/socketcluster/");
    assert_eq!(rig.take(client).len(), 1, "only the 101");
    rig.send(client, HANDSHAKE);
    assert!(rig.texts(client)[0].contains(r#""pingTimeout":30000"#));
}

#[test]
fn packets_before_the_handshake_close_the_socket() {
    for packet in
        [r##"{"event":"#subscribe","data":"x","cid":1}"##, r#"{"event":"chat"}"#, "hello", "[]", r#"{"event":5}"#]
    {
        let mut rig = plain();
        let client = rig.upgrade(0, "/socketcluster/");
        rig.take(client);
        rig.send(client, packet);
        let got = rig.take(client);
        if packet == "[]" {
            // An empty batch has no packet in it.
            assert_eq!(got, []);
        } else {
            assert_eq!(got, [Got::Close(4009, String::new())], "{packet}");
        }
    }
}

#[test]
fn a_client_that_never_shakes_hands_is_closed() {
    let mut rig = plain();
    let client = rig.upgrade(0, "/socketcluster/");
    rig.take(client);
    rig.pass(Duration::from_millis(9900));
    assert!(!rig.take(client).iter().any(|got| matches!(got, Got::Close(..))));
    rig.pass(Duration::from_millis(200));
    let got = rig.take(client);
    assert_eq!(got, [text(r##"{"event":"#disconnect","data":{"code":4005}}"##), Got::Close(4005, String::new())]);
    rig.pass(Duration::from_secs(3));
    assert_eq!(rig.take(client), [Got::End], "it does not wait for the peer's close frame for ever");
    assert_eq!(rig.engine(0).counters().sockets, 0);
}

#[test]
fn a_second_handshake_is_ignored() {
    let mut rig = plain();
    let client = rig.connect(0, "#2");
    rig.send(client, r##"{"event":"#handshake","data":{"authToken":null},"cid":9}"##);
    assert_eq!(rig.take(client), []);
    assert_eq!(rig.engine(0).counters().clients, 1);
}

#[test]
fn refusals_are_http() {
    let config = Config { origins: Origins::parse("good.example:80"), ..Config::default() };
    let mut rig = Rig::new(1, 1, config, |_| {
        Worker::new(()).handshake(|_, _, request| match request.query() {
            Some("deny=1") => Err(Block::error("not today")),
            _ => Ok(Pass::Now),
        })
    });
    let head = |target: &str, extra: &str| {
        format!(
            "GET {target} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{extra}\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
    };
    for (head, status, body) in [
        (head("/", "Origin: http://bad.example\r\n"), "403", "Invalid origin: http://bad.example"),
        (head("/?deny=1", "Origin: http://good.example\r\n"), "401", "not today"),
        ("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n".to_owned(), "400", "Upgrade"),
    ] {
        let client = rig.request(0, &head);
        let got = rig.take(client);
        let [Got::Http(response), Got::End] = &got[..] else { panic!("{got:?}") };
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{response}");
        assert!(response.ends_with(body) || response.contains(body), "{response}");
    }
    let client = rig.request(0, &head("/", "Origin: http://good.example\r\n"));
    assert!(matches!(&rig.take(client)[0], Got::Http(response) if response.starts_with("HTTP/1.1 101")));
}

#[test]
fn a_deferred_upgrade_keeps_what_came_behind_it() {
    let mut rig = Rig::new(1, 1, Config::default(), |_| {
        Worker::new(()).handshake(|(), cx, _| {
            Ok(cx.later(|| true, |(), _, ok| if ok { Ok(Pass::Now) } else { Err(Block::silent()) }).into())
        })
    });
    let client = rig.upgrade(0, "/socketcluster/");
    rig.send(client, HANDSHAKE);
    rig.send(client, "#2");
    assert_eq!(rig.take(client), []);
    rig.run_jobs();
    let got = rig.take(client);
    assert!(matches!(&got[0], Got::Http(head) if head.starts_with("HTTP/1.1 101")), "{got:?}");
    assert!(matches!(got.last(), Some(Got::Text(text)) if text.starts_with(r#"{"rid":1"#)), "{got:?}");
}

#[test]
fn a_path_may_speak_one_protocol_only() {
    let paths = vec![("/old/".into(), Policy::V1), ("/new/".into(), Policy::V2)];
    let config = Config { protocol_paths: paths, ..Config::default() };
    let mut rig = Rig::new(1, 1, config, |_| Worker::new(()));
    for (path, ping, timeout) in [("/old/?a=b", None, 20000), ("/new/", None, 30000), ("/else/", Some("#1"), 0)] {
        let client = rig.upgrade(0, path);
        let got = rig.take(client);
        assert_eq!(got.get(1), ping.map(text).as_ref(), "{path}");
        rig.send(client, HANDSHAKE);
        let answers = rig.texts(client);
        let wanted = format!("\"pingTimeout\":{timeout}");
        assert_eq!(
            answers.first().is_some_and(|answer| answer.contains(&wanted)),
            ping.is_none(),
            "{path}: {answers:?}"
        );
    }
}
