//! A worker process: the real engine, in a driver like `sc-cluster`'s.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sc_auth::{JwtConfig, JwtEngine, Key};
use sc_protocol::ws::CloseCode;
use sc_server::{Config, DRAIN_ANSWERS_MAX, Engine, Job, Output, TicketId};

use crate::app::{self, Session, State};
use crate::child::Kind;
use crate::conn::{Conn, Phase};
use crate::env::Env;
use crate::fault::Fault;
use crate::net::{End, Read, StreamId};
use crate::process::{Life, Order, TERM_TIMEOUT, Word};
use crate::wire::Wire;

/// Unwritten bytes of one socket, at most.
pub(crate) const BACKPRESSURE_MAX: usize = 64 * 1024;

pub(crate) struct WorkerProc {
    pub(crate) life: Life,
    engine: Engine<State, Session>,
    conns: BTreeMap<u32, Conn>,
    links: Vec<Option<Wire>>,
    jobs: Vec<(Instant, TicketId, Job)>,
    dead: Vec<u32>,
    taken: u64,
    ending: Option<Instant>,
    terminated: bool,
    linked_before: Vec<bool>,
}

impl WorkerProc {
    pub(crate) fn new(life: Life, kind: Kind, env: &mut Env) -> Self {
        let Kind { id, pid, brokers, filtered, .. } = kind;
        let key = Key::shared("the key of all workers").expect("a key");
        let auth = JwtEngine::new(JwtConfig::new(key)).expect("a good key");
        let config = Config { worker_id: id, pid, brokers, pending_inbound_max: 8 * 1024, ..Config::default() };
        let entropy = Box::new(env.rng.fork());
        let engine = Engine::new(app::application(filtered), config, Box::new(auth), entropy, env.clock.time());
        Self {
            life,
            engine,
            conns: BTreeMap::new(),
            links: (0..brokers).map(|_| None).collect(),
            jobs: Vec::new(),
            dead: Vec::new(),
            taken: 0,
            ending: None,
            terminated: false,
            linked_before: vec![false; brokers as usize],
        }
    }

    pub(crate) fn wants_at(&self, env: &Env, now: Instant) -> Option<Instant> {
        let links = self.links.iter().flatten().filter_map(|link| link.wants_at(env, now));
        let conns = self.conns.values().filter_map(|conn| conn.wants_at(env, now));
        let jobs = self.jobs.iter().map(|(at, ..)| *at);
        let dead = (!self.dead.is_empty()).then_some(now);
        let times = [Some(self.life.beat_at), self.engine.poll_timeout(), self.ending, dead];
        links.chain(conns).chain(jobs).chain(times.into_iter().flatten()).min()
    }

    pub(crate) fn turn(&mut self, env: &mut Env, orders: Vec<Order>, words: &mut Vec<Word>) {
        self.obey(env, orders, words);
        self.read_links(env);
        self.read_conns(env);
        self.run_jobs(env);
        self.handle_time(env);
        self.settle(env);
        self.flush(env);
        if self.life.goes_on() && self.life.beat_at <= env.clock.now() {
            self.life.beat_at = env.clock.now() + Duration::from_secs(1);
            words.push(Word::Beat(self.conns.len() as u32));
        }
        let settled = self.conns.is_empty() && self.engine.is_settled();
        if self.ending.is_some_and(|at| settled || at <= env.clock.now()) {
            self.life.exit = Some(0);
        }
    }

    fn obey(&mut self, env: &mut Env, orders: Vec<Order>, words: &mut Vec<Word>) {
        let mut taken = self.taken;
        for order in orders {
            if !self.life.goes_on() {
                // The kernel closes what a process had not read when it ended.
                if let Order::Link { stream, .. } = order {
                    env.net.close(stream, End::Near, env.clock.now());
                }
                continue;
            }
            match order {
                Order::Conns(conns) => {
                    // Now and then the process may not open that many descriptors.
                    let loses = !env.calm && !conns.is_empty() && env.rng.once_in(20);
                    let lost = if loses { 1 + env.rng.below(conns.len()) } else { 0 };
                    for (_, stream) in &conns[..conns.len() - lost] {
                        self.taken += 1;
                        self.adopt(env, *stream);
                    }
                    if lost > 0 && self.life.goes_on() {
                        taken = self.taken;
                        words.extend([Word::Taken(taken), Word::Lost(lost as u32)]);
                    }
                }
                Order::Link { peer, stream } => self.link(env, peer, stream),
                Order::Drain(over) if self.ending.is_none() => {
                    self.ending_at(env, over + DRAIN_ANSWERS_MAX + TERM_TIMEOUT, over);
                }
                Order::Terminate if !self.terminated => {
                    self.terminated = true;
                    self.ending_at(env, TERM_TIMEOUT, Duration::ZERO);
                    let http = self.conns.iter().filter(|(_, conn)| conn.phase == Phase::Http);
                    let http: Vec<u32> = http.map(|(slot, _)| *slot).collect();
                    http.into_iter().for_each(|slot| self.drop_conn(env, slot));
                }
                Order::Drain(_) | Order::Terminate | Order::Linked => {}
            }
        }
        if self.taken != taken && self.life.goes_on() {
            words.push(Word::Taken(self.taken));
        }
    }

