//! Time: it passes only when nothing else can happen.

use std::time::{Duration, Instant};

use sc_server::Time;

/// Unix time at which every run begins, in milliseconds.
const BEGIN_MS: u64 = 1_700_000_000_000;

pub(crate) struct Clock {
    begin: Instant,
    now: Instant,
    /// The wall clock can be set, forth and back.
    set_by_ms: i64,
}

impl Clock {
    /// An `Instant` has to come from somewhere; only differences matter.
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self { begin: now, now, set_by_ms: 0 }
    }

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    pub(crate) fn passed(&self) -> Duration {
        self.now - self.begin
    }

    pub(crate) fn time(&self) -> Time {
        let unix_ms = (BEGIN_MS + self.passed().as_millis() as u64).saturating_add_signed(self.set_by_ms);
        Time { now: self.now, unix_ms }
    }

    pub(crate) fn advance_to(&mut self, at: Instant) {
        self.now = self.now.max(at);
    }

    pub(crate) fn set_wall(&mut self, by_ms: i64) {
        self.set_by_ms += by_ms;
    }
}
