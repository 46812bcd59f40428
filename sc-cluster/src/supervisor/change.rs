//! Changes while the cluster runs: workers are replaced, and there are more or fewer of them.
//!
//! A worker that is to go is *drained*: it gets no more connections, and sends its clients away evenly over `drainTimeout`.

use std::time::Instant;

use super::{
    ChildKey, ClusterEvent, DRAIN_PATIENCE, SupOut, Supervisor,
    child::{Slot, State},
};
use crate::{control::Role, options::PROCESSES_MAX};

impl Supervisor {
    /// Replaces all workers, one after the other: a new one is started beside the old one, which is drained when the new
    /// one is ready. So there are never fewer that serve.
    pub(super) fn reload(&mut self, now: Instant) {
        if self.ending.is_some() || !self.config.reboot_on_signal {
            return;
        }
        let is_running = !self.reload.is_empty() || self.slots.iter().any(|slot| slot.next.is_some());
        if is_running {
            return self.event(ClusterEvent::Warning("the workers are being replaced already".to_owned()));
        }
        self.event(ClusterEvent::Info("the workers are replaced".to_owned()));
        self.reload = (0..self.workers()).collect();
        self.continue_reload(now);
    }

    /// A child is ready: if it was to replace another, that one may go, and the next one's turn has come.
    pub(super) fn replaced_by(&mut self, now: Instant, key: ChildKey) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.next == Some(key)) {
            slot.next = None;
            if let Some(old) = slot.child.replace(key) {
                self.drain(now, old);
            }
        }
        if self.slots.iter().all(|slot| slot.next.is_none()) {
            self.continue_reload(now);
        }
    }

    /// A worker has grown too large: it is replaced as in a reload, so that nobody notices.
    pub(super) fn replace_large(&mut self, now: Instant, key: ChildKey, bytes: u64) {
        let place = self.slots.iter().position(|slot| slot.child == Some(key) && slot.next.is_none());
        let is_ready = self.children.get(&key).is_some_and(|child| child.state == State::Ready);
        let Some(place) = place.filter(|_| self.ending.is_none() && is_ready) else { return };
        let (role, id, mib) = (self.slots[place].role, self.slots[place].id, bytes >> 20);
        let text = format!("{role} {id} has {mib} MiB in memory, over killWorkerMemoryThreshold; it is replaced");
        self.event(ClusterEvent::Warning(text));
        self.spawn(now, place);
    }

    /// One worker more.
    pub(super) fn add_worker(&mut self, now: Instant) {
        let count = self.workers();
        if self.ending.is_some() {
            return;
        }
        if count >= PROCESSES_MAX {
            return self.event(ClusterEvent::Warning(format!("there are {count} workers already, and no more can be")));
        }
        self.event(ClusterEvent::Info(format!("a worker is added: there are {} then", count + 1)));
        self.slots.push(Slot::new(Role::Worker, count));
        self.spawn(now, self.slots.len() - 1);
    }

    /// One worker less: the one with the highest number goes.
    pub(super) fn remove_worker(&mut self, now: Instant) {
        let count = self.workers();
        if self.ending.is_some() {
            return;
        }
        if count == 1 {
            return self.event(ClusterEvent::Warning("there is one worker, and no fewer can be".to_owned()));
        }
        let last = (Role::Worker, count - 1);
        let Some(place) = self.slots.iter().position(|slot| (slot.role, slot.id) == last) else { return };
        self.event(ClusterEvent::Info(format!("a worker is taken away: there are {} then", count - 1)));
        let slot = self.slots.remove(place);
        for key in [slot.next, slot.child].into_iter().flatten() {
            self.drain(now, key);
        }
        self.sort_workers();
        if slot.next.is_some() {
            self.continue_reload(now);
        }
    }

    /// A worker is to go, but not its clients all at once.
    fn drain(&mut self, now: Instant, key: ChildKey) {
        let over = self.config.drain_timeout;
        let Some(child) = self.children.get_mut(&key) else { return };
        child.kill_at = Some(now + over + self.config.term_timeout + DRAIN_PATIENCE);
        if child.state == State::Starting {
            return self.ask(key);
        }
        if child.state == State::Ready {
            child.state = State::Leaving;
            self.unsend(key, 0);
            self.outputs.push_back(SupOut::Drain(key, over));
        }
    }

    fn continue_reload(&mut self, now: Instant) {
        while let Some(id) = self.reload.pop_front() {
            let place = self.slots.iter().position(|slot| (slot.role, slot.id) == (Role::Worker, id));
            // One that has no process now gets a new one anyway.
            if let Some(place) = place.filter(|place| self.slots[*place].child.is_some()) {
                return self.spawn(now, place);
            }
        }
    }
}
