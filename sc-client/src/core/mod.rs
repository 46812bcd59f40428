//! The core: a client as one state machine.

mod auth;
mod channels;
mod connection;
mod inbound;
mod outbound;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use sc_protocol::ack::AckTable;
use sc_protocol::packet::{Version, write};
use sc_protocol::ws::{CloseCode, Reader, Role};
use sc_protocol::{Entropy, ScError};

use crate::config::Config;
use crate::data::{Data, Token};
use crate::output::{CallId, Output, Raw, ReplyId, State};

pub use channels::{ChannelState, SubscribeOptions};

use channels::Channels;
use connection::Upgrade;
use outbound::{Batch, Buffered, Content, Sent, Where};

/// A client of a SocketCluster server, of any version from 3 to 20, as a pure state machine: no socket, no clock, no thread.
///
/// The contract is that of every machine of this workspace: after any call that takes `now`, or a batch of them, drain
/// [`poll_output`](Self::poll_output) to `None`; call [`handle_timeout`](Self::handle_timeout) when
/// [`poll_timeout`](Self::poll_timeout) is reached. A core starts closed: [`connect`](Self::connect) it.
///
/// Each [`call`](Self::call), [`publish`](Self::publish) and [`authenticate`](Self::authenticate) leads to exactly one
/// [`Output::Answer`]. A channel stays subscribed over any number of connections until it is unsubscribed, refused or
/// kicked out.
///
/// ```
/// use std::time::Instant;
/// use sc_client::{ClientCore, Config, Output};
/// use sc_protocol::entropy::SeededEntropy;
///
/// let now = Instant::now();
/// let mut core = ClientCore::new(Config::default().into(), Box::new(SeededEntropy::new(1)), now);
/// core.connect(now);
/// assert!(matches!(core.poll_output(), Some(Output::Connecting)));
/// assert!(matches!(core.poll_output(), Some(Output::Connect)));
/// core.handle_connected(now); // the driver has opened a transport
/// let Some(Output::Transmit(upgrade)) = core.poll_output() else { panic!() };
/// assert!(upgrade.starts_with(b"GET /socketcluster/ HTTP/1.1\r\n"));
/// ```
pub struct ClientCore {
    config: Arc<Config>,
    entropy: Box<dyn Entropy + Send>,
    out: VecDeque<Queued>,
    phase: Phase,
    /// Counts transports, so that what belongs to an earlier one is known by it.
    connection: u32,
    upgrade: Option<Box<Upgrade>>,
    reader: Reader,
    #[cfg(feature = "deflate")]
    deflate: Option<Box<sc_protocol::ws::deflate::Deflate>>,
    pings: Pings,
    /// Tries since the connection was last open.
    attempts: u32,
    /// Whether the driver has no room for more bytes.
    congested: bool,
    /// The server's name for the connection.
    id: Box<str>,
    token: Option<Token>,
    authenticated: bool,
    acks: AckTable<Sent>,
    last_call: u64,
    /// When calls time out, and where they are.
    deadlines: BTreeMap<(Instant, u64), Where>,
    buffer: VecDeque<Buffered>,
    batch: Option<Box<Batch>>,
    batching: bool,
    channels: Channels,
}

/// Where a client stands between no connection and an open one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed,
    /// Closed, with the next try at a time.
    Waiting(Instant),
    /// The transport is being opened and then upgraded, until a deadline.
    Opening(Instant),
    /// `#handshake` is under way, until a deadline.
    Handshaking(Instant),
    /// Open. The server's next ping has to come before the deadline.
    Open(Option<Instant>),
}

/// What the server pings with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pings {
    /// The version, once it is known.
    version: Option<Version>,
    /// Which have come: `#1`, and the empty one.
    seen: [bool; 2],
    timeout: Duration,
}

/// An output, or bytes that may still grow.
#[derive(Debug)]
enum Queued {
    Wire(BytesMut),
    Output(Output),
}

impl std::fmt::Debug for ClientCore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientCore").field("phase", &self.phase).finish_non_exhaustive()
    }
}

impl ClientCore {
    /// A client that is closed. One configuration may serve many.
    #[must_use]
    pub fn new(config: Arc<Config>, entropy: Box<dyn Entropy + Send>, _now: Instant) -> Self {
        Self {
            pings: Pings::new(&config),
            config,
            entropy,
            out: VecDeque::new(),
            phase: Phase::Closed,
            connection: 0,
            upgrade: None,
            reader: Reader::new(Role::Client),
            #[cfg(feature = "deflate")]
            deflate: None,
            attempts: 0,
            congested: false,
            id: Box::default(),
            token: None,
            authenticated: false,
            acks: AckTable::new(),
            last_call: 0,
            deadlines: BTreeMap::new(),
            buffer: VecDeque::new(),
            batch: None,
            batching: false,
            channels: Channels::default(),
        }
    }

