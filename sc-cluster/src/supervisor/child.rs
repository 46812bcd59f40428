//! One process, and the place it fills.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    ACK_PATIENCE, BACKOFF_FIRST, BACKOFF_MAX, ChildKey, ConnKey, IN_FLIGHT_MAX, STABLE_AFTER, START_PATIENCE, SupConfig,
};
use crate::control::Role;

/// A child that dies at once again and again is an error each time it has done so this often.
pub(super) const FAILURES_SAID_EACH: u32 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Spawned, or about to be.
    Starting,
    Ready,
    /// Asked to end.
    Leaving,
    /// Sent a SIGKILL.
    Killed,
}

/// One process.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) role: Role,
    pub(super) id: u32,
    pub(super) respawn: bool,
    pub(super) state: State,
    pub(super) pid: Option<u32>,
    pub(super) started: Instant,
    pub(super) ready_at: Option<Instant>,
    /// When the next warning is due that it is not ready.
    pub(super) warn_at: Instant,
    /// The last sign of life.
    pub(super) heard: Instant,
    /// Its silence counts only once it has begun to beat.
    beats: bool,
    /// When a child that was asked to end is killed; `None`: the cluster ends, which has its own time.
    pub(super) kill_at: Option<Instant>,
    /// Connections given to it and not acknowledged, in order, each with the time of giving.
    pub(super) unacked: VecDeque<(ConnKey, Instant)>,
    /// The last so many of `unacked` are not yet sent.
    pub(super) unsent: usize,
    /// Acknowledged since the start.
    pub(super) taken: u64,
    /// Connections it holds, as far as we know: its last word, and what it took since.
    connections: u64,
    /// Its control channel is full.
    pub(super) blocked: bool,
    /// It lost connections for want of descriptors, and gets no more until then.
    pub(super) rests_until: Option<Instant>,
}

impl Child {
    pub(super) fn new(role: Role, id: u32, respawn: bool, now: Instant) -> Self {
        Self {
            role,
            id,
            respawn,
            state: State::Starting,
            pid: None,
            started: now,
            ready_at: None,
            warn_at: now + START_PATIENCE,
            heard: now,
            beats: false,
            kill_at: None,
            unacked: VecDeque::new(),
            unsent: 0,
            taken: 0,
            connections: 0,
            blocked: false,
            rests_until: None,
        }
    }

    /// Whether links to it can be made: its process exists and is to go on or to finish what it has.
    pub(super) fn is_linkable(&self) -> bool {
        self.pid.is_some() && self.state != State::Killed
    }

    pub(super) fn beat(&mut self, connections: u32) {
        self.beats = true;
        self.connections = connections.into();
    }

    /// How many connections it holds or will; `None`: it may get none now.
    pub(super) fn load(&self, now: Instant, config: &SupConfig) -> Option<u64> {
        let load = self.connections + self.unacked.len() as u64;
        let is_late = self.unacked.front().is_some_and(|(_, given)| *given + ACK_PATIENCE <= now);
        let rests = self.rests_until.is_some_and(|until| until > now);
        let may =
            !self.blocked && !rests && !is_late && self.unacked.len() < IN_FLIGHT_MAX && load < config.connections_max;
        may.then_some(load)
    }

    pub(super) fn took(&mut self, count: u64) {
        self.taken += count;
        self.connections += count;
    }

    /// When something is to be done about it: a warning while it starts, a kill when it is silent or does not end.
    pub(super) fn deadline(&self, hang_timeout: Option<Duration>) -> Option<Instant> {
        let silence = hang_timeout.map(|timeout| {
            let heard = self.beats.then_some(self.heard);
            let given = self.unacked.front().map(|(_, given)| *given);
            heard.into_iter().chain(given).min().map(|since| since + timeout)
        });
        match self.state {
            State::Starting => Some(self.warn_at),
            State::Ready => silence.flatten(),
            State::Leaving => self.kill_at,
            State::Killed => None,
        }
    }

    /// Its silence until now was ours.
    pub(super) fn forgive(&mut self, now: Instant) {
        self.heard = self.heard.max(now);
        for (_, given) in &mut self.unacked {
            *given = now;
        }
    }
}

/// The place of one worker or broker, which outlives the processes that fill it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) role: Role,
    pub(super) id: u32,
    pub(super) child: Option<ChildKey>,
    /// The process that is to replace `child` as soon as it is ready.
    pub(super) next: Option<ChildKey>,
    /// Ends in a row soon after the start.
    pub(super) failures: u32,
    pub(super) respawn_at: Option<Instant>,
    started_before: bool,
}

impl Slot {
    pub(super) const fn new(role: Role, id: u32) -> Self {
        Self { role, id, child: None, next: None, failures: 0, respawn_at: None, started_before: false }
    }

    /// A process is spawned for this place, beside the one that fills it if there is one. Answers whether it is not the first.
    pub(super) fn begin(&mut self, key: ChildKey) -> bool {
        match self.child {
            Some(_) => self.next = Some(key),
            None => self.child = Some(key),
        }
        self.respawn_at = None;
        std::mem::replace(&mut self.started_before, true)
    }

    /// The pause before the next process, after this one ended: none after one that ran well, was asked to end, or failed for
    /// the first time.
    pub(super) fn pause(&mut self, now: Instant, ended: &Child) -> Duration {
        let ran = ended.ready_at.map(|ready| now.saturating_duration_since(ready));
        if ended.state == State::Leaving || ran.is_some_and(|ran| ran >= STABLE_AFTER) {
            self.failures = 0;
            return Duration::ZERO;
        }
        self.failures += 1;
        // 2^16 times the first pause is far above the longest.
        let doublings = self.failures.saturating_sub(2).min(16);
        if self.failures == 1 { Duration::ZERO } else { (BACKOFF_FIRST * (1 << doublings)).min(BACKOFF_MAX) }
    }

    /// Nobody fills it and nobody will.
    pub(super) fn is_given_up(&self) -> bool {
        self.child.is_none() && self.next.is_none() && self.respawn_at.is_none()
    }

    /// Given up although it must not be.
    pub(super) fn is_lost(&self, config: &SupConfig) -> bool {
        self.is_given_up() && (self.role == Role::Broker || config.reboot_worker_on_crash)
    }
}
