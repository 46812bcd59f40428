//! What handlers act on through a [`Cx`](crate::Cx): the sockets, the channels, the exchange, and the queue of outputs. It
//! never calls a handler itself: what needs one is queued as a [`Task`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use sc_auth::AuthEngine;
use sc_broker::Exchange;
use sc_protocol::codec::Codec;
use sc_protocol::heartbeat::{self, Ring};
use sc_protocol::packet::{Cid, Version, write};
use sc_protocol::wheel::Wheel;
use sc_protocol::ws::{self, CloseCode, OpCode, frame};
use sc_protocol::{Entropy, ScError};

use crate::channels::Channels;
use crate::config::Config;
use crate::cx::Every;
use crate::data::Data;
use crate::drain::Drain;
use crate::middleware::Disconnect;
use crate::output::{Counters, Level, Output, Report, TicketId, Time};
use crate::outputs::Outputs;
use crate::pubsub::{Publish, Waiter};
use crate::shared::Gathers;
use crate::socket::{Phase, Socket, SocketId};
use crate::tickets::Tickets;
use crate::timers::Timer;

/// Something that needs a handler, queued by code that cannot call one.
pub(crate) enum Task {
    /// A socket's session is over.
    Disconnection(SocketId, Disconnect),
    /// An awaited ack came, or will not.
    Answered(TicketId, Result<crate::Data<'static>, ScError>),
    /// A publish of the application was answered by the broker.
    Published(TicketId, Result<(), ScError>),
}

/// What a handler asked for that takes effect only after its ack.
#[derive(Debug)]
pub(crate) enum After {
    Disconnect {
        socket: SocketId,
        code: u16,
        reason: Data<'static>,
    },
    /// A close that is not announced.
    Close {
        socket: SocketId,
        code: CloseCode,
    },
    StopBatching {
        socket: SocketId,
    },
    KickOut {
        socket: SocketId,
        channel: Option<String>,
        message: Option<String>,
    },
}

/// Frames are cut off one allocation of this size after the other: a hundred small ones share one.
const SCRATCH_LEN: usize = 16 * 1024;

pub(crate) struct Core<S, P> {
    pub(crate) config: Config,
    pub(crate) at: Time,
    pub(crate) began: Instant,
    pub(crate) sockets: Vec<Option<Socket<P>>>,
    pub(crate) generation: u32,
    pub(crate) channels: Channels,
    pub(crate) exchange: Exchange<Publish, Waiter>,
    pub(crate) wheel: Wheel<Timer>,
    pub(crate) due: Vec<Timer>,
    pub(crate) ring: Option<Ring<SocketId>>,
    pub(crate) tickets: Tickets<S, P>,
    pub(crate) every: slab::Slab<Every<S, P>>,
    pub(crate) out: Outputs,
    pub(crate) tasks: VecDeque<Task>,
    pub(crate) after: Vec<After>,
    /// How many handlers are on the stack: [`After`] waits for the outermost one's ack.
    pub(crate) handler_depth: u32,
    pub(crate) spare: Vec<Vec<u32>>,
    pub(crate) scratch: BytesMut,
    pub(crate) entropy: Box<dyn Entropy + Send>,
    pub(crate) auth: Box<dyn AuthEngine>,
    /// What stands between packets and messages, unless messages are the packets' JSON text.
    pub(crate) codec: Option<Box<dyn Codec>>,
    /// The ping of protocol 1, as a frame.
    pub(crate) ping_v1: Bytes,
    pub(crate) counters: Counters,
    pub(crate) sequence: u32,
    /// Sockets whose batch goes out at the end of this turn.
    pub(crate) batched: Vec<SocketId>,
    /// How many sockets send everything in batches; mostly none, and then nobody looks at a socket for it.
    pub(crate) batching: usize,
    /// Closures of other threads that have not been run.
    pub(crate) remote_waiting: Arc<AtomicUsize>,
    /// Stands for the state of a socket that is gone.
    pub(crate) lost_session: Option<P>,
    /// The worker is about to end, and sends its sockets away.
    pub(crate) drain: Option<Drain>,
    /// HTTP requests and messages per minute, as the driver told last.
    pub(crate) rates: (f64, f64),
    pub(crate) gathers: Gathers,
}

impl<S, P> Core<S, P> {
    pub(crate) fn new(
        config: Config,
        auth: Box<dyn AuthEngine>,
        mut entropy: Box<dyn Entropy + Send>,
        at: Time,
    ) -> Self {
        let (channel_seed, exchange_seed) = (entropy.next_u64(), entropy.next_u64());
        Self {
            at,
            began: at.now,
            sockets: Vec::new(),
            generation: 0,
            channels: Channels::new(channel_seed),
            exchange: Exchange::new(config.brokers, sc_broker::ExchangeLimits::default(), exchange_seed),
            wheel: Wheel::new(at.now, crate::timers::TICK),
            due: Vec::new(),
            ring: Some(Ring::new(at.now, config.ping_interval)),
            tickets: Tickets::new(),
            every: slab::Slab::new(),
            out: Outputs::new(),
            tasks: VecDeque::new(),
            after: Vec::new(),
            handler_depth: 0,
            spare: Vec::new(),
            scratch: BytesMut::with_capacity(SCRATCH_LEN),
            entropy,
            auth,
            codec: None,
            ping_v1: Bytes::from_static(heartbeat::PING_V1),
            counters: Counters::default(),
            sequence: 0,
            batched: Vec::new(),
            batching: 0,
            remote_waiting: Arc::default(),
            lost_session: None,
            drain: None,
            rates: (0.0, 0.0),
            gathers: Gathers::default(),
            config,
        }
    }

