//! What the connections do.
//!
//! | workload | what is counted |
//! |---|---|
//! | [`Publishing`]: fanout, many, chat | deliveries; in `chat` answers too |
//! | [`Echo`] | answers |
//! | [`Churn`]: connect, churn | whole lives of connections |
//! | [`Idle`] | nothing: it waits, and answers heartbeats |

use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::client::Happened;
use crate::ledger::Faults;
use crate::net::Net;

mod churn;
mod echo;
mod idle;
mod publishing;

pub use churn::Churn;
pub use echo::Echo;
pub use idle::Idle;
pub use publishing::{Plan, Publishing};

/// A workload: told of what happens on its connections, it brings about the next thing.
pub trait Workload {
    /// Connections that are to be there before it begins.
    fn connections(&self) -> u32;

    /// What the connection of this number subscribes to.
    fn channels(&self) -> Box<dyn Fn(u32) -> Vec<u32>>;

    /// Every connection is there.
    ///
    /// # Errors
    /// A connection could not be opened.
    fn begin(&mut self, net: &mut Net, at: Instant) -> io::Result<()>;

    /// Something happened.
    ///
    /// # Errors
    /// A connection could not be opened.
    fn handle(&mut self, net: &mut Net, what: Happened) -> io::Result<()>;

    /// Does what the plan says for this time, and answers when it says the next thing.
    fn tick(&mut self, _net: &mut Net, _at: Instant) -> Option<Instant> {
        None
    }

    /// Begins nothing new from here on.
    fn stop(&mut self);

    /// Messages that have to come and have not.
    fn missing(&self) -> u64;

    /// What is counted.
    fn tally(&mut self) -> &mut Tally;
}

/// What a workload counts.
#[derive(Debug)]
pub struct Tally {
    /// Units of work.
    pub work: u64,
    /// From when an operation was to begin until each of its answers and deliveries, in nanoseconds.
    pub latency: Histogram<u64>,
    /// What went wrong.
    pub faults: Faults,
}

impl Default for Tally {
    fn default() -> Self {
        let latency = Histogram::new_with_bounds(100, 600_000_000_000, 3).expect("valid bounds");
        Self { work: 0, latency, faults: Faults::default() }
    }
}

impl Tally {
    /// Counts one unit that began at `from` and ended at `to`.
    pub fn count(&mut self, from: Instant, to: Instant) {
        self.work += 1;
        let nanos = u64::try_from(to.saturating_duration_since(from).as_nanos()).unwrap_or(u64::MAX);
        self.latency.saturating_record(nanos);
    }
}

/// The plan of an open loop: something is due at fixed times, whether or not the server has kept up.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    next: Instant,
    every: Duration,
}

impl Pace {
    /// So many a second, from `at` on.
    #[must_use]
    pub fn new(at: Instant, rate: f64) -> Self {
        Self { next: at, every: Duration::from_secs_f64(1.0 / rate) }
    }

    /// The time of the next thing that is due by `now`.
    pub fn due(&mut self, now: Instant) -> Option<Instant> {
        let due = self.next;
        (due <= now).then(|| {
            self.next += self.every;
            due
        })
    }

    /// When the next one is due.
    #[must_use]
    pub const fn next(&self) -> Instant {
        self.next
    }
}
