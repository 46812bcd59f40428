//! Clients, a server's engine and its broker in one thread, with a clock of its own: everything but sockets is real.

#![allow(dead_code, unreachable_pub, missing_debug_implementations, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test rig: it may fail, and it makes the clock")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sc_auth::{JwtConfig, JwtEngine, Key};
use sc_broker::{Broker, BrokerLimits, LinkId};
use sc_client::{CallId, ChannelChange, ClientCore, Config, Data, Output, ScError};
use sc_protocol::entropy::SeededEntropy;
use sc_protocol::http::HeadReader;
use sc_server::{Engine, Time, Worker};

#[cfg(feature = "driver")]
pub mod server;

pub use sc_server::Config as ServerConfig;

/// What happened to a client, without the bytes.
pub type Log = Vec<Output>;

pub struct Peer {
    pub core: ClientCore,
    pub log: Log,
    /// How often each call was answered, and with what last.
    pub answers: BTreeMap<CallId, Vec<Result<Data, ScError>>>,
    /// The transport, while it is open: the engine's slot.
    slot: Option<u32>,
    upgraded: bool,
    /// `Connect` was asked for and not answered.
    connecting: bool,
    pub saved: Option<sc_client::Token>,
    pub connects: usize,
}

pub struct World {
    pub now: Instant,
    begin: Instant,
    make: fn() -> Worker<()>,
    config: ServerConfig,
    engine: Engine<()>,
    broker: Broker,
    link: LinkId,
    pub peers: Vec<Peer>,
    slots: BTreeMap<u32, usize>,
    next_slot: u32,
    /// Whether transports can be opened.
    pub listening: bool,
    /// Whether bytes pass; if not they are lost, as on a network that has gone away.
    pub passing: bool,
    /// Bytes pass in pieces of that many.
    pub piece: usize,
}

fn engine(make: fn() -> Worker<()>, config: &ServerConfig, at: Time) -> Engine<()> {
    let auth = JwtEngine::new(JwtConfig::new(Key::shared("test-secret-key").unwrap())).unwrap();
    Engine::new(make(), config.clone(), Box::new(auth), Box::new(SeededEntropy::new(1)), at)
}

impl World {
    pub fn new(config: ServerConfig, make: fn() -> Worker<()>) -> Self {
        let now = Instant::now();
        let mut broker = Broker::new(BrokerLimits::default(), 1);
        let link = broker.attach(now);
        let at = Time { now, unix_ms: 1_700_000_000_000 };
        let mut world = Self {
            now,
            begin: now,
            make,
            engine: engine(make, &config, at),
            config,
            broker,
            link,
            peers: Vec::new(),
            slots: BTreeMap::new(),
            next_slot: 0,
            listening: true,
            passing: true,
            piece: usize::MAX,
        };
        world.engine.link_up(at, 0);
        world.settle();
        world
    }

    pub fn time(&self) -> Time {
        let passed = self.now - self.begin;
        Time { now: self.now, unix_ms: 1_700_000_000_000 + passed.as_millis() as u64 }
    }

    /// A client, which is not connected yet.
    pub fn client(&mut self, config: Config) -> usize {
        let entropy = Box::new(SeededEntropy::new(100 + self.peers.len() as u64));
        self.peers.push(Peer {
            core: ClientCore::new(config.into(), entropy, self.now),
            log: Vec::new(),
            answers: BTreeMap::new(),
            slot: None,
            upgraded: false,
            connecting: false,
            saved: None,
            connects: 0,
        });
        self.peers.len() - 1
    }

    /// A client that is open.
    pub fn connected(&mut self, config: Config) -> usize {
        let client = self.client(config);
        self.act(client, |core, now| core.connect(now));
        self.pass(Duration::from_millis(200));
        assert_eq!(self.peers[client].core.state(), sc_client::State::Open, "{:?}", self.peers[client].log);
        client
    }

    /// Does something with a client's core, and everything that follows from it at once.
    pub fn act<R>(&mut self, client: usize, act: impl FnOnce(&mut ClientCore, Instant) -> R) -> R {
        let result = act(&mut self.peers[client].core, self.now);
        self.settle();
        result
    }

    /// What happened to a client since the last call.
    pub fn take(&mut self, client: usize) -> Log {
        std::mem::take(&mut self.peers[client].log)
    }