    fn ending_at(&mut self, env: &Env, latest: Duration, over: Duration) {
        self.ending = Some(env.clock.now() + latest);
        self.engine.drain(env.clock.time(), over, CloseCode::PONG_TIMEOUT);
    }

    fn adopt(&mut self, env: &mut Env, stream: StreamId) {
        if self.terminated {
            return;
        }
        env.net.share(stream, End::Far);
        let slot = (0..).find(|slot| !self.conns.contains_key(slot)).expect("a free slot");
        self.conns.insert(slot, Conn::new(stream, env.clock.now()));
    }

    fn link(&mut self, env: &mut Env, shard: u32, stream: StreamId) {
        self.end_link(env, shard);
        let again = std::mem::replace(&mut self.linked_before[shard as usize], true);
        self.links[shard as usize] = Some(Wire::new(stream, End::Near, again));
        self.engine.link_up(env.clock.time(), shard);
    }

    /// What the broker has written is not lost with the link.
    fn end_link(&mut self, env: &mut Env, shard: u32) {
        let Some(mut link) = self.links[shard as usize].take() else { return };
        let at = env.clock.time();
        let rest = link.rest(env);
        let read = self.engine.handle_link(at, shard, &rest);
        env.model.check(read.is_ok(), || "the rest of a link makes no sense".to_owned());
        env.net.close(link.stream, End::Near, at.now);
        self.engine.link_queued(shard, 0);
        self.engine.link_down(at, shard);
    }

    fn read_links(&mut self, env: &mut Env) {
        let mut shards: Vec<usize> = (0..self.links.len()).collect();
        env.rng.shuffle(&mut shards);
        for shard in shards {
            let Some(link) = self.links[shard].as_mut() else { continue };
            if !self.life.goes_on() {
                return;
            }
            match link.read(env) {
                Read::Nothing => {}
                Read::Eof | Read::Reset => self.end_link(env, shard as u32),
                Read::Data(data) => {
                    env.note(&data);
                    let read = self.engine.handle_link(env.clock.time(), shard as u32, &data);
                    env.model.check(read.is_ok(), || format!("a worker takes offence at a broker: {read:?}"));
                }
            }
            let Some(link) = self.links[shard].as_mut() else { continue };
            if link.queued() > 0 {
                if link.flush(env) {
                    self.engine.link_queued(shard as u32, link.queued());
                } else {
                    self.end_link(env, shard as u32);
                }
            }
        }
    }

    fn read_conns(&mut self, env: &mut Env) {
        let mut slots: Vec<u32> = self.conns.keys().copied().collect();
        env.rng.shuffle(&mut slots);
        for slot in slots {
            let Some(conn) = self.conns.get_mut(&slot).filter(|conn| conn.reads()) else { continue };
            if env.rng.once_in(8) {
                continue;
            }
            if !self.life.goes_on() {
                return;
            }
            let size = env.read_size();
            match env.net.read(conn.stream, End::Far, size, env.clock.now()) {
                Read::Nothing => {}
                Read::Reset => self.drop_conn(env, slot),
                Read::Eof => self.read_end(env, slot),
                Read::Data(mut data) => {
                    env.note(&data);
                    conn.handle(env, slot, &mut data, &mut self.engine);
                }
            }
        }
    }

    fn read_end(&mut self, env: &mut Env, slot: u32) {
        let Some(conn) = self.conns.get_mut(&slot) else { return };
        conn.eof = true;
        if conn.phase == Phase::Lingering {
            return self.drop_conn(env, slot);
        }
        conn.phase = Phase::Closing;
        if std::mem::take(&mut conn.attached) {
            self.engine.closed(env.clock.time(), slot);
        }
    }

    fn run_jobs(&mut self, env: &mut Env) {
        let at = env.clock.time();
        while let Some(due) = self.jobs.iter().position(|(when, ..)| *when <= at.now) {
            let (_, ticket, job) = self.jobs.swap_remove(due);
            if env.rng.once_in(50) {
                self.engine.handle_failed(at, ticket);
            } else {
                self.engine.handle_done(at, ticket, job());
            }
        }
    }

