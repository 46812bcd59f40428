//! What an engine asks of its driver.

use std::any::Any;
use std::time::Instant;

use bytes::Bytes;

/// The time, as a driver read it: once per loop turn.
#[derive(Debug, Clone, Copy)]
pub struct Time {
    /// The monotonic clock, for every deadline.
    pub now: Instant,
    /// Milliseconds since 1970 (UTC), for the times inside tokens.
    pub unix_ms: u64,
}

/// Names a piece of work that was handed to the driver with [`Output::Offload`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TicketId(pub(crate) u64);

/// Work to be run off the loop; its result goes back with [`Engine::handle_done`](crate::Engine::handle_done).
pub type Job = Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>;

/// One thing for the driver to do. Outputs come in one order, and those of one slot are to be carried out in it.
#[non_exhaustive]
pub enum Output {
    /// Send these bytes to this slot.
    Transmit(u32, Bytes),
    /// Send the same bytes to each of these slots. Give the list back with [`Engine::recycle`](crate::Engine::recycle).
    Fanout(Bytes, Vec<u32>),
    /// Close the connection once everything for this slot has been written.
    Close(u32),
    /// Drop the connection now, unsent bytes and all.
    Abort(u32),
    /// Stop (`false`) or go on (`true`) reading from this slot.
    Read(u32, bool),
    /// Run this on another thread and give the result to `handle_done`.
    Offload(TicketId, Job),
    /// A message for the application's code in the master.
    ToMaster {
        /// Goes with the answer to [`Engine::handle_master_reply`](crate::Engine::handle_master_reply); 0: no answer is wanted.
        id: u64,
        /// JSON text.
        json: String,
    },
    /// The answer to a message of the master.
    ReplyMaster {
        /// The number of the message.
        id: u64,
        /// JSON text: an object with `data`, or with `error`.
        json: String,
    },
    /// For the log.
    Report(Report),
    /// End this worker process after this turn: a handler panicked and `crashWorkerOnError` is on.
    Crash,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Transmit(slot, bytes) => f.debug_tuple("Transmit").field(slot).field(bytes).finish(),
            Self::Fanout(bytes, slots) => f.debug_tuple("Fanout").field(bytes).field(slots).finish(),
            Self::Close(slot) => f.debug_tuple("Close").field(slot).finish(),
            Self::Abort(slot) => f.debug_tuple("Abort").field(slot).finish(),
            Self::Read(slot, on) => f.debug_tuple("Read").field(slot).field(on).finish(),
            Self::Offload(ticket, _) => f.debug_tuple("Offload").field(ticket).finish_non_exhaustive(),
            Self::ToMaster { id, json } => f.debug_tuple("ToMaster").field(id).field(json).finish(),
            Self::ReplyMaster { id, json } => f.debug_tuple("ReplyMaster").field(id).field(json).finish(),
            Self::Report(report) => f.debug_tuple("Report").field(report).finish(),
            Self::Crash => f.write_str("Crash"),
        }
    }
}

/// How loud a [`Report`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A handler panicked, or an error that an operator has to see.
    Error,
    /// Something was blocked or refused (SC's `warning` event).
    Warning,
    /// Of interest when one looks for it.
    Debug,
}

/// A line for the log: SC's `error` and `warning` events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How loud.
    pub level: Level,
    /// The error's name, as on the wire.
    pub name: String,
    /// What happened.
    pub message: String,
}

/// What an engine has counted since it began. A driver reads it whenever it wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sockets that completed their `#handshake` and are not closed: SC's `clientsCount`.
    pub clients: u64,
    /// Sockets in any state.
    pub sockets: u64,
    /// Messages (frames with text or binary data) received.
    pub messages_in_total: u64,
    /// Publishes accepted from clients and from the application.
    pub publishes_total: u64,
    /// Publishes delivered to sockets: one for each subscriber.
    pub deliveries_total: u64,
    /// Sockets closed for silence (4001).
    pub ping_timeouts_total: u64,
    /// Sockets closed for breaking RFC 6455.
    pub protocol_errors_total: u64,
    /// Actions that middleware blocked.
    pub blocked_total: u64,
    /// Handlers that panicked.
    pub panics_total: u64,
}
