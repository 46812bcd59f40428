//! A client as a lean machine on the client's role of `sc-protocol`; it tells the model what it sees.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use sc_protocol::Version;
use sc_protocol::http::HeadReader;
use sc_protocol::packet::{self, Event, Packet, Response, write};
use sc_protocol::ws::handshake::ClientHandshake;
use sc_protocol::ws::{self, OpCode, Reader, Role, frame};
use sc_protocol::{Entropy, json};

use crate::env::Env;
use crate::model::{By, SessionId};
use crate::net::{End, Read, StreamId};

/// What an answer is awaited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    Handshake {
        token: bool,
    },
    /// With the error's name where one is due.
    Subscribe(String, Option<&'static str>),
    Unsubscribe(String),
    Publish {
        channel: String,
        id: u64,
        by: By,
        refused: Option<&'static str>,
    },
    /// The answer is this JSON text.
    Value(String),
    Count {
        plain: bool,
    },
    Push {
        total: u64,
    },
    Ask(u64),
    /// The answer is an error of this name.
    Refused(&'static str),
    Login,
    Logout,
    Kick,
    Close,
    Whoami,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Connects at the given time.
    Away(Instant),
    Upgrading,
    Handshaking,
    Open(SessionId),
}

/// Whether the server asked this client something, and how the answer went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Value,
    Error,
    Nothing,
}

pub(crate) struct Client {
    pub(crate) number: usize,
    pub(crate) version: Version,
    /// Answers the first pings late, so that the server has to guess its version.
    pub(crate) lazy: bool,
    pub(crate) phase: Phase,
    pub(crate) stream: Option<StreamId>,
    out: VecDeque<u8>,
    reader: Reader,
    head: HeadReader,
    upgrade: ClientHandshake,
    cid: u64,
    pub(crate) pending: BTreeMap<u64, Call>,
    said: BTreeMap<u64, Said>,
    pongs: VecDeque<Instant>,
    pub(crate) token: Option<String>,
    /// A login or logout is under way.
    pub(crate) changing: u32,
    pub(crate) wanted: BTreeSet<String>,
    pub(crate) stalled_until: Option<Instant>,
    pub(crate) acts_at: Instant,
    welcomed: bool,
    /// Its wish to be disconnected was acked.
    may_close: bool,
    counted: BTreeSet<u64>,
    plain: u64,
    pub(crate) ticks: u64,
    pub(crate) pushed: u64,
    pub(crate) connects: u64,
    /// Has ended its half and only reads.
    pub(crate) half_closed: bool,
    entropy: sc_protocol::entropy::SeededEntropy,
}

impl Client {
    pub(crate) fn new(number: usize, env: &mut Env) -> Self {
        let mut entropy = env.rng.fork();
        Self {
            number,
            version: if env.rng.once_in(2) { Version::V1 } else { Version::V2 },
            lazy: env.rng.once_in(6),
            phase: Phase::Away(env.clock.now() + env.rng.millis(0, 500)),
            stream: None,
            out: VecDeque::new(),
            reader: Reader::new(Role::Client),
            head: HeadReader::new(),
            upgrade: ClientHandshake::new(&mut entropy),
            cid: 0,
            pending: BTreeMap::new(),
            said: BTreeMap::new(),
            pongs: VecDeque::new(),
            token: None,
            changing: 0,
            wanted: BTreeSet::new(),
            stalled_until: None,
            acts_at: env.clock.now(),
            welcomed: false,
            may_close: false,
            counted: BTreeSet::new(),
            plain: 0,
            ticks: 0,
            pushed: 0,
            connects: 0,
            half_closed: false,
            entropy,
        }
    }

    pub(crate) fn session(&self) -> Option<SessionId> {
        if let Phase::Open(session) = self.phase { Some(session) } else { None }
    }

    pub(crate) fn wants_at(&self, env: &Env, now: Instant) -> Option<Instant> {
        if let (Phase::Away(at), None) = (self.phase, self.stream) {
            return Some(at);
        }
        let stream = self.stream?;
        let write = (!self.out.is_empty() && !self.half_closed && env.net.room(stream, End::Near) > 0).then_some(now);
        let read = env.net.readable_at(stream, End::Near, now);
        let read = read.map(|at| self.stalled_until.map_or(at, |until| at.max(until)));
        let act = (!env.calm && self.session().is_some()).then_some(self.acts_at);
        [write, read, act, self.pongs.front().copied()].into_iter().flatten().min()
    }

