//! What all machines of a run share: time, wires, chance and the model that watches.

use crate::clock::Clock;
use crate::fault::Fault;
use crate::model::Model;
use crate::net::Net;
use crate::rng::Rng;

pub(crate) struct Env {
    pub(crate) clock: Clock,
    pub(crate) net: Net,
    pub(crate) rng: Rng,
    pub(crate) model: Model,
    /// The fault of this run, and how often it still happens.
    pub(crate) fault: Option<Fault>,
    pub(crate) faults_left: u32,
    /// Nothing breaks any more.
    pub(crate) calm: bool,
    /// Of everything that went over a wire: equal runs have equal ones.
    pub(crate) digest: u64,
    pub(crate) slow_closed: u64,
}

impl Env {
    /// Whether this fault is to happen here and now.
    pub(crate) fn faulty(&mut self, fault: Fault) -> bool {
        let now = self.fault == Some(fault) && self.faults_left > 0 && self.rng.once_in(3);
        self.faults_left -= u32::from(now);
        now
    }

    pub(crate) fn note(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// How much to read at once: now a few bytes, now all there is.
    pub(crate) fn read_size(&mut self) -> usize {
        match self.rng.below(4) {
            0 => 1 + self.rng.below(16),
            1 => 1 + self.rng.below(512),
            _ => 64 * 1024,
        }
    }
}
