//! Pings: when which socket gets one, and finding out which of the two pings a client speaks.
//!
//! A server pings every socket once per `pingInterval`. [`Ring`] spreads the sockets over slots of the interval, so that
//! a turn of the event loop sends a batch, and no socket needs a timer of its own.
//!
//! Nothing in what a client sends first tells V1 from V2, but a client of either answers only its own kind of ping. So
//! a server that serves both sends both, and [`Probe`] takes the first answer for the version.

use std::time::{Duration, Instant};

use crate::limits::{HEARTBEAT_SLOTS_MAX, INTERVAL_MS_MAX};
use crate::packet::Version;

/// The ping of V1 as a server's frame: text `#1`, not masked.
pub const PING_V1: &[u8] = b"\x81\x02#1";
/// The ping of V2 as a server's frame: an empty text.
pub const PING_V2: &[u8] = b"\x81\x00";
/// Both, for a client whose version is not known.
pub const PING_BOTH: &[u8] = b"\x81\x02#1\x81\x00";
/// What a client of V1 sends back.
pub const PONG_TEXT_V1: &str = "#2";
/// What a client of V2 sends back.
pub const PONG_TEXT_V2: &str = "";

/// Slots of an interval, unless they would last longer than a second.
const SLOTS: u64 = 64;

/// The ring in which sockets get their pings. A key stays in the slot it was put in; each turn of a slot is one batch.
///
/// ```text
///        insert ─► │slot│                      interval / 64, at most 1 s
///   ┌────┬────┬────┼────┼────┬────┬────┐
///   │    │    │    │last│next│    │    │       the slot that had its turn last has the next one in an interval
///   └────┴────┴────┴────┴────┴────┴────┘
/// ```
///
/// A key's first turn comes at most an interval after its insertion, and earlier than that by at most a slot (and by how
/// much [`advance`](Ring::advance) is late at that moment). From then on it has one turn per interval. A loop that is
/// late catches up, but gives no key two turns for one delay.
#[derive(Debug)]
pub struct Ring<K> {
    slots: Box<[Vec<K>]>,
    interval_ns: u64,
    /// When the slot 0 of this round has (had) its turn.
    round: Instant,
    /// The slot whose turn comes next.
    next: usize,
    len: usize,
}

impl<K: Copy> Ring<K> {
    /// An empty ring. `interval` is kept between 1 ms and 2³¹-1 ms.
    #[must_use]
    pub fn new(start: Instant, interval: Duration) -> Self {
        let ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).clamp(1, INTERVAL_MS_MAX);
        let count = SLOTS.min(ms).max(ms.div_ceil(1000)).min(HEARTBEAT_SLOTS_MAX as u64);
        let slots = std::iter::repeat_with(Vec::new).take(count as usize).collect();
        let mut ring = Self { slots, interval_ns: ms * 1_000_000, round: start, next: 0, len: 0 };
        ring.step();
        ring
    }

    /// Adds a key, which is due after one interval.
    pub fn insert(&mut self, now: Instant, key: K) {
        if self.len == 0 {
            // Nobody advances an empty ring: it begins anew.
            (self.round, self.next) = (now, 0);
            self.step();
        }
        // The last slot whose turn has come; a slot with keys waits for its turn though.
        while self.slots[self.next].is_empty() && self.turn(self.next) <= now {
            self.step();
        }
        let last = self.next.checked_sub(1).unwrap_or(self.slots.len() - 1);
        self.slots[last].push(key);
        self.len += 1;
    }

    /// Calls `keep` for each due key; those for which it answers `false` leave the ring.
    pub fn advance(&mut self, now: Instant, mut keep: impl FnMut(K) -> bool) {
        self.skip_missed_rounds(now);
        while self.len > 0 && self.turn(self.next) <= now {
            let slot = &mut self.slots[self.next];
            let before = slot.len();
            slot.retain(|key| keep(*key));
            self.len -= before - slot.len();
            if slot.capacity() / 4 > slot.len() {
                slot.shrink_to(slot.len() * 2);
            }
            self.step();
        }
    }

    /// When the next slot with keys has its turn; `None` without keys. In the future directly after `advance`.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let count = self.slots.len();
        let occupied = (self.next..self.next + count).find(|turn| !self.slots[turn % count].is_empty());
        occupied.map(|turn| self.turn(turn))
    }

    /// Keys in the ring.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Of the turns before `now`, leaves the last one of each slot.
    fn skip_missed_rounds(&mut self, now: Instant) {
        let late = now.saturating_duration_since(self.turn(self.next));
        let rounds = u64::try_from(late.as_nanos()).unwrap_or(u64::MAX) / self.interval_ns;
        if rounds == 0 {
            return;
        }
        self.round += Duration::from_nanos(self.interval_ns * (rounds - 1));
        while self.turn(self.next + self.slots.len()) <= now {
            self.step();
        }
    }

    /// The time of a slot's turn in this round; numbers behind the last slot are of the next round.
    fn turn(&self, slot: usize) -> Instant {
        self.round + Duration::from_nanos(self.interval_ns * slot as u64 / self.slots.len() as u64)
    }

    fn step(&mut self) {
        self.next += 1;
        if self.next == self.slots.len() {
            self.next = 0;
            self.round += Duration::from_nanos(self.interval_ns);
        }
    }
}