    /// The answer to a call.
    pub fn answer(&self, client: usize, call: CallId) -> Option<Result<Data, ScError>> {
        let answers = self.peers[client].answers.get(&call)?;
        assert_eq!(answers.len(), 1, "a call was answered {} times", answers.len());
        answers.last().cloned()
    }

    /// The messages that a client got from its channels since the last call.
    pub fn messages(&mut self, client: usize) -> Vec<(String, String)> {
        let log = self.take(client).into_iter();
        log.filter_map(|output| match output {
            Output::Message { channel, data } => Some((channel.to_string(), data.to_string())),
            _ => None,
        })
        .collect()
    }

    /// The news of channels since the last call.
    pub fn channel_news(&mut self, client: usize) -> Vec<(String, ChannelChange)> {
        let log = self.take(client).into_iter();
        log.filter_map(|output| match output {
            Output::Channel { channel, change } => Some((channel.to_string(), change)),
            _ => None,
        })
        .collect()
    }

    /// A client's transport breaks.
    pub fn cut(&mut self, client: usize) {
        if let Some(slot) = self.peers[client].slot.take() {
            self.engine.closed(self.time(), slot);
            self.slots.remove(&slot);
            self.peers[client].core.handle_closed(self.now, "reset");
            self.settle();
        }
    }

    /// The server process dies: its sockets are cut, and a new engine starts.
    pub fn restart_server(&mut self) {
        for client in 0..self.peers.len() {
            if self.peers[client].slot.take().is_some() {
                self.peers[client].core.handle_closed(self.now, "reset");
            }
        }
        self.slots.clear();
        self.broker = Broker::new(BrokerLimits::default(), 2);
        self.link = self.broker.attach(self.now);
        self.engine = engine(self.make, &self.config, self.time());
        self.engine.link_up(self.time(), 0);
        self.settle();
    }