    /// Opens a connection; answers its stream for the listener.
    pub(crate) fn connect(&mut self, env: &mut Env) -> StreamId {
        let capacity = [4096, 16 * 1024, 64 * 1024][env.rng.below(3)];
        let delay = env.rng.millis(0, 30);
        let stream = env.net.connect(capacity, delay, true);
        self.stream = Some(stream);
        self.phase = Phase::Upgrading;
        self.upgrade = ClientHandshake::new(&mut self.entropy);
        let mut out = BytesMut::new();
        let written = self.upgrade.write_request(&mut out, "localhost", "/socketcluster/", &[]);
        env.model.check(written.is_ok(), || "a request cannot be written".to_owned());
        self.out = out.iter().copied().collect();
        stream
    }

    /// Reads, and writes what waits.
    pub(crate) fn turn(&mut self, env: &mut Env) {
        let now = env.clock.now();
        let Some(stream) = self.stream else { return };
        if self.stalled_until.is_some_and(|until| until <= now) {
            self.stalled_until = None;
        }
        while self.pongs.front().is_some_and(|at| *at <= now) {
            self.pongs.pop_front();
            self.send(if self.version == Version::V1 { "#2" } else { "" });
        }
        if self.stalled_until.is_none() {
            let size = env.read_size();
            match env.net.read(stream, End::Near, size, now) {
                Read::Nothing => {}
                Read::Eof | Read::Reset => return self.lost(env),
                Read::Data(mut data) => {
                    env.note(&data);
                    self.handle(env, &mut data);
                }
            }
        }
        self.flush(env);
    }

    fn flush(&mut self, env: &mut Env) {
        let Some(stream) = self.stream.filter(|_| !self.out.is_empty() && !self.half_closed) else { return };
        let bytes = self.out.make_contiguous();
        match env.net.write(stream, End::Near, bytes, env.clock.now(), &mut env.rng) {
            Some(n) => drop(self.out.drain(..n)),
            None => self.lost(env),
        }
    }

    /// The connection is over, from whichever side.
    pub(crate) fn lost(&mut self, env: &mut Env) {
        let now = env.clock.now();
        if let Some(stream) = self.stream.take() {
            env.net.close(stream, End::Near, now);
        }
        if let Phase::Open(session) = self.phase {
            env.model.closed(session);
        }
        self.phase = Phase::Away(now + env.rng.millis(1, 400));
        self.out.clear();
        self.reader = Reader::new(Role::Client);
        self.head = HeadReader::new();
        self.pending.clear();
        self.said.clear();
        self.pongs.clear();
        self.stalled_until = None;
        (self.changing, self.ticks, self.pushed, self.plain) = (0, 0, 0, 0);
        self.counted.clear();
        self.welcomed = false;
        self.may_close = false;
        self.half_closed = false;
    }

    /// Ends its half of the connection.
    pub(crate) fn half_close(&mut self, env: &mut Env) {
        if let Some(stream) = self.stream {
            self.half_closed = true;
            self.out.clear();
            env.net.shutdown(stream, End::Near, env.clock.now());
        }
    }

    pub(crate) fn send(&mut self, text: &str) {
        let mut out = BytesMut::new();
        frame::write(&mut out, OpCode::Text, text.as_bytes(), Some(self.entropy.next_u32().to_be_bytes()));
        self.out.extend(out);
    }

    /// Emits with an ack wanted.
    pub(crate) fn call(&mut self, event: &str, data: &str, call: Call) {
        self.cid += 1;
        let mut out = BytesMut::new();
        write::event(&mut out, event, Some(data), Some(self.cid));
        self.pending.insert(self.cid, call);
        self.send(&String::from_utf8_lossy(&out));
    }

    pub(crate) fn subscribe(&mut self, channel: &str) {
        let private = channel.starts_with("private");
        let refused = match channel {
            _ if channel.starts_with("forbidden") => Some("ForbiddenError"),
            _ if private && self.changing > 0 => return,
            _ if private && self.token.is_none() => Some("AuthRequiredError"),
            _ => None,
        };
        let data = format!("{{\"channel\":\"{channel}\"}}");
        self.call("#subscribe", &data, Call::Subscribe(channel.to_owned(), refused));
    }

