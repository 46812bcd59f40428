//! The engine: an application and its sockets as one state machine.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;

use sc_auth::AuthEngine;
use sc_broker::Exchange;
use sc_protocol::ipc::IpcError;
use sc_protocol::packet::{Version, write};
use sc_protocol::ws::CloseCode;
use sc_protocol::{Entropy, ScError};

use crate::config::Config;
use crate::core::{After, Core, Task, string_json};
use crate::cx::Cx;
use crate::output::{Counters, Level, Output, TicketId, Time};
use crate::pubsub::{Publish, Waiter};
use crate::socket::{Socket, SocketId};
use crate::worker::{Routes, Worker};

/// A worker's brain: it is given what came in and asked for what is to go out.
///
/// The contract is that of every machine here: after any `handle_…`, [`open`](Self::open), [`closed`](Self::closed) or
/// `link_…` call, or a batch of them, drain [`poll_link`](Self::poll_link) and [`poll_output`](Self::poll_output) to `None`; call
/// [`handle_timeout`](Self::handle_timeout) when [`poll_timeout`](Self::poll_timeout) is reached.
pub struct Engine<S, P = ()> {
    pub(crate) state: S,
    pub(crate) routes: Arc<Routes<S, P>>,
    pub(crate) core: Core<S, P>,
    /// Stands where the exchange is while the exchange itself is at work.
    spare: Option<Exchange<Publish, Waiter>>,
}

impl<S, P> std::fmt::Debug for Engine<S, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("counters", &self.core.counters).finish_non_exhaustive()
    }
}

impl<S: Send + 'static, P: Default + Send + 'static> Engine<S, P> {
    /// An engine for an application, which [`Worker::check`] has found to fit its configuration. Its `on_start` handlers have run when it returns. `auth` is not used if the
    /// application brings its own engine.
    pub fn new(
        worker: Worker<S, P>,
        config: Config,
        auth: Box<dyn AuthEngine>,
        entropy: Box<dyn Entropy + Send>,
        at: Time,
    ) -> Self {
        let Worker { state, routes, auth: own_auth, codec } = worker;
        let mut core = Core::new(config, own_auth.unwrap_or(auth), entropy, at);
        if let Some(codec) = codec {
            core.set_codec(codec);
        }
        let mut engine = Self { state, routes: Arc::new(routes), core, spare: None };
        let routes = Arc::clone(&engine.routes);
        for (channel, _) in &routes.watched {
            engine.core.watch(channel);
        }
        for start in &routes.start {
            engine.guard(None, "on_start", |_, state, core| start(state, &mut Cx::new(core)));
        }
        engine.settle();
        engine
    }

    /// A link to a broker is there: interests go out again, then what waited.
    pub fn link_up(&mut self, at: Time, shard: u32) {
        self.core.at = at;
        let (worker, pid) = (self.core.config.worker_id, self.core.config.pid);
        self.core.exchange.link_up(shard, worker, pid);
        self.settle();
    }

    /// A link to a broker is gone: publishes that it had not answered fail, later ones wait.
    pub fn link_down(&mut self, at: Time, shard: u32) {
        self.core.at = at;
        self.core.exchange.link_down(shard);
        self.settle();
    }

    /// Bytes from a broker. Error: the link is broken and to be dropped (then say [`link_down`](Self::link_down)).
    pub fn handle_link(&mut self, at: Time, shard: u32, data: &[u8]) -> Result<(), IpcError> {
        self.core.at = at;
        // The exchange lends each event; while a handler looks at it, the exchange is where handlers expect it.
        let mut exchange =
            std::mem::replace(&mut self.core.exchange, self.spare.take().unwrap_or_else(Core::<S, P>::no_exchange));
        let result = exchange.handle_bytes(shard, data, |exchange, event| {
            std::mem::swap(exchange, &mut self.core.exchange);
            self.exchange_event(event);
            std::mem::swap(exchange, &mut self.core.exchange);
        });
        self.spare = Some(std::mem::replace(&mut self.core.exchange, exchange));
        self.settle();
        result
    }

    /// How many bytes for a broker its link could not take yet; publishes are refused when they are too many.
    pub fn link_queued(&mut self, shard: u32, bytes: usize) {
        self.core.exchange.set_queued(shard, bytes);
    }

    /// The result of an [`Output::Offload`].
    pub fn handle_done(&mut self, at: Time, ticket: TicketId, value: Box<dyn Any + Send>) {
        self.core.at = at;
        self.resolve(ticket, value);
        self.settle();
    }

