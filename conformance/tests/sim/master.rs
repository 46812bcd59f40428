//! The master: the real supervisor, and what its driver holds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use sc_cluster::supervisor::{ChildKey, ClusterEvent, ConnKey, SupConfig, SupIn, SupOut, Supervisor};
use sc_cluster::{Options, Role, SchedulingPolicy};
use sc_protocol::ipc::Control;
use sc_protocol::limits::CONTROL_FDS_MAX;

use crate::child::{Child, Kind};
use crate::env::Env;
use crate::fault::Fault;
use crate::net::{End, StreamId};
use crate::process::{DRAIN_TIMEOUT, HANG_TIMEOUT, Order, TERM_TIMEOUT, Word};

/// Messages that a child may leave unread before its channel takes no more.
const CHANNEL_MAX: usize = 6;
/// Connections that the master may hold, at most.
const PENDING_MAX: usize = 16;

/// What an operator may ask for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Signal {
    Reload,
    AddWorker,
    RemoveWorker,
}

pub(crate) struct Master {
    pub(crate) supervisor: Supervisor,
    pub(crate) children: BTreeMap<ChildKey, Child>,
    /// Connections that nobody has accepted yet.
    pub(crate) listener: VecDeque<StreamId>,
    /// What the master holds a copy of.
    conns: BTreeMap<ConnKey, StreamId>,
    /// Who adopted which connection, by acknowledged word.
    taken: BTreeSet<ConnKey>,
    accepting: bool,
    next_conn: usize,
    next_pid: u32,
    blocked: BTreeSet<ChildKey>,
    /// A signal, to be told in the next turn.
    pub(crate) signal: Option<Signal>,
    pub(crate) accept_fails: bool,
    pub(crate) broken: Option<ChildKey>,
    brokers: u32,
    filtered: bool,
    started: bool,
    pub(crate) starts: u64,
}

impl Master {
    pub(crate) fn new(env: &mut Env, workers: u32, brokers: u32) -> Self {
        let mut config = SupConfig::new(&Options::default(), 1000);
        (config.workers, config.brokers) = (workers, brokers);
        config.policy = *env.rng.pick(&[SchedulingPolicy::Rr, SchedulingPolicy::Least]);
        config.handoff_pending_max = PENDING_MAX;
        (config.term_timeout, config.hang_timeout) = (TERM_TIMEOUT, Some(HANG_TIMEOUT));
        config.drain_timeout = DRAIN_TIMEOUT;
        Self {
            supervisor: Supervisor::new(config, env.clock.now()),
            children: BTreeMap::new(),
            listener: VecDeque::new(),
            conns: BTreeMap::new(),
            taken: BTreeSet::new(),
            accepting: false,
            next_conn: 0,
            next_pid: 1000,
            blocked: BTreeSet::new(),
            signal: None,
            accept_fails: false,
            broken: None,
            brokers,
            filtered: env.rng.once_in(3),
            started: false,
            starts: 0,
        }
    }

    pub(crate) fn wants_at(&self, now: Instant) -> Option<Instant> {
        let accept = self.accepting && !self.listener.is_empty();
        let writable =
            self.blocked.iter().any(|key| self.children.get(key).is_none_or(|child| !child.is_full(CHANNEL_MAX)));
        let at_once =
            accept || writable || self.signal.is_some() || self.accept_fails || self.broken.is_some() || !self.started;
        let children = self.children.values().filter_map(|child| child.speaks_at());
        children.chain(self.supervisor.poll_timeout()).chain(at_once.then_some(now)).min()
    }

