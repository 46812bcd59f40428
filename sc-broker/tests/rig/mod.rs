//! Exchanges and brokers in one thread, joined by pipes in memory that split, fill up, stall and break: all of it drawn
//! from one seed, and checked while it runs. A rig panics where a promise is broken.

mod settle;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use sc_broker::{Broker, BrokerEvent, BrokerLimits, Exchange, ExchangeEvent, ExchangeLimits, LinkId, StoreLimits};
use sc_protocol::Entropy;
use sc_protocol::entropy::SeededEntropy;
use sc_protocol::ipc::{CallKind, LinkMsg};
use wire::{Wire, publish_id, take};

pub(crate) const CHANNELS: [&str; 5] = ["news", "chat/1", "chat/2", "", "a longer name of a channel"];

pub(crate) const BROKER_LIMITS: BrokerLimits = BrokerLimits {
    link_bytes_max: 1500,
    answers_bytes_max: 4000,
    channels_max: 100,
    names_bytes_max: 10_000,
    death_bytes_max: 100,
    store: StoreLimits { store_bytes_max: 10_000, store_answer_max: 1000 },
};

pub(crate) const EXCHANGE_LIMITS: ExchangeLimits = ExchangeLimits {
    waiting_publishes_max: 6,
    waiting_bytes_max: 1500,
    in_flight_max: 8,
    link_bytes_max: 1000,
    channels_max: 100,
    names_bytes_max: 10_000,
    waiters_max: 10_000,
};

pub(crate) struct Rig {
    entropy: SeededEntropy,
    hash_seed: u64,
    now: Instant,
    workers: Vec<Worker>,
    brokers: Vec<BrokerNode>,
    /// By worker, then by broker.
    wires: Vec<Vec<Wire>>,
    /// Whether each publish was answered, and how.
    pub(crate) answers: BTreeMap<u64, Option<Answer>>,
    /// Receivers of each publish that a broker has read: worker and life of its wire.
    receivers: BTreeMap<u64, Vec<(usize, u32)>>,
    /// The last publish that a broker has read, by worker and channel.
    last: BTreeMap<(usize, String), u64>,
    /// Deliveries that are in kernel buffers.
    written: BTreeSet<(u64, usize, u32)>,
    waiters: BTreeMap<u64, bool>,
    /// Calls, and whether each was answered.
    calls: BTreeMap<u64, bool>,
    next_id: u64,
    /// Of all bytes that any machine sent.
    pub(crate) digest: u64,
    /// How often a broker complained of a link.
    pub(crate) overloads: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Published,
    /// The link broke.
    Lost,
    /// By the exchange.
    Refused,
    /// By the broker.
    RefusedThere,
}

struct Worker {
    exchange: Exchange<(u64, usize), (u64, usize)>,
    wanted: BTreeSet<usize>,
    /// Channels whose deliveries must arrive: subscribed since an answer, on a link that lasted.
    steady: BTreeSet<usize>,
    log: Vec<Vec<u64>>,
    /// The index of the last value that was added, by broker and life of its wire.
    added: BTreeMap<(usize, u32), u64>,
}

/// An event, owned, in its place.
enum Seen {
    Delivered(usize, u64),
    Published((u64, usize), bool),
    Failed((u64, usize)),
    Subscribed((u64, usize)),
    Called(u64, Option<u64>),
}

impl Worker {
    fn handle_bytes(&mut self, shard: u32, data: &[u8]) -> Vec<Seen> {
        let mut seen = Vec::new();
        let read = self.exchange.handle_bytes(shard, data, |_, event| {
            seen.push(match event {
                ExchangeEvent::Deliver { channel, data } => Seen::Delivered(index(channel), publish_id(data)),
                ExchangeEvent::Published { pending, deliver } => Seen::Published(pending, deliver),
                ExchangeEvent::PublishFailed { pending, .. } => Seen::Failed(pending),
                ExchangeEvent::Subscribed { waiter } => Seen::Subscribed(waiter),
                ExchangeEvent::SubscribeFailed { error, .. } => panic!("no broker refuses here: {error}"),
                ExchangeEvent::Answered { number, data } => {
                    Seen::Called(number, data.and_then(|data| data.parse().ok()))
                }
                ExchangeEvent::CallFailed { number, .. } => Seen::Called(number, None),
            });
        });
        read.expect("a broker writes messages");
        seen
    }
}

