//! One run: a cluster, its clients, and all that may happen to them, in one thread and from one seed.
//!
//! A step is one turn of one machine that has something to do, picked by chance; when none has, time passes to the next
//! moment at which one will. So two machines never act at once, and the order in which they act is as free as on a real
//! machine.

use std::time::{Duration, Instant};

use sc_cluster::Role;
use sc_cluster::supervisor::ChildKey;

use crate::child::Process;
use crate::client::{Call, Client, Phase};
use crate::clock::Clock;
use crate::env::Env;
use crate::fault::Fault;
use crate::master::{Master, Signal};
use crate::model::{By, Model};
use crate::net::Net;
use crate::rng::Rng;
use crate::workload;

/// How long clients act and things break.
const STORM: Duration = Duration::from_secs(12);
/// Within which everything has come to rest afterwards: the longest timeouts of engines and supervisor, one behind the other.
const CALM: Duration = Duration::from_secs(45);
/// Steps of a run, at most: more means that it does not come to rest.
const STEPS_MAX: u64 = 2_000_000;

#[derive(Debug, Clone, Copy)]
enum Actor {
    Master,
    Child(ChildKey),
    Client(usize),
    Chaos,
}

pub(crate) struct World {
    env: Env,
    master: Master,
    clients: Vec<Client>,
    chaos_at: Instant,
    brokers: u32,
    pub(crate) steps: u64,
    scratch: Vec<(Instant, Actor)>,
}

/// How a run went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) steps: u64,
    pub(crate) digest: u64,
    pub(crate) delivered: u64,
    pub(crate) acked: u64,
    pub(crate) failed: u64,
    pub(crate) connects: u64,
    pub(crate) starts: u64,
    pub(crate) violation: Option<String>,
}

impl World {
    pub(crate) fn new(seed: u64, fault: Option<Fault>) -> Self {
        let clock = Clock::new();
        let mut env = Env {
            clock,
            net: Net::default(),
            rng: Rng::new(seed),
            model: Model::default(),
            fault,
            faults_left: 3,
            calm: false,
            digest: 0xcbf2_9ce4_8422_2325,
            slow_closed: 0,
        };
        let (workers, brokers) = (1 + env.rng.below(4) as u32, 1 + env.rng.below(3) as u32);
        let clients = 3 + env.rng.below(6);
        Self {
            master: Master::new(&mut env, workers, brokers),
            clients: (0..clients).map(|number| Client::new(number, &mut env)).collect(),
            chaos_at: env.clock.now() + Duration::from_secs(1),
            env,
            brokers,
            steps: 0,
            scratch: Vec::new(),
        }
    }

    /// Runs to the end, or to the first violation.
    pub(crate) fn run(&mut self) -> Outcome {
        let begin = self.env.clock.now();
        self.run_until(begin + STORM);
        self.calm_down();
        self.run_until(begin + STORM + CALM);
        self.check_rest();
        self.roll_call();
        self.run_until(begin + STORM + 2 * CALM);
        self.check_rest();
        self.check_agreement();
        self.outcome()
    }

    fn outcome(&self) -> Outcome {
        Outcome {
            steps: self.steps,
            digest: self.env.digest,
            delivered: self.env.model.delivered,
            acked: self.env.model.acked,
            failed: self.env.model.failed,
            connects: self.clients.iter().map(|client| client.connects).sum(),
            starts: self.master.starts,
            violation: self.env.model.violation().map(str::to_owned),
        }
    }

    fn run_until(&mut self, end: Instant) {
        while self.env.model.violation().is_none() && self.step(end) {
            self.steps += 1;
            if self.steps > STEPS_MAX {
                self.env.model.fail("there is no rest");
            }
        }
    }

    /// One turn of one machine. Answers false when nothing is to happen before `end`.
    fn step(&mut self, end: Instant) -> bool {
        let now = self.env.clock.now();
        let mut wants = std::mem::take(&mut self.scratch);
        wants.clear();
        wants.extend(self.master.wants_at(now).map(|at| (at, Actor::Master)));
        for (key, child) in &self.master.children {
            wants.extend(child.wants_at(&self.env, now).map(|at| (at, Actor::Child(*key))));
        }
        for (number, client) in self.clients.iter().enumerate() {
            wants.extend(client.wants_at(&self.env, now).map(|at| (at, Actor::Client(number))));
        }
        if !self.env.calm {
            wants.push((self.chaos_at, Actor::Chaos));
        }
        let next = wants.iter().map(|(at, _)| *at).min().unwrap_or(end).max(now);
        if next < end {
            self.env.clock.advance_to(next);
            wants.retain(|(at, _)| *at <= next);
            let actor = self.env.rng.pick(&wants).1;
            self.act(actor);
        } else {
            self.env.clock.advance_to(end);
        }
        self.scratch = wants;
        next < end
    }

    fn act(&mut self, actor: Actor) {
        match actor {
            Actor::Master => self.master.turn(&mut self.env),
            Actor::Child(key) => {
                if let Some(child) = self.master.children.get_mut(&key) {
                    child.turn(&mut self.env);
                }
            }
            Actor::Client(number) => self.client_turn(number),
            Actor::Chaos => {
                self.chaos_at = self.env.clock.now() + self.env.rng.millis(50, 2000);
                self.chaos();
            }
        }
    }

    fn client_turn(&mut self, number: usize) {
        let (client, env) = (&mut self.clients[number], &mut self.env);
        let now = env.clock.now();
        match (client.phase, client.stream) {
            (Phase::Away(at), None) if at <= now => {
                let stream = client.connect(env);
                self.master.listener.push_back(stream);
            }
            _ => {
                if client.session().is_some() && client.acts_at <= now && !env.calm {
                    client.acts_at = now + env.rng.millis(1, 100);
                    workload::act(client, env);
                }
                client.turn(env);
            }
        }
    }

