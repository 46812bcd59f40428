//! A supervisor with pretended processes and a clock that only moves when it is told to.

#![allow(dead_code, unreachable_pub, missing_debug_implementations, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test rig may fail")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use sc_cluster::{
    Options, Role,
    supervisor::{ChildKey, ClusterEvent, ConnKey, ExitInfo, SupConfig, SupIn, SupOut, Supervisor},
};
use sc_protocol::ipc::Control;

pub const MS: Duration = Duration::from_millis(1);
pub const SEC: Duration = Duration::from_secs(1);

/// A pretended process.
#[derive(Debug, Default)]
pub struct Process {
    pub is_worker: bool,
    pub id: u32,
    pub spawned_ms: u128,
    pub asked: bool,
    pub drained: bool,
    pub killed: bool,
    pub has_listener: bool,
    /// Connections received and not acknowledged.
    pub inbox: Vec<ConnKey>,
    pub taken: Vec<ConnKey>,
    pub links: BTreeSet<ChildKey>,
    /// It was told that these were all of them.
    pub linked: Option<usize>,
    /// Its control channel takes no messages.
    pub is_full: bool,
}

pub struct Rig {
    pub supervisor: Supervisor,
    pub start: Instant,
    pub now: Instant,
    pub processes: BTreeMap<ChildKey, Process>,
    /// Copies that the driver holds.
    pub held: BTreeSet<ConnKey>,
    pub taken: BTreeSet<ConnKey>,
    pub paused: bool,
    pub listening: bool,
    pub exit: Option<u8>,
    pub events: Vec<ClusterEvent>,
    pub spawned: u32,
    pub spawn_fails: bool,
    next_conn: usize,
}

pub fn config(options: &str) -> SupConfig {
    let mut all = Options::default();
    all.merge_json(options).unwrap();
    SupConfig::new(&all, 10_000)
}

impl Rig {
    pub fn new(config: SupConfig) -> Self {
        let now = Instant::now();
        let mut rig = Self {
            supervisor: Supervisor::new(config, now),
            start: now,
            now,
            processes: BTreeMap::new(),
            held: BTreeSet::new(),
            taken: BTreeSet::new(),
            paused: true,
            listening: true,
            exit: None,
            events: Vec::new(),
            spawned: 0,
            spawn_fails: false,
            next_conn: 0,
        };
        rig.drain();
        rig
    }

    /// All processes are up.
    pub fn running(options: &str) -> Self {
        let mut rig = Self::new(config(options));
        rig.ready_all();
        rig
    }

    pub fn input(&mut self, input: SupIn<'_>) {
        self.supervisor.handle(self.now, input);
        self.drain();
    }

    pub fn control(&mut self, child: ChildKey, message: Control<'_>) {
        self.input(SupIn::Control(child, message));
    }

