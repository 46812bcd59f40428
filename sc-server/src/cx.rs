//! What a handler acts through.

use core::net::IpAddr;
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use sc_auth::{AuthEngine, Claims};
use sc_protocol::ScError;
use sc_protocol::packet::{Version, write};
use sc_protocol::ws::CloseCode;

use crate::core::{After, Core};
use crate::data::{Data, Payload, to_json};
use crate::engine::Engine;
use crate::middleware::Token;
use crate::output::{Counters, Level, Output, TicketId};
use crate::reply::{Outcome, Ticket};
use crate::socket::{Phase, Socket, SocketId};
use crate::tickets::{Awaits, Then, erase};
use crate::timers::Timer;

type Tick<S, P> = Arc<dyn Fn(&mut S, &mut Cx<'_, S, P>, SocketId) + Send + Sync>;

/// Something that recurs for as long as its socket lives.
pub(crate) struct Every<S, P> {
    socket: SocketId,
    period: Duration,
    run: Tick<S, P>,
}

/// A handler's way to act: emit, publish, subscribe, log in, log out, defer. What it does is queued and leaves when the
/// handler has returned, in this order: what it emitted, then its ack, then a `disconnect` or `kick_out`.
///
/// Acting on a socket that is gone does nothing.
pub struct Cx<'a, S, P = ()> {
    pub(crate) core: &'a mut Core<S, P>,
}

impl<S, P> std::fmt::Debug for Cx<'_, S, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cx").field("worker_id", &self.core.config.worker_id).finish_non_exhaustive()
    }
}

impl<'a, S, P> Cx<'a, S, P> {
    pub(crate) const fn new(core: &'a mut Core<S, P>) -> Self {
        Self { core }
    }

    /// This worker's number, from 0.
    pub const fn worker_id(&self) -> u32 {
        self.core.config.worker_id
    }

    /// This worker's process id.
    pub const fn pid(&self) -> u32 {
        self.core.config.pid
    }

    /// The time in milliseconds since 1970 (UTC), as of this loop turn.
    pub const fn unix_ms(&self) -> u64 {
        self.core.at.unix_ms
    }

    /// A random number, from the worker's entropy.
    pub fn random(&mut self) -> u64 {
        self.core.entropy.next_u64()
    }

    /// What this worker has counted.
    pub const fn counters(&self) -> &Counters {
        &self.core.counters
    }

    /// A socket's id on the wire: 20 characters. Empty when the socket is gone.
    pub fn id(&self, socket: SocketId) -> String {
        self.core.socket(socket).map(Socket::id).unwrap_or_default()
    }

    /// Whether a socket is open.
    pub fn is_open(&self, socket: SocketId) -> bool {
        self.core.socket(socket).is_some_and(|socket| socket.phase == Phase::Open)
    }

    /// The address that a socket's connection comes from.
    pub fn remote_address(&self, socket: SocketId) -> Option<IpAddr> {
        self.core.socket(socket)?.remote
    }

    /// Path and query of a socket's upgrade request, where it had a query.
    pub fn target(&self, socket: SocketId) -> Option<&str> {
        self.core.socket(socket)?.target.as_deref()
    }

    /// The protocol version that a socket speaks.
    pub fn version(&self, socket: SocketId) -> Option<Version> {
        self.core.socket(socket).map(Socket::version)
    }

    /// Emits an event to a socket. Data that cannot be written as JSON (a map whose keys are no strings) is an error in the
    /// program: it is reported, and nothing is sent. So is an event whose name a socket of protocol 1 keeps for itself
    /// (`error`, `message`, `disconnect` and so on).
    pub fn emit(&mut self, socket: SocketId, event: &str, data: &(impl Payload + ?Sized)) {
        let written = self.core.may_emit(socket, event).and_then(|()| data.to_json());
        match written {
            Ok(data) => self.core.send(socket, |out| write::event(out, event, data.as_deref(), None)),
            Err(error) => {
                let message = format!("{event} was not emitted: {}", error.message());
                self.core.report(Level::Error, error.name().unwrap_or("Error"), message);
            }
        }
    }