    pub(crate) fn turn(&mut self, env: &mut Env) {
        self.started = true;
        let now = env.clock.now();
        self.hear(env);
        self.drain(env);
        match self.signal.take() {
            Some(Signal::Reload) => self.supervisor.handle(now, SupIn::Reload),
            Some(Signal::AddWorker) => self.supervisor.handle(now, SupIn::AddWorker),
            Some(Signal::RemoveWorker) => self.supervisor.handle(now, SupIn::RemoveWorker),
            None => {}
        }
        if let Some(key) = self.broken.take() {
            self.supervisor.handle(now, SupIn::Broken(key, "for a test".to_owned()));
        }
        if std::mem::take(&mut self.accept_fails) {
            self.supervisor.handle(now, SupIn::AcceptFailed("for a test".to_owned()));
        }
        self.drain(env);
        self.accept(env);
        for key in self.blocked.clone() {
            if self.children.get(&key).is_none_or(|child| !child.is_full(CHANNEL_MAX)) {
                self.blocked.remove(&key);
                self.supervisor.handle(now, SupIn::Writable(key));
            }
        }
        if self.supervisor.poll_timeout().is_some_and(|due| due <= now) {
            self.supervisor.handle_timeout(now);
            let next = self.supervisor.poll_timeout();
            env.model.check(next.is_none_or(|next| next > now), || {
                "the supervisor's timeout is not in the future".to_owned()
            });
        }
        self.drain(env);
        let pending = self.supervisor.pending();
        env.model.check(pending <= PENDING_MAX + 8, || format!("the master holds {pending} connections"));
        let held = self.conns.len();
        env.model.check(pending == held || env.fault.is_some(), || {
            format!("the supervisor knows of {pending} connections, and the master holds {held}")
        });
    }

    fn accept(&mut self, env: &mut Env) {
        let budget = 1 + env.rng.below(8);
        for _ in 0..budget {
            if !self.accepting {
                return;
            }
            let Some(stream) = self.listener.pop_front() else { return };
            let key = ConnKey(self.next_conn);
            self.next_conn += 1;
            self.conns.insert(key, stream);
            self.supervisor.handle(env.clock.now(), SupIn::Accepted(key));
        }
    }

    /// What children say; their ends come behind their last words.
    fn hear(&mut self, env: &mut Env) {
        let now = env.clock.now();
        let keys: Vec<ChildKey> = self.children.keys().copied().collect();
        for key in keys {
            let Some(child) = self.children.get_mut(&key) else { continue };
            while let Some(word) = child.next_word(now) {
                let control = match word {
                    Word::Ready => Control::Ready,
                    Word::Beat(connections) => Control::Beat { connections },
                    Word::Unlinked(pid) => Control::Unlinked { pid },
                    Word::Lost(count) => {
                        child.given.drain(..count as usize);
                        Control::ConnsLost { count }
                    }
                    Word::Taken(total) => {
                        let given = child.given.drain(..(total - child.took) as usize);
                        for conn in given {
                            let fresh = self.taken.insert(conn);
                            env.model.check(fresh, || format!("{conn:?} was taken by two workers"));
                        }
                        child.took = total;
                        Control::ConnsTaken { total }
                    }
                };
                self.supervisor.handle(now, SupIn::Control(key, control));
            }
            if let Some(exit) = child.next_exit(now) {
                self.children.remove(&key);
                if !env.faulty(Fault::LoseChild) {
                    self.supervisor.handle(now, SupIn::Exited(key, exit));
                }
            }
        }
    }

    fn drain(&mut self, env: &mut Env) {
        while let Some(output) = self.supervisor.poll_output() {
            self.carry_out(env, output);
        }
    }