    pub(crate) fn no_exchange() -> Exchange<Publish, Waiter> {
        Exchange::new(1, sc_broker::ExchangeLimits::default(), 0)
    }

    pub(crate) fn socket(&self, id: SocketId) -> Option<&Socket<P>> {
        self.sockets.get(id.slot as usize)?.as_ref().filter(|socket| socket.generation == id.generation)
    }

    pub(crate) fn socket_mut(&mut self, id: SocketId) -> Option<&mut Socket<P>> {
        self.sockets.get_mut(id.slot as usize)?.as_mut().filter(|socket| socket.generation == id.generation)
    }

    /// The socket in a slot, if there is one.
    pub(crate) fn id_of(&self, slot: u32) -> Option<SocketId> {
        let socket = self.sockets.get(slot as usize)?.as_ref()?;
        Some(SocketId { slot, generation: socket.generation })
    }

    pub(crate) fn later(&mut self, after: Duration, timer: Timer) -> sc_protocol::wheel::TimerId {
        // Never at once: what a timer sets off must not be due in the same call, or a loop with it would never wait.
        self.wheel.insert(self.at.now + after.max(Duration::from_nanos(1)), timer)
    }

    pub(crate) fn transmit(&mut self, slot: u32, bytes: Bytes) {
        self.out.transmit(slot, bytes);
    }

    /// Sends one packet, which `f` writes: as a text frame, or with the socket's batch.
    pub(crate) fn send(&mut self, id: SocketId, f: impl FnOnce(&mut BytesMut)) {
        let Some(socket) = self.socket(id).filter(|socket| socket.is_live()) else { return };
        if socket.batches_all() {
            return self.add_to_batch(id, f);
        }
        let bytes = self.frame(f);
        if !bytes.is_empty() {
            self.transmit(id.slot, bytes);
        }
    }

    /// Sends one packet, past the batch.
    pub(crate) fn send_now(&mut self, id: SocketId, f: impl FnOnce(&mut BytesMut)) {
        if self.socket(id).is_some_and(Socket::is_live) {
            match self.codec {
                None => self.out.append(id.slot, |out| frame::append(out, OpCode::Text, None, f)),
                Some(_) => {
                    let bytes = self.frame(f);
                    self.out.transmit(id.slot, bytes);
                }
            }
        }
    }