    fn handle(&mut self, env: &mut Env, data: &mut [u8]) {
        let mut from = 0;
        if self.phase == Phase::Upgrading {
            let upgrade = &self.upgrade;
            match self.head.response(data, |head| upgrade.check(head)) {
                Ok(None) => return,
                Ok(Some((checked, used))) => {
                    env.model.check(checked.is_ok(), || format!("the upgrade failed: {checked:?}"));
                    from = used;
                    self.phase = Phase::Handshaking;
                    let token = self.token.as_ref().map_or_else(|| "null".to_owned(), |token| format!("\"{token}\""));
                    let call = Call::Handshake { token: self.token.is_some() };
                    self.call("#handshake", &format!("{{\"authToken\":{token}}}"), call);
                }
                Err(error) => return env.model.fail(format!("the answer to an upgrade: {error}")),
            }
        }
        let mut texts = Vec::new();
        let mut closed = None;
        let read = self.reader.handle_bytes(1 << 20, &mut data[from..], |event| {
            match event {
                ws::Event::Text(text) => texts.push(text.to_owned()),
                ws::Event::Close(close) => closed = Some(close.map_or(1005, |(code, _)| code)),
                _ => texts.push("a frame that no server sends".to_owned()),
            }
            ControlFlow::Continue(())
        });
        env.model.check(read.is_ok(), || format!("client {}: {read:?}", self.number));
        for text in texts {
            self.message(env, &text);
        }
        if let Some(code) = closed {
            env.model
                .check(code != 4321 || self.may_close, || "a disconnect came before the ack of its handler".to_owned());
            self.lost(env);
        }
    }

    fn message(&mut self, env: &mut Env, text: &str) {
        let own = if self.version == Version::V1 { "#1" } else { "" };
        if text == "#1" || text.is_empty() {
            if text == own {
                let late = if self.lazy { env.rng.millis(120, 300) } else { Duration::ZERO };
                let now = env.clock.now();
                let at = self.pongs.back().copied().unwrap_or(now).max(now + late);
                self.pongs.push_back(at);
            }
            return;
        }
        match packet::parse(text, self.version) {
            Packet::Response(response) => self.response(env, &response),
            Packet::Event(event) => self.event(env, &event),
            _ => env.model.fail(format!("client {} got {text:?}", self.number)),
        }
    }

    fn event(&mut self, env: &mut Env, event: &Event<'_>) {
        let Some(session) = self.session() else {
            // A worker that ends says so at any time.
            if event.name == "#disconnect" {
                return;
            }
            return env.model.fail(format!("{} came before the handshake's ack", event.name));
        };
        let member = |name: &str| event.data.and_then(|data| json::object(data, [name])).and_then(|[member]| member);
        let channel = || member("channel").and_then(json::string).unwrap_or_default().into_owned();
        match &*event.name {
            "#publish" => {
                let data = member("data");
                match crate::wire::publish_id(data) {
                    Some(id) => env.model.delivers(session, &channel(), id),
                    None => env.model.fail(format!("a publish with the data {data:?}")),
                }
            }
            "#kickOut" => env.model.left(session, &channel()),
            "#setAuthToken" => self.token = member("token").and_then(json::string).map(|token| token.into_owned()),
            "#removeAuthToken" => {
                env.model.check(self.changing > 0, || format!("client {} lost its token", self.number));
                self.token = None;
            }
            "#disconnect" => {
                let asked = member("code") == Some("4321");
                env.model
                    .check(!asked || self.may_close, || "#disconnect came before the ack of its handler".to_owned());
            }
            "welcome" => {
                let again = std::mem::replace(&mut self.welcomed, true);
                env.model.check(!again, || "welcome came twice".to_owned());
            }
            "tick" => self.ticks += 1,
            "question" => self.answer(env, event),
            other => env.model.fail(format!("client {} got the event {other}", self.number)),
        }
    }

    /// The server waits for an ack: it gets one, an error, or nothing.
    fn answer(&mut self, env: &mut Env, event: &Event<'_>) {
        let (Some(cid), Some(data)) = (event.cid.clone(), event.data) else {
            return env.model.fail("a question that wants no answer");
        };
        let said = [Said::Value, Said::Value, Said::Value, Said::Error, Said::Nothing][env.rng.below(5)];
        if let Some(question) = json::number(data) {
            self.said.insert(question as u64, said);
        }
        let mut out = BytesMut::new();
        match said {
            Said::Value => write::response(&mut out, &cid, None, Some(data)),
            Said::Error => write::response(&mut out, &cid, Some(&sc_protocol::ScError::new("NoError", "No")), None),
            Said::Nothing => return,
        }
        self.send(&String::from_utf8_lossy(&out));
    }