    /// Emits an event without data.
    pub fn emit_empty(&mut self, socket: SocketId, event: &str) {
        self.emit(socket, event, &Data::absent());
    }

    /// Sends a text message that is no packet.
    pub fn send_raw(&mut self, socket: SocketId, text: &str) {
        self.core.send_text(socket, text);
    }

    /// Publishes to a channel, past the `publish_in` middleware. Error: the data cannot be written, or the publish cannot
    /// be taken (a `BrokerError`: too many wait already).
    pub fn publish(&mut self, channel: &str, data: &(impl Payload + ?Sized)) -> Result<(), ScError> {
        let data = data.to_json()?;
        self.core.publish_from_application(channel, data.as_deref(), None)
    }

    /// The channels that a socket is subscribed to, sorted.
    pub fn subscriptions(&self, socket: SocketId) -> Vec<String> {
        let mut names = self.core.channel_names(socket);
        names.sort_unstable();
        names
    }

    /// The claims of a socket's token.
    pub fn auth_token(&self, socket: SocketId) -> Option<Token> {
        self.core.token(socket)
    }

    /// Logs a socket in: signs a token with these claims, sends it to the client (`#setAuthToken`) and takes it as the
    /// socket's own. `expires_in`: seconds; `None`: the claims' `exp`, else `authDefaultExpiry`. Error: the claims are no
    /// object, or cannot be signed (then the socket is closed with 4002, as in SC).
    pub fn set_auth_token(
        &mut self,
        socket: SocketId,
        claims: &(impl Payload + ?Sized),
        expires_in: Option<u64>,
    ) -> Result<(), ScError> {
        let data = self.sign_in(socket, claims, expires_in)?;
        self.core.send(socket, |out| write::event(out, "#setAuthToken", Some(&data), None));
        Ok(())
    }

    /// Signs a token and takes it as the socket's own; answers the data of `#setAuthToken`.
    pub(crate) fn sign_in(
        &mut self,
        socket: SocketId,
        claims: &(impl Payload + ?Sized),
        expires_in: Option<u64>,
    ) -> Result<String, ScError> {
        let mut claims: Claims = Data::of(claims)?.get()?;
        let unix_secs = self.core.at.unix_ms / 1000;
        let signed = match self.core.auth.sign(&mut claims, expires_in, unix_secs) {
            Ok(signed) => signed,
            Err(error) => {
                self.core.after.push(After::Close { socket, code: CloseCode::SIGN_FAILED });
                return Err(error.into());
            }
        };
        self.core.take_token(socket, claims);
        Ok(format!("{{\"token\":{}}}", to_json(&signed)?))
    }

    /// Signs and verifies with another engine, or other keys, from now on: SC's `setAuthEngine`. Sockets that are logged in
    /// stay so. It holds for this worker; the others are to be told as well.
    pub fn set_auth_engine(&mut self, engine: Box<dyn AuthEngine>) {
        self.core.auth = engine;
    }

    /// Logs a socket out; the client throws its token away.
    pub fn deauthenticate(&mut self, socket: SocketId) {
        self.core.drop_token(socket);
        self.core.send_remove_token(socket);
    }

    /// Takes a socket off a channel, or off all of them, and tells the client why (`#kickOut`). It takes effect after the
    /// ack of the handler that asks for it.
    pub fn kick_out(&mut self, socket: SocketId, channel: Option<&str>, message: Option<&str>) {
        let (channel, message) = (channel.map(str::to_owned), message.map(str::to_owned));
        self.core.after.push(After::KickOut { socket, channel, message });
    }

    /// Closes a socket: SC's `disconnect(code, data)`. It takes effect after the ack of the handler that asks for it. A
    /// code that may not stand in a close frame (RFC 6455 §7.4) becomes 1000.
    pub fn disconnect(&mut self, socket: SocketId, code: u16, reason: &str) {
        let reason = (!reason.is_empty()).then(|| Data::of(reason).unwrap_or_default());
        self.core.after.push(After::Disconnect { socket, code, reason: reason.unwrap_or_default() });
    }

