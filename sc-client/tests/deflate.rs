//! Compressed messages, between the core and the server's half of the same extension.
#![cfg(feature = "deflate")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test may fail, and it makes the clock")]

use std::ops::ControlFlow;
use std::time::Instant;

use bytes::BytesMut;
use proptest::prelude::*;
use sc_client::{ClientCore, Config, Output, State};
use sc_protocol::entropy::SeededEntropy;
use sc_protocol::http::HeadReader;
use sc_protocol::ws::deflate::{Deflate, accept};
use sc_protocol::ws::{Event, OpCode, Reader, Role, handshake};

struct Server {
    deflate: Deflate,
    reader: Reader,
}

impl Server {
    /// Answers an upgrade request.
    fn open(request: &[u8]) -> (Self, BytesMut) {
        let mut out = BytesMut::new();
        let read = HeadReader::new().request(request, |head| {
            let upgrade = handshake::check(head).unwrap();
            let (params, answer) = accept(upgrade.extensions.unwrap()).unwrap();
            handshake::write_accept(&mut out, upgrade.key, None);
            out.truncate(out.len() - 2);
            out.extend_from_slice(format!("Sec-WebSocket-Extensions: {answer}\r\n\r\n").as_bytes());
            params
        });
        let (params, _) = read.unwrap().unwrap();
        let mut reader = Reader::new(Role::Server);
        reader.allow_compressed();
        (Self { deflate: params.start(Role::Server), reader }, out)
    }

    /// The text messages in these bytes, and how many of them came compressed.
    fn read(&mut self, bytes: &[u8]) -> (Vec<String>, usize) {
        let (mut texts, mut compressed) = (Vec::new(), 0);
        let Self { deflate, reader } = self;
        let read = reader.handle_compressed(1 << 20, &mut bytes.to_vec(), |event, opcode| {
            match (event, opcode) {
                (Event::Text(text), None) => texts.push(text.to_owned()),
                (Event::Binary(payload), Some(OpCode::Text)) => {
                    compressed += 1;
                    texts.push(String::from_utf8(deflate.inflate(payload, 1 << 20).unwrap()).unwrap());
                }
                other => panic!("{other:?}"),
            }
            ControlFlow::Continue(())
        });
        read.unwrap();
        (texts, compressed)
    }

    fn text(&self, text: &str) -> BytesMut {
        let mut out = BytesMut::new();
        self.deflate.write(&mut out, OpCode::Text, text.as_bytes(), None);
        out
    }
}

fn sent(core: &mut ClientCore) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(output) = core.poll_output() {
        if let Output::Transmit(more) = output {
            bytes.extend_from_slice(&more);
        }
    }
    bytes
}

fn opened() -> (ClientCore, Server) {
    let now = Instant::now();
    let config = Config { deflate: true, max_payload: 1 << 20, ..Config::default() };
    let mut core = ClientCore::new(config.into(), Box::new(SeededEntropy::new(1)), now);
    core.connect(now);
    let _ = sent(&mut core);
    core.handle_connected(now);
    let (mut server, mut answer) = Server::open(&sent(&mut core));
    core.handle_bytes(now, &mut answer);
    let (texts, _) = server.read(&sent(&mut core));
    assert!(texts[0].contains("#handshake"));
    core.handle_bytes(
        now,
        &mut server.text(r#"{"rid":1,"data":{"id":"x","isAuthenticated":false,"pingTimeout":20000}}"#),
    );
    assert_eq!(core.state(), State::Open);
    (core, server)
}

#[test]
fn long_messages_are_compressed_both_ways_and_short_ones_are_not() {
    let (mut core, mut server) = opened();
    let now = Instant::now();
    let long = format!("\"{}\"", "abc ".repeat(10_000));
    let call = core.call(now, "long", Some(&long), None);
    let bytes = sent(&mut core);
    assert!(bytes.len() < 1000, "{}", bytes.len());
    assert_eq!(server.read(&bytes), (vec![format!(r#"{{"event":"long","data":{long},"cid":2}}"#)], 1));
    core.call(now, "short", Some("1"), None);
    assert_eq!(server.read(&sent(&mut core)).1, 0);
    for piece in server.text(&format!(r#"{{"rid":2,"data":{long}}}"#)).chunks_mut(7) {
        core.handle_bytes(now, piece);
    }
    let answered =
        |output: Output| matches!(output, Output::Answer(id, Ok(data)) if id == call && data.json() == Some(&long));
    assert!(std::iter::from_fn(|| core.poll_output()).any(answered));
}

#[test]
fn a_bomb_and_nonsense_close_the_connection() {
    let (mut core, server) = opened();
    core.handle_bytes(Instant::now(), &mut server.text(&"a".repeat(2 << 20)));
    let ended = |core: &mut ClientCore| {
        std::iter::from_fn(|| core.poll_output())
            .find_map(|output| if let Output::Disconnected(end) = output { Some(end.code.0) } else { None })
    };
    assert_eq!(ended(&mut core), Some(1009));
    let (mut core, _) = opened();
    core.handle_bytes(Instant::now(), &mut [0xc1, 3, 0xff, 0xff, 0xff]);
    assert_eq!(ended(&mut core), Some(1007));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) })]

    #[test]
    fn every_message_arrives_as_it_was(messages in prop::collection::vec("(?s).{0,2000}", 1..8), keeps in any::<bool>()) {
        let params = sc_protocol::ws::deflate::Params { server_no_context_takeover: !keeps, ..Default::default() };
        let (server, mut client) = (params.start(Role::Server), params.start(Role::Client));
        let mut reader = Reader::new(Role::Client);
        reader.allow_compressed();
        for message in messages {
            let mut out = BytesMut::new();
            server.write(&mut out, OpCode::Text, message.as_bytes(), None);
            let mut got = None;
            reader.handle_compressed(1 << 20, &mut out, |event, opcode| {
                got = match (event, opcode) {
                    (Event::Text(text), None) => Some(text.as_bytes().to_vec()),
                    (Event::Binary(payload), Some(_)) => client.inflate(payload, 1 << 20).ok(),
                    _ => None,
                };
                ControlFlow::Continue(())
            }).unwrap();
            prop_assert_eq!(got.as_deref(), Some(message.as_bytes()));
        }
    }
}
