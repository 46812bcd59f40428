//! One process as the master has it: the process itself, its channel, and its end.

use std::collections::VecDeque;
use std::time::Instant;

use sc_cluster::Role;
use sc_cluster::supervisor::{ConnKey, ExitInfo};

use crate::broker::BrokerProc;
use crate::env::Env;
use crate::net::End;
use crate::process::{Life, Order, Word};
use crate::worker::WorkerProc;

pub(crate) enum Process {
    Worker(Box<WorkerProc>),
    Broker(Box<BrokerProc>),
}

/// What a process is told at its start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) role: Role,
    pub(crate) id: u32,
    pub(crate) pid: u32,
    /// It takes the place of one that died.
    pub(crate) respawn: bool,
    pub(crate) brokers: u32,
    pub(crate) filtered: bool,
}

pub(crate) struct Child {
    pub(crate) kind: Kind,
    starts_at: Option<Instant>,
    pub(crate) process: Option<Process>,
    /// Does nothing until then.
    pub(crate) hung_until: Option<Instant>,
    orders: VecDeque<(Instant, Order)>,
    words: VecDeque<(Instant, Word)>,
    exit: Option<(Instant, ExitInfo)>,
    /// Connections that were sent and not acknowledged.
    pub(crate) given: VecDeque<ConnKey>,
    pub(crate) took: u64,
}

impl Child {
    pub(crate) fn start(kind: Kind, at: Instant) -> Self {
        Self {
            kind,
            starts_at: Some(at),
            process: None,
            hung_until: None,
            orders: VecDeque::new(),
            words: VecDeque::new(),
            exit: None,
            given: VecDeque::new(),
            took: 0,
        }
    }

    pub(crate) fn is_worker(&self) -> bool {
        self.kind.role == Role::Worker && self.is_running()
    }

    pub(crate) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    pub(crate) fn is_full(&self, max: usize) -> bool {
        self.orders.len() >= max
    }

    /// Sends an order; answers false if the process has ended.
    pub(crate) fn tell(&mut self, at: Instant, order: Order) -> bool {
        if self.exit.is_some() {
            return false;
        }
        let at = self.orders.back().map_or(at, |(last, _)| at.max(*last));
        self.orders.push_back((at, order));
        true
    }

    pub(crate) fn next_word(&mut self, now: Instant) -> Option<Word> {
        due(&mut self.words, now)
    }

    pub(crate) fn next_exit(&self, now: Instant) -> Option<ExitInfo> {
        self.exit.filter(|(at, _)| *at <= now && self.words.is_empty()).map(|(_, exit)| exit)
    }

    /// When the master has something to hear from it.
    pub(crate) fn speaks_at(&self) -> Option<Instant> {
        self.words.front().map(|(at, _)| *at).or_else(|| self.exit.map(|(at, _)| at))
    }

    pub(crate) fn wants_at(&self, env: &Env, now: Instant) -> Option<Instant> {
        if self.exit.is_some() {
            return None;
        }
        let due = match &self.process {
            None => self.starts_at,
            Some(process) => {
                let own = match process {
                    Process::Worker(worker) => worker.wants_at(env, now),
                    Process::Broker(broker) => broker.wants_at(env, now),
                };
                own.into_iter().chain(self.orders.front().map(|(at, _)| *at)).min()
            }
        };
        due.map(|at| self.hung_until.map_or(at, |until| at.max(until)))
    }

    pub(crate) fn turn(&mut self, env: &mut Env) {
        let now = env.clock.now();
        self.hung_until = None;
        let mut words = Vec::new();
        if self.process.is_none() {
            self.begin(env);
            words.push(Word::Ready);
        }
        let mut orders = Vec::new();
        while let Some(order) = due(&mut self.orders, now) {
            orders.push(order);
        }
        let Some(process) = &mut self.process else { return };
        let life = match process {
            Process::Worker(worker) => {
                worker.turn(env, orders, &mut words);
                &worker.life
            }
            Process::Broker(broker) => {
                broker.turn(env, orders, &mut words);
                &broker.life
            }
        };
        let exit = match (life.crashed, life.exit) {
            (true, _) => Some(ExitInfo { code: None, signal: Some(11) }),
            (false, Some(code)) => Some(ExitInfo { code: Some(code), signal: None }),
            (false, None) => None,
        };
        for word in words {
            let at = now + env.rng.millis(0, 2);
            let at = self.words.back().map_or(at, |(last, _)| at.max(*last));
            self.words.push_back((at, word));
        }
        if let Some(exit) = exit {
            self.end(env, exit);
        }
    }

    fn begin(&mut self, env: &mut Env) {
        let life = Life::new(env.clock.now());
        self.process = Some(match self.kind.role {
            Role::Worker => Process::Worker(Box::new(WorkerProc::new(life, self.kind, env))),
            Role::Broker => Process::Broker(Box::new(BrokerProc::new(life, self.kind, env))),
        });
    }

    pub(crate) fn kill(&mut self, env: &mut Env) {
        self.end(env, ExitInfo { code: None, signal: Some(9) });
    }

    /// The process ends, and the kernel closes what it held or would have been given.
    pub(crate) fn end(&mut self, env: &mut Env, exit: ExitInfo) {
        if self.exit.is_some() {
            return;
        }
        let now = env.clock.now();
        match self.process.take() {
            Some(Process::Worker(worker)) => worker.end(env),
            Some(Process::Broker(broker)) => broker.end(env),
            None => {}
        }
        let end = if self.kind.role == Role::Worker { End::Near } else { End::Far };
        for (_, order) in self.orders.drain(..) {
            if let Order::Link { stream, .. } = order {
                env.net.close(stream, end, now);
            }
        }
        self.exit = Some((now + env.rng.millis(0, 5), exit));
    }
}

/// The first of a queue, if its time has come.
fn due<T>(queue: &mut VecDeque<(Instant, T)>, now: Instant) -> Option<T> {
    queue.front().is_some_and(|(at, _)| *at <= now).then(|| queue.pop_front()).flatten().map(|(_, item)| item)
}
