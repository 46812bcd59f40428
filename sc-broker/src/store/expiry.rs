//! When values go.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sc_protocol::wheel::{TimerId, Wheel};
use slab::Slab;

use super::key::Key;
use super::tree::VALUE_COST;

/// How exact an end is: it is never early, and at most so much late.
const TICK: Duration = Duration::from_millis(100);

/// The ends of values, by key. One wheel for all of them.
#[derive(Debug, Default)]
pub(super) struct Expiries {
    by_key: BTreeMap<Key, u32>,
    entries: Slab<Entry>,
    /// There from the first end on: a wheel begins at a moment.
    wheel: Option<Wheel<u32>>,
    due: Vec<u32>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    at: Instant,
    timer: TimerId,
}

impl Expiries {
    /// What a key's end counts.
    pub(super) fn cost(key: &Key) -> usize {
        2 * (VALUE_COST + key.bytes())
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.by_key.contains_key(key)
    }

    pub(super) fn set(&mut self, now: Instant, key: &Key, after: Duration) {
        self.cancel(key);
        let Some(at) = now.checked_add(after) else { return };
        let wheel = self.wheel.get_or_insert_with(|| Wheel::new(now, TICK));
        let place = self.entries.vacant_key() as u32;
        let timer = wheel.insert(at, place);
        self.entries.insert(Entry { key: key.clone(), at, timer });
        self.by_key.insert(key.clone(), place);
        self.bytes += Self::cost(key);
    }

    pub(super) fn cancel(&mut self, key: &Key) {
        let Some(place) = self.by_key.remove(key) else { return };
        let entry = self.entries.remove(place as usize);
        if let Some(wheel) = &mut self.wheel {
            wheel.cancel(entry.timer);
        }
        self.bytes -= Self::cost(key);
    }

    pub(super) fn left(&self, now: Instant, key: &Key) -> Option<Duration> {
        let place = self.by_key.get(key)?;
        Some(self.entries.get(*place as usize)?.at.saturating_duration_since(now))
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.wheel.as_ref()?.poll_timeout()
    }

    /// The keys whose time is over, in the order of their ends.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Key> {
        let Some(wheel) = &mut self.wheel else { return Vec::new() };
        wheel.advance(now, &mut self.due);
        let mut keys = Vec::with_capacity(self.due.len());
        for place in self.due.drain(..) {
            let Entry { key, .. } = self.entries.remove(place as usize);
            self.by_key.remove(&key);
            self.bytes -= Self::cost(&key);
            keys.push(key);
        }
        keys
    }
}
