//! A worker and a broker in one thread, without sockets: what the processes do between their system calls.

use std::time::Instant;

use bytes::BytesMut;
use sc_auth::{JwtConfig, JwtEngine, Key};
use sc_broker::{Broker, BrokerLimits, LinkId};
use sc_protocol::entropy::SeededEntropy;
use sc_protocol::http::HeadReader;
use sc_protocol::ws::{OpCode, frame};
use sc_server::{Config, Engine, Output, Reply, Time, Worker};

use crate::body;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

const REQUEST: &[u8] =
    b"GET /socketcluster/ HTTP/1.1\r\nHost: localhost:8000\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// One worker's engine with an application that echoes, linked to a broker.
#[derive(Debug)]
pub struct Rig {
    at: Time,
    engine: Engine<(), ()>,
    broker: Broker,
    link: LinkId,
    publisher: u32,
    scratch: Vec<u8>,
    echo: Vec<u8>,
    publish: Vec<u8>,
    handshake: Vec<u8>,
    /// Frames handed out for writing, each counted once per socket.
    pub written: u64,
}

fn text_frame(text: &str) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame::write(&mut out, OpCode::Text, text.as_bytes(), Some(KEY));
    out.to_vec()
}

impl Rig {
    /// With a publisher and so many subscribers of its channel, all of protocol 2.
    ///
    /// # Panics
    /// If the engine or the broker does not do what it has to.
    #[must_use]
    pub fn new(subscribers: u32) -> Self {
        let now = Instant::now();
        let at = Time { now, unix_ms: 1_700_000_000_000 };
        let key = Key::shared("a key for benchmarks").expect("a key");
        let auth = JwtEngine::new(JwtConfig::new(key)).expect("an engine for tokens");
        let worker = Worker::new(()).on("echo", |_, _, request| match request.data.json() {
            Some(json) => Ok(Reply::Json(json.to_owned())),
            None => Ok(Reply::Empty),
        });
        let entropy = Box::new(SeededEntropy::new(1));
        let mut broker = Broker::new(BrokerLimits::default(), 1);
        let link = broker.attach(now);
        let body = body::text(1, 128);
        let mut rig = Self {
            at,
            engine: Engine::new(worker, Config::default(), Box::new(auth), entropy, at),
            broker,
            link,
            publisher: subscribers,
            scratch: Vec::new(),
            echo: text_frame(&format!("{{\"event\":\"echo\",\"data\":{body},\"cid\":4711}}")),
            publish: text_frame(&format!(
                "{{\"event\":\"#publish\",\"data\":{{\"channel\":\"c17\",\"data\":{body}}},\"cid\":4711}}"
            )),
            handshake: [text_frame(""), text_frame(r##"{"event":"#handshake","data":{"authToken":null},"cid":1}"##)]
                .concat(),
            written: 0,
        };
        rig.engine.link_up(at, 0);
        rig.settle();
        for slot in 0..=subscribers {
            rig.come(slot);
        }
        let subscribe = text_frame(r##"{"event":"#subscribe","data":{"channel":"c17"},"cid":2}"##);
        for slot in 0..subscribers {
            rig.give(slot, &subscribe);
        }
        let before = rig.written;
        rig.publish();
        assert_eq!(rig.written - before, u64::from(subscribers) + 1, "every subscriber and the publisher's ack");
        rig
    }

    /// So many requests in one read, and their answers.
    pub fn echo(&mut self, count: usize) {
        self.scratch.clear();
        for _ in 0..count {
            self.scratch.extend_from_slice(&self.echo);
        }
        self.engine.handle_bytes(self.at, 0, &mut self.scratch);
        self.settle();
    }

    /// A publish: to the broker and back, to every subscriber, and acknowledged.
    pub fn publish(&mut self) {
        let publish = std::mem::take(&mut self.publish);
        self.give(self.publisher, &publish);
        self.publish = publish;
    }

    /// A connection from upgrade and handshake to its end.
    pub fn come_and_go(&mut self) {
        let slot = self.publisher + 1;
        self.come(slot);
        self.engine.closed(self.at, slot);
        self.settle();
    }

    fn come(&mut self, slot: u32) {
        let (engine, at) = (&mut self.engine, self.at);
        let read = HeadReader::new().request(REQUEST, |head| engine.open(at, slot, None, head));
        assert!(matches!(read, Ok(Some(_))));
        let handshake = std::mem::take(&mut self.handshake);
        self.give(slot, &handshake);
        self.handshake = handshake;
    }

    fn give(&mut self, slot: u32, frame: &[u8]) {
        self.scratch.clear();
        self.scratch.extend_from_slice(frame);
        self.engine.handle_bytes(self.at, slot, &mut self.scratch);
        self.settle();
    }

    /// Carries bytes between worker and broker until there are none.
    fn settle(&mut self) {
        loop {
            let mut quiet = true;
            while let Some((_, bytes)) = self.engine.poll_link() {
                self.broker.handle_bytes(self.at.now, self.link, &bytes).expect("the broker understands its worker");
                quiet = false;
            }
            while self.broker.poll_event().is_some() {}
            while let Some((link, bytes)) = self.broker.poll_transmit() {
                self.engine.handle_link(self.at, 0, bytes).expect("the worker understands its broker");
                let n = bytes.len();
                self.broker.wrote(link, n);
                quiet = false;
            }
            while let Some(output) = self.engine.poll_output() {
                match output {
                    Output::Transmit(_, bytes) => {
                        std::hint::black_box(bytes);
                        self.written += 1;
                    }
                    Output::Fanout(bytes, slots) => {
                        std::hint::black_box(bytes);
                        self.written += slots.len() as u64;
                        self.engine.recycle(slots);
                    }
                    Output::Report(report) => panic!("{report:?}"),
                    _ => {}
                }
            }
            if quiet {
                return;
            }
        }
    }
}