struct BrokerNode {
    broker: Broker,
    /// Subscribed workers by channel, as a naive reading of the requests has them.
    subscribed: BTreeMap<String, BTreeSet<usize>>,
    overloaded: BTreeSet<LinkId>,
}

impl BrokerNode {
    fn new(seed: u64) -> Self {
        let broker = Broker::new(BROKER_LIMITS, seed);
        Self { broker, subscribed: BTreeMap::new(), overloaded: BTreeSet::new() }
    }
}

impl Rig {
    pub(crate) fn new(seed: u64, hash_seed: u64) -> Self {
        let mut entropy = SeededEntropy::new(seed);
        let workers = 1 + below(&mut entropy, 4);
        let brokers = 1 + below(&mut entropy, 3);
        let worker = || Worker {
            exchange: Exchange::new(brokers as u32, EXCHANGE_LIMITS, hash_seed),
            wanted: BTreeSet::new(),
            steady: BTreeSet::new(),
            log: vec![Vec::new(); CHANNELS.len()],
            added: BTreeMap::new(),
        };
        let wire = |entropy: &mut SeededEntropy| Wire::new(20 + below(entropy, 2000), 20 + below(entropy, 2000));
        #[expect(clippy::disallowed_methods, reason = "a rig is a driver; the machines see one instant only")]
        let now = Instant::now();
        Self {
            now,
            workers: (0..workers).map(|_| worker()).collect(),
            brokers: (0..brokers).map(|_| BrokerNode::new(hash_seed)).collect(),
            wires: (0..workers).map(|_| (0..brokers).map(|_| wire(&mut entropy)).collect()).collect(),
            entropy,
            hash_seed,
            answers: BTreeMap::new(),
            receivers: BTreeMap::new(),
            last: BTreeMap::new(),
            written: BTreeSet::new(),
            waiters: BTreeMap::new(),
            calls: BTreeMap::new(),
            next_id: 0,
            digest: 0xcbf2_9ce4_8422_2325,
            overloads: 0,
        }
    }

    /// One random thing happens.
    pub(crate) fn step(&mut self) {
        let (w, b) = (self.draw(self.workers.len()), self.draw(self.brokers.len()));
        let channel = self.draw(CHANNELS.len());
        match self.draw(1000) {
            0..60 => self.subscribe(w, channel),
            60..100 => self.unsubscribe(w, channel),
            100..220 => self.publish(w, channel),
            220..240 => self.call(w, b),
            240..400 => self.flush_worker(w, false),
            400..560 => self.broker_reads(w, b, false),
            560..740 => self.broker_writes(b, false),
            740..900 => self.worker_reads(w, b, false),
            900..920 => self.wires[w][b].stalled ^= true,
            920..923 => self.wires[w][b].broken = true,
            923..924 => self.restart(b),
            924..950 => self.tell_worker(w, b),
            950..970 => self.tell_broker(w, b),
            _ => self.connect(w, b),
        }
    }

    pub(crate) fn subscribe(&mut self, w: usize, channel: usize) {
        let waiter = self.new_id();
        self.waiters.insert(waiter, false);
        self.workers[w].wanted.insert(channel);
        self.workers[w].exchange.subscribe(CHANNELS[channel], (waiter, channel));
        self.drain_events(w);
    }

    pub(crate) fn unsubscribe(&mut self, w: usize, channel: usize) {
        self.workers[w].wanted.remove(&channel);
        self.workers[w].steady.remove(&channel);
        self.workers[w].exchange.unsubscribe(CHANNELS[channel]);
        self.drain_events(w);
    }

    pub(crate) fn publish(&mut self, w: usize, channel: usize) {
        let id = self.new_id();
        let data = format!("[{id},\"{}\"]", "x".repeat(self.draw(200)));
        self.answers.insert(id, None);
        let exchange = &mut self.workers[w].exchange;
        if let Err((error, (id, _))) = exchange.publish(CHANNELS[channel], Some(&data), (id, channel)) {
            assert_eq!(error.name(), Some("BrokerError"));
            assert!(error.message().contains("_max"), "{error} names the limit");
            self.answer(id, Answer::Refused);
        }
        let shard = self.workers[w].exchange.shard_of(CHANNELS[channel]);
        assert!(self.workers[w].exchange.waiting(shard) <= EXCHANGE_LIMITS.waiting_publishes_max);
    }

