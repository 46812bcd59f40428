//! The end of the cluster.

use std::time::Instant;

use super::{ChildKey, ClusterEvent, KILL_PATIENCE, SupOut, Supervisor, child::State};
use crate::control::Role;

/// The way out: workers are asked first, since they need the brokers to finish; then the brokers; then who is still there
/// is killed.
#[derive(Debug)]
pub(super) struct Ending {
    code: u8,
    /// When brokers are asked, even if workers are still there.
    brokers_at: Option<Instant>,
    kill_at: Option<Instant>,
    give_up_at: Option<Instant>,
    is_over: bool,
}

impl Ending {
    pub(super) fn deadline(&self) -> Option<Instant> {
        let times = [self.brokers_at, self.kill_at, self.give_up_at];
        times.into_iter().flatten().min().filter(|_| !self.is_over)
    }
}

impl Supervisor {
    /// The first signal asks everybody to end, the second kills.
    pub(super) fn terminate(&mut self, now: Instant, signal: u8) {
        if let Some(ending) = &mut self.ending {
            ending.code = 128_u8.saturating_add(signal);
            ending.kill_at = ending.kill_at.map(|_| now);
            return self.continue_ending(now);
        }
        self.event(ClusterEvent::Info("asked to end".to_owned()));
        self.begin_ending(now, 0);
    }

    pub(super) fn begin_ending(&mut self, now: Instant, code: u8) {
        let patience = self.config.term_timeout;
        self.ending = Some(Ending {
            code,
            brokers_at: Some(now + patience / 2),
            kill_at: Some(now + patience),
            give_up_at: None,
            is_over: false,
        });
        self.outputs.push_back(SupOut::CloseListener);
        self.reload.clear();
        for slot in &mut self.slots {
            slot.respawn_at = None;
        }
        self.ask_all(Role::Worker);
        self.pending -= self.waiting.len();
        self.outputs.extend(self.waiting.drain(..).map(SupOut::Release));
        self.sort_workers();
        self.continue_ending(now);
    }

    pub(super) fn continue_ending(&mut self, now: Instant) {
        let Some(ending) = &mut self.ending else { return };
        if ending.is_over {
            return;
        }
        if self.children.is_empty() {
            ending.is_over = true;
            let code = ending.code;
            return self.outputs.push_back(SupOut::Exit(code));
        }
        let workers_gone = self.children.values().all(|child| child.role == Role::Broker);
        if ending.brokers_at.is_some_and(|at| workers_gone || at <= now) {
            ending.brokers_at = None;
            self.ask_all(Role::Broker);
        }
        let Some(ending) = &mut self.ending else { return };
        if ending.kill_at.is_some_and(|at| at <= now) {
            (ending.kill_at, ending.brokers_at) = (None, None);
            ending.give_up_at = Some(now + KILL_PATIENCE);
            self.kill_all();
        } else if ending.give_up_at.is_some_and(|at| at <= now) {
            ending.is_over = true;
            self.event(ClusterEvent::Fail("killed processes are still there: the master ends without them".to_owned()));
            self.outputs.push_back(SupOut::Exit(1));
        }
    }

    /// Asks one child to end.
    pub(super) fn ask(&mut self, key: ChildKey) {
        let Some(child) = self.children.get_mut(&key) else { return };
        if matches!(child.state, State::Starting | State::Ready) {
            child.state = State::Leaving;
            self.unsend(key, 0);
            self.outputs.push_back(SupOut::Terminate(key));
        } else if child.state == State::Leaving && self.ending.is_some() {
            // It is drained: now it has to hurry.
            self.outputs.push_back(SupOut::Terminate(key));
        }
    }

    fn ask_all(&mut self, role: Role) {
        let keys: Vec<_> = self.children.iter().filter(|(_, child)| child.role == role).map(|(key, _)| *key).collect();
        for key in keys {
            self.ask(key);
        }
    }

    fn kill_all(&mut self) {
        let mut killed = 0;
        for (key, child) in &mut self.children {
            if child.state != State::Killed {
                child.state = State::Killed;
                killed += 1;
                self.outputs.push_back(SupOut::Kill(*key));
            }
        }
        if killed > 0 {
            self.event(ClusterEvent::Warning(format!("{killed} processes did not end in time and are killed")));
        }
    }
}
