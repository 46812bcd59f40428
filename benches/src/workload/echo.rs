use std::io;
use std::time::Instant;

use super::{Pace, Tally, Workload};
use crate::body;
use crate::client::{Event, FIRST_NUMBER, Happened};
use crate::ledger::{Faults, Ledger};
use crate::net::Net;

/// Requests, each answered with its own body, in order.
#[derive(Debug)]
pub struct Echo {
    connections: u32,
    window: u32,
    rate: Option<f64>,
    pace: Option<Pace>,
    ledger: Ledger,
    /// For each connection: the requests made, and the answers got.
    counts: Vec<(u32, u32)>,
    turn: u32,
    stopped: bool,
    tally: Tally,
}

impl Echo {
    /// `window` requests under way on each connection, or `rate` requests a second over all of them.
    #[must_use]
    pub fn new(connections: u32, window: u32, rate: Option<f64>) -> Self {
        Self {
            connections,
            window,
            rate,
            pace: None,
            ledger: Ledger::new(FIRST_NUMBER),
            counts: vec![(0, 0); connections as usize],
            turn: 0,
            stopped: false,
            tally: Tally::default(),
        }
    }

    fn ask(&mut self, net: &mut Net, conn: u32, at: Instant) {
        let (asked, _) = &mut self.counts[conn as usize];
        let number = self.ledger.begin(at, conn, conn, *asked, 0);
        *asked += 1;
        let data = body::text(number, net.shared.size);
        net.call(conn, "echo", &data, number);
    }

    fn answered(&mut self, net: &mut Net, what: Happened, number: u32, echoed: Option<u32>) {
        let Some(progress) = self.ledger.ack(what.conn, number).filter(|_| echoed == Some(number)) else {
            self.tally.faults.unknown += 1;
            return;
        };
        let (_, answered) = &mut self.counts[what.conn as usize];
        let Faults { repeated, skipped, .. } = &mut self.tally.faults;
        let seq = progress.operation.seq;
        *repeated += u64::from(seq < *answered);
        *skipped += u64::from(seq.saturating_sub(*answered));
        *answered = seq + 1;
        self.tally.count(progress.operation.at, what.at);
        if !self.stopped && self.rate.is_none() {
            self.ask(net, what.conn, what.at);
        }
    }
}

impl Workload for Echo {
    fn connections(&self) -> u32 {
        self.connections
    }

    fn channels(&self) -> Box<dyn Fn(u32) -> Vec<u32>> {
        Box::new(|_| Vec::new())
    }

    fn begin(&mut self, net: &mut Net, at: Instant) -> io::Result<()> {
        self.pace = self.rate.map(|rate| Pace::new(at, rate));
        if self.pace.is_none() {
            for conn in 0..self.connections {
                for _ in 0..self.window {
                    self.ask(net, conn, at);
                }
            }
        }
        Ok(())
    }

    fn handle(&mut self, net: &mut Net, what: Happened) -> io::Result<()> {
        match what.event {
            Event::Ack(number, echoed) => self.answered(net, what, number, echoed),
            Event::Refused(_) => self.tally.faults.refused += 1,
            Event::Down => self.tally.faults.closed += 1,
            Event::Delivery(_) | Event::Unknown => self.tally.faults.unknown += 1,
            Event::Up => {}
        }
        Ok(())
    }

    fn tick(&mut self, net: &mut Net, now: Instant) -> Option<Instant> {
        let mut pace = self.pace.filter(|_| !self.stopped)?;
        while let Some(due) = pace.due(now) {
            self.ask(net, self.turn % self.connections, due);
            self.turn = self.turn.wrapping_add(1);
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
