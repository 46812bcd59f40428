//! A broker process: the real machine, in a driver like `sc-cluster`'s.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sc_broker::{Broker, BrokerEvent, BrokerLimits, LinkId};
use sc_protocol::ipc::{LinkMsg, LinkReader};

use crate::child::Kind;
use crate::env::Env;
use crate::net::{End, Read};
use crate::process::{HANG_TIMEOUT, Life, Order, Word};
use crate::wire::{Wire, publish_id};

/// Small, so that they are reached.
fn limits() -> BrokerLimits {
    BrokerLimits { link_bytes_max: 48 * 1024, answers_bytes_max: 64 * 1024, ..BrokerLimits::default() }
}

pub(crate) struct BrokerProc {
    pub(crate) life: Life,
    broker: Broker,
    links: BTreeMap<u32, Link>,
    overloaded: BTreeMap<u32, Instant>,
}

struct Link {
    worker: u32,
    wire: Wire,
    tap: LinkReader,
    blocked: bool,
    pid: Option<u32>,
}

impl BrokerProc {
    pub(crate) fn new(life: Life, kind: Kind, env: &mut Env) -> Self {
        let seed = env.rng.seed();
        let broker = if kind.respawn { Broker::successor(limits(), seed) } else { Broker::new(limits(), seed) };
        Self { life, broker, links: BTreeMap::new(), overloaded: BTreeMap::new() }
    }

    pub(crate) fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The worker at the other end of a link.
    pub(crate) fn worker_of(&self, link: u32) -> Option<u32> {
        self.links.get(&link).map(|link| link.worker)
    }

    pub(crate) fn wants_at(&self, env: &Env, now: Instant) -> Option<Instant> {
        let links = self.links.values().filter_map(|link| {
            let write = (link.blocked && env.net.room(link.wire.stream, End::Far) > 0).then_some(now);
            write.or_else(|| env.net.readable_at(link.wire.stream, End::Far, now))
        });
        let hung = self.overloaded.values().map(|since| *since + HANG_TIMEOUT);
        links.chain(hung).chain([self.life.beat_at]).min()
    }

    pub(crate) fn turn(&mut self, env: &mut Env, orders: Vec<Order>, words: &mut Vec<Word>) {
        for order in orders {
            match order {
                Order::Link { peer, stream } => {
                    let LinkId(number) = self.broker.attach(env.clock.now());
                    let wire = Wire::new(stream, End::Far, false);
                    self.links
                        .insert(number, Link { worker: peer, wire, tap: LinkReader::new(), blocked: false, pid: None });
                }
                Order::Linked => self.broker.all_attached(),
                Order::Terminate => self.life.exit = Some(0),
                Order::Conns(_) | Order::Drain(_) => env.model.fail("a broker was sent what is for workers"),
            }
        }
        let mut numbers: Vec<u32> = self.links.keys().copied().collect();
        env.rng.shuffle(&mut numbers);
        for number in numbers {
            if self.life.goes_on() {
                self.read(env, number);
            }
        }
        self.broker.release_held(|_, _| ());
        self.write(env);
        self.handle_events(env, words);
        if self.life.goes_on() && self.life.beat_at <= env.clock.now() {
            self.life.beat_at = env.clock.now() + Duration::from_secs(1);
            words.push(Word::Beat(self.links.len() as u32));
        }
    }

    fn read(&mut self, env: &mut Env, number: u32) {
        let now = env.clock.now();
        let Some(link) = self.links.get_mut(&number) else { return };
        if link.blocked && env.net.room(link.wire.stream, End::Far) > 0 {
            link.blocked = false;
            self.broker.writable(LinkId(number));
        }
        match link.wire.read(env) {
            Read::Nothing => {}
            Read::Eof | Read::Reset => self.end_link(env, number),
            Read::Data(data) => {
                let tap = link.tap.handle_bytes(&data, |msg| {
                    if let LinkMsg::Publish { channel, data, .. } = msg {
                        match publish_id(data) {
                            Some(id) => env.model.placed(channel, id),
                            None => env.model.fail("a publish without its number"),
                        }
                    }
                });
                let read = self.broker.handle_bytes(now, LinkId(number), &data);
                env.model.check(tap.is_ok() && read.is_ok(), || format!("a broker takes offence: {read:?}"));
            }
        }
    }

    fn write(&mut self, env: &mut Env) {
        while let Some((LinkId(number), bytes)) = self.broker.poll_transmit() {
            if !self.life.goes_on() {
                return;
            }
            let Some(link) = self.links.get_mut(&number) else { return env.model.fail("bytes for no link") };
            let wanted = bytes.len();
            let now = env.clock.now();
            let Some(n) = env.net.write(link.wire.stream, End::Far, bytes, now, &mut env.rng) else {
                self.end_link(env, number);
                continue;
            };
            self.broker.wrote(LinkId(number), n);
            if n < wanted {
                link.blocked = true;
                self.broker.blocked(LinkId(number));
            }
        }
    }

    fn handle_events(&mut self, env: &mut Env, words: &mut Vec<Word>) {
        let now = env.clock.now();
        while let Some(event) = self.broker.poll_event() {
            match event {
                BrokerEvent::Hello { link: LinkId(number), pid, .. } => {
                    if let Some(link) = self.links.get_mut(&number) {
                        link.pid = Some(pid);
                    }
                }
                BrokerEvent::Overloaded(LinkId(number)) => _ = self.overloaded.insert(number, now),
                BrokerEvent::Relieved(LinkId(number)) => _ = self.overloaded.remove(&number),
                _ => {}
            }
        }
        let hung: Vec<u32> = self
            .overloaded
            .iter()
            .filter(|(_, since)| **since + HANG_TIMEOUT <= now)
            .map(|(number, _)| *number)
            .collect();
        for number in hung {
            if let Some(pid) = self.links.get(&number).and_then(|link| link.pid) {
                words.push(Word::Unlinked(pid));
            }
            self.end_link(env, number);
        }
        let most = limits().link_bytes_max + limits().answers_bytes_max;
        for number in self.links.keys() {
            let queued = self.broker.queued(LinkId(*number));
            env.model.check(queued <= most, || format!("{queued} bytes wait in a broker for one worker"));
        }
    }

    fn end_link(&mut self, env: &mut Env, number: u32) {
        if let Some(link) = self.links.remove(&number) {
            env.net.close(link.wire.stream, End::Far, env.clock.now());
            self.overloaded.remove(&number);
            self.broker.detached(env.clock.now(), LinkId(number));
        }
    }

    /// The process is gone: the kernel closes what it held.
    pub(crate) fn end(self, env: &mut Env) {
        for link in self.links.into_values() {
            env.net.close(link.wire.stream, End::Far, env.clock.now());
        }
    }
}