    /// An [`Output::Offload`] that panicked or could not be run: whoever waits gets an `InternalError`.
    pub fn handle_failed(&mut self, at: Time, ticket: TicketId) {
        self.core.at = at;
        self.fail(ticket, ScError::internal());
        self.settle();
    }

    /// The next thing to do.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        self.core.out.pop()
    }

    /// What is to be written to the brokers: a shard and everything for it since the last call. To be written before the
    /// sockets are flushed, so that a publish is under way while they are.
    #[must_use]
    pub fn poll_link(&mut self) -> Option<(u32, Bytes)> {
        self.core.exchange.poll_link()
    }

    /// Takes a list of slots back for use in a later [`Output::Fanout`].
    pub fn recycle(&mut self, slots: Vec<u32>) {
        self.core.recycle(slots);
    }

    /// What has been counted.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.core.counters
    }

    /// Runs what was queued for handlers until nothing is left.
    pub(crate) fn settle(&mut self) {
        loop {
            while let Some(event) = self.core.exchange.poll_event() {
                self.exchange_event(event);
            }
            let Some(task) = self.core.tasks.pop_front() else { break };
            match task {
                Task::Disconnection(id, end) => {
                    let routes = Arc::clone(&self.routes);
                    for handler in &routes.disconnection {
                        self.guard(None, "on_disconnection", |_, state, core| {
                            handler(state, &mut Cx::new(core), id, &end)
                        });
                    }
                    self.apply_after();
                }
                Task::Answered(ticket, result) => self.resolve(ticket, Box::new(result)),
                Task::Published(ticket, result) => self.resolve(ticket, Box::new(result)),
            }
        }
        self.core.tickets.forget_early();
        self.core.flush_turn();
    }

    /// Calls a handler, out of the routes or from elsewhere; a panic in it is caught, reported, and costs the socket (or the
    /// worker).
    pub(crate) fn guard<R>(
        &mut self,
        socket: Option<SocketId>,
        place: &str,
        call: impl FnOnce(&Routes<S, P>, &mut S, &mut Core<S, P>) -> R,
    ) -> Option<R> {
        let Self { state, core, routes, .. } = self;
        core.handler_depth += 1;
        let result = catch_unwind(AssertUnwindSafe(|| call(routes, state, core)));
        self.core.handler_depth -= 1;
        match result {
            Ok(result) => Some(result),
            Err(panic) => {
                self.panicked(socket, place, panic);
                None
            }
        }
    }

    pub(crate) fn panicked(&mut self, socket: Option<SocketId>, place: &str, panic: Box<dyn Any + Send>) {
        let message = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "unknown panic".to_owned());
        self.core.counters.panics_total += 1;
        self.core.report(Level::Error, "PanicError", format!("{place} panicked: {message}"));
        if self.core.config.crash_worker_on_error {
            self.core.out.push(Output::Crash);
        } else if let Some(socket) = socket {
            self.core.close(socket, CloseCode::INTERNAL_ERROR, "", true);
        }
    }

    /// Carries out what handlers asked for behind their acks.
    pub(crate) fn apply_after(&mut self) {
        if self.core.handler_depth > 0 || self.core.after.is_empty() {
            return;
        }
        for after in std::mem::take(&mut self.core.after) {
            match after {
                After::Disconnect { socket, code, reason } => {
                    let code = CloseCode(code);
                    let code = if code.is_sendable() { code } else { CloseCode::NORMAL };
                    let text = reason.json().and_then(sc_protocol::json::string).unwrap_or_default();
                    self.core.close_saying(socket, code, &text, Some(reason.json()));
                }
                After::Close { socket, code } => self.core.close(socket, code, "", false),
                After::StopBatching { socket } => self.core.stop_batching(socket),
                After::KickOut { socket, channel, message } => self.kick(socket, channel, message.as_deref()),
            }
        }
    }

    fn kick(&mut self, id: SocketId, channel: Option<String>, message: Option<&str>) {
        let channels = match channel {
            Some(channel) => vec![channel],
            None => self.core.channel_names(id),
        };
        let version = self.core.socket(id).map_or(Version::V1, Socket::version);
        for channel in channels {
            self.core.part(id, &channel);
            // The members in the order of each version's server.
            let channel = format!("\"channel\":{}", string_json(&channel));
            let message = message.map(|message| format!("\"message\":{}", string_json(message)));
            let data = match (version, message) {
                (Version::V1, Some(message)) => format!("{{{message},{channel}}}"),
                (Version::V2, Some(message)) => format!("{{{channel},{message}}}"),
                (_, None) => format!("{{{channel}}}"),
            };
            self.core.send(id, |out| write::event(out, "#kickOut", Some(&data), None));
        }
    }
}