    /// The next thing to do.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = match self.out.pop_front()? {
            Queued::Wire(bytes) => Output::Transmit(bytes.freeze()),
            Queued::Output(output) => output,
        };
        if self.out.is_empty() && self.out.capacity() > 16 {
            self.out = VecDeque::new();
        }
        Some(output)
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called at the latest; `None`: there is no need to.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Closed => None,
            Phase::Waiting(at) | Phase::Opening(at) | Phase::Handshaking(at) => Some(at),
            Phase::Open(at) => at,
        };
        let call = self.deadlines.first_key_value().map(|((at, _), _)| *at);
        let batch = self.batch.as_ref().map(|batch| batch.due);
        [phase, call, batch].into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.expire_calls(now);
        if self.batch.as_ref().is_some_and(|batch| batch.due <= now) {
            self.batch_due(now);
        }
        match self.phase {
            Phase::Waiting(at) if at <= now => self.open_transport(now),
            Phase::Opening(at) if at <= now => self.end(now, CloseCode::CONNECT_TIMEOUT, ""),
            Phase::Handshaking(at) if at <= now => self.end(now, CloseCode::HANDSHAKE_FAILED, ""),
            Phase::Open(Some(at)) if at <= now => self.end(now, CloseCode::PING_TIMEOUT, ""),
            _ => {}
        }
        debug_assert!(self.poll_timeout().is_none_or(|next| next > now), "a timeout that does not pass");
        self.check_invariants();
    }

    /// Closed, connecting or open.
    #[must_use]
    pub const fn state(&self) -> State {
        match self.phase {
            Phase::Closed | Phase::Waiting(_) => State::Closed,
            Phase::Opening(_) | Phase::Handshaking(_) => State::Connecting,
            Phase::Open(_) => State::Open,
        }
    }

    /// The server's name for the connection that is, or was last, open; empty before there was one.
    #[must_use]
    pub const fn id(&self) -> &str {
        &self.id
    }

    /// The protocol of the server, once it is known.
    #[must_use]
    pub const fn version(&self) -> Option<Version> {
        self.pings.version
    }

    /// Calls whose answers are not there yet, and other packets that wait to be sent. Each has a deadline.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.deadlines.len()
    }

    /// Calls a procedure of the server: an event that wants an answer. SC's clients name it `emit` with a callback, or
    /// `invoke`. `data` is JSON text.
    ///
    /// The answer is an error with the server's name, message and other members; a `TimeoutError` after `timeout` (or
    /// `ack_timeout`); a `BadConnectionError` if the connection was lost while the server had it; a `ResourceLimitError`
    /// if too many wait. A call that could not be sent yet survives the loss of connections until its timeout.
    pub fn call(&mut self, now: Instant, event: &str, data: Option<&str>, timeout: Option<Duration>) -> CallId {
        self.submit(now, Content::Event(event), data, true, timeout)
    }

    /// Emits an event that wants no answer. It is given up silently if it cannot be sent within `ack_timeout`.
    pub fn transmit(&mut self, now: Instant, event: &str, data: Option<&str>) {
        self.submit(now, Content::Event(event), data, false, None);
    }

    /// Publishes, and wants an answer: [`call`](Self::call) tells which there are.
    pub fn publish(&mut self, now: Instant, channel: &str, data: Option<&str>) -> CallId {
        self.submit(now, Content::Publish(channel), data, true, None)
    }

    /// Publishes and wants no answer, as [`transmit`](Self::transmit).
    pub fn transmit_publish(&mut self, now: Instant, channel: &str, data: Option<&str>) {
        self.submit(now, Content::Publish(channel), data, false, None);
    }

    /// Sends a message that is no packet.
    pub fn send_raw(&mut self, now: Instant, message: Raw) {
        self.submit(now, Content::Raw(&message), None, false, None);
    }

    /// Answers a call of the server's. On another connection than it came from, nobody waits for it: nothing happens.
    pub fn respond(&mut self, _now: Instant, reply: &ReplyId, result: Result<Option<&str>, &ScError>) {
        if reply.connection == self.connection && matches!(self.phase, Phase::Handshaking(_) | Phase::Open(_)) {
            let (error, data) = match result {
                Ok(data) => (None, data),
                Err(error) => (Some(error), None),
            };
            self.send_packet(false, |out| write::response(out, &reply.cid, error, data));
        }
    }

    /// The driver says whether it has no room for more bytes. While it has none, packets wait in the buffer, which has its
    /// limit; pongs and answers do not.
    pub fn set_congested(&mut self, now: Instant, congested: bool) {
        self.congested = congested;
        if !congested {
            self.flush_buffer(now);
        }
    }

    fn push(&mut self, output: Output) {
        self.out.push_back(Queued::Output(output));
    }

    fn answer(&mut self, call: CallId, result: Result<Data, ScError>) {
        self.push(Output::Answer(call, result));
    }

    /// The version whose rules and texts apply.
    fn rules(&self) -> Version {
        self.pings.version.unwrap_or(Version::V2)
    }

    fn check_invariants(&self) {
        debug_assert!(
            self.buffer.iter().zip(self.buffer.iter().skip(1)).all(|(a, b)| a.call < b.call),
            "the buffer is in the order of its calls"
        );
        debug_assert!(self.buffer.len() <= self.config.buffer_max);
        debug_assert!(
            self.deadlines.len() >= self.buffer.len(),
            "what waits in the buffer has a deadline, so it does not wait for ever"
        );
        debug_assert!(self.upgrade.is_none() || matches!(self.phase, Phase::Opening(_)));
    }
}

impl Pings {
    /// The server speaks both protocols, and asks which one we do.
    const fn both(&self) -> bool {
        self.seen[0] && self.seen[1]
    }

    fn new(config: &Config) -> Self {
        Self { version: config.protocol, seen: [false; 2], timeout: Duration::from_secs(20) }
    }
}
