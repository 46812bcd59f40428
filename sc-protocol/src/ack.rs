//! Calls that wait for the peer's answer.

use crate::wheel::TimerId;

/// The outstanding calls of one peer by `cid`: 16 bytes, and no allocation while there are none.
///
/// Cids count from 1 and are never used again on this connection, so a late or invented `rid` finds nothing. How many
/// calls may wait is bounded by the caller, who knows the configuration.
///
/// ```
/// use sc_protocol::ack::AckTable;
///
/// let mut acks = AckTable::new();
/// assert_eq!(acks.insert(1, "first", None).unwrap(), 1);
/// assert_eq!(acks.insert(1, "second", None).unwrap_err().0, "second", "one may wait here");
/// assert_eq!(acks.take(1).unwrap().value, "first");
/// assert!(acks.take(1).is_none());
/// assert_eq!(acks.next_cid(), 2);
/// ```
#[derive(Debug)]
pub struct AckTable<T> {
    last_cid: u64,
    calls: Option<Box<Calls<T>>>,
}

/// Ordered by cid, since cids only grow.
#[derive(Debug)]
struct Calls<T>(Vec<(u64, Call<T>)>);

/// A call that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call<T> {
    /// What the caller left here: mostly what to do with the answer.
    pub value: T,
    /// The timer of its timeout, to cancel when the answer comes.
    pub timer: Option<TimerId>,
}

/// The table holds as many calls as it may; the value comes back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("too many calls wait for an answer of this peer")]
pub struct Full<T>(pub T);

impl<T> AckTable<T> {
    /// An empty table.
    #[must_use]
    pub const fn new() -> Self {
        Self { last_cid: 0, calls: None }
    }

    /// The cid that the next [`insert`](Self::insert) gives, so that its timer can name it.
    #[must_use]
    pub const fn next_cid(&self) -> u64 {
        self.last_cid + 1
    }

    /// Adds a call and answers its cid.
    ///
    /// # Errors
    /// `limit` calls wait already (the usual one is [`UNANSWERED_CALLS_MAX`](crate::limits::UNANSWERED_CALLS_MAX)).
    pub fn insert(&mut self, limit: usize, value: T, timer: Option<TimerId>) -> Result<u64, Full<T>> {
        if self.len() >= limit {
            return Err(Full(value));
        }
        self.last_cid += 1;
        let calls = self.calls.get_or_insert_with(|| Box::new(Calls(Vec::new())));
        calls.0.push((self.last_cid, Call { value, timer }));
        Ok(self.last_cid)
    }

    /// Takes the call that an answer or a timeout is about. `None`: nobody waits under this cid.
    pub fn take(&mut self, cid: u64) -> Option<Call<T>> {
        let calls = &mut self.calls.as_mut()?.0;
        let place = calls.binary_search_by_key(&cid, |(cid, _)| *cid).ok()?;
        let (_, call) = calls.remove(place);
        if calls.is_empty() {
            self.calls = None;
        }
        Some(call)
    }

    /// Takes all calls, oldest first: the connection is gone.
    pub fn drain(&mut self) -> impl Iterator<Item = (u64, Call<T>)> + use<T> {
        self.calls.take().map(|calls| calls.0).into_iter().flatten()
    }

    /// Calls that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.calls.as_ref().map_or(0, |calls| calls.0.len())
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.calls.is_none()
    }
}

impl<T> Default for AckTable<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_found_in_any_order() {
        let mut acks = AckTable::new();
        for cid in 1..=5 {
            assert_eq!(acks.insert(5, cid * 10, None), Ok(cid));
        }
        assert_eq!(acks.insert(5, 60, None), Err(Full(60)));
        assert_eq!(acks.take(3).map(|call| call.value), Some(30));
        assert_eq!(acks.take(3), None);
        assert_eq!(acks.take(0), None);
        assert_eq!(acks.take(u64::MAX), None);
        assert_eq!(acks.insert(5, 60, None), Ok(6), "a refused call used no cid");
        let left: Vec<_> = acks.drain().map(|(cid, call)| (cid, call.value)).collect();
        assert_eq!(left, [(1, 10), (2, 20), (4, 40), (5, 50), (6, 60)]);
        assert!(acks.is_empty());
        assert_eq!(acks.next_cid(), 7, "cids are not used again");
    }

    #[test]
    fn an_empty_table_is_small_and_owns_nothing() {
        assert_eq!(size_of::<AckTable<[u8; 100]>>(), 16);
        let mut acks = AckTable::new();
        acks.insert(1, (), None).unwrap();
        assert_eq!((acks.len(), acks.is_empty()), (1, false));
        acks.take(1);
        assert!(acks.calls.is_none());
    }
}
