//! Whatever a server sends, a client stays whole: it goes on, or closes and comes back.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test may fail, and it makes the clock")]

use std::time::{Duration, Instant};

use bytes::BytesMut;
use proptest::prelude::*;
use sc_client::{CallId, ClientCore, Config, Output, SubscribeOptions, Token};
use sc_protocol::entropy::SeededEntropy;
use sc_protocol::http::HeadReader;
use sc_protocol::ws::{OpCode, frame, handshake};

/// What the driver would have done; answers how often each call was answered at most.
#[derive(Default)]
struct Driver {
    request: Vec<u8>,
    connects: usize,
    open: bool,
    answered: Vec<CallId>,
}

impl Driver {
    fn drain(&mut self, core: &mut ClientCore) {
        while let Some(output) = core.poll_output() {
            match output {
                Output::Connect => {
                    self.connects += 1;
                    self.request.clear();
                }
                Output::Transmit(bytes) if !self.open => self.request.extend_from_slice(&bytes),
                Output::Close => self.open = false,
                Output::Answer(call, _) => self.answered.push(call),
                _ => {}
            }
        }
    }

    /// Brings a core that wants to connect through the upgrade.
    fn upgrade(&mut self, core: &mut ClientCore, now: Instant) {
        core.handle_connected(now);
        self.drain(core);
        let mut answer = BytesMut::new();
        let read = HeadReader::new().request(&self.request, |head| {
            handshake::write_accept(&mut answer, handshake::check(head).unwrap().key, None);
        });
        read.unwrap().unwrap();
        self.open = true;
        core.handle_bytes(now, &mut answer);
        self.drain(core);
    }
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let odd = prop_oneof![
        Just(r#"{"rid":1,"data":{"id":"x","isAuthenticated":true,"pingTimeout":5000}}"#.to_owned()),
        Just(r#"{"rid":1,"data":{"id":7,"pingTimeout":-1e300,"authError":[]}}"#.to_owned()),
        Just(r#"{"rid":1,"error":{"statusCode":1e99},"data":{"code":"x"}}"#.to_owned()),
        Just("#1".to_owned()),
        Just(String::new()),
        Just("[[[]],null,{},[{\"rid\":2}]]".to_owned()),
        "\\{\"rid\":[0-9]{1,3}(,\"error\":[0-9\\[\\]\"{}]{0,4})?\\}",
        "\\{\"event\":\"#(publish|kickOut|setAuthToken|removeAuthToken|disconnect|handshake)\"(,\"data\":(null|\\[\\]|5|\\{\"channel\":(\"a\"|5|null)(,\"data\":1)?\\}|\\{\"token\":(\"t\"|5)\\}|\\{\"code\":(4500|1e9|\"x\")\\}))?(,\"cid\":(1|\"s\"|\\[\\]))?\\}",
        "(?s).{0,20}",
    ];
    let framed = (odd, prop_oneof![Just(OpCode::Text), Just(OpCode::Binary)]).prop_map(|(text, opcode)| {
        let mut out = BytesMut::new();
        frame::write(&mut out, opcode, text.as_bytes(), None);
        out.to_vec()
    });
    prop_oneof![8 => framed, 1 => prop::collection::vec(any::<u8>(), 0..40)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn nothing_panics_and_nothing_is_answered_twice(
        messages in prop::collection::vec((message(), 0..3000u64), 0..40),
        piece in 1..64usize,
    ) {
        let mut now = Instant::now();
        let mut core = ClientCore::new(Config::default().into(), Box::new(SeededEntropy::new(1)), now);
        let mut driver = Driver::default();
        core.subscribe(now, "a", &SubscribeOptions::default());
        let mut calls = vec![core.call(now, "x", None, None), core.authenticate(now, &Token::from("t"))];
        driver.drain(&mut core);
        driver.upgrade(&mut core, now);
        for (mut bytes, millis) in messages {
            for piece in bytes.chunks_mut(piece) {
                if driver.open {
                    core.handle_bytes(now, piece);
                    driver.drain(&mut core);
                }
            }
            now += Duration::from_millis(millis);
            if core.poll_timeout().is_some_and(|at| at <= now) {
                core.handle_timeout(now);
                driver.drain(&mut core);
            }
            if !driver.open {
                core.connect(now);
                driver.drain(&mut core);
                driver.upgrade(&mut core, now);
            }
            calls.push(core.publish(now, "a", Some("1")));
            driver.drain(&mut core);
        }
        now += Duration::from_secs(3600);
        core.handle_timeout(now);
        driver.drain(&mut core);
        driver.answered.sort_unstable();
        prop_assert_eq!(driver.answered, calls);
    }
}
