use std::io;
use std::time::Instant;

use sc_protocol::Entropy as _;
use sc_protocol::entropy::SeededEntropy;

use super::{Pace, Tally, Workload};
use crate::body;
use crate::client::{Event, FIRST_NUMBER, Happened, publication, subscription};
use crate::ledger::{Ledger, Progress, Streams};
use crate::net::Net;

/// Above the streams of publishes: requests, subscriptions and their ends, of the connection in the lower bits.
const ECHO: u32 = 1 << 29;
const SUBSCRIBE: u32 = 2 << 29;
const UNSUBSCRIBE: u32 = 3 << 29;
const KIND: u32 = 7 << 29;

/// The first of the channels that `chat`'s users only look into, and how many there are.
const SIDE_CHANNELS: u32 = 500_000;

/// Who is subscribed to what, and who publishes where.
#[derive(Debug, Clone, Copy)]
pub enum Plan {
    /// All subscribers on one channel, and publishers beside them.
    Fanout {
        /// How many are subscribed.
        subscribers: u32,
        /// How many publish.
        publishers: u32,
    },
    /// Many channels with few subscribers each.
    Many {
        /// How many channels.
        channels: u32,
        /// Subscribers of each.
        per_channel: u32,
        /// Connections over which the subscriptions are spread.
        connections: u32,
        /// How many publish.
        publishers: u32,
    },
    /// Users in rooms. Of ten operations eight are messages to the own room, one is a request, one a visit: a subscription and its end.
    Chat {
        /// How many users.
        users: u32,
        /// Users of a room.
        room: u32,
    },
}

impl Plan {
    fn subscribers(&self) -> u32 {
        match *self {
            Self::Fanout { subscribers, .. } => subscribers,
            Self::Many { connections, .. } => connections,
            Self::Chat { users, .. } => users,
        }
    }

    fn connections(&self) -> u32 {
        match *self {
            Self::Fanout { subscribers, publishers } => subscribers + publishers,
            Self::Many { connections, publishers, .. } => connections + publishers,
            Self::Chat { users, .. } => users,
        }
    }

    fn channels_of(&self, conn: u32) -> Vec<u32> {
        match *self {
            _ if conn >= self.subscribers() => Vec::new(),
            Self::Fanout { .. } => vec![0],
            Self::Many { channels, .. } => (0..channels).filter(|&channel| self.has(channel, conn)).collect(),
            Self::Chat { room, .. } => vec![conn / room],
        }
    }

    /// Whether a connection is one of a channel's subscribers, in `Many`.
    fn has(&self, channel: u32, conn: u32) -> bool {
        let Self::Many { per_channel, connections, .. } = *self else { return false };
        (0..per_channel).any(|k| Self::place(channel, k, per_channel, connections) == conn)
    }

    /// The `k`-th subscriber of a channel: neighbours in one channel are no neighbours in the next.
    fn place(channel: u32, k: u32, per_channel: u32, connections: u32) -> u32 {
        (channel + k * (connections / per_channel).max(1)) % connections
    }

    /// Every stream of publishes: publisher, channel, receivers.
    fn streams(&self) -> Vec<(u32, u32, u32)> {
        match *self {
            Self::Fanout { subscribers, publishers } => {
                (0..publishers).map(|publisher| (subscribers + publisher, 0, subscribers)).collect()
            }
            Self::Many { channels, per_channel, connections, publishers } => (0..channels)
                .map(|channel| (connections + channel % publishers, channel, per_channel.min(connections)))
                .collect(),
            Self::Chat { users, room } => {
                (0..users).map(|user| (user, user / room, room.min(users - user / room * room))).collect()
            }
        }
    }
}

/// Publishes, of which every subscriber has to get every one, once and in the order of its publisher.
#[derive(Debug)]
pub struct Publishing {
    plan: Plan,
    window: u32,
    rate: Option<f64>,
    pace: Option<Pace>,
    ledger: Ledger,
    streams: Vec<Stream>,
    received: Vec<Streams>,
    /// The next stream of each publisher, where it has several; the next publisher.
    turn: Vec<u32>,
    publisher: u32,
    visits: u32,
    chance: SeededEntropy,
    data: String,
    stopped: bool,
    tally: Tally,
}

#[derive(Debug)]
struct Stream {
    publisher: u32,
    channel: u32,
    receivers: u32,
    sent: u32,
}

impl Publishing {
    /// `window` operations under way in all, or `rate` publishes a second.
    #[must_use]
    pub fn new(plan: Plan, window: u32, rate: Option<f64>) -> Self {
        let streams: Vec<Stream> = plan
            .streams()
            .into_iter()
            .map(|(publisher, channel, receivers)| Stream { publisher, channel, receivers, sent: 0 })
            .collect();
        let mut by_channel: Vec<Vec<u32>> = Vec::new();
        for (number, stream) in (0..).zip(&streams) {
            let channel = stream.channel as usize;
            by_channel.resize_with(by_channel.len().max(channel + 1), Vec::new);
            by_channel[channel].push(number);
        }
        let received = (0..plan.connections())
            .map(|conn| {
                let channels = plan.channels_of(conn);
                Streams::new(channels.iter().flat_map(|&channel| by_channel[channel as usize].clone()).collect())
            })
            .collect();
        Self {
            turn: vec![0; plan.connections() as usize],
            publisher: 0,
            visits: 0,
            plan,
            window,
            rate,
            pace: None,
            ledger: Ledger::new(FIRST_NUMBER),
            streams,
            received,
            chance: SeededEntropy::new(7),
            data: String::new(),
            stopped: false,
            tally: Tally::default(),
        }
    }