    /// Adds a value to a list at a broker.
    pub(crate) fn call(&mut self, w: usize, b: usize) {
        let number = self.new_id();
        self.calls.insert(number, false);
        let called = self.workers[w].exchange.call(b as u32, CallKind::Add, r#"["list"]"#, Some("1"), number);
        if let Err(error) = called {
            assert!(error.message().contains("_max"), "{error} names the limit");
            self.answer_call(number);
        }
    }

    fn flush_worker(&mut self, w: usize, fully: bool) {
        while let Some((shard, bytes)) = self.workers[w].exchange.poll_link() {
            digest(&mut self.digest, &bytes);
            let wire = &mut self.wires[w][shard as usize];
            assert!(wire.worker_open, "a link that is down has nothing to send");
            wire.kept.extend(bytes);
        }
        for b in 0..self.brokers.len() {
            let wire = &mut self.wires[w][b];
            if !wire.worker_open {
                continue;
            }
            let room = wire.up_capacity - wire.up.len().min(wire.up_capacity);
            let n = if fully { room } else { below(&mut self.entropy, room + 1) };
            let n = n.min(wire.kept.len());
            wire.up.extend(wire.kept.drain(..n));
            let kept = wire.kept.len();
            self.workers[w].exchange.set_queued(b as u32, kept);
        }
    }

    fn broker_reads(&mut self, w: usize, b: usize, fully: bool) {
        let Some(link) = self.wires[w][b].broker_link else { return };
        let mut data = Vec::new();
        while !self.wires[w][b].up.is_empty() {
            let wire = &mut self.wires[w][b];
            let n = if fully { usize::MAX } else { 1 + below(&mut self.entropy, wire.up.len()) };
            take(&mut wire.up, n, &mut data);
            self.model_requests(w, b, &data);
            let node = &mut self.brokers[b];
            node.broker.handle_bytes(self.now, link, &data).expect("the exchange keeps to the rules");
            if !fully {
                break;
            }
        }
        self.check_broker(b);
    }

    /// Reads what the broker is about to read, and does it naively.
    fn model_requests(&mut self, w: usize, b: usize, data: &[u8]) {
        let (wires, subscribed) = (&mut self.wires, &mut self.brokers[b].subscribed);
        let lives: Vec<u32> = wires.iter().map(|wires| wires[b].life).collect();
        let (receivers, last) = (&mut self.receivers, &mut self.last);
        let wire = &mut wires[w][b];
        let (asked, life) = (&mut wire.asked, lives[w]);
        let read = wire.requests.handle_bytes(data, |msg| match msg {
            LinkMsg::Synced => {}
            LinkMsg::Hello { .. } => assert_eq!(asked.insert(0, None), None, "one Hello, first"),
            LinkMsg::Subscribe { cid, channel } => {
                assert_eq!(asked.insert(cid, None), None, "a cid is used once, in life {life}");
                subscribed.entry(channel.to_owned()).or_default().insert(w);
            }
            LinkMsg::Unsubscribe { channel } => {
                assert!(subscribed.entry(channel.to_owned()).or_default().remove(&w), "only what is held is given up");
            }
            LinkMsg::Publish { cid, channel, data } => {
                let (id, all) = (publish_id(data), subscribed.get(channel).cloned().unwrap_or_default());
                assert!(last.insert((w, channel.to_owned()), id) < Some(id), "publishes overtake each other");
                assert_eq!(asked.insert(cid, Some((id, all.contains(&w)))), None, "a cid is used once");
                receivers.insert(id, all.into_iter().filter(|&other| other != w).map(|o| (o, lives[o])).collect());
            }
            LinkMsg::Call { cid, .. } => assert_eq!(asked.insert(cid, None), None, "a cid is used once"),
            other => panic!("a worker said {other:?}"),
        });
        read.expect("an exchange writes whole messages");
    }

    fn broker_writes(&mut self, b: usize, fully: bool) {
        for w in 0..self.workers.len() {
            let wire = &self.wires[w][b];
            if let Some(link) = wire.broker_link
                && wire.blocked
                && wire.down_room() > 0
                && (fully || self.draw(3) == 0)
            {
                self.wires[w][b].blocked = false;
                self.brokers[b].broker.writable(link);
            }
        }
        let mut turns = if fully { usize::MAX } else { 1 + self.draw(6) };
        while turns > 0 {
            turns -= 1;
            let Some((link, bytes)) = self.brokers[b].broker.poll_transmit() else { break };
            assert!(!bytes.is_empty());
            let w = (0..self.workers.len()).find(|&w| self.wires[w][b].broker_link == Some(link));
            let w = w.expect("only attached links are written to");
            let room = self.wires[w][b].down_room();
            let n = bytes.len().min(if fully { room } else { below(&mut self.entropy, room + 1) });
            let bytes = bytes[..n].to_vec();
            digest(&mut self.digest, &bytes);
            if !self.wires[w][b].broken {
                self.wires[w][b].down.extend(&bytes);
            }
            self.check_written(w, b, &bytes);
            self.brokers[b].broker.wrote(link, n);
            if n == 0 || self.wires[w][b].down_room() == 0 {
                self.wires[w][b].blocked = true;
                self.brokers[b].broker.blocked(link);
            }
        }
        self.check_broker(b);
    }

    /// What a broker put into a kernel buffer: answers must be right, and not come too early.
    fn check_written(&mut self, w: usize, b: usize, bytes: &[u8]) {
        let lives: Vec<Option<u32>> = self.wires.iter().map(|wires| wires[b].broker_life()).collect();
        let (written, receivers) = (&mut self.written, &self.receivers);
        let wire = &mut self.wires[w][b];
        let (asked, life) = (&mut wire.asked, wire.life);
        let read = wire.responses.handle_bytes(bytes, |msg| match msg {
            LinkMsg::Deliver { data, .. } => {
                assert!(receivers[&publish_id(data)].contains(&(w, life)), "only to subscribers");
                assert!(written.insert((publish_id(data), w, life)), "a delivery is sent once");
            }
            LinkMsg::Ack { cid, deliver } => {
                let Some((id, own)) = asked.remove(&cid).expect("an answer to a request, once") else {
                    return assert!(!deliver);
                };
                assert_eq!(deliver, own, "its own publish is delivered if it was subscribed");
                for &(receiver, life) in &receivers[&id] {
                    let gone = lives[receiver] != Some(life);
                    assert!(gone || written.contains(&(id, receiver, life)), "{id} is acknowledged before delivered");
                }
            }
            LinkMsg::Nack { cid, error } => {
                assert!(error.contains("Limit") || error.contains("store_"), "{error}");
                // Else a call, which had no room for its answer.
                let Some((id, _)) = asked.remove(&cid).expect("an answer, once") else { return };
                assert!(
                    receivers[&id].iter().all(|&(r, life)| !written.contains(&(id, r, life))),
                    "refused as a whole"
                );
            }
            LinkMsg::Answer { cid, .. } => assert_eq!(asked.remove(&cid), Some(None), "an answer to a call, once"),
            other => panic!("a broker said {other:?}"),
        });
        read.expect("a broker writes whole messages");
    }

    fn worker_reads(&mut self, w: usize, b: usize, fully: bool) {
        let wire = &mut self.wires[w][b];
        if !wire.worker_open || wire.down.is_empty() || (wire.stalled && !fully) {
            return;
        }
        let n = if fully { usize::MAX } else { 1 + below(&mut self.entropy, wire.down.len()) };
        let mut data = Vec::new();
        take(&mut wire.down, n, &mut data);
        let steady = &self.workers[w].steady;
        let mut due = Vec::new();
        let read = wire.deliveries.handle_bytes(&data, |msg| {
            if let LinkMsg::Deliver { channel, data } = msg {
                let channel = index(channel);
                due.extend(steady.contains(&channel).then(|| (channel, publish_id(data))));
            }
        });
        read.expect("as above");
        for seen in self.workers[w].handle_bytes(b as u32, &data) {
            match seen {
                Seen::Delivered(channel, id) => self.deliver(w, channel, id),
                Seen::Published((id, channel), deliver) => {
                    self.answer(id, Answer::Published);
                    if deliver {
                        self.deliver(w, channel, id);
                    }
                }
                Seen::Failed((id, _)) => self.answer(id, Answer::RefusedThere),
                Seen::Called(number, index) => {
                    self.answer_call(number);
                    if let Some(index) = index {
                        let before = self.workers[w].added.insert((b, self.wires[w][b].life), index);
                        assert!(before < Some(index), "calls are carried out in order");
                    }
                }
                Seen::Subscribed((waiter, channel)) => {
                    self.answer_waiter(waiter);
                    if self.workers[w].wanted.contains(&channel) {
                        self.workers[w].steady.insert(channel);
                    }
                }
            }
        }
        self.drain_events(w);
        for (channel, id) in due {
            assert!(self.workers[w].log[channel].contains(&id), "{id} was not delivered to a subscriber");
        }
    }

    fn deliver(&mut self, w: usize, channel: usize, id: u64) {
        let worker = &mut self.workers[w];
        assert!(worker.wanted.contains(&channel), "{id} is delivered though nobody wants it");
        assert!(!worker.log[channel].contains(&id), "{id} is delivered twice");
        worker.log[channel].push(id);
    }

    fn drain_events(&mut self, w: usize) {
        while let Some(event) = self.workers[w].exchange.poll_event() {
            match event {
                ExchangeEvent::PublishFailed { pending, error } => {
                    assert_eq!(error.name(), Some("BrokerError"));
                    self.answer(pending.0, Answer::Lost);
                }
                ExchangeEvent::Subscribed { waiter: (waiter, channel) } => {
                    assert!(self.workers[w].wanted.contains(&channel));
                    self.answer_waiter(waiter);
                }
                ExchangeEvent::SubscribeFailed { waiter: (waiter, _), .. } => self.answer_waiter(waiter),
                ExchangeEvent::CallFailed { number, error } => {
                    assert_eq!(error.name(), Some("BrokerError"));
                    self.answer_call(number);
                }
                other => panic!("not without bytes: {other:?}"),
            }
        }
    }

    fn answer(&mut self, id: u64, answer: Answer) {
        let before = self.answers.insert(id, Some(answer)).expect("it was published");
        assert_eq!(before, None, "publish {id} is answered once");
    }

    fn answer_call(&mut self, number: u64) {
        assert_eq!(self.calls.insert(number, true), Some(false), "call {number} is answered once");
    }

    fn answer_waiter(&mut self, waiter: u64) {
        assert_eq!(self.waiters.insert(waiter, true), Some(false), "a waiter is answered once");
    }

    fn check_broker(&mut self, b: usize) {
        let node = &mut self.brokers[b];
        let most = BROKER_LIMITS.link_bytes_max + BROKER_LIMITS.answers_bytes_max;
        for link in self.wires.iter().filter_map(|wires| wires[b].broker_link) {
            assert!(node.broker.queued(link) <= most, "a queue is below its limit");
        }
        while let Some(event) = node.broker.poll_event() {
            match event {
                BrokerEvent::Overloaded(link) => {
                    assert!(node.overloaded.insert(link), "said once");
                    self.overloads += 1;
                }
                BrokerEvent::Relieved(link) => assert!(node.overloaded.remove(&link), "said once"),
                _ => {}
            }
        }
    }

    fn tell_worker(&mut self, w: usize, b: usize) {
        let wire = &mut self.wires[w][b];
        if wire.broken && wire.worker_open {
            wire.close_worker_end();
            self.workers[w].exchange.link_down(b as u32);
            self.workers[w].steady.retain(|&c| sc_broker::shard(CHANNELS[c], self.brokers.len() as u32) != b as u32);
            self.drain_events(w);
        }
    }

    fn tell_broker(&mut self, w: usize, b: usize) {
        let wire = &mut self.wires[w][b];
        if let (true, Some(link)) = (wire.broken, wire.broker_link) {
            wire.close_broker_end();
            let node = &mut self.brokers[b];
            node.overloaded.remove(&link);
            node.broker.detached(self.now, link);
            node.subscribed.values_mut().for_each(|workers| _ = workers.remove(&w));
            self.check_broker(b);
        }
    }

    fn connect(&mut self, w: usize, b: usize) {
        let wire = &mut self.wires[w][b];
        if wire.worker_open || wire.broker_link.is_some() {
            return;
        }
        wire.open(self.brokers[b].broker.attach(self.now));
        self.workers[w].exchange.link_up(b as u32, w as u32, 1000 + w as u32);
        self.drain_events(w);
    }

    /// The broker's process ends and another begins. Workers learn of it when their wires tell them.
    fn restart(&mut self, b: usize) {
        for wires in &mut self.wires {
            wires[b].broken = true;
            wires[b].close_broker_end();
        }
        self.brokers[b] = BrokerNode::new(self.hash_seed);
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn draw(&mut self, end: usize) -> usize {
        below(&mut self.entropy, end)
    }
}

fn below(entropy: &mut SeededEntropy, end: usize) -> usize {
    (entropy.next_u64() % end as u64) as usize
}

fn index(channel: &str) -> usize {
    CHANNELS.iter().position(|&other| other == channel).expect("a channel of the rig")
}

fn digest(digest: &mut u64, bytes: &[u8]) {
    for &byte in bytes {
        *digest = (*digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
}
