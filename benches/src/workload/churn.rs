use std::collections::HashMap;
use std::io;
use std::time::Instant;

use super::{Tally, Workload};
use crate::client::{Event, FIRST_NUMBER, Happened, publication};
use crate::net::Net;

/// Channels that churning connections meet in.
const ROOMS: u32 = 1000;

/// Connections that come and go: `connect` ends each after its handshake; `churn` lets it subscribe, publish, and leave when it
/// has its own message and the ack.
#[derive(Debug)]
pub struct Churn {
    window: u32,
    talks: bool,
    next: u32,
    /// What a connection waits for: the number of its publish, ack and delivery.
    talking: HashMap<u32, Talk>,
    stopped: bool,
    tally: Tally,
}

#[derive(Debug)]
struct Talk {
    number: u32,
    acked: bool,
    delivered: bool,
}

impl Churn {
    /// `window` connections at a time; with `talks`, each subscribes and publishes.
    #[must_use]
    pub fn new(window: u32, talks: bool) -> Self {
        Self { window, talks, next: FIRST_NUMBER, talking: HashMap::new(), stopped: false, tally: Tally::default() }
    }

    fn done(&mut self, net: &mut Net, conn: u32, at: Instant) -> io::Result<()> {
        if let Some(opened) = net.opened_at(conn) {
            self.tally.count(opened, at);
        }
        self.talking.remove(&conn);
        net.close(conn);
        if !self.stopped {
            net.open(at)?;
        }
        Ok(())
    }

    fn talk(&mut self, net: &mut Net, conn: u32) {
        let number = self.next;
        self.next = self.next.wrapping_add(1).max(FIRST_NUMBER);
        self.talking.insert(conn, Talk { number, acked: false, delivered: false });
        let mut data = String::new();
        publication(&mut data, conn % ROOMS, number, net.shared.size);
        net.call(conn, "#publish", &data, number);
    }
}

impl Workload for Churn {
    fn connections(&self) -> u32 {
        0
    }

    fn channels(&self) -> Box<dyn Fn(u32) -> Vec<u32>> {
        let talks = self.talks;
        Box::new(move |conn| talks.then_some(conn % ROOMS).into_iter().collect())
    }

    fn begin(&mut self, net: &mut Net, at: Instant) -> io::Result<()> {
        (0..self.window).try_for_each(|_| net.open(at).map(drop))
    }

    fn handle(&mut self, net: &mut Net, what: Happened) -> io::Result<()> {
        let Happened { conn, event, at } = what;
        match event {
            Event::Up if self.talks => self.talk(net, conn),
            Event::Up => return self.done(net, conn, at),
            Event::Ack(..) | Event::Delivery(_) => {
                let Some(talk) = self.talking.get_mut(&conn) else {
                    self.tally.faults.unknown += 1;
                    return Ok(());
                };
                // Others in the room are heard too; only the own message counts.
                match event {
                    Event::Ack(number, _) if number == talk.number => talk.acked = true,
                    Event::Delivery(number) if number == talk.number => {
                        self.tally.faults.repeated += u64::from(std::mem::replace(&mut talk.delivered, true));
                    }
                    Event::Delivery(_) => {}
                    _ => self.tally.faults.unknown += 1,
                }
                if talk.acked && talk.delivered {
                    return self.done(net, conn, at);
                }
            }
            Event::Refused(_) => self.tally.faults.refused += 1,
            Event::Unknown => self.tally.faults.unknown += 1,
            Event::Down => {
                self.tally.faults.closed += 1;
                self.talking.remove(&conn);
                if !self.stopped {
                    net.open(at)?;
                }
            }
        }
        Ok(())
    }

    fn stop(&mut self) {
        self.stopped = true;
    }

    fn missing(&self) -> u64 {
        self.talking.values().map(|talk| u64::from(!talk.acked) + u64::from(!talk.delivered)).sum()
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}
