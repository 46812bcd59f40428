//! Whatever a server sends, and however it is split: the same comes of it, nothing panics, and calls are answered once.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail, and it makes the clock")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use proptest::prelude::*;
use sc_client::{ClientCore, Config, Output, SubscribeOptions, Version};
use sc_protocol::entropy::SeededEntropy;
use sc_protocol::http::HeadReader;
use sc_protocol::ws::{OpCode, frame, handshake};

/// A client that has sent its upgrade, with a call, a channel and a publish waiting; and the server's 101 for it.
fn begun(now: Instant, version: Option<Version>) -> (ClientCore, BytesMut) {
    let config = Config { protocol: version, ..Config::default() };
    let mut core = ClientCore::new(Arc::new(config), Box::new(SeededEntropy::new(1)), now);
    core.connect(now);
    core.call(now, "first", Some("1"), None);
    core.subscribe(now, "news", &SubscribeOptions::default());
    core.publish(now, "news", Some("2"));
    core.handle_connected(now);
    let mut accept = BytesMut::new();
    while let Some(output) = core.poll_output() {
        if let Output::Transmit(request) = output {
            HeadReader::new()
                .request(&request, |head| {
                    let upgrade = handshake::check(head).unwrap();
                    handshake::write_accept(&mut accept, upgrade.key, None);
                })
                .unwrap()
                .unwrap();
        }
    }
    assert!(!accept.is_empty(), "the upgrade has gone out");
    (core, accept)
}

/// All that comes of the bytes, given in pieces of these sizes over and over. What is transmitted is joined: where it is cut is
/// the driver's affair.
fn outcome(now: Instant, version: Option<Version>, bytes: &[u8], sizes: &[usize]) -> (Vec<String>, Vec<u8>) {
    let (mut core, accept) = begun(now, version);
    let stream = [&accept[..], bytes].concat();
    let (mut said, mut sent, mut answered) = (Vec::new(), Vec::new(), BTreeSet::new());
    let (mut rest, mut ended) = (&stream[..], false);
    for size in sizes.iter().cycle() {
        if rest.is_empty() || ended {
            break;
        }
        let (piece, after) = rest.split_at((*size).min(rest.len()));
        rest = after;
        core.handle_bytes(now, &mut piece.to_vec());
        while let Some(output) = core.poll_output() {
            match output {
                Output::Transmit(bytes) => sent.extend_from_slice(&bytes),
                Output::Answer(call, result) => {
                    assert!(answered.insert(call), "a call is answered once");
                    said.push(format!("{call:?} {result:?}"));
                }
                other => {
                    ended |= other == Output::Close;
                    said.push(format!("{other:?}"));
                }
            }
        }
    }
    core.handle_timeout(now);
    assert!(core.poll_timeout().is_none_or(|next| next > now), "a timeout lies in the future");
    (said, sent)
}

/// Messages that a server may send, and some that it may not.
fn message() -> impl Strategy<Value = String> {
    let fixed = [
        r#"{"rid":1,"data":{"id":"a","isAuthenticated":false,"pingTimeout":20000}}"#,
        r#"{"rid":2}"#,
        r#"{"rid":3,"error":{"name":"X","message":"y"},"data":null}"#,
        r#"{"rid":4,"error":"text"}"#,
        r#"{"rid":"constructor","data":1}"#,
        r##"{"event":"#publish","data":{"channel":"news","data":[1]}}"##,
        r##"{"event":"#setAuthToken","data":{"token":"a.b.c"},"cid":5}"##,
        r##"{"event":"#removeAuthToken","cid":6}"##,
        r##"{"event":"#kickOut","data":{"channel":"news"}}"##,
        r##"{"event":"#disconnect","data":{"code":4321}}"##,
        r#"[{"event":"a"},{"event":"b","cid":7},null,[]]"#,
        "#1",
        "",
        "null",
        "{",
    ];
    prop_oneof![4 => prop::sample::select(fixed.to_vec()).prop_map(str::to_owned), 1 => "[\\[{\"eventdatarid:0-9,}\\]#]{0,30}"]
}

fn frames() -> impl Strategy<Value = Vec<u8>> {
    let text = message().prop_map(|text| {
        let mut out = BytesMut::new();
        frame::write(&mut out, OpCode::Text, text.as_bytes(), None);
        out.to_vec()
    });
    let other = (
        prop::sample::select(vec![OpCode::Binary, OpCode::Ping, OpCode::Pong, OpCode::Close]),
        prop::collection::vec(any::<u8>(), 0..20),
    )
        .prop_map(|(opcode, payload)| {
            let mut out = BytesMut::new();
            frame::write(&mut out, opcode, &payload, None);
            out.to_vec()
        });
    let rubbish = prop::collection::vec(any::<u8>(), 0..12);
    let one = prop_oneof![12 => text, 2 => other, 1 => rubbish];
    prop::collection::vec(one, 0..12).prop_map(|all| all.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_same(
        bytes in frames(),
        sizes in prop::collection::vec(1usize..60, 1..6),
        version in prop::sample::select(vec![None, Some(Version::V1), Some(Version::V2)]),
    ) {
        let now = Instant::now();
        let whole = outcome(now, version, &bytes, &[usize::MAX]);
        prop_assert_eq!(&outcome(now, version, &bytes, &sizes), &whole);
        prop_assert_eq!(&outcome(now, version, &bytes, &[1]), &whole);
    }

    #[test]
    fn no_answer_to_the_upgrade_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), size in 1usize..50) {
        let now = Instant::now();
        let (mut core, _) = begun(now, None);
        for piece in bytes.chunks(size) {
            core.handle_bytes(now, &mut piece.to_vec());
            while core.poll_output().is_some() {}
        }
    }
}
