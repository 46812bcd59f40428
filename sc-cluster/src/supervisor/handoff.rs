//! Connections on their way from the listener to a worker.
//!
//! A connection is *waiting* (no worker could be given it), *given* to a worker (its message is sent, or about to be) and, once
//! the worker says so, *taken*: only then the driver closes its copy.

use std::time::Instant;

use sc_protocol::limits::CONTROL_FDS_MAX;

use super::{
    ACCEPT_PAUSE, ChildKey, ClusterEvent, ConnKey, FAILURE_SAID_FOR, SchedulingPolicy, SupOut, Supervisor, child::Child,
};

impl Supervisor {
    pub(super) fn accepted(&mut self, conn: ConnKey) {
        if self.ending.is_some() {
            self.outputs.push_back(SupOut::Release(conn));
            return;
        }
        self.waiting.push_back(conn);
        self.pending += 1;
    }

    /// Gives waiting connections to the workers whose turn it is.
    pub(super) fn dispatch(&mut self, now: Instant) {
        while let Some(&conn) = self.waiting.front() {
            let (order, children, config) = (&self.order, &self.children, &self.config);
            let load = |place: usize| children.get(&order[place]).and_then(|child| child.load(now, config));
            let Some(place) = self.scheduler.pick(order.len(), load) else { return };
            let Some(child) = self.children.get_mut(&self.order[place]) else { return };
            child.unacked.push_back((conn, now));
            child.unsent += 1;
            self.waiting.pop_front();
        }
    }

    /// The next message with connections for a worker.
    pub(super) fn next_handoff(&mut self) -> Option<SupOut> {
        let key = *self.order.iter().find(|key| self.children.get(key).is_some_and(|child| child.unsent > 0))?;
        let child = self.children.get_mut(&key)?;
        let first = child.unacked.len() - child.unsent;
        let conns: Vec<_> = child.unacked.iter().skip(first).take(CONTROL_FDS_MAX).map(|(conn, _)| *conn).collect();
        child.unsent -= conns.len();
        Some(SupOut::Handoff(key, conns))
    }

    /// The message did not go out: its connections and those that were to follow wait again, for any worker.
    pub(super) fn handoff_blocked(&mut self, key: ChildKey, conns: &[ConnKey]) {
        self.unsend(key, conns.len());
        if let Some(child) = self.children.get_mut(&key) {
            child.blocked = true;
        }
    }

    /// Takes back what was given to a worker and not sent, and the last so many of which sending failed.
    pub(super) fn unsend(&mut self, key: ChildKey, failed: usize) {
        let Some(child) = self.children.get_mut(&key) else { return };
        let kept = child.unacked.len().saturating_sub(child.unsent + failed);
        child.unsent = 0;
        for (conn, _) in child.unacked.drain(kept..).rev() {
            self.waiting.push_front(conn);
        }
    }

    /// The worker has taken all connections up to this number, counted from its start.
    pub(super) fn conns_taken(&mut self, key: ChildKey, total: u64) {
        let Some(child) = self.children.get_mut(&key) else { return };
        let sent = child.unacked.len() - child.unsent;
        let count = total.checked_sub(child.taken).and_then(|count| usize::try_from(count).ok());
        let Some(count) = count.filter(|count| *count <= sent) else {
            return self.kill_because(key, "it acknowledged connections it was not given; it is killed");
        };
        child.took(count as u64);
        self.pending -= count;
        self.outputs.extend(child.unacked.drain(..count).map(|(conn, _)| SupOut::Release(conn)));
    }

    /// The next connections that the worker was sent did not arrive, since it may not open more descriptors: they go to others,
    /// or wait.
    pub(super) fn conns_lost(&mut self, now: Instant, key: ChildKey, count: usize) {
        let Some(child) = self.children.get_mut(&key) else { return };
        if count > child.unacked.len() - child.unsent {
            return self.kill_because(key, "it lost connections it was not given; it is killed");
        }
        child.rests_until = Some(now + ACCEPT_PAUSE);
        let (role, id) = (child.role, child.id);
        let lost: Vec<_> = child.unacked.drain(..count).collect();
        self.unsend(key, 0);
        for (conn, _) in lost.into_iter().rev() {
            self.waiting.push_front(conn);
        }
        if is_new(&mut self.conns_lost_at, now) {
            let text = format!("{role} {id} may not open more descriptors; connections go to others, or wait");
            self.event(ClusterEvent::Warning(text));
        }
    }

    /// What a worker that is gone had not taken waits again, before the others; in the end nobody will take it.
    pub(super) fn take_back(&mut self, child: &mut Child) {
        for (conn, _) in child.unacked.drain(..).rev() {
            if self.ending.is_some() {
                self.pending -= 1;
                self.outputs.push_back(SupOut::Release(conn));
            } else {
                self.waiting.push_front(conn);
            }
        }
        child.unsent = 0;
    }

    /// Mostly descriptors or memory ran out: accepting again at once would fail again, in a hot loop.
    pub(super) fn accept_failed(&mut self, now: Instant, why: &str) {
        self.accept_again_at = Some(now + ACCEPT_PAUSE);
        if is_new(&mut self.accept_failed_at, now) {
            let text = format!("connections cannot be accepted ({why}); they wait until they can");
            self.event(ClusterEvent::Warning(text));
        }
    }

    /// Accepts while there is room. Paused at the limit, it goes on at half of it, so that it does not flutter.
    pub(super) fn control_accepting(&mut self) {
        let max = self.config.handoff_pending_max;
        let limit = if self.accepting { max } else { max.div_ceil(2) };
        let may = self.ending.is_none()
            && self.config.policy != SchedulingPolicy::None
            // Before the first worker is there connections wait in the kernel's queue.
            && (self.accepting || !self.order.is_empty())
            && self.accept_again_at.is_none()
            && self.pending < limit;
        if may != self.accepting {
            self.accepting = may;
            self.outputs.push_back(SupOut::PauseAccept(!may));
        }
    }
}

/// As long as a failure goes on it is one event, said once.
fn is_new(last: &mut Option<Instant>, now: Instant) -> bool {
    let before = last.replace(now);
    before.is_none_or(|before| now.saturating_duration_since(before) >= FAILURE_SAID_FOR)
}