    fn chaos(&mut self) {
        let env = &mut self.env;
        let now = env.clock.now();
        let client = env.rng.below(self.clients.len());
        match env.rng.below(12) {
            0 | 1 => self.doom(Role::Worker),
            2 => self.doom(Role::Broker),
            3 => self.hang(Role::Worker),
            4 => self.hang(Role::Broker),
            5 => self.master.signal = Some(*env.rng.pick(&[Signal::Reload, Signal::AddWorker, Signal::RemoveWorker])),
            6 => {
                if let Some(stream) = self.clients[client].stream {
                    env.net.reset(stream);
                }
            }
            7 => self.clients[client].stalled_until = Some(now + env.rng.millis(100, 6000)),
            8 => self.clients[client].half_close(env),
            9 => {
                let by = env.rng.below(2_000_000) as i64 - 1_000_000;
                env.clock.set_wall(by);
            }
            10 if env.rng.once_in(2) => self.master.accept_fails = true,
            10 => {
                let running = self.master.running(Role::Worker);
                self.master.broken = running.first().map(|(key, _)| *key);
            }
            // The whole machine sleeps.
            _ => {
                let asleep = env.rng.millis(10, 4000);
                env.clock.advance_to(now + asleep);
            }
        }
    }

    fn doom(&mut self, role: Role) {
        let running = self.master.running(role);
        if running.is_empty() {
            return;
        }
        let (key, _) = *self.env.rng.pick(&running);
        let doom = Some(self.env.rng.below(40) as u32);
        match self.master.children.get_mut(&key).and_then(|child| child.process.as_mut()) {
            Some(Process::Worker(worker)) => worker.life.doom = doom,
            Some(Process::Broker(broker)) => broker.life.doom = doom,
            None => {}
        }
    }

    fn hang(&mut self, role: Role) {
        let running = self.master.running(role);
        if running.is_empty() {
            return;
        }
        let (key, _) = *self.env.rng.pick(&running);
        let until = self.env.clock.now() + self.env.rng.millis(50, 9000);
        if let Some(child) = self.master.children.get_mut(&key) {
            child.hung_until = Some(until);
        }
    }

    /// Nothing breaks any more, and nobody asks for more.
    fn calm_down(&mut self) {
        self.env.calm = true;
        for child in self.master.children.values_mut() {
            child.hung_until = None;
            match &mut child.process {
                Some(Process::Worker(worker)) => worker.life.doom = None,
                Some(Process::Broker(broker)) => broker.life.doom = None,
                None => {}
            }
        }
        for client in &mut self.clients {
            client.stalled_until = None;
        }
    }

    /// Everybody is there, everything is answered, and what was acknowledged was delivered.
    fn check_rest(&mut self) {
        if self.env.model.violation().is_some() {
            return;
        }
        for (role, count) in [(Role::Worker, self.master.supervisor.workers()), (Role::Broker, self.brokers)] {
            let mut numbers: Vec<u32> = self.master.running(role).iter().map(|(_, number)| *number).collect();
            numbers.sort_unstable();
            let all = numbers.iter().copied().eq(0..count);
            self.env.model.check(all, || format!("of {count} {role}s these run: {numbers:?}"));
        }
        for client in &self.clients {
            let (number, phase) = (client.number, client.phase);
            self.env.model.check(client.session().is_some(), || format!("client {number} is {phase:?}"));
            let open = &client.pending;
            self.env.model.check(open.is_empty(), || format!("client {number} never got answers to {open:?}"));
        }
        let pending = self.master.supervisor.pending();
        self.env.model.check(pending == 0, || format!("{pending} connections wait for ever"));
        self.env.model.check_delivered();
    }

    /// Everyone says what it is subscribed to, and publishes to it.
    fn roll_call(&mut self) {
        for client in &mut self.clients {
            let Some(session) = client.session() else { continue };
            client.call("whoami", "null", Call::Whoami);
            for channel in self.env.model.subscriptions(session) {
                workload::publish(client, &mut self.env, &channel, By::Client);
            }
        }
    }

    /// Brokers have the subscriptions that clients have, and nobody else's.
    fn check_agreement(&mut self) {
        let failed = self.env.model.failed;
        for child in self.master.children.values() {
            let Some(Process::Broker(broker)) = &child.process else { continue };
            let unacknowledged = broker.broker().unacknowledged();
            self.env
                .model
                .check(unacknowledged == 0, || format!("{unacknowledged} publishes wait in broker {}", child.kind.id));
            let mut wanted = 0;
            let mut names: Vec<String> = Vec::new();
            for client in &self.clients {
                let Some(session) = client.session() else { continue };
                names.extend(self.env.model.subscriptions(session));
            }
            names.sort_unstable();
            names.dedup();
            for name in names.iter().filter(|name| sc_broker::shard(name, self.brokers) == child.kind.id) {
                wanted += 1;
                let links = broker.broker().topics().subscribers(name);
                let there = !links.is_empty() && links.iter().all(|link| broker.worker_of(*link).is_some());
                self.env
                    .model
                    .check(there, || format!("broker {} has lost {name} ({failed} failed before)", child.kind.id));
            }
            let has = broker.broker().topics().channels();
            self.env.model.check(has == wanted, || {
                format!("broker {} has {has} channels, and {wanted} are wanted", child.kind.id)
            });
        }
    }
}
