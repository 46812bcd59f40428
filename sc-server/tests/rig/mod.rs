//! Workers, brokers and clients in one thread with a clock of its own: everything but sockets is real.

#![allow(dead_code, unreachable_pub, missing_debug_implementations, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test rig: it may fail, and it makes the clock")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use sc_auth::{JwtConfig, JwtEngine, Key};
use sc_broker::{Broker, BrokerLimits, LinkId};
use sc_protocol::entropy::SeededEntropy;
use sc_protocol::http::HeadReader;
use sc_protocol::ws::{CloseCode, Event, OpCode, Reader, Role, frame};
use sc_server::{Config, Engine, Job, Letter, Output, Report, TicketId, Time, Worker};

/// Unix time at which a rig begins if nothing else is asked for, in milliseconds.
pub const BEGIN_MS: u64 = 1_700_000_000_000;

/// What a client got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Got {
    Http(String),
    Text(String),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
    /// The transport was closed.
    End,
    /// The transport was dropped.
    Aborted,
}

struct Client {
    worker: usize,
    slot: u32,
    reader: Reader,
    upgraded: bool,
    open: bool,
    reading: bool,
    inbox: Vec<Got>,
    pongs: Option<&'static str>,
    cid: u64,
}

struct Side<S, P> {
    engine: Engine<S, P>,
    links: Vec<Option<LinkId>>,
    next_slot: u32,
    jobs: Vec<(TicketId, Job)>,
}

pub struct Rig<S, P = ()> {
    pub now: Instant,
    begin: Instant,
    /// Unix time at which the rig's clock began, in milliseconds.
    pub begin_ms: u64,
    sides: Vec<Side<S, P>>,
    brokers: Vec<Broker>,
    clients: Vec<Client>,
    slots: BTreeMap<(usize, u32), usize>,
    pub reports: Vec<Report>,
    pub crashed: bool,
}

impl<S: Send + 'static, P: Default + Send + 'static> Rig<S, P> {
    pub fn new(workers: u32, brokers: u32, config: Config, make: impl Fn(u32) -> Worker<S, P>) -> Self {
        let now = Instant::now();
        let mut rig = Self {
            now,
            begin: now,
            begin_ms: BEGIN_MS,
            sides: Vec::new(),
            brokers: (0..brokers).map(|_| Broker::new(BrokerLimits::default(), 1)).collect(),
            clients: Vec::new(),
            slots: BTreeMap::new(),
            reports: Vec::new(),
            crashed: false,
        };
        for id in 0..workers {
            let config = Config { worker_id: id, pid: 100 + id, brokers, ..config.clone() };
            let auth = JwtEngine::new(JwtConfig::new(Key::shared("test-secret-key").unwrap())).unwrap();
            let entropy = Box::new(SeededEntropy::new(u64::from(id) + 1));
            let engine = Engine::new(make(id), config, Box::new(auth), entropy, rig.time());
            rig.sides.push(Side { engine, links: vec![None; brokers as usize], next_slot: 0, jobs: Vec::new() });
            for shard in 0..brokers {
                rig.link(id as usize, shard);
            }
        }
        rig.settle();
        rig
    }

    pub fn time(&self) -> Time {
        let passed = self.now - self.begin;
        Time { now: self.now, unix_ms: self.begin_ms + passed.as_millis() as u64 }
    }

    pub fn engine(&self, worker: usize) -> &Engine<S, P> {
        &self.sides[worker].engine
    }

    pub fn broker(&self, shard: usize) -> &Broker {
        &self.brokers[shard]
    }

    fn link(&mut self, worker: usize, shard: u32) {
        let (now, at) = (self.now, self.time());
        let link = self.brokers[shard as usize].attach(now);
        self.sides[worker].links[shard as usize] = Some(link);
        self.sides[worker].engine.link_up(at, shard);
    }

    /// A broker dies; its links are gone.
    pub fn kill_broker(&mut self, shard: u32) {
        let at = self.time();
        self.brokers[shard as usize] = Broker::new(BrokerLimits::default(), 2);
        for side in &mut self.sides {
            side.links[shard as usize] = None;
            side.engine.link_down(at, shard);
        }
        self.settle();
    }

    /// It is back.
    pub fn revive_broker(&mut self, shard: u32) {
        for worker in 0..self.sides.len() {
            self.link(worker, shard);
        }
        self.settle();
    }

    /// A request on the WebSocket path.
    pub fn request(&mut self, worker: usize, head: &str) -> usize {
        let at = self.time();
        let side = &mut self.sides[worker];
        let slot = side.next_slot;
        side.next_slot += 1;
        let client = self.clients.len();
        let reader = Reader::new(Role::Client);
        let inbox = Vec::new();
        let pongs = None;
        self.clients.push(Client {
            worker,
            slot,
            reader,
            upgraded: false,
            open: true,
            reading: true,
            inbox,
            pongs,
            cid: 0,
        });
        self.slots.insert((worker, slot), client);
        let opened = HeadReader::new().request(head.as_bytes(), |head| side.engine.open(at, slot, None, head));
        assert!(opened.unwrap().is_some(), "the test's head is whole");
        self.settle();
        client
    }

