//! The supervisor: which processes there are, and which of them gets a connection. A pure machine.
//!
//! ```text
//!   accepted connections ──►┌────────────┐──► hand these 32 to worker 3, close our copy of that one
//!   messages of children ──►│ Supervisor │──► spawn, link, ask to end, kill
//!   exits, signals, time ──►└────────────┘──► pause accepting, events, exit code
//! ```
//!
//! The driver ([the master](crate)) feeds [`Supervisor::handle`] and [`Supervisor::handle_timeout`], and after each call does what
//! [`Supervisor::poll_output`] says until it says nothing more. No socket, process or clock is touched here, so a simulation
//! runs the same code; `LIFECYCLE.md` draws the states.
//!
//! What it promises:
//! * no child is lost: each slot has a process, or a time at which it gets one, until the cluster ends;
//! * no connection is lost: the driver keeps its copy of each until the worker has said that it took it, and what a dead worker
//!   had not taken goes to another;
//! * no hot loop: a child that dies at once again and again is started with growing pauses, and each time it is said;
//! * an end: asked to, all children are gone within `processTermTimeout` and a little.
//!
//! ```
//! use sc_cluster::supervisor::{Supervisor, SupConfig, SupIn, SupOut};
//! use std::time::Instant;
//!
//! let now = Instant::now();
//! let mut supervisor = Supervisor::new(SupConfig::new(&sc_cluster::Options::default(), 1000), now);
//! while let Some(output) = supervisor.poll_output() {
//!     if let SupOut::Spawn { child, .. } = output {
//!         supervisor.handle(now, SupIn::Spawned(child, Ok(4711))); // the driver started it, with this pid
//!     }
//! }
//! ```

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use sc_protocol::ipc::Control;

use crate::{
    control::Role,
    options::Options,
    schedule::{Scheduler, SchedulingPolicy},
};

mod change;
mod child;
mod ending;
mod events;
mod handoff;

use child::{Child, Slot, State};
pub use events::{ClusterEvent, ExitInfo};

/// A worker that leaves a connection unacknowledged for so long gets no more until it answers.
pub const ACK_PATIENCE: Duration = Duration::from_millis(100);
/// Connections sent to one worker and not yet acknowledged, at most: what it cannot take at once is better off with another.
pub const IN_FLIGHT_MAX: usize = 256;
/// A child that ran for so long was no failure of its start: the pauses begin anew.
pub const STABLE_AFTER: Duration = Duration::from_secs(10);
/// Pause before the second start in a row that failed; doubled with each further one.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// The longest pause between two starts.
pub const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Pause in accepting after it failed, since descriptors or memory ran out.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// That accepting fails is said again when it comes back after so long.
pub const FAILURE_SAID_FOR: Duration = Duration::from_secs(10);
/// How long killed processes may take to be gone; after that the master ends without having seen them go.
pub const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// How long a drained worker may take beyond `drainTimeout` and `processTermTimeout`: some of its clients' answers are awaited.
pub const DRAIN_PATIENCE: Duration = Duration::from_secs(6);
/// The exit code of a child whose program is linked with another version of this crate than the master's.
pub const WRONG_VERSION: u8 = 86;
/// A child that is not ready for so long is worth a warning, each time again.
pub const START_PATIENCE: Duration = Duration::from_secs(30);
/// While children are watched the supervisor wants to be called at least so often.
pub const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// When it was not called for so long, the master itself did not run (stopped, or the machine slept), and nobody's silence
/// counts.
const OWN_ABSENCE: Duration = Duration::from_secs(3);

/// A connection that the driver accepted and holds; the number is the driver's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnKey(pub usize);

/// One process, from its spawn to its end. The process that replaces it has another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildKey(pub u32);

/// What the supervisor has to know of the options.
#[derive(Debug, Clone)]
pub struct SupConfig {
    /// Worker processes.
    pub workers: u32,
    /// Broker processes.
    pub brokers: u32,
    /// How connections are spread.
    pub policy: SchedulingPolicy,
    /// Connections held by the master, at most.
    pub handoff_pending_max: usize,
    /// Connections that one worker may hold, at most (from its limit on descriptors).
    pub connections_max: u64,
    /// Replace workers that ended by themselves.
    pub reboot_worker_on_crash: bool,
    /// SIGUSR2 replaces the workers.
    pub reboot_on_signal: bool,
    /// How long children may take to end.
    pub term_timeout: Duration,
    /// Over how long a worker that is replaced sends its clients away.
    pub drain_timeout: Duration,
    /// Silence after which a child is replaced; `None`: never.
    pub hang_timeout: Option<Duration>,
}