    /// The next operation; `publisher` counts the publishing connections.
    fn next(&mut self, net: &mut Net, publisher: u32, at: Instant) {
        match self.plan {
            Plan::Fanout { publishers, .. } => self.publish(net, publisher % publishers, at),
            Plan::Many { channels, publishers, .. } => {
                let publisher = publisher % publishers;
                let own = (channels - publisher).div_ceil(publishers);
                let turn = &mut self.turn[publisher as usize];
                let stream = publisher + *turn % own * publishers;
                *turn = turn.wrapping_add(1);
                self.publish(net, stream, at);
            }
            Plan::Chat { users, .. } => {
                let dice = self.chance.next_u64();
                let user = (dice >> 32) as u32 % users;
                match dice as u32 % 10 {
                    0 => self.ask(net, user, at),
                    1 => self.visit(net, user, at),
                    _ => self.publish(net, user, at),
                }
            }
        }
    }

    fn publish(&mut self, net: &mut Net, number: u32, at: Instant) {
        let stream = &mut self.streams[number as usize];
        let cid = self.ledger.begin(at, stream.publisher, number, stream.sent, stream.receivers);
        stream.sent += 1;
        self.data.clear();
        publication(&mut self.data, stream.channel, cid, net.shared.size);
        net.call(stream.publisher, "#publish", &self.data, cid);
    }

    fn ask(&mut self, net: &mut Net, user: u32, at: Instant) {
        let cid = self.ledger.begin(at, user, ECHO | user, 0, 0);
        net.call(user, "echo", &body::text(cid, net.shared.size), cid);
    }

    /// Looks into a channel that nobody else looks into at the time.
    fn visit(&mut self, net: &mut Net, user: u32, at: Instant) {
        self.visits = (self.visits + 1) % SIDE_CHANNELS;
        let cid = self.ledger.begin(at, user, SUBSCRIBE | user, self.visits, 0);
        self.data.clear();
        subscription(&mut self.data, SIDE_CHANNELS + self.visits);
        net.call(user, "#subscribe", &self.data, cid);
    }

    fn leave(&mut self, net: &mut Net, user: u32, visit: u32, at: Instant) {
        let cid = self.ledger.begin(at, user, UNSUBSCRIBE | user, visit, 0);
        net.call(user, "#unsubscribe", &format!("\"c{}\"", SIDE_CHANNELS + visit), cid);
    }

    fn delivered(&mut self, net: &mut Net, what: Happened, number: u32) {
        let Some(progress) = self.ledger.deliver(number) else {
            self.tally.faults.repeated += 1;
            return;
        };
        let operation = progress.operation;
        if self.received[what.conn as usize].note(operation.stream, operation.seq, &mut self.tally.faults) {
            self.tally.count(operation.at, what.at);
        }
        self.go_on(net, progress, what.at);
    }

    fn acked(&mut self, net: &mut Net, what: Happened, number: u32, echoed: Option<u32>) {
        let Some(progress) = self.ledger.ack(what.conn, number) else {
            self.tally.faults.unknown += 1;
            return;
        };
        let kind = progress.operation.stream & KIND;
        if kind == ECHO && echoed != Some(number) {
            self.tally.faults.unknown += 1;
        }
        if kind != 0 {
            self.tally.count(progress.operation.at, what.at);
        }
        if kind == SUBSCRIBE {
            return self.leave(net, what.conn, progress.operation.seq, what.at);
        }
        self.go_on(net, progress, what.at);
    }

    fn go_on(&mut self, net: &mut Net, progress: Progress, at: Instant) {
        if progress.is_done && !self.stopped && self.rate.is_none() {
            let publisher = progress.operation.conn.saturating_sub(self.plan.subscribers());
            self.next(net, publisher, at);
        }
    }
}

impl Workload for Publishing {
    fn connections(&self) -> u32 {
        self.plan.connections()
    }

    fn channels(&self) -> Box<dyn Fn(u32) -> Vec<u32>> {
        let plan = self.plan;
        Box::new(move |conn| plan.channels_of(conn))
    }

    fn begin(&mut self, net: &mut Net, at: Instant) -> io::Result<()> {
        self.pace = self.rate.map(|rate| Pace::new(at, rate));
        if self.pace.is_none() {
            for publisher in 0..self.window {
                self.next(net, publisher, at);
            }
        }
        Ok(())
    }

    fn handle(&mut self, net: &mut Net, what: Happened) -> io::Result<()> {
        match what.event {
            Event::Delivery(number) => self.delivered(net, what, number),
            Event::Ack(number, echoed) => self.acked(net, what, number, echoed),
            Event::Refused(_) => self.tally.faults.refused += 1,
            Event::Down => self.tally.faults.closed += 1,
            Event::Unknown => self.tally.faults.unknown += 1,
            Event::Up => {}
        }
        Ok(())
    }

    fn tick(&mut self, net: &mut Net, now: Instant) -> Option<Instant> {
        let mut pace = self.pace.filter(|_| !self.stopped)?;
        while let Some(due) = pace.due(now) {
            self.next(net, self.publisher, due);
            self.publisher = self.publisher.wrapping_add(1);
        }
        self.pace = Some(pace);
        Some(pace.next())
    }

    fn stop(&mut self) {
        self.stopped = true;
    }

    fn missing(&self) -> u64 {
        self.ledger.missing()
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}