    /// Does what a driver does.
    pub fn drain(&mut self) {
        while let Some(output) = self.supervisor.poll_output() {
            assert_eq!(self.exit, None, "nothing follows the exit: {output:?}");
            match output {
                SupOut::Spawn { child, role, id, .. } => self.spawn(child, role, id),
                SupOut::Link { worker, broker, worker_id, broker_id } => {
                    assert_eq!((self.processes[&worker].id, self.processes[&broker].id), (worker_id, broker_id));
                    assert!(self.process(worker).links.insert(broker), "one link for each pair");
                    assert!(self.process(broker).links.insert(worker), "one link for each pair");
                }
                SupOut::Linked(child) => {
                    let process = self.process(child);
                    assert_eq!(process.linked, None, "said once");
                    process.linked = Some(process.links.len());
                }
                SupOut::Listener(child) => self.process(child).has_listener = true,
                SupOut::Handoff(child, conns) => self.hand_off(child, conns),
                SupOut::Release(conn) => assert!(self.held.remove(&conn), "{conn:?} released twice"),
                SupOut::Drain(child, _) => self.process(child).drained = true,
                SupOut::Terminate(child) => self.process(child).asked = true,
                SupOut::Kill(child) => self.process(child).killed = true,
                SupOut::PauseAccept(paused) => {
                    assert_ne!(self.paused, paused, "said once");
                    self.paused = paused;
                }
                SupOut::CloseListener => self.listening = false,
                SupOut::Event(event) => self.events.push(event),
                SupOut::Exit(code) => self.exit = Some(code),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(self.held.len(), self.supervisor.pending(), "the driver holds what is pending");
    }

    fn spawn(&mut self, child: ChildKey, role: Role, id: u32) {
        self.spawned += 1;
        if self.spawn_fails {
            return self.supervisor.handle(self.now, SupIn::Spawned(child, Err("no".to_owned())));
        }
        let spawned_ms = (self.now - self.start).as_millis();
        let process = Process { is_worker: role == Role::Worker, id, spawned_ms, ..Process::default() };
        self.processes.insert(child, process);
        self.supervisor.handle(self.now, SupIn::Spawned(child, Ok(1000 + child.0)));
    }

    fn hand_off(&mut self, child: ChildKey, conns: Vec<ConnKey>) {
        assert!(!conns.is_empty() && conns.len() <= 32);
        for conn in &conns {
            assert!(self.held.contains(conn), "the copy is kept");
            let holder = self.processes.values().find(|p| p.inbox.contains(conn));
            assert!(holder.is_none(), "{conn:?} is with another process that may still take it");
        }
        if self.process(child).is_full {
            return self.supervisor.handle(self.now, SupIn::HandoffBlocked(child, conns));
        }
        self.process(child).inbox.extend(conns);
    }

    pub fn process(&mut self, child: ChildKey) -> &mut Process {
        self.processes.get_mut(&child).expect("a process that lives")
    }

    pub fn of(&self, is_worker: bool, id: u32) -> ChildKey {
        let mut found = self.processes.iter().filter(|(_, p)| p.is_worker == is_worker && p.id == id);
        *found.next_back().expect("such a process").0
    }

    pub fn worker(&self, id: u32) -> ChildKey {
        self.of(true, id)
    }

    pub fn broker(&self, id: u32) -> ChildKey {
        self.of(false, id)
    }

    pub fn ready_all(&mut self) {
        let all: Vec<_> = self.processes.keys().copied().collect();
        for child in all {
            self.control(child, Control::Ready);
        }
    }

    /// Accepts so many connections in one turn.
    pub fn connect(&mut self, count: usize) -> Vec<ConnKey> {
        let conns: Vec<_> = (self.next_conn..self.next_conn + count).map(ConnKey).collect();
        self.next_conn += count;
        for &conn in &conns {
            self.held.insert(conn);
            self.supervisor.handle(self.now, SupIn::Accepted(conn));
        }
        self.drain();
        conns
    }

    /// The worker acknowledges the oldest so many connections that it got.
    pub fn take(&mut self, child: ChildKey, count: usize) {
        let process = self.process(child);
        let taken: Vec<_> = process.inbox.drain(..count).collect();
        process.taken.extend(&taken);
        let total = process.taken.len() as u64;
        for conn in taken {
            assert!(self.taken.insert(conn), "{conn:?} is taken by one worker only");
        }
        self.control(child, Control::ConnsTaken { total });
    }

    pub fn take_all(&mut self, child: ChildKey) {
        let count = self.process(child).inbox.len();
        self.take(child, count);
    }

    pub fn die(&mut self, child: ChildKey) {
        self.processes.remove(&child).expect("a process that lives");
        for process in self.processes.values_mut() {
            process.links.remove(&child);
        }
        self.input(SupIn::Exited(child, ExitInfo { code: None, signal: Some(9) }));
    }

    /// Lets time pass, with a call at each time that the supervisor asked for.
    pub fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.supervisor.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.supervisor.handle_timeout(self.now);
            self.drain();
            assert!(self.supervisor.poll_timeout().is_none_or(|at| at > self.now), "a busy loop");
        }
        self.now = end;
    }

    /// Lets time pass while these processes beat.
    pub fn advance_beating(&mut self, time: Duration, beating: &[ChildKey]) {
        let end = self.now + time;
        while self.now < end {
            self.advance(SEC.min(end - self.now));
            for &child in beating {
                if self.processes.contains_key(&child) {
                    self.control(child, Control::Beat { connections: 0 });
                }
            }
        }
    }

    pub fn warnings(&self) -> Vec<String> {
        let text = |event: &ClusterEvent| match event {
            ClusterEvent::Warning(text) | ClusterEvent::Fail(text) => Some(text.clone()),
            _ => None,
        };
        self.events.iter().filter_map(text).collect()
    }
}