impl SupConfig {
    /// From the options, and what one process may hold open.
    #[must_use]
    pub fn new(options: &Options, connections_max: u64) -> Self {
        Self {
            workers: options.workers(),
            brokers: options.brokers(),
            policy: options.scheduling_policy,
            handoff_pending_max: options.handoff_pending_max,
            connections_max,
            reboot_worker_on_crash: options.reboot_worker_on_crash,
            reboot_on_signal: options.reboot_on_signal,
            term_timeout: options.process_term_timeout(),
            drain_timeout: options.drain_timeout(),
            hang_timeout: options.worker_hang_timeout(),
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum SupIn<'a> {
    /// A connection was accepted.
    Accepted(ConnKey),
    /// Accepting failed, most likely for want of descriptors or memory.
    AcceptFailed(String),
    /// The outcome of [`SupOut::Spawn`]: its process id, or why there is none.
    Spawned(ChildKey, Result<u32, String>),
    /// A message of a child.
    Control(ChildKey, Control<'a>),
    /// A [`SupOut::Handoff`] could not be sent now: these connections are to go elsewhere, and no more to this worker before
    /// [`SupIn::Writable`].
    HandoffBlocked(ChildKey, Vec<ConnKey>),
    /// The control channel takes messages again.
    Writable(ChildKey),
    /// The control channel is of no use any more, while the process may still run.
    Broken(ChildKey, String),
    /// The process is gone. To be told after everything it had sent.
    Exited(ChildKey, ExitInfo),
    /// A signal asks to end; its number becomes part of the exit code if it comes twice.
    Terminate(u8),
    /// A signal asks to replace the workers.
    Reload,
    /// A worker takes more memory than it may: so many bytes.
    TooLarge(ChildKey, u64),
    /// One worker more is wanted (SIGTTIN).
    AddWorker,
    /// One worker less is wanted (SIGTTOU).
    RemoveWorker,
}

/// What the driver has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SupOut {
    /// Start a process, send it `Init`, answer with [`SupIn::Spawned`] before polling on.
    Spawn {
        /// The key it has from now on.
        child: ChildKey,
        /// What it is to be.
        role: Role,
        /// Its number among those of its role.
        id: u32,
        /// Whether it replaces one that ended.
        respawn: bool,
    },
    /// Make a stream pair and send an end to each with `Link`.
    Link {
        /// A worker …
        worker: ChildKey,
        /// … and its number.
        worker_id: u32,
        /// A broker …
        broker: ChildKey,
        /// … and its number.
        broker_id: u32,
    },
    /// Send `Linked` to this broker: it has links to all workers that there are.
    Linked(ChildKey),
    /// Send the listening socket to this worker (`schedulingPolicy: none`).
    Listener(ChildKey),
    /// Send these connections in one message, or answer [`SupIn::HandoffBlocked`] before polling on. Keep the copies.
    Handoff(ChildKey, Vec<ConnKey>),
    /// Close the copy of this connection: its worker has it, or nobody will.
    Release(ConnKey),
    /// Send `Terminate`.
    Terminate(ChildKey),
    /// Send `Drain`, with this time.
    Drain(ChildKey, Duration),
    /// Send SIGKILL.
    Kill(ChildKey),
    /// Stop accepting (`true`) or go on. At the start accepting is paused.
    PauseAccept(bool),
    /// Close the listening socket: the cluster ends.
    CloseListener,
    /// Something to log, and to tell the application.
    Event(ClusterEvent),
    /// End the master with this code. The last output.
    Exit(u8),
}

/// The machine. See the [module's page](self).
#[derive(Debug)]
pub struct Supervisor {
    config: SupConfig,
    slots: Vec<Slot>,
    children: BTreeMap<ChildKey, Child>,
    next_key: u32,
    /// Ready workers, in the order of their turns.
    order: Vec<ChildKey>,
    scheduler: Scheduler,
    /// Connections that no worker has been given, oldest first.
    waiting: VecDeque<ConnKey>,
    /// `waiting` and all unacknowledged ones.
    pending: usize,
    accepting: bool,
    accept_again_at: Option<Instant>,
    accept_failed_at: Option<Instant>,
    conns_lost_at: Option<Instant>,
    was_ready: bool,
    ending: Option<ending::Ending>,
    reload: VecDeque<u32>,
    last_call: Instant,
    outputs: VecDeque<SupOut>,
}

impl Supervisor {
    /// Starts with spawning all brokers and workers.
    #[must_use]
    pub fn new(config: SupConfig, now: Instant) -> Self {
        let brokers = (0..config.brokers).map(|id| Slot::new(Role::Broker, id));
        let workers = (0..config.workers).map(|id| Slot::new(Role::Worker, id));
        let mut supervisor = Self {
            scheduler: Scheduler::new(config.policy),
            slots: brokers.chain(workers).collect(),
            config,
            children: BTreeMap::new(),
            next_key: 0,
            order: Vec::new(),
            waiting: VecDeque::new(),
            pending: 0,
            accepting: false,
            accept_again_at: None,
            accept_failed_at: None,
            conns_lost_at: None,
            was_ready: false,
            ending: None,
            reload: VecDeque::new(),
            last_call: now,
            outputs: VecDeque::new(),
        };
        for slot in 0..supervisor.slots.len() {
            supervisor.spawn(now, slot);
        }
        supervisor
    }

    /// Tells what happened. Afterwards [`poll_output`](Self::poll_output) is due, though several inputs of one turn may come before
    /// it: connections accepted in a row leave in fewer messages then.
    pub fn handle(&mut self, now: Instant, input: SupIn<'_>) {
        self.note_absence(now);
        match input {
            SupIn::Accepted(conn) => self.accepted(conn),
            SupIn::AcceptFailed(why) => self.accept_failed(now, &why),
            SupIn::Spawned(child, Ok(pid)) => self.spawned(child, pid),
            SupIn::Spawned(child, Err(why)) => {
                self.event(ClusterEvent::Fail(format!("a process cannot be started: {why}")));
                self.gone(now, child, ExitInfo::default());
            }
            SupIn::Control(child, message) => self.control(now, child, &message),
            SupIn::HandoffBlocked(child, conns) => self.handoff_blocked(child, &conns),
            SupIn::Writable(child) => {
                if let Some(child) = self.children.get_mut(&child) {
                    child.blocked = false;
                }
            }
            SupIn::Broken(child, why) => {
                self.kill_because(child, &format!("its control channel failed ({why}); it is killed"));
            }
            SupIn::Exited(child, exit) => self.gone(now, child, exit),
            SupIn::Terminate(signal) => self.terminate(now, signal),
            SupIn::Reload => self.reload(now),
            SupIn::TooLarge(child, bytes) => self.replace_large(now, child, bytes),
            SupIn::AddWorker => self.add_worker(now),
            SupIn::RemoveWorker => self.remove_worker(now),
        }
        self.settle(now);
    }

    /// To be called when [`poll_timeout`](Self::poll_timeout) has passed; earlier does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.note_absence(now);
        for slot in 0..self.slots.len() {
            if self.ending.is_none() && self.slots[slot].respawn_at.is_some_and(|at| at <= now) {
                self.spawn(now, slot);
            }
        }
        if self.accept_again_at.is_some_and(|until| until <= now) {
            self.accept_again_at = None;
        }
        self.watch(now);
        self.continue_ending(now);
        self.settle(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due at the latest. After it was called it lies in the future.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let respawns = self.slots.iter().filter_map(|slot| slot.respawn_at).filter(|_| self.ending.is_none());
        let watched = self.children.values().filter_map(|child| child.deadline(self.config.hang_timeout));
        let resting = self.children.values().filter_map(|child| child.rests_until).filter(|at| *at > self.last_call);
        let tick = (!self.children.is_empty()).then(|| self.last_call + WATCH_INTERVAL);
        respawns
            .chain(watched)
            .chain(resting)
            .chain(tick)
            .chain(self.accept_again_at)
            .chain(self.ending.as_ref().and_then(ending::Ending::deadline))
            .min()
    }

    /// The next thing to do; `None`: nothing more until something happens.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<SupOut> {
        // What was handed out in this turn is cut into messages only now, so that connections accepted in a row share one.
        self.outputs.pop_front().or_else(|| self.next_handoff())
    }

    /// Number and role of a child that is not gone.
    #[must_use]
    pub fn role(&self, child: ChildKey) -> Option<(Role, u32)> {
        self.children.get(&child).map(|child| (child.role, child.id))
    }

    /// Connections that the driver holds for workers: waiting, or sent and not acknowledged.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// How many workers there are to be.
    #[must_use]
    pub fn workers(&self) -> u32 {
        self.slots.iter().filter(|slot| slot.role == Role::Worker).count() as u32
    }

    fn spawn(&mut self, now: Instant, slot: usize) {
        let key = ChildKey(self.next_key);
        self.next_key += 1;
        let Slot { role, id, .. } = self.slots[slot];
        let respawn = self.slots[slot].begin(key);
        self.children.insert(key, Child::new(role, id, respawn, now));
        self.outputs.push_back(SupOut::Spawn { child: key, role, id, respawn });
    }

    /// Every worker has a link to every broker; both ends of a new one's links are made here.
    fn spawned(&mut self, key: ChildKey, pid: u32) {
        let Some(child) = self.children.get_mut(&key) else { return };
        child.pid = Some(pid);
        let (role, id, respawn) = (child.role, child.id, child.respawn);
        self.event(ClusterEvent::Start { role, id, pid, respawn });
        let others = self.children.iter().filter(|(_, other)| other.role != role && other.is_linkable());
        let links = others.map(|(&other_key, other)| match role {
            Role::Worker => SupOut::Link { worker: key, worker_id: id, broker: other_key, broker_id: other.id },
            Role::Broker => SupOut::Link { worker: other_key, worker_id: other.id, broker: key, broker_id: id },
        });
        let links: Vec<_> = links.collect();
        self.outputs.extend(links);
        if role == Role::Broker {
            self.outputs.push_back(SupOut::Linked(key));
        }
        if self.ending.is_some() {
            self.ask(key);
        }
    }

    fn control(&mut self, now: Instant, key: ChildKey, message: &Control<'_>) {
        let Some(child) = self.children.get_mut(&key) else { return };
        child.heard = now;
        match *message {
            Control::Ready => self.ready(now, key),
            Control::ConnsTaken { total } => self.conns_taken(key, total),
            Control::ConnsLost { count } => self.conns_lost(now, key, count as usize),
            Control::Beat { connections } => child.beat(connections),
            Control::Unlinked { pid } => self.unlinked(pid),
            // What is said is for the application and the log; here it is a sign of life.
            Control::Report(_) | Control::Status(_) | Control::Message { .. } | Control::Reply { .. } => {}
            Control::Init(_)
            | Control::Conns { .. }
            | Control::Listener { .. }
            | Control::Link { .. }
            | Control::Linked
            | Control::Drain { .. }
            | Control::Terminate => {
                self.kill_because(key, "it sent a message that only a master sends; it is killed");
            }
        }
    }

    fn ready(&mut self, now: Instant, key: ChildKey) {
        let Some(child) = self.children.get_mut(&key) else { return };
        if child.state != State::Starting {
            return;
        }
        child.state = State::Ready;
        child.ready_at = Some(now);
        let role = child.role;
        if role == Role::Worker && self.config.policy == SchedulingPolicy::None {
            self.outputs.push_back(SupOut::Listener(key));
        }
        self.replaced_by(now, key);
        self.sort_workers();
        let is_ready = |key| self.children.get(&key).is_some_and(|child| child.state == State::Ready);
        let all = self.slots.iter().all(|slot| slot.child.is_some_and(is_ready));
        if all && !self.was_ready && self.ending.is_none() {
            self.was_ready = true;
            self.event(ClusterEvent::Ready);
        }
    }

    /// A process is gone, whatever the reason.
    fn gone(&mut self, now: Instant, key: ChildKey, exit: ExitInfo) {
        let Some(mut child) = self.children.remove(&key) else { return };
        self.take_back(&mut child);
        self.sort_workers();
        let of_another_version = exit.code == Some(WRONG_VERSION.into()) && self.ending.is_none();
        // To start it again would not help, and nothing is lost yet.
        let is_hopeless = of_another_version && !self.was_ready;
        let respawn_in = if is_hopeless { None } else { self.vacate(now, key, &child) };
        self.event(ClusterEvent::Exit {
            role: child.role,
            id: child.id,
            pid: child.pid,
            exit,
            expected: child.state == State::Leaving || self.ending.is_some(),
            respawn_in,
        });
        if let Some(slot) = self.slots.iter().find(|slot| (slot.role, slot.id) == (child.role, child.id))
            && slot.failures > 0
            && slot.failures.is_multiple_of(child::FAILURES_SAID_EACH)
        {
            let text =
                format!("{} {} has ended {} times in a row soon after its start", slot.role, slot.id, slot.failures);
            self.event(ClusterEvent::Fail(text));
        }
        if of_another_version {
            let text = "its program is linked with another version of sc-cluster than the master: build it anew";
            self.event(ClusterEvent::Fail(format!("{} {}: {text}", child.role, child.id)));
        }
        if self.ending.is_some() {
            self.continue_ending(now);
        } else if is_hopeless {
            self.begin_ending(now, 1);
        } else if self.slots.iter().all(|slot| slot.role == Role::Broker || slot.is_given_up()) {
            self.event(ClusterEvent::Fail("no worker is left, and rebootWorkerOnCrash is off: the end".to_owned()));
            self.begin_ending(now, 1);
        }
    }

    /// Empties the slot of a process that is gone. Answers the pause until there is a new one, if there will be.
    fn vacate(&mut self, now: Instant, key: ChildKey, child: &Child) -> Option<Duration> {
        let place = self.slots.iter().position(|slot| slot.child == Some(key) || slot.next == Some(key))?;
        let slot = &mut self.slots[place];
        if slot.next == Some(key) {
            slot.next = None;
            self.reload.clear();
            let text = "a new worker does not start: the reload is given up, the old ones stay";
            self.event(ClusterEvent::Fail(text.to_owned()));
            return None;
        }
        slot.child = slot.next.take();
        if slot.child.is_some() || self.ending.is_some() {
            return None;
        }
        let asked = child.state == State::Leaving;
        if slot.role == Role::Worker && !self.config.reboot_worker_on_crash && !asked {
            return None;
        }
        let pause = slot.pause(now, child);
        if pause.is_zero() {
            self.spawn(now, place);
        } else {
            slot.respawn_at = Some(now + pause);
        }
        Some(pause)
    }

    /// Kills children that are silent for too long, and warns of those that do not become ready.
    fn watch(&mut self, now: Instant) {
        let due: Vec<_> = self
            .children
            .iter()
            .filter(|(_, child)| child.deadline(self.config.hang_timeout).is_some_and(|at| at <= now))
            .map(|(key, child)| (*key, child.state))
            .collect();
        for (key, state) in due {
            if state == State::Leaving {
                self.kill_because(key, "it did not end within processTermTimeout; it is killed");
            } else if state == State::Starting {
                let child = self.children.get_mut(&key).map(|child| {
                    child.warn_at = now + START_PATIENCE;
                    (child.role, child.id, now.saturating_duration_since(child.started).as_secs())
                });
                if let Some((role, id, secs)) = child {
                    self.event(ClusterEvent::Warning(format!("{role} {id} is not ready {secs} s after its start")));
                }
            } else {
                self.kill_because(key, "it gave no sign of life for workerHangTimeout; it is killed");
            }
        }
    }

    /// A broker has dropped its link to a worker, which gets no other one: it is replaced, and its successor has a link to each
    /// broker. By now its number may be that of another worker; the process id tells.
    fn unlinked(&mut self, pid: u32) {
        let mut workers = self.children.iter().filter(|(_, child)| child.role == Role::Worker);
        if let Some((&key, _)) = workers.find(|(_, child)| child.pid == Some(pid)) {
            self.kill_because(key, "a broker has dropped its link to it; it is killed");
        }
    }

    fn kill_because(&mut self, key: ChildKey, why: &str) {
        let Some(child) = self.children.get_mut(&key) else { return };
        if child.state == State::Killed {
            return;
        }
        child.state = State::Killed;
        let (role, id, pid) = (child.role, child.id, child.pid.unwrap_or(0));
        let text = format!("{role} {id} (pid {pid}): {why}");
        self.outputs.push_back(SupOut::Kill(key));
        self.event(ClusterEvent::Fail(text));
        self.unsend(key, 0);
        self.sort_workers();
    }

    /// When the master itself did not run, no child could be heard: silence counts from now on.
    fn note_absence(&mut self, now: Instant) {
        if now.saturating_duration_since(self.last_call) > OWN_ABSENCE {
            for child in self.children.values_mut() {
                child.forgive(now);
            }
        }
        self.last_call = self.last_call.max(now);
    }

    /// Ready workers take their turns in the order of their numbers.
    fn sort_workers(&mut self) {
        let ready = self.children.iter().filter(|(_, c)| c.role == Role::Worker && c.state == State::Ready);
        let mut ready: Vec<_> = ready.map(|(key, child)| (child.id, *key)).collect();
        ready.sort_unstable();
        self.order = ready.into_iter().map(|(_, key)| key).collect();
    }

    /// After every input: who can be served is, and accepting follows.
    fn settle(&mut self, now: Instant) {
        self.dispatch(now);
        self.control_accepting();
        debug_assert_eq!(
            self.pending,
            self.waiting.len() + self.children.values().map(|c| c.unacked.len()).sum::<usize>()
        );
        debug_assert!(self.slots.iter().all(|slot| self.ending.is_some() || !slot.is_lost(&self.config)));
    }

    fn event(&mut self, event: ClusterEvent) {
        self.outputs.push_back(SupOut::Event(event));
    }
}
