//! What was asked of the server and has not been answered in full: the check that nothing is lost, doubled or out of order.

use std::collections::VecDeque;
use std::time::Instant;

/// What went wrong, by kind. All zero is the only good answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// Messages that should have come and did not, until the end of the run.
    pub missing: u64,
    /// Messages that came although a later one of their stream had come, or a second time.
    pub repeated: u64,
    /// Messages that were skipped by a later one of their stream.
    pub skipped: u64,
    /// Answers with an error.
    pub refused: u64,
    /// Messages that nothing was known of.
    pub unknown: u64,
    /// Connections that ended though nobody ended them.
    pub closed: u64,
}

impl Faults {
    /// All of them together.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.missing + self.repeated + self.skipped + self.refused + self.unknown + self.closed
    }
}

/// One operation under way.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// When it was, or by the plan should have been, sent.
    pub at: Instant,
    /// Messages of one stream keep their order.
    pub stream: u32,
    /// Its place in the stream.
    pub seq: u32,
    /// The connection that asked.
    pub conn: u32,
    remaining: u32,
    acked: bool,
}

impl Operation {
    const fn is_done(&self) -> bool {
        self.acked && self.remaining == 0
    }
}

/// All operations under way, by number.
#[derive(Debug, Default)]
pub struct Ledger {
    operations: VecDeque<Operation>,
    base: u32,
    open: usize,
}

/// What an answer or a delivery changed.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// The operation it belongs to.
    pub operation: Operation,
    /// Whether it was the last thing that the operation waited for.
    pub is_done: bool,
}

impl Ledger {
    /// A ledger whose first operation has the number `first`.
    #[must_use]
    pub fn new(first: u32) -> Self {
        Self { operations: VecDeque::new(), base: first, open: 0 }
    }

    /// Enters an operation that is done after its ack and `deliveries` deliveries; answers its number.
    pub fn begin(&mut self, at: Instant, conn: u32, stream: u32, seq: u32, deliveries: u32) -> u32 {
        let number = self.base.wrapping_add(self.operations.len() as u32);
        self.operations.push_back(Operation { at, stream, seq, conn, remaining: deliveries, acked: false });
        self.open += 1;
        number
    }

    /// An answer came to `conn`: `None` if it waited for none.
    pub fn ack(&mut self, conn: u32, number: u32) -> Option<Progress> {
        self.change(number, |operation| operation.conn == conn && !std::mem::replace(&mut operation.acked, true))
    }

    /// A delivery came: `None` if the operation is over, or all of its deliveries have come.
    pub fn deliver(&mut self, number: u32) -> Option<Progress> {
        self.change(number, |operation| {
            let due = operation.remaining > 0;
            operation.remaining -= u32::from(due);
            due
        })
    }

    /// Operations that wait for something.
    #[must_use]
    pub const fn open(&self) -> usize {
        self.open
    }

    /// Answers and deliveries that have not come.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.operations.iter().map(|operation| u64::from(operation.remaining) + u64::from(!operation.acked)).sum()
    }

    fn change(&mut self, number: u32, change: impl FnOnce(&mut Operation) -> bool) -> Option<Progress> {
        let operation = self.operations.get_mut(number.wrapping_sub(self.base) as usize)?;
        if !change(operation) {
            return None;
        }
        let progress = Progress { operation: *operation, is_done: operation.is_done() };
        if progress.is_done {
            self.open -= 1;
            while self.operations.front().is_some_and(Operation::is_done) {
                self.operations.pop_front();
                self.base = self.base.wrapping_add(1);
            }
        }
        Some(progress)
    }
}

/// The order of the streams that one connection receives.
#[derive(Debug, Default, Clone)]
pub struct Streams(Vec<(u32, u32)>);

impl Streams {
    /// Expects these streams, each from its beginning.
    #[must_use]
    pub fn new(mut streams: Vec<u32>) -> Self {
        streams.sort_unstable();
        Self(streams.into_iter().map(|stream| (stream, 0)).collect())
    }

    /// Message `seq` of a stream came: notes what is wrong with it, if anything; `false` if it had come before.
    pub fn note(&mut self, stream: u32, seq: u32, faults: &mut Faults) -> bool {
        let Ok(at) = self.0.binary_search_by_key(&stream, |&(stream, _)| stream) else {
            faults.unknown += 1;
            return false;
        };
        let next = &mut self.0[at].1;
        if seq < *next {
            faults.repeated += 1;
            return false;
        }
        faults.skipped += u64::from(seq - *next);
        *next = seq + 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_done_once_with_all_it_waits_for() {
        let mut ledger = Ledger::new(7);
        let at = Instant::now();
        let (a, b) = (ledger.begin(at, 1, 0, 0, 2), ledger.begin(at, 1, 0, 1, 0));
        assert_eq!((a, b, ledger.open(), ledger.missing()), (7, 8, 2, 4));
        assert!(!ledger.deliver(a).unwrap().is_done);
        assert!(!ledger.ack(1, a).unwrap().is_done);
        assert!(ledger.ack(1, a).is_none(), "acknowledged twice");
        assert!(ledger.ack(2, b).is_none(), "another's");
        assert!(ledger.deliver(b).is_none(), "one delivery too many");
        assert!(ledger.ack(1, b).unwrap().is_done);
        assert!(ledger.deliver(a).unwrap().is_done);
        assert!(ledger.deliver(a).is_none());
        assert_eq!((ledger.open(), ledger.missing()), (0, 0));
    }

    #[test]
    fn streams_show_gaps_and_repetition() {
        let mut streams = Streams::new(vec![5, 3]);
        let mut faults = Faults::default();
        assert!(streams.note(3, 0, &mut faults) && streams.note(3, 1, &mut faults) && streams.note(5, 0, &mut faults));
        assert_eq!(faults.total(), 0);
        assert!(!streams.note(3, 1, &mut faults));
        assert!(streams.note(3, 4, &mut faults));
        assert!(!streams.note(9, 0, &mut faults));
        assert_eq!((faults.repeated, faults.skipped, faults.unknown), (1, 2, 1));
    }
}