    fn response(&mut self, env: &mut Env, response: &Response<'_>) {
        let Some(call) = response.rid.int().and_then(|cid| self.pending.remove(&cid)) else {
            return env
                .model
                .fail(format!("client {} got an answer to {:?}, which waits for none", self.number, response.rid));
        };
        let error = response.error.map(sc_protocol::ScError::parse);
        let name = error.as_ref().map(|error| error.name().unwrap_or("Error"));
        if let Call::Handshake { token } = call {
            let is = response.data.and_then(|data| json::object(data, ["isAuthenticated"])).and_then(|[is]| is);
            env.model.check(is == Some(if token { "true" } else { "false" }), || {
                format!("with a token: {token}, and isAuthenticated is {is:?}")
            });
            let version = (!self.lazy).then_some(self.version);
            self.phase = Phase::Open(env.model.opened(self.number, version));
            self.connects += 1;
            let wanted: Vec<String> = self.wanted.iter().cloned().collect();
            return wanted.iter().for_each(|channel| self.subscribe(channel));
        }
        let Some(session) = self.session() else { return env.model.fail("an answer before the handshake's") };
        self.outcome(env, session, call, name, response.data);
    }

    fn outcome(&mut self, env: &mut Env, session: SessionId, call: Call, error: Option<&str>, data: Option<&str>) {
        // What fails at a broker or runs out of time may fail; nothing else may.
        let excused = matches!(error, Some("BrokerError" | "TimeoutError" | "InternalError" | "ResourceLimitError"));
        let number = self.number;
        let mut holds = |holds: bool, what: &str| {
            env.model.check(holds || excused, || format!("client {number}: {what}: {call:?} got {error:?} {data:?}"));
        };
        match &call {
            Call::Subscribe(channel, refused) => {
                holds(error == *refused, "a subscription");
                if error.is_none() {
                    env.model.subscribed(session, channel);
                }
            }
            Call::Unsubscribe(channel) => match error {
                None => env.model.left(session, channel),
                Some(_) => {
                    // Protocol 2 refuses it for a channel that is not subscribed.
                    let stays = env.model.subscriptions(session).contains(channel);
                    env.model.check(!stays, || format!("client {number} cannot leave {channel}: {error:?}"));
                    env.model.left(session, channel);
                }
            },
            Call::Publish { id, refused, .. } => {
                holds(error == *refused, "a publish");
                env.model.answered(*id, error.is_none());
            }
            Call::Value(value) => holds(data == Some(value), "a value"),
            Call::Refused(name) => holds(error == Some(name), "an error"),
            Call::Count { plain } => self.counts(env, *plain, error, data),
            Call::Push { total } => holds(self.ticks >= *total, "an ack before what its handler emitted"),
            Call::Ask(question) => {
                let said = self.said.remove(question);
                holds(error.is_none() == (said == Some(Said::Value)), "an answer to a question");
                holds(error.is_some() || data == Some(&question.to_string()), "an answer's value");
            }
            Call::Login | Call::Logout => {
                self.changing -= 1;
                let login = call == Call::Login;
                holds(
                    error.is_none() && (self.changing > 0 || self.token.is_some() == login),
                    "a token behind its ack",
                );
            }
            Call::Kick => holds(error.is_none(), "an order"),
            Call::Close => {
                holds(error.is_none(), "an order");
                self.may_close = true;
            }
            Call::Whoami => self.check_whoami(env, session, data),
            Call::Handshake { .. } => {}
        }
    }

    /// The handler counts calls: no call is lost, done twice, or (in protocol 2) out of order.
    fn counts(&mut self, env: &mut Env, plain: bool, error: Option<&str>, data: Option<&str>) {
        let (number, version) = (self.number, self.version);
        if error.is_some() {
            // A deferred verdict ran out of time or failed.
            return env.model.check(!plain, || format!("client {number}: a count failed: {error:?}"));
        }
        let Some(count) = data.and_then(json::number).map(|count| count as u64) else {
            return env.model.fail("a count that is no number");
        };
        let last = self.counted.last().copied().unwrap_or(0);
        let fresh = self.counted.insert(count);
        env.model.check(fresh, || format!("client {number}: {count} was counted twice"));
        env.model.check(self.lazy || version == Version::V1 || count > last, || {
            format!("client {number}: {count} was answered behind {last}")
        });
        if plain {
            env.model.check(count > self.plain, || format!("client {number}: a count overtook another"));
            self.plain = count;
        }
    }

    fn check_whoami(&self, env: &mut Env, session: SessionId, data: Option<&str>) {
        let subscriptions = serde_json::to_string(&env.model.subscriptions(session)).unwrap_or_default();
        let expected = format!("{{\"authenticated\":{},\"subscriptions\":{subscriptions}}}", self.token.is_some());
        let number = self.number;
        env.model
            .check(data == Some(&expected), || format!("client {number} is {data:?} to the server, not {expected}"));
    }
}
