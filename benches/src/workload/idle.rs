use std::io;
use std::time::Instant;

use super::{Tally, Workload};
use crate::client::{Event, Happened};
use crate::net::Net;

/// Connections with one subscription each that do nothing but answer heartbeats.
#[derive(Debug)]
pub struct Idle {
    connections: u32,
    per_channel: u32,
    first_channel: u32,
    tally: Tally,
}

impl Idle {
    /// `per_channel` subscribers share a channel; 0: nobody subscribes. `first_channel` is for generators that share a server.
    #[must_use]
    pub fn new(connections: u32, per_channel: u32, first_channel: u32) -> Self {
        Self { connections, per_channel, first_channel, tally: Tally::default() }
    }
}

impl Workload for Idle {
    fn connections(&self) -> u32 {
        self.connections
    }

    fn channels(&self) -> Box<dyn Fn(u32) -> Vec<u32>> {
        let (per_channel, first) = (self.per_channel, self.first_channel);
        Box::new(move |conn| conn.checked_div(per_channel).map(|channel| first + channel).into_iter().collect())
    }

    fn begin(&mut self, _net: &mut Net, _at: Instant) -> io::Result<()> {
        Ok(())
    }

    fn handle(&mut self, _net: &mut Net, what: Happened) -> io::Result<()> {
        let faults = &mut self.tally.faults;
        match what.event {
            Event::Down => faults.closed += 1,
            Event::Refused(_) => faults.refused += 1,
            Event::Ack(..) | Event::Delivery(_) | Event::Unknown => faults.unknown += 1,
            Event::Up => {}
        }
        Ok(())
    }

    fn stop(&mut self) {}

    fn missing(&self) -> u64 {
        0
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}