// The product in `turn`, which is asked for up to two rounds.
const _: () = assert!(INTERVAL_MS_MAX as u128 * 1_000_000 * 2 * (HEARTBEAT_SLOTS_MAX as u128) < u64::MAX as u128);

/// Which pings a server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Both until the client has answered one. The default.
    #[default]
    Auto,
    /// V1's only.
    V1,
    /// V2's only.
    V2,
}

/// What is known of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// It has not answered a ping yet.
    Unknown,
    /// It speaks this version, by its answer or by configuration.
    Known(Version),
}

/// What a message is that looks like a pong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The first pong of a client: now its version is known.
    Decided(Version),
    /// A pong.
    Pong,
    /// The other version's pong so shortly after the decision that it may answer the other one of our two pings: alive,
    /// and no message for the application.
    Ignored,
    /// No pong on this connection but a message like any other.
    Raw,
}

/// Finds out which ping a client speaks; two bytes.
///
/// The exact messages `#2` and the empty one are pongs while nothing is known, also before `#handshake`. The first one
/// decides. Until the next ping the other one is ignored, later it is an ordinary message.
///
/// ```
/// use sc_protocol::Version;
/// use sc_protocol::heartbeat::{PING_BOTH, PING_V2, Policy, Probe, Verdict};
///
/// let mut probe = Probe::new(Policy::Auto);
/// assert_eq!(probe.pings_to_send(), PING_BOTH);
/// assert_eq!(probe.on_pong(Version::V2), Verdict::Decided(Version::V2));
/// assert_eq!(probe.pings_to_send(), PING_V2);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe(State);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown,
    /// Decided since the last ping: the answer to the other one may be on its way.
    Fresh(Version),
    Settled(Version),
}

impl Probe {
    /// For a new connection.
    #[must_use]
    pub const fn new(policy: Policy) -> Self {
        Self(match policy {
            Policy::Auto => State::Unknown,
            Policy::V1 => State::Settled(Version::V1),
            Policy::V2 => State::Settled(Version::V2),
        })
    }

    /// The frames to send with the upgrade's answer and at every interval.
    #[must_use]
    pub const fn pings_to_send(self) -> &'static [u8] {
        match self.speaks() {
            Speaks::Unknown => PING_BOTH,
            Speaks::Known(Version::V1) => PING_V1,
            Speaks::Known(Version::V2) => PING_V2,
        }
    }

    /// The client sent `#2` (V1) or an empty text (V2).
    pub fn on_pong(&mut self, version: Version) -> Verdict {
        match self.0 {
            State::Unknown => {
                self.0 = State::Fresh(version);
                Verdict::Decided(version)
            }
            State::Fresh(known) | State::Settled(known) if known == version => Verdict::Pong,
            State::Fresh(_) => Verdict::Ignored,
            State::Settled(_) => Verdict::Raw,
        }
    }

    /// An interval is over: call it with every ping after the first.
    pub fn on_interval(&mut self) {
        if let State::Fresh(version) = self.0 {
            self.0 = State::Settled(version);
        }
    }

    /// What is known.
    #[must_use]
    pub const fn speaks(self) -> Speaks {
        match self.0 {
            State::Unknown => Speaks::Unknown,
            State::Fresh(version) | State::Settled(version) => Speaks::Known(version),
        }
    }

    /// The version whose rules apply: V1 while nothing is known.
    #[must_use]
    pub const fn version(self) -> Version {
        match self.speaks() {
            Speaks::Known(version) => version,
            Speaks::Unknown => Version::V1,
        }
    }
}
