//! What the loops of workers and brokers have in common: the names of event sources, the clock, and one wait.
//!
//! # A turn of a worker
//! 1. **Wait** for events, until the next deadline; not at all if something stopped at its budget in the last turn.
//! 2. **Read the clock**, once.
//! 3. **Input.** Events in the order in which the kernel gives them: control messages (new connections are registered and acknowledged
//!    to the master before any of them is read), broker links, sockets, listeners; then what stopped at its budget; then
//!    results of offloaded jobs; then deadlines. Nothing is written here: handlers and deliveries only queue.
//! 4. **The engine is told** which of its sockets are gone, and its **outputs are drained** into the outbox.
//! 5. **Broker links** are written, one write each: what others wait for goes first.
//! 6. **Sockets** are written, one write each.
//! 7. **Slots are freed** of connections that the engine knows to be gone. One that was lost while it was written is told of in the
//!    next turn, which then does not wait.
//!
//! # A turn of a broker
//! 1. Wait, 2. clock, 3. read from links, 4. write to links what the broker lends, as long as it lends something: it lends an
//!    acknowledgement only when the deliveries before it have been written.
//!
//! Every descriptor is registered once, edge-triggered, for both directions; there is no call to the kernel per message but its
//! read and its write. Reads end at the first one that did not fill the buffer.

use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::{Events, Poll, Token};

use sc_server::Time;

/// Events fetched in one turn.
pub(crate) const EVENTS_MAX: usize = 1024;

/// The read buffer of a loop, which every connection is lent in its turn.
pub(crate) const SCRATCH_LEN: usize = 64 * 1024;

/// How old the relation between the two clocks may get.
const WALL_CLOCK_AGE_MAX: Duration = Duration::from_secs(1);

/// Whose event it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The channel to the master.
    Control,
    /// Another thread has a result.
    Waker,
    /// A listener, by its number.
    Listener(u32),
    /// A link: in a worker by the number of the broker, in a broker by that of the link.
    Link(u32),
    /// A connection: its place in the slab, and which owner of that place.
    Conn { slot: u32, generation: u32 },
}

impl Source {
    /// Generations are smaller than this or equal: one bit of a token tells connections from the rest.
    pub(crate) const GENERATION_MAX: u32 = u32::MAX >> 1;

    const SPECIAL: u64 = 1 << 63;

    pub(crate) fn token(self) -> Token {
        let bits = match self {
            Self::Conn { slot, generation } => u64::from(generation & Self::GENERATION_MAX) << 32 | u64::from(slot),
            Self::Control => Self::SPECIAL,
            Self::Waker => Self::SPECIAL | 1 << 32,
            Self::Listener(number) => Self::SPECIAL | 2 << 32 | u64::from(number),
            Self::Link(number) => Self::SPECIAL | 3 << 32 | u64::from(number),
        };
        Token(bits as usize)
    }

    pub(crate) fn from_token(token: Token) -> Self {
        let bits = token.0 as u64;
        let (kind, number) = ((bits & !Self::SPECIAL) >> 32, bits as u32);
        if bits & Self::SPECIAL == 0 {
            return Self::Conn { slot: number, generation: kind as u32 };
        }
        match kind {
            0 => Self::Control,
            1 => Self::Waker,
            2 => Self::Listener(number),
            _ => Self::Link(number),
        }
    }
}

/// Both clocks, read once a turn. The wall clock is read once a second and carried on by the other.
#[derive(Debug)]
pub(crate) struct Clock {
    base: Instant,
    base_ms: u64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { base: Instant::now(), base_ms: wall_ms() }
    }

    pub(crate) fn read(&mut self) -> Time {
        let now = Instant::now();
        let mut age = now.saturating_duration_since(self.base);
        if age > WALL_CLOCK_AGE_MAX {
            (self.base, self.base_ms, age) = (now, wall_ms(), Duration::ZERO);
        }
        Time { now, unix_ms: self.base_ms + age.as_millis() as u64 }
    }
}

/// Waits for events until `deadline` (`None`: until one comes). A signal ends the wait early, without events.
pub(crate) fn wait(poll: &mut Poll, events: &mut Events, deadline: Option<Instant>) -> io::Result<()> {
    let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    match poll.poll(events, timeout) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        other => other,
    }
}

/// The earlier of two deadlines.
pub(crate) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_name_their_source() {
        for source in [
            Source::Control,
            Source::Waker,
            Source::Listener(0),
            Source::Listener(7),
            Source::Link(0),
            Source::Link(u32::MAX),
            Source::Conn { slot: 0, generation: 0 },
            Source::Conn { slot: 3, generation: 2 },
            Source::Conn { slot: u32::MAX, generation: Source::GENERATION_MAX },
        ] {
            assert_eq!(Source::from_token(source.token()), source);
        }
    }

    #[test]
    fn the_earlier_deadline_wins() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        assert_eq!(earlier(Some(later), Some(now)), Some(now));
        assert_eq!(earlier(None, Some(now)), Some(now));
        assert_eq!(earlier(None, None), None);
    }
}