    pub fn upgrade(&mut self, worker: usize, target: &str) -> usize {
        self.request(
            worker,
            &format!(
                "GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            ),
        )
    }

    /// A client that has completed its handshake and answers pings as its version does (`"#2"` or `""`).
    pub fn connect(&mut self, worker: usize, pong: &'static str) -> usize {
        let client = self.upgrade(worker, "/socketcluster/");
        self.clients[client].pongs = Some(pong);
        self.send(client, r##"{"event":"#handshake","data":{"authToken":null},"cid":1}"##);
        self.send(client, pong);
        self.clients[client].cid = 1;
        let acked = self
            .take(client)
            .iter()
            .any(|got| matches!(got, Got::Text(text) if text.starts_with(r#"{"rid":1,"data""#)));
        assert!(acked, "the handshake was not answered");
        client
    }

    pub fn send(&mut self, client: usize, text: &str) {
        self.send_frame(client, OpCode::Text, text.as_bytes());
    }

    pub fn send_frame(&mut self, client: usize, opcode: OpCode, payload: &[u8]) {
        let mut out = BytesMut::new();
        frame::write(&mut out, opcode, payload, Some([1, 2, 3, 4]));
        self.send_bytes(client, &mut out);
    }

    pub fn send_bytes(&mut self, client: usize, bytes: &mut [u8]) {
        let (worker, slot) = (self.clients[client].worker, self.clients[client].slot);
        if self.clients[client].open {
            let at = self.time();
            self.sides[worker].engine.handle_bytes(at, slot, bytes);
            self.settle();
        }
    }

    /// Emits with an ack wanted; answers the cid.
    pub fn emit(&mut self, client: usize, event: &str, data: &str) -> u64 {
        self.clients[client].cid += 1;
        let cid = self.clients[client].cid;
        self.send(client, &format!(r#"{{"event":"{event}","data":{data},"cid":{cid}}}"#));
        cid
    }

    /// What a client got since the last call; pings that it answers by itself are left out.
    pub fn take(&mut self, client: usize) -> Vec<Got> {
        std::mem::take(&mut self.clients[client].inbox)
    }

    pub fn texts(&mut self, client: usize) -> Vec<String> {
        let got = self.take(client).into_iter();
        got.map(|got| if let Got::Text(text) = got { text } else { format!("{got:?}") }).collect()
    }

    /// Has a client answer pings as its version does (`"#2"` or `""`), and not show them.
    pub fn answer_pings_with(&mut self, client: usize, pong: &'static str) {
        self.clients[client].pongs = Some(pong);
    }

    /// Whether the server has not closed the client's connection, nor has the client.
    pub fn is_connected(&self, client: usize) -> bool {
        self.clients[client].open
    }

    pub fn is_reading(&self, client: usize) -> bool {
        self.clients[client].reading
    }

    /// A worker begins to send its clients away.
    pub fn drain_worker(&mut self, worker: usize, over: Duration, code: CloseCode) {
        let at = self.time();
        self.sides[worker].engine.drain(at, over, code);
        self.settle();
    }

    /// The client's machine vanishes.
    pub fn vanish(&mut self, client: usize) {
        let (worker, slot) = (self.clients[client].worker, self.clients[client].slot);
        self.clients[client].open = false;
        let at = self.time();
        self.sides[worker].engine.closed(at, slot);
        self.settle();
    }

    /// Time passes, from one deadline to the next.
    pub fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        for _ in 0..1_000_000 {
            let next = self.sides.iter().filter_map(|side| side.engine.poll_timeout()).min();
            match next.filter(|next| *next <= end) {
                Some(next) => {
                    self.now = self.now.max(next);
                    let at = self.time();
                    for side in &mut self.sides {
                        side.engine.handle_timeout(at);
                        assert!(side.engine.poll_timeout().is_none_or(|next| next > at.now), "a busy loop");
                    }
                    self.settle();
                }
                None => {
                    self.now = end;
                    return;
                }
            }
        }
        panic!("time does not pass");
    }

    /// Runs the jobs that handlers put off the loop.
    pub fn run_jobs(&mut self) {
        let at = self.time();
        for side in &mut self.sides {
            for (ticket, job) in std::mem::take(&mut side.jobs) {
                side.engine.handle_done(at, ticket, job());
            }
        }
        self.settle();
    }

    /// A letter that another thread left for a worker.
    pub fn deliver_letter(&mut self, worker: usize, letter: Letter) {
        let at = self.time();
        self.sides[worker].engine.handle_letter(at, letter);
        self.settle();
    }

    pub fn settle(&mut self) {
        loop {
            let mut busy = false;
            for worker in 0..self.sides.len() {
                busy |= self.drain(worker);
            }
            for shard in 0..self.brokers.len() {
                busy |= self.drain_broker(shard);
            }
            busy |= self.answer_pings();
            if !busy {
                return;
            }
        }
    }

    fn drain(&mut self, worker: usize) -> bool {
        let mut busy = false;
        while let Some((shard, bytes)) = self.sides[worker].engine.poll_link() {
            busy = true;
            if let Some(link) = self.sides[worker].links[shard as usize] {
                self.brokers[shard as usize].handle_bytes(self.now, link, &bytes).unwrap();
            }
        }
        while let Some(output) = self.sides[worker].engine.poll_output() {
            busy = true;
            match output {
                Output::Transmit(slot, bytes) => self.receive(worker, slot, &bytes),
                Output::Fanout(bytes, slots) => {
                    slots.iter().for_each(|slot| self.receive(worker, *slot, &bytes));
                    self.sides[worker].engine.recycle(slots);
                }
                Output::Close(slot) => self.end(worker, slot, Got::End),
                Output::Abort(slot) => self.end(worker, slot, Got::Aborted),
                Output::Read(slot, on) => {
                    let client = self.slots[&(worker, slot)];
                    self.clients[client].reading = on;
                }
                Output::Offload(ticket, job) => self.sides[worker].jobs.push((ticket, job)),
                Output::Report(report) => self.reports.push(report),
                Output::Crash => self.crashed = true,
                other => panic!("an output that the rig does not know: {other:?}"),
            }
        }
        busy
    }

    fn drain_broker(&mut self, shard: usize) -> bool {
        let mut busy = false;
        while let Some((link, bytes)) = self.brokers[shard].poll_transmit() {
            busy = true;
            let bytes = bytes.to_vec();
            self.brokers[shard].wrote(link, bytes.len());
            let at = self.time();
            for side in &mut self.sides {
                if side.links[shard] == Some(link) {
                    side.engine.handle_link(at, shard as u32, &bytes).unwrap();
                }
            }
        }
        while self.brokers[shard].poll_event().is_some() {}
        busy
    }

    fn receive(&mut self, worker: usize, slot: u32, bytes: &[u8]) {
        let Some(&client) = self.slots.get(&(worker, slot)) else { panic!("bytes for slot {slot}, which is free") };
        let client = &mut self.clients[client];
        assert!(client.open, "bytes for a connection that is closed");
        let mut bytes = bytes.to_vec();
        let mut rest = &mut bytes[..];
        if !client.upgraded {
            let end = rest.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole response head") + 4;
            let head = String::from_utf8(rest[..end].to_vec()).unwrap();
            client.upgraded = head.starts_with("HTTP/1.1 101");
            if !client.upgraded {
                client.inbox.push(Got::Http(String::from_utf8(rest.to_vec()).unwrap()));
                return;
            }
            client.inbox.push(Got::Http(head));
            rest = &mut rest[end..];
        }
        let inbox = &mut client.inbox;
        let used = client.reader.handle_bytes(64 << 20, rest, |event| {
            inbox.push(match event {
                Event::Text(text) => Got::Text(text.to_owned()),
                Event::Binary(bytes) => Got::Binary(bytes.to_vec()),
                Event::Pong(bytes) => Got::Pong(bytes.to_vec()),
                Event::Ping(_) => panic!("the server sends no ping frames"),
                Event::Close(close) => {
                    let (code, reason) = close.unwrap_or((1005, ""));
                    Got::Close(code, reason.to_owned())
                }
            });
            ControlFlow::Continue(())
        });
        used.expect("the server speaks RFC 6455");
    }

    fn end(&mut self, worker: usize, slot: u32, how: Got) {
        let client = self.slots[&(worker, slot)];
        let client = &mut self.clients[client];
        if std::mem::replace(&mut client.open, false) {
            client.inbox.push(how);
            let at = self.time();
            self.sides[worker].engine.closed(at, slot);
        }
    }

    fn answer_pings(&mut self) -> bool {
        let mut answers = Vec::new();
        for (number, client) in self.clients.iter_mut().enumerate() {
            let Some(pong) = client.pongs else { continue };
            let ping = if pong == "#2" { "#1" } else { "" };
            let before = client.inbox.len();
            client.inbox.retain(|got| *got != Got::Text(ping.to_owned()));
            // The other version's ping is a raw message to a client; it is not asked here whether it minds.
            let other = if pong == "#2" { "" } else { "#1" };
            let pings = before - client.inbox.len();
            client.inbox.retain(|got| *got != Got::Text(other.to_owned()));
            answers.extend((0..pings).map(|_| (number, pong)));
        }
        for &(client, pong) in &answers {
            let (worker, slot) = (self.clients[client].worker, self.clients[client].slot);
            if self.clients[client].open {
                let mut out = BytesMut::new();
                frame::write(&mut out, OpCode::Text, pong.as_bytes(), Some([1, 2, 3, 4]));
                let at = self.time();
                self.sides[worker].engine.handle_bytes(at, slot, &mut out);
            }
        }
        !answers.is_empty()
    }
}
