//! The end of a worker whose clients are to come back elsewhere: they are sent away evenly over a while, and nobody whose
//! request has been read goes without its answer.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sc_protocol::ws::CloseCode;

use crate::core::Core;
use crate::engine::Engine;
use crate::output::{Output, Time};
use crate::pubsub::Origin;
use crate::socket::{Socket, SocketId};

/// Sockets are sent away no more often than this, then several at a time.
const STEP: Duration = Duration::from_millis(50);

/// How long after the end of the drain answers are still waited for.
pub const DRAIN_ANSWERS_MAX: Duration = Duration::from_secs(5);

/// A drain that has begun; it ends with the engine.
#[derive(Debug)]
pub(crate) struct Drain {
    code: CloseCode,
    until: Instant,
    /// When the next sockets' turn comes.
    turn_at: Instant,
    /// When there is something to do: a turn, or a look at those that leave.
    next: Instant,
    /// The slot to go on with.
    cursor: u32,
    /// Their turn has come: they are not read any more, and go as soon as they have their answers.
    leaving: Vec<SocketId>,
}

impl<S: Send + 'static, P: Default + Send + 'static> Engine<S, P> {
    /// Sends every socket away, evenly over `over`, with a close code. A socket whose turn has come is not read any more; it
    /// is closed when all that was read from it is answered, at most [`DRAIN_ANSWERS_MAX`] after the end of the drain.
    /// Sockets that open in the meantime are served, and take their turns. A second call can only hasten the end.
    pub fn drain(&mut self, at: Time, over: Duration, code: CloseCode) {
        self.core.at = at;
        let (now, until) = (at.now, at.now + over);
        let before = self.core.drain.take();
        let drain = before.unwrap_or(Drain { code, until, turn_at: now, next: now, cursor: 0, leaving: Vec::new() });
        self.core.drain = Some(Drain { until: drain.until.min(until), turn_at: now, next: now, ..drain });
        self.drain_due();
    }

    /// Whether no publish is on its way to a broker: nothing of what was read is lost if the worker ends now.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.core.exchange.unanswered().next().is_none()
    }

    /// A step of the drain, if it is time for one.
    pub(crate) fn drain_due(&mut self) {
        let now = self.core.at.now;
        let Some(mut drain) = self.core.drain.take_if(|drain| drain.next <= now) else { return };
        if drain.turn_at <= now {
            self.core.choose_leaving(&mut drain);
        }
        let owed = if drain.leaving.is_empty() || drain.until + DRAIN_ANSWERS_MAX <= now {
            BTreeSet::new()
        } else {
            self.core.owed()
        };
        drain.leaving.retain(|&id| {
            let goes = !owed.contains(&id) && !self.core.awaits_pong(id);
            if goes {
                self.core.close(id, drain.code, "", true);
                // What the peer still sent is not answered, but its close frame has to be seen.
                self.core.out.push(Output::Read(id.slot, true));
            }
            !goes && self.core.socket(id).is_some_and(Socket::is_live)
        });
        drain.next = if drain.leaving.is_empty() { drain.turn_at } else { drain.turn_at.min(now + STEP) };
        self.core.drain = Some(drain);
        self.settle();
    }
}

impl<S, P> Core<S, P> {
    /// When the next step is due; none while there is nobody.
    pub(crate) fn drain_at(&self) -> Option<Instant> {
        self.drain.as_ref().filter(|_| self.counters.sockets > 0).map(|drain| drain.next)
    }

    /// Its `#handshake` is answered as soon as the version of its protocol is known.
    fn awaits_pong(&self, id: SocketId) -> bool {
        let inbound = self.socket(id).and_then(|socket| socket.inbound.as_deref());
        inbound.is_some_and(|inbound| inbound.handshake.is_some())
    }

    /// As many as are to go in this step, so that the last go with the last step.
    fn choose_leaving(&mut self, drain: &mut Drain) {
        let live = self.sockets.iter().flatten().filter(|socket| socket.is_live()).count();
        let still = drain.leaving.iter().filter(|&&id| self.socket(id).is_some_and(Socket::is_live)).count();
        let (mut wanted, pause) = pace(live - still, drain.until.saturating_duration_since(self.at.now));
        drain.turn_at = self.at.now + pause;
        let chosen: BTreeSet<u32> = drain.leaving.iter().map(|id| id.slot).collect();
        let slots = self.sockets.len() as u32;
        for _ in 0..slots {
            if wanted == 0 {
                return;
            }
            let slot = drain.cursor % slots;
            drain.cursor = slot + 1;
            let live = |id: &SocketId| self.socket(*id).is_some_and(Socket::is_live);
            if let Some(id) = self.id_of(slot).filter(live).filter(|id| !chosen.contains(&id.slot)) {
                wanted -= 1;
                drain.leaving.push(id);
                self.out.push(Output::Read(slot, false));
            }
        }
    }

    /// Sockets that have sent something which is not answered yet.
    fn owed(&self) -> BTreeSet<SocketId> {
        let publishes = self.exchange.unanswered().filter_map(|publish| match &publish.origin {
            Origin::Client { socket, want, .. } => want.as_ref().map(|_| *socket),
            Origin::Application(_) => None,
        });
        let subscribes = self.channels.waiting().map(|pending| pending.socket);
        publishes.chain(subscribes).chain(self.tickets.parked_for()).collect()
    }
}

/// How many of `left` sockets go now, and the pause before the next go, so that all are gone after `time`.
fn pace(left: usize, time: Duration) -> (usize, Duration) {
    let each = time / u32::try_from(left.max(1)).unwrap_or(u32::MAX);
    let now = match () {
        () if time.is_zero() => left,
        () if each >= STEP => 1,
        () => (left as u128 * STEP.as_nanos()).div_ceil(time.as_nanos()) as usize,
    };
    (now.min(left), each.max(STEP))
}