    /// Sends a text that is no packet, past batch and codec.
    pub(crate) fn send_text(&mut self, id: SocketId, text: &str) {
        if self.socket(id).is_some_and(Socket::is_live) {
            self.out.append(id.slot, |out| frame::write(out, OpCode::Text, text.as_bytes(), None));
        }
    }

    /// A socket's id on the wire.
    pub(crate) fn name(&self, id: SocketId) -> String {
        self.socket(id).map(Socket::id).unwrap_or_default()
    }

    /// The channels of a socket, the oldest channel first.
    pub(crate) fn channel_names(&self, id: SocketId) -> Vec<String> {
        let subscriptions = self.socket(id).map(|socket| socket.subscriptions.as_slice()).unwrap_or_default();
        let channels = subscriptions.iter().filter_map(|subscription| self.channels.get(subscription.channel));
        channels.map(|channel| channel.name.to_string()).collect()
    }

    /// The same bytes to many slots; the list is a pooled one.
    pub(crate) fn fanout(&mut self, bytes: Bytes, slots: Vec<u32>) {
        match slots.as_slice() {
            [] => self.spare.push(slots),
            [slot] => {
                self.transmit(*slot, bytes);
                self.recycle(slots);
            }
            _ => self.out.push(Output::Fanout(bytes, slots)),
        }
    }

    pub(crate) fn recipients(&mut self) -> Vec<u32> {
        self.spare.pop().unwrap_or_default()
    }

    pub(crate) fn recycle(&mut self, mut slots: Vec<u32>) {
        const POOL_MAX: usize = 64;
        if self.spare.len() < POOL_MAX {
            slots.clear();
            self.spare.push(slots);
        }
    }

    /// An ack or an error ack; nothing where none is wanted.
    pub(crate) fn respond(&mut self, id: SocketId, want: Option<&Cid<'_>>, result: Result<Option<&str>, &ScError>) {
        let Some(cid) = want else { return };
        let (error, data) = match result {
            Ok(data) => (None, data),
            Err(error) => (Some(error), None),
        };
        self.respond_both(id, cid, error, data);
    }

    /// An ack with both an error and data, which protocol 1 has in places.
    pub(crate) fn respond_both(&mut self, id: SocketId, cid: &Cid<'_>, error: Option<&ScError>, data: Option<&str>) {
        self.send(id, |out| write::response(out, cid, error, data));
    }

    pub(crate) fn report(&mut self, level: Level, name: &str, message: String) {
        self.out.push(Output::Report(Report { level, name: name.to_owned(), message }));
    }

    /// Ends a socket's session from this side: `#disconnect` if the protocol has it and the caller wants it said, then the
    /// close frame. The transport is closed when the peer's close frame has come, or after `close_timeout`.
    pub(crate) fn close(&mut self, id: SocketId, code: CloseCode, reason: &str, say: bool) {
        let data = say.then(|| (!reason.is_empty()).then(|| string_json(reason)));
        self.close_saying(id, code, reason, data.as_ref().map(Option::as_deref));
    }

    /// As [`close`](Self::close), with any JSON text as the `data` of `#disconnect`; `None`: nothing is said.
    pub(crate) fn close_saying(&mut self, id: SocketId, code: CloseCode, reason: &str, say: Option<Option<&str>>) {
        let Some(socket) = self.socket(id) else { return };
        if !socket.is_live() {
            return;
        }
        let version = socket.version();
        if let Some(data) = say.filter(|_| version == Version::V1) {
            let data = disconnect_data(code, data);
            self.send(id, |out| write::event(out, "#disconnect", Some(&data), None));
        }
        self.flush_batch(id);
        self.send_close(id, Some(code), if version == Version::V2 { reason } else { "" });
        self.end_session(id, code.0, reason);
        let timer = self.later(self.config.close_timeout, Timer::Close(id));
        self.set_phase(id, Phase::Closing, Some(timer));
    }