    /// Time passes, from one deadline to the next.
    pub fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        for _ in 0..1_000_000 {
            let engine = self.engine.poll_timeout();
            let cores = self.peers.iter().filter_map(|peer| peer.core.poll_timeout());
            match engine.into_iter().chain(cores).min().filter(|next| *next <= end) {
                Some(next) => {
                    self.now = self.now.max(next);
                    let at = self.time();
                    self.engine.handle_timeout(at);
                    for peer in &mut self.peers {
                        peer.core.handle_timeout(self.now);
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

    pub fn settle(&mut self) {
        loop {
            let mut busy = false;
            for client in 0..self.peers.len() {
                busy |= self.drain_client(client);
            }
            busy |= self.drain_engine();
            busy |= self.drain_broker();
            if !busy {
                return;
            }
        }
    }

    fn drain_client(&mut self, client: usize) -> bool {
        let mut busy = false;
        while let Some(output) = self.peers[client].core.poll_output() {
            busy = true;
            match output {
                Output::Connect => {
                    assert!(self.peers[client].slot.is_none(), "a second transport");
                    self.peers[client].connects += 1;
                    self.peers[client].connecting = true;
                }
                Output::Transmit(bytes) => self.carry_to_server(client, bytes.to_vec()),
                Output::Close => {
                    self.peers[client].connecting = false;
                    if let Some(slot) = self.peers[client].slot.take() {
                        self.slots.remove(&slot);
                        self.engine.closed(self.time(), slot);
                    }
                }
                Output::SaveToken(token) => self.peers[client].saved = token,
                Output::Answer(call, result) => self.peers[client].answers.entry(call).or_default().push(result),
                other => self.peers[client].log.push(other),
            }
        }
        if std::mem::take(&mut self.peers[client].connecting) {
            busy = true;
            if self.listening {
                self.peers[client].slot = Some(self.next_slot);
                self.peers[client].upgraded = false;
                self.slots.insert(self.next_slot, client);
                self.next_slot += 1;
                self.peers[client].core.handle_connected(self.now);
            } else {
                self.peers[client].core.handle_closed(self.now, "refused");
            }
        }
        busy
    }

    fn carry_to_server(&mut self, client: usize, mut bytes: Vec<u8>) {
        let (at, slot) = (self.time(), self.peers[client].slot.expect("bytes without a transport"));
        if !self.passing {
            return;
        }
        if !self.peers[client].upgraded {
            self.peers[client].upgraded = true;
            let opened = HeadReader::new().request(&bytes, |head| self.engine.open(at, slot, None, head));
            let ((), used) = opened.unwrap().expect("a client writes its head whole");
            bytes.drain(..used);
        }
        for piece in bytes.chunks_mut(self.piece) {
            self.engine.handle_bytes(at, slot, piece);
        }
    }

    fn drain_engine(&mut self) -> bool {
        let mut busy = false;
        while let Some((_, bytes)) = self.engine.poll_link() {
            busy = true;
            self.broker.handle_bytes(self.now, self.link, &bytes).unwrap();
        }
        while let Some(output) = self.engine.poll_output() {
            busy = true;
            match output {
                sc_server::Output::Transmit(slot, bytes) => self.carry_to_client(slot, &bytes),
                sc_server::Output::Fanout(bytes, slots) => {
                    slots.iter().for_each(|slot| self.carry_to_client(*slot, &bytes));
                    self.engine.recycle(slots);
                }
                sc_server::Output::Close(slot) | sc_server::Output::Abort(slot) => {
                    if let Some(client) = self.slots.remove(&slot) {
                        self.peers[client].slot = None;
                        self.engine.closed(self.time(), slot);
                        self.peers[client].core.handle_closed(self.now, "");
                    }
                }
                sc_server::Output::Offload(ticket, job) => {
                    let at = self.time();
                    self.engine.handle_done(at, ticket, job());
                }
                _ => {}
            }
        }
        busy
    }

    fn carry_to_client(&mut self, slot: u32, bytes: &[u8]) {
        if let Some(&client) = self.slots.get(&slot)
            && self.passing
        {
            let mut bytes = bytes.to_vec();
            for piece in bytes.chunks_mut(self.piece) {
                // A core that has closed gets nothing more of this transport.
                if !self.slots.contains_key(&slot) {
                    return;
                }
                self.peers[client].core.handle_bytes(self.now, piece);
                self.drain_client(client);
            }
        }
    }

    fn drain_broker(&mut self) -> bool {
        let mut busy = false;
        while let Some((link, bytes)) = self.broker.poll_transmit() {
            busy = true;
            let bytes = bytes.to_vec();
            self.broker.wrote(link, bytes.len());
            let at = self.time();
            self.engine.handle_link(at, 0, &bytes).unwrap();
        }
        while self.broker.poll_event().is_some() {}
        busy
    }
}

/// An application with something of everything.
pub fn application() -> Worker<()> {
    use sc_server::{Block, Pass, Reply};
    Worker::new(())
        .subscribe(|(), _cx, request| match (request.channel.split('.').next(), &request.auth) {
            (Some("forbidden"), _) => Err(Block::named("ForbiddenError", "Channel is forbidden")),
            (Some("private"), None) => Err(Block::named("AuthRequiredError", "Login first")),
            _ => Ok(Pass::Now),
        })
        .on_connection(|(), cx, socket| {
            cx.emit(socket, "welcome", "hello");
        })
        .on("echo", |(), _cx, request| Reply::data(request.data::<serde_json::Value>()?))
        .on("fail", |(), _cx, _request| Err(ScError::new("QuotaError", "Too many rooms").with("limit", 5)))
        .on("silence", |(), _cx, _request| Ok(Reply::Never))
        .on("login", |(), cx, request| {
            cx.set_auth_token(request.socket, &serde_json::json!({ "username": request.data::<String>()? }), None)?;
            Ok(Reply::Empty)
        })
        .on("logout", |(), cx, request| {
            cx.deauthenticate(request.socket);
            Ok(Reply::Empty)
        })
        .on("kick", |(), cx, request| {
            cx.kick_out(request.socket, Some(&request.data::<String>()?), Some("out"));
            Ok(Reply::Empty)
        })
        .on("close", |(), cx, request| {
            cx.disconnect(request.socket, request.data::<u16>()?, "as asked");
            Ok(Reply::Empty)
        })
        .on("ask", |(), cx, request| {
            let socket = request.socket;
            let data = request.data::<String>()?;
            Ok(cx
                .call(socket, "question", &data, |(), _cx, answer| match answer {
                    Ok(data) => Reply::data(data.get::<serde_json::Value>()?),
                    Err(error) => Err(ScError::new("AskedError", error.message().to_owned())),
                })
                .into())
        })
}