    fn carry_out(&mut self, env: &mut Env, output: SupOut) {
        let now = env.clock.now();
        match output {
            SupOut::Spawn { child, role, id, respawn } => {
                self.starts += 1;
                if !env.calm && env.rng.once_in(12) {
                    return self.supervisor.handle(now, SupIn::Spawned(child, Err("for a test".to_owned())));
                }
                self.next_pid += 1;
                let ready_at = now + env.rng.millis(1, 200);
                let kind =
                    Kind { role, id, pid: self.next_pid, respawn, brokers: self.brokers, filtered: self.filtered };
                let start = Child::start(kind, ready_at);
                self.children.insert(child, start);
                self.supervisor.handle(now, SupIn::Spawned(child, Ok(self.next_pid)));
            }
            SupOut::Link { worker, worker_id, broker, broker_id } => {
                let capacity = [2048, 16 * 1024, 64 * 1024][env.rng.below(3)];
                let delay = env.rng.millis(0, 3);
                let stream = env.net.connect(capacity, delay, false);
                self.link(env, worker, End::Near, broker_id, stream);
                self.link(env, broker, End::Far, worker_id, stream);
            }
            SupOut::Handoff(key, conns) => self.hand_off(env, key, conns),
            SupOut::Release(conn) => match self.conns.remove(&conn) {
                Some(stream) => {
                    let taken = self.taken.contains(&conn);
                    env.model.check(taken, || format!("{conn:?} is let go and no worker took it"));
                    env.net.close(stream, End::Far, now);
                }
                None => env.model.fail(format!("{conn:?} is let go twice")),
            },
            SupOut::Linked(key) => _ = self.tell(env, key, Order::Linked),
            SupOut::Drain(key, over) => _ = self.tell(env, key, Order::Drain(over)),
            SupOut::Terminate(key) => _ = self.tell(env, key, Order::Terminate),
            SupOut::Kill(key) => {
                if let Some(child) = self.children.get_mut(&key) {
                    child.kill(env);
                }
            }
            SupOut::PauseAccept(pause) => self.accepting = !pause,
            SupOut::Event(ClusterEvent::Exit { .. } | ClusterEvent::Start { .. }) => {}
            SupOut::Event(_) => {}
            SupOut::Listener(_) | SupOut::CloseListener | SupOut::Exit(_) => {
                env.model.fail(format!("the supervisor wants {output:?}"));
            }
            other => env.model.fail(format!("an output that this driver does not know: {other:?}")),
        }
    }

    /// A child that is gone cannot be told; its end of what was for it is closed.
    fn link(&mut self, env: &mut Env, key: ChildKey, end: End, peer: u32, stream: StreamId) {
        if !self.tell(env, key, Order::Link { peer, stream }) {
            env.net.close(stream, end, env.clock.now());
        }
    }

    fn hand_off(&mut self, env: &mut Env, key: ChildKey, conns: Vec<ConnKey>) {
        env.model.check(conns.len() <= CONTROL_FDS_MAX, || "too many descriptors in a message".to_owned());
        let full = self.children.get(&key).is_none_or(|child| child.is_full(CHANNEL_MAX));
        if full && self.children.contains_key(&key) {
            self.blocked.insert(key);
            return self.supervisor.handle(env.clock.now(), SupIn::HandoffBlocked(key, conns));
        }
        if env.faulty(Fault::ShareConnection)
            && let Some((&other, _)) = self.children.iter().find(|(other, child)| **other != key && child.is_worker())
        {
            let both = conns.iter().filter_map(|conn| Some((*conn, *self.conns.get(conn)?))).collect();
            if let Some(child) = self.children.get_mut(&other) {
                child.given.extend(&conns);
            }
            self.tell(env, other, Order::Conns(both));
        }
        let mut given = Vec::new();
        for conn in conns {
            let Some(&stream) = self.conns.get(&conn) else {
                env.model.fail(format!("{conn:?} is handed over and not held"));
                continue;
            };
            if let Some(child) = self.children.get_mut(&key) {
                child.given.push_back(conn);
            }
            if env.faulty(Fault::LoseConnection) {
                self.conns.remove(&conn);
            }
            given.push((conn, stream));
        }
        self.tell(env, key, Order::Conns(given));
    }

    fn tell(&mut self, env: &mut Env, key: ChildKey, order: Order) -> bool {
        let at = env.clock.now() + env.rng.millis(0, 2);
        self.children.get_mut(&key).is_some_and(|child| child.tell(at, order))
    }

    /// The processes of a role that run, by number.
    pub(crate) fn running(&self, role: Role) -> Vec<(ChildKey, u32)> {
        let of_role = self.children.iter().filter(|(_, child)| child.kind.role == role && child.is_running());
        of_role.map(|(key, child)| (*key, child.kind.id)).collect()
    }
}