    pub(crate) fn send_close(&mut self, id: SocketId, code: Option<CloseCode>, reason: &str) {
        let mut out = BytesMut::new();
        frame::write_close(&mut out, code.filter(|code| code.is_sendable()).map(|code| code.0), reason, None);
        self.transmit(id.slot, out.freeze());
    }

    /// Drops the connection without a word.
    pub(crate) fn abort(&mut self, id: SocketId) {
        let Some(socket) = self.socket(id) else { return };
        if socket.phase == Phase::Closed {
            return;
        }
        self.end_session(id, 1006, "");
        self.set_phase(id, Phase::Closed, None);
        self.out.push(Output::Abort(id.slot));
    }

    /// Close frames have gone both ways, or will not: the transport may go.
    pub(crate) fn finish(&mut self, id: SocketId) {
        self.set_phase(id, Phase::Closed, None);
        self.out.push(Output::Close(id.slot));
    }

    pub(crate) fn set_phase(&mut self, id: SocketId, phase: Phase, timer: Option<sc_protocol::wheel::TimerId>) {
        let Some(socket) = self.socket_mut(id) else { return };
        socket.phase = phase;
        let old = std::mem::replace(&mut socket.timer, timer);
        if phase >= Phase::Closing {
            socket.inbound = None;
        }
        if let Some(old) = old {
            self.wheel.cancel(old);
        }
        if phase >= Phase::Closing {
            self.end_batching(id);
            self.forget_deadline(id);
        }
    }

    /// The logical end: subscriptions go, awaited acks fail, `disconnection` is queued. The slot stays taken until the
    /// driver says that the transport is gone.
    pub(crate) fn end_session(&mut self, id: SocketId, code: u16, reason: &str) {
        let Some(socket) = self.socket_mut(id) else { return };
        let subscriptions = std::mem::take(&mut socket.subscriptions);
        let calls: Vec<TicketId> = socket.calls.drain().map(|(_, call)| call.value).collect();
        let (connected, version) = (std::mem::replace(&mut socket.connected, false), socket.version());
        for subscription in subscriptions {
            self.leave(id, subscription);
        }
        for ticket in calls {
            let event = self.tickets.event_of(ticket).unwrap_or_default();
            let error = ScError::call_aborted(event, version);
            self.tasks.push_back(Task::Answered(ticket, Err(error)));
        }
        if connected {
            self.counters.clients -= 1;
            self.tasks.push_back(Task::Disconnection(id, Disconnect { code, reason: reason.to_owned() }));
        }
    }

    /// A fresh 15-byte id: 12 random bytes and a sequence number, as base64id makes them.
    pub(crate) fn new_name(&mut self) -> [u8; 15] {
        let mut name = [0; 15];
        self.entropy.fill(&mut name[..12]);
        name[12..].copy_from_slice(&self.sequence.to_be_bytes()[1..]);
        self.sequence = self.sequence.wrapping_add(1);
        name
    }

    pub(crate) fn reader(&mut self, id: SocketId) -> ws::Reader {
        let fresh = ws::Reader::new(ws::Role::Server);
        self.socket_mut(id)
            .map_or(fresh, |socket| std::mem::replace(&mut socket.reader, ws::Reader::new(ws::Role::Server)))
    }
}

fn disconnect_data(code: CloseCode, data: Option<&str>) -> String {
    match data {
        Some(data) => format!("{{\"code\":{},\"data\":{data}}}", code.0),
        None => format!("{{\"code\":{}}}", code.0),
    }
}

pub(crate) fn string_json(text: &str) -> String {
    let mut out = BytesMut::new();
    sc_protocol::json::write_string(&mut out, text);
    String::from_utf8_lossy(&out).into_owned()
}
