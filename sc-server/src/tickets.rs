//! Work that is under way: jobs on other threads, awaited acks, timers, publishes at the broker; and the packets whose
//! verdict or answer waits for them.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use hashbrown::HashMap;

use sc_protocol::ScError;
use sc_protocol::wheel::TimerId;

use crate::cx::Cx;
use crate::engine::Engine;
use crate::middleware::{Authenticate, Emit, Handshake, HandshakeSc, PublishIn, Subscribe};
use crate::output::TicketId;
use crate::reply::{AnyOutcome, Sealed};
use crate::socket::{SocketId, Want};

/// A continuation, its value's type and its own outcome's erased.
pub(crate) type Then<S, P> = Box<dyn FnOnce(&mut S, &mut Cx<'_, S, P>, Box<dyn Any + Send>) -> AnyOutcome + Send>;

/// What a ticket waits for; it decides what its deadline means.
pub(crate) enum Awaits {
    /// A job on another thread. Deadline: the outcome is a `TimeoutError`.
    Job,
    /// A moment. Deadline: that moment.
    Moment,
    /// The peer's ack of an emit. Deadline: the continuation gets a `TimeoutError`.
    Call { socket: SocketId, cid: u64, event: Box<str> },
    /// The master's answer to a message. Deadline: the continuation gets a `TimeoutError`.
    Master,
    /// The broker's answer to a publish. Deadline: the continuation gets a `TimeoutError`.
    Publish,
    /// The answer of a broker, or of all. Deadline: the continuation gets a `TimeoutError`.
    Broker,
}

/// What goes on when a ticket resolves.
pub(crate) enum Parked {
    Answer { socket: SocketId, want: Want, event: Box<str> },
    Master { id: u64 },
    Upgrade { socket: SocketId, request: Box<Handshake<'static>>, next: usize },
    HandshakeSc { request: Box<HandshakeSc>, op: Box<crate::auth_flow::Handshaking>, next: usize },
    Authenticate { request: Box<Authenticate<'static>>, op: Box<crate::auth_flow::Authenticating>, next: usize },
    Emit { request: Box<Emit<'static>>, want: Want, next: usize },
    Subscribe { request: Box<Subscribe<'static>>, want: Want, next: usize },
    PublishIn { request: Box<PublishIn<'static>>, want: Want, next: usize },
}

impl Parked {
    fn socket(&self) -> Option<SocketId> {
        Some(match self {
            Self::Master { .. } => return None,
            Self::Answer { socket, .. } | Self::Upgrade { socket, .. } => *socket,
            Self::HandshakeSc { request, .. } => request.socket,
            Self::Authenticate { request, .. } => request.socket,
            Self::Emit { request, .. } => request.socket,
            Self::Subscribe { request, .. } => request.socket,
            Self::PublishIn { request, .. } => request.socket,
        })
    }
}

struct Entry<S, P> {
    awaits: Awaits,
    then: Option<Then<S, P>>,
    timer: Option<TimerId>,
    parked: Option<Parked>,
    resolved: Option<AnyOutcome>,
}

pub(crate) struct Tickets<S, P> {
    next: u64,
    /// Resolved before anything waited for them. If nothing does at the end of the turn, they are forgotten.
    early: Vec<TicketId>,
    entries: HashMap<u64, Entry<S, P>, foldhash::fast::FixedState>,
}

impl<S, P> Tickets<S, P> {
    pub(crate) fn new() -> Self {
        Self { next: 1, early: Vec::new(), entries: HashMap::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The id that the next ticket gets.
    pub(crate) fn reserve(&mut self) -> TicketId {
        let id = TicketId(self.next);
        self.next += 1;
        id
    }

    pub(crate) fn insert(&mut self, id: TicketId, awaits: Awaits, timer: Option<TimerId>, then: Then<S, P>) {
        self.entries.insert(id.0, Entry { awaits, then: Some(then), timer, parked: None, resolved: None });
    }

    /// The sockets whose packets wait for a ticket.
    pub(crate) fn parked_for(&self) -> impl Iterator<Item = SocketId> + '_ {
        self.entries.values().filter_map(|entry| entry.parked.as_ref().and_then(Parked::socket))
    }

    /// Whether a message to the master is to be answered under this number.
    pub(crate) fn awaits_master(&self, id: TicketId) -> bool {
        self.entries.get(&id.0).is_some_and(|entry| matches!(entry.awaits, Awaits::Master))
    }

    /// The event whose ack a ticket waits for.
    pub(crate) fn event_of(&self, id: TicketId) -> Option<&str> {
        match &self.entries.get(&id.0)?.awaits {
            Awaits::Call { event, .. } => Some(event),
            _ => None,
        }
    }

    /// A ticket that is resolved before anything waits for it.
    pub(crate) fn insert_resolved(&mut self, id: TicketId, outcome: AnyOutcome) {
        let entry = Entry { awaits: Awaits::Job, then: None, timer: None, parked: None, resolved: Some(outcome) };
        self.entries.insert(id.0, entry);
        self.early.push(id);
    }

    /// Nobody waits for what is resolved already: no handler is at work.
    pub(crate) fn forget_early(&mut self) {
        for id in self.early.drain(..) {
            if let Some(entry) = self.entries.get(&id.0)
                && entry.resolved.is_some()
            {
                self.entries.remove(&id.0);
            }
        }
    }
}

impl<S: Send + 'static, P: Default + Send + 'static> Engine<S, P> {
    /// Something waits for a ticket now. Answers it back at once if the ticket was resolved already.
    pub(crate) fn park(&mut self, id: TicketId, parked: Parked) {
        let Some(entry) = self.core.tickets.entries.get_mut(&id.0) else { return };
        if entry.resolved.is_none() {
            entry.parked = Some(parked);
        } else if let Some(outcome) = self.core.tickets.entries.remove(&id.0).and_then(|entry| entry.resolved) {
            self.resume(parked, outcome);
        }
    }

    /// A ticket's value is there: its continuation runs, and what waited goes on.
    pub(crate) fn resolve(&mut self, id: TicketId, value: Box<dyn Any + Send>) {
        let Some(mut entry) = self.core.tickets.entries.remove(&id.0) else { return };
        if let Some(timer) = entry.timer.take() {
            self.core.wheel.cancel(timer);
        }
        let Some(then) = entry.then.take() else { return };
        let outcome = self.run_then(then, value);
        self.finish_entry(id, entry, outcome);
    }

    /// A ticket that will have no value: what waits gets the error.
    pub(crate) fn fail(&mut self, id: TicketId, error: ScError) {
        let Some(mut entry) = self.core.tickets.entries.remove(&id.0) else { return };
        if let Some(timer) = entry.timer.take() {
            self.core.wheel.cancel(timer);
        }
        self.finish_entry(id, entry, AnyOutcome::Answer(Err(error)));
    }

    fn finish_entry(&mut self, id: TicketId, mut entry: Entry<S, P>, outcome: AnyOutcome) {
        match entry.parked.take() {
            Some(parked) => self.resume(parked, outcome),
            // The ticket was made and resolved within one handler, or dropped by the application.
            None if self.core.handler_depth > 0 => {
                entry.resolved = Some(outcome);
                self.core.tickets.entries.insert(id.0, entry);
                self.core.tickets.early.push(id);
            }
            None => {}
        }
        self.apply_after();
    }

    /// The deadline of a ticket has come.
    pub(crate) fn ticket_due(&mut self, id: TicketId) {
        let Some(entry) = self.core.tickets.entries.get_mut(&id.0) else { return };
        entry.timer = None;
        match &mut entry.awaits {
            Awaits::Job => {
                let error = ScError::new("TimeoutError", "The deferred work did not finish in time");
                self.fail(id, error);
            }
            Awaits::Moment => self.resolve(id, Box::new(())),
            Awaits::Master => {
                let error = ScError::new("TimeoutError", "The master did not answer in time");
                self.resolve(id, Box::new(Err::<crate::Data<'static>, ScError>(error)));
            }
            Awaits::Publish => {
                let error = ScError::new("TimeoutError", "The broker did not answer the publish in time");
                self.resolve(id, Box::new(Err::<(), ScError>(error)));
            }
            Awaits::Broker => {
                let error = ScError::new("TimeoutError", "The broker did not answer in time");
                self.resolve(id, Box::new(Err::<crate::Data<'static>, ScError>(error)));
            }
            Awaits::Call { socket, cid, event } => {
                let (socket, cid, event) = (*socket, *cid, std::mem::take(event));
                let mut version = sc_protocol::Version::V1;
                if let Some(socket) = self.core.socket_mut(socket) {
                    version = socket.version();
                    socket.calls.take(cid);
                }
                let error = ScError::timeout(&event, version);
                self.resolve(id, Box::new(Err::<crate::Data<'static>, ScError>(error)));
            }
        }
    }

    fn run_then(&mut self, then: Then<S, P>, value: Box<dyn Any + Send>) -> AnyOutcome {
        let (state, core) = (&mut self.state, &mut self.core);
        let run = AssertUnwindSafe(|| then(state, &mut Cx::new(core), value));
        match catch_unwind(run) {
            Ok(outcome) => outcome,
            Err(panic) => {
                self.panicked(None, "a continuation", panic);
                AnyOutcome::Answer(Err(ScError::internal()))
            }
        }
    }
}

/// Erases the types of a continuation.
pub(crate) fn erase<S, P, T: Send + 'static, R: crate::reply::Outcome>(
    then: impl FnOnce(&mut S, &mut Cx<'_, S, P>, T) -> R + Send + 'static,
) -> Then<S, P> {
    Box::new(move |state, cx, value| {
        let value = value.downcast::<T>().expect("invariant: a ticket's value is of its job's type");
        Sealed::erase(then(state, cx, *value))
    })
}