    /// As [`disconnect`](Self::disconnect), with any value as the reason. A client of protocol 1 gets it as it is, as the
    /// `data` of `#disconnect`; protocol 2 has room for a text only. Error: the value cannot be written as JSON.
    pub fn disconnect_with(
        &mut self,
        socket: SocketId,
        code: u16,
        reason: &(impl Payload + ?Sized),
    ) -> Result<(), ScError> {
        let reason = Data::of(reason)?;
        self.core.after.push(After::Disconnect { socket, code, reason });
        Ok(())
    }

    /// Drops a socket's connection at once, without a close frame; unsent bytes are lost.
    pub fn terminate(&mut self, socket: SocketId) {
        self.core.abort(socket);
    }

    /// Writes a line to the cluster's log.
    pub fn log(&mut self, level: Level, name: &str, message: &str) {
        self.core.report(level, name, message.to_owned());
    }

    /// Every socket that is open, in no particular order.
    pub fn sockets(&self) -> Vec<SocketId> {
        let slots = self.core.sockets.iter().enumerate();
        let open = slots.filter_map(|(slot, socket)| {
            socket.as_ref().filter(|socket| socket.phase == Phase::Open).map(|socket| (slot, socket))
        });
        open.map(|(slot, socket)| SocketId { slot: slot as u32, generation: socket.generation }).collect()
    }
}

impl<S, P: Default> Cx<'_, S, P> {
    /// A socket's own state. That of a socket that is gone is a fresh one, which nobody will see again.
    pub fn session(&mut self, socket: SocketId) -> &mut P {
        let Core { sockets, lost_session, .. } = &mut *self.core;
        let socket = sockets
            .get_mut(socket.slot as usize)
            .and_then(Option::as_mut)
            .filter(|found| found.generation == socket.generation);
        match socket {
            Some(socket) => &mut socket.session,
            None => lost_session.insert(P::default()),
        }
    }
}