    fn handle_time(&mut self, env: &mut Env) {
        let at = env.clock.time();
        let late: Vec<u32> = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.deadline.is_some_and(|due| due <= at.now))
            .map(|(s, _)| *s)
            .collect();
        late.into_iter().for_each(|slot| self.drop_conn(env, slot));
        if self.engine.poll_timeout().is_some_and(|due| due <= at.now) {
            self.engine.handle_timeout(at);
            let next = self.engine.poll_timeout();
            env.model
                .check(next.is_none_or(|next| next > at.now), || "an engine's timeout is not in the future".to_owned());
        }
    }

    fn settle(&mut self, env: &mut Env) {
        for slot in std::mem::take(&mut self.dead) {
            let Some(conn) = self.conns.get_mut(&slot) else { continue };
            if std::mem::take(&mut conn.attached) {
                self.engine.closed(env.clock.time(), slot);
            }
            conn.freed = true;
        }
        loop {
            while let Some(output) = self.engine.poll_output() {
                self.carry_out(env, output);
            }
            if !self.write_links(env) {
                return;
            }
        }
    }

    /// Whether a link broke, which brings about more.
    fn write_links(&mut self, env: &mut Env) -> bool {
        let mut broke = false;
        while let Some((shard, bytes)) = self.engine.poll_link() {
            let Some(link) = self.links[shard as usize].as_mut() else { continue };
            if !self.life.goes_on() {
                return false;
            }
            if link.send(env, &bytes) {
                self.engine.link_queued(shard, link.queued());
            } else {
                self.end_link(env, shard);
                broke = true;
            }
        }
        broke
    }

    fn carry_out(&mut self, env: &mut Env, output: Output) {
        match output {
            Output::Transmit(slot, bytes) => self.queue(env, slot, &bytes),
            Output::Fanout(bytes, slots) => {
                slots.iter().for_each(|slot| self.queue(env, *slot, &bytes));
                self.engine.recycle(slots);
            }
            Output::Close(slot) => {
                let Some(conn) = self.conns.get_mut(&slot).filter(|conn| !conn.dead) else { return };
                if conn.phase != Phase::Lingering {
                    conn.phase = Phase::Closing;
                    if std::mem::take(&mut conn.attached) {
                        self.engine.closed(env.clock.time(), slot);
                    }
                }
            }
            Output::Abort(slot) => self.drop_conn(env, slot),
            Output::Read(slot, on) => {
                if let Some(conn) = self.conns.get_mut(&slot) {
                    conn.reading = on;
                }
            }
            Output::Offload(ticket, job) => {
                let at = env.clock.now() + env.rng.millis(0, 120);
                self.jobs.push((at, ticket, job));
            }
            Output::Report(report) => {
                env.model.check(report.name != "PanicError", || format!("a handler panicked: {}", report.message));
            }
            Output::Crash => env.model.fail("an engine asks for a crash"),
            other => env.model.fail(format!("an output that this driver does not know: {other:?}")),
        }
    }

    fn queue(&mut self, env: &mut Env, slot: u32, bytes: &[u8]) {
        let Some(conn) = self.conns.get_mut(&slot).filter(|conn| !conn.dead && conn.phase != Phase::Lingering) else {
            return;
        };
        conn.queue(env, bytes);
    }

    /// The one write of a turn to each socket.
    fn flush(&mut self, env: &mut Env) {
        let slots: Vec<u32> = self.conns.keys().copied().collect();
        for slot in slots {
            let Some(conn) = self.conns.get_mut(&slot).filter(|conn| !conn.dead) else { continue };
            if !conn.out.is_empty() && !self.life.goes_on() {
                return;
            }
            if !conn.write(env) {
                self.drop_conn(env, slot);
            } else if conn.out.len() > BACKPRESSURE_MAX && env.fault != Some(Fault::NoLimit) {
                env.slow_closed += 1;
                self.drop_conn(env, slot);
            } else if conn.phase == Phase::Closing && conn.out.is_empty() {
                if conn.eof {
                    self.drop_conn(env, slot);
                } else {
                    env.net.shutdown(conn.stream, End::Far, env.clock.now());
                    conn.phase = Phase::Lingering;
                    conn.reading = true;
                    conn.deadline = Some(env.clock.now() + Duration::from_secs(1));
                }
            } else if conn.phase == Phase::Closing && conn.deadline.is_none() {
                conn.deadline = Some(env.clock.now() + Duration::from_secs(10));
            }
        }
        for conn in self.conns.values() {
            let queued = conn.out.len();
            env.model.check(queued <= BACKPRESSURE_MAX || conn.dead, || format!("{queued} bytes wait for one socket"));
        }
        self.conns.retain(|_, conn| !conn.freed);
    }

    fn drop_conn(&mut self, env: &mut Env, slot: u32) {
        let Some(conn) = self.conns.get_mut(&slot) else { return };
        if !std::mem::replace(&mut conn.dead, true) {
            conn.out.clear();
            env.net.close(conn.stream, End::Far, env.clock.now());
            self.dead.push(slot);
        }
    }

    /// The process is gone: the kernel closes what it held.
    pub(crate) fn end(self, env: &mut Env) {
        let now = env.clock.now();
        for conn in self.conns.into_values().filter(|conn| !conn.dead) {
            env.net.close(conn.stream, End::Far, now);
        }
        for link in self.links.into_iter().flatten() {
            env.net.close(link.stream, End::Near, now);
        }
    }
}
