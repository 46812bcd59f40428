//! What workers and brokers have in common: a channel to the master, and a life that may end anywhere.

use std::time::{Duration, Instant};

use sc_cluster::supervisor::ConnKey;

use crate::net::StreamId;

/// Silence after which the supervisor and brokers give a process up.
pub(crate) const HANG_TIMEOUT: Duration = Duration::from_secs(5);
/// How long processes may take to end.
pub(crate) const TERM_TIMEOUT: Duration = Duration::from_secs(4);

/// Over how long a replaced worker sends its clients away.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// From the master.
#[derive(Debug)]
pub(crate) enum Order {
    Conns(Vec<(ConnKey, StreamId)>),
    Link {
        peer: u32,
        stream: StreamId,
    },
    /// The broker has links to all workers that there are.
    Linked,
    Drain(Duration),
    Terminate,
}

/// To the master.
#[derive(Debug)]
pub(crate) enum Word {
    Ready,
    Taken(u64),
    /// The next so many connections did not arrive.
    Lost(u32),
    Beat(u32),
    /// The worker of this process id did not read its link, which is dropped.
    Unlinked(u32),
}

#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) beat_at: Instant,
    /// Crashes after so many more reads and writes.
    pub(crate) doom: Option<u32>,
    /// Ends with this code when the turn is over.
    pub(crate) exit: Option<i32>,
    pub(crate) crashed: bool,
}

impl Life {
    pub(crate) fn new(now: Instant) -> Self {
        Self { beat_at: now, doom: None, exit: None, crashed: false }
    }

    /// Asked before each read and write: a doomed process crashes between two of them.
    pub(crate) fn goes_on(&mut self) -> bool {
        match &mut self.doom {
            Some(0) => self.crashed = true,
            Some(left) => *left -= 1,
            None => {}
        }
        !self.crashed
    }
}