impl<S: 'static, P: 'static> Cx<'_, S, P> {
    /// Runs `job` on another thread and `then` with its result here. Return the ticket from the handler, and the answer
    /// or verdict is what `then` gives. A job that takes longer than `ackTimeout` resolves to a `TimeoutError`.
    pub fn later<T: Send + 'static, R: Outcome>(
        &mut self,
        job: impl FnOnce() -> T + Send + 'static,
        then: impl FnOnce(&mut S, &mut Cx<'_, S, P>, T) -> R + Send + 'static,
    ) -> Ticket<R> {
        let deadline = self.core.config.ack_timeout;
        let (ticket, taken) = self.ticket(Awaits::Job, deadline, erase(then));
        if taken {
            self.core.out.push(Output::Offload(ticket.id, Box::new(move || Box::new(job()) as Box<dyn Any + Send>)));
        }
        ticket
    }

    /// Runs `then` after a while.
    pub fn after<R: Outcome>(
        &mut self,
        delay: Duration,
        then: impl FnOnce(&mut S, &mut Cx<'_, S, P>) -> R + Send + 'static,
    ) -> Ticket<R> {
        self.ticket(Awaits::Moment, delay, erase(move |state: &mut S, cx: &mut Cx<'_, S, P>, (): ()| then(state, cx))).0
    }

    /// Emits an event and runs `then` with the client's ack: its data, its error, a `TimeoutError` after `ackTimeout`, or a
    /// `BadConnectionError` if the socket ends first.
    pub fn call<R: Outcome>(
        &mut self,
        socket: SocketId,
        event: &str,
        data: &(impl Payload + ?Sized),
        then: impl FnOnce(&mut S, &mut Cx<'_, S, P>, Result<Data<'static>, ScError>) -> R + Send + 'static,
    ) -> Ticket<R> {
        let id = self.core.tickets.reserve();
        let max = self.core.config.pending_acks_max;
        let written = self.core.may_emit(socket, event).and_then(|()| data.to_json());
        let sent = written.and_then(|json| {
            let gone = || ScError::new("BadConnectionError", "The socket is closed");
            let peer = self.core.socket_mut(socket).filter(|socket| socket.is_live()).ok_or_else(gone)?;
            let full = |_| ScError::resource_limit("Too many acks are awaited from this socket");
            Ok((peer.calls.insert(max, id, None).map_err(full)?, json))
        });
        let awaits = match &sent {
            Ok((cid, _)) => Awaits::Call { socket, cid: *cid, event: event.into() },
            Err(_) => Awaits::Publish,
        };
        let timer = self.core.later(self.core.config.ack_timeout, Timer::Ticket(id));
        self.core.tickets.insert(id, awaits, Some(timer), erase(then));
        match sent {
            Ok((cid, json)) => self.core.send(socket, |out| write::event(out, event, json.as_deref(), Some(cid))),
            Err(error) => self.core.tasks.push_back(crate::core::Task::Answered(id, Err(error))),
        }
        Ticket::new(id)
    }

    /// Publishes, and runs `then` when the broker has accepted it (or has not).
    pub fn publish_then<R: Outcome>(
        &mut self,
        channel: &str,
        data: &(impl Payload + ?Sized),
        then: impl FnOnce(&mut S, &mut Cx<'_, S, P>, Result<(), ScError>) -> R + Send + 'static,
    ) -> Ticket<R> {
        let id = self.core.tickets.reserve();
        let timer = self.core.later(self.core.config.ack_timeout, Timer::Ticket(id));
        self.core.tickets.insert(id, Awaits::Publish, Some(timer), erase(then));
        let sent =
            data.to_json().and_then(|json| self.core.publish_from_application(channel, json.as_deref(), Some(id)));
        if let Err(error) = sent {
            self.core.tasks.push_back(crate::core::Task::Published(id, Err(error)));
        }
        Ticket::new(id)
    }

    /// Runs something again and again for as long as a socket lives. Periods are at least 10 ms.
    pub fn every(
        &mut self,
        socket: SocketId,
        period: Duration,
        run: impl Fn(&mut S, &mut Cx<'_, S, P>, SocketId) + Send + Sync + 'static,
    ) {
        let period = period.max(crate::timers::TICK);
        let key = self.core.every.insert(Every { socket, period, run: Arc::new(run) });
        self.core.later(period, Timer::Every(key as u32));
    }

    /// A ticket, and whether there was room for it: without room it is resolved already, with an error.
    pub(crate) fn ticket<R: Outcome>(
        &mut self,
        awaits: Awaits,
        deadline: Duration,
        then: Then<S, P>,
    ) -> (Ticket<R>, bool) {
        let id: TicketId = self.core.tickets.reserve();
        let taken = self.core.tickets.len() < self.core.config.deferred_max;
        if taken {
            let timer = self.core.later(deadline, Timer::Ticket(id));
            self.core.tickets.insert(id, awaits, Some(timer), then);
        } else {
            let error = ScError::new("ResourceLimitError", "Too much deferred work is under way");
            self.core.tickets.insert_resolved(id, R::failed(error));
        }
        (Ticket::new(id), taken)
    }
}

impl<S: Send + 'static, P: Default + Send + 'static> Engine<S, P> {
    pub(crate) fn every_due(&mut self, key: u32) {
        let Some(every) = self.core.every.get(key as usize) else { return };
        let (socket, period, run) = (every.socket, every.period, Arc::clone(&every.run));
        if !self.core.socket(socket).is_some_and(Socket::is_live) {
            self.core.every.remove(key as usize);
            return;
        }
        self.core.later(period, Timer::Every(key));
        self.guard(Some(socket), "every", |_, state, core| run(state, &mut Cx::new(core), socket));
        self.apply_after();
    }
}
