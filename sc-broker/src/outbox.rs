//! The bytes that wait for one worker, and up to where they may go out.

use std::collections::VecDeque;

use bytes::{Buf, BytesMut};
use sc_protocol::ipc::LinkMsg;

/// Memory that an empty outbox keeps. What a burst needed beyond it is given back.
const KEPT_MAX: usize = 1 << 20;

/// One contiguous buffer, so that everything for a worker leaves in one write; positions in it are those of the whole
/// stream since the link began.
///
/// An acknowledgement may be gated: it, and whatever is behind it, stays until its barrier falls, see
/// [`Broker`](crate::Broker).
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: BytesMut,
    /// Position behind the last byte.
    end: u64,
    /// Deliveries some byte of which has not been written, for which an acknowledgement waits.
    unwritten: VecDeque<Unwritten>,
    /// From the first one that is closed.
    gates: VecDeque<Gate>,
    gates_passed: u64,
}

#[derive(Debug)]
struct Unwritten {
    end: u64,
    barrier: u32,
}

#[derive(Debug)]
struct Gate {
    /// Position of the first byte that it holds.
    at: u64,
    /// `None`: open, but behind one that is closed.
    barrier: Option<u32>,
}

impl Outbox {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What may be written now: everything before the first closed gate.
    pub(crate) fn sendable(&self) -> &[u8] {
        match self.gates.front() {
            // The gate lies in the buffer: nothing beyond a closed gate is ever written.
            Some(gate) => &self.bytes[..self.bytes.len() - (self.end - gate.at) as usize],
            None => &self.bytes,
        }
    }

    pub(crate) fn push(&mut self, msg: &LinkMsg<'_>) {
        let before = self.bytes.len();
        msg.write(&mut self.bytes);
        self.end += (self.bytes.len() - before) as u64;
    }

    /// A delivery that `barrier` counts until it has been written.
    pub(crate) fn push_counted(&mut self, msg: &LinkMsg<'_>, barrier: u32) {
        self.push(msg);
        self.unwritten.push_back(Unwritten { end: self.end, barrier });
    }

    /// The number that the next gate will have.
    pub(crate) fn next_gate(&self) -> u64 {
        self.gates_passed + self.gates.len() as u64
    }

    /// A message that may not leave before `barrier` falls.
    pub(crate) fn push_gated(&mut self, msg: &LinkMsg<'_>, barrier: u32) {
        self.gates.push_back(Gate { at: self.end, barrier: Some(barrier) });
        self.push(msg);
    }

    pub(crate) fn open(&mut self, gate: u64) {
        let index = gate.checked_sub(self.gates_passed).and_then(|index| usize::try_from(index).ok());
        if let Some(gate) = index.and_then(|index| self.gates.get_mut(index)) {
            gate.barrier = None;
        }
        while self.gates.front().is_some_and(|gate| gate.barrier.is_none()) {
            self.gates.pop_front();
            self.gates_passed += 1;
        }
    }

    /// Removes `n` bytes that have been written, and appends to `done` the barrier of each delivery that is out with them.
    pub(crate) fn wrote(&mut self, n: usize, done: &mut Vec<u32>) {
        debug_assert!(n <= self.sendable().len(), "no more is written than was lent");
        let n = n.min(self.sendable().len());
        if n == self.bytes.len() {
            if self.bytes.capacity() > KEPT_MAX {
                self.bytes = BytesMut::new();
            } else {
                self.bytes.clear();
            }
        } else {
            self.bytes.advance(n);
        }
        let written = self.end - self.bytes.len() as u64;
        while let Some(first) = self.unwritten.front()
            && first.end <= written
        {
            done.push(first.barrier);
            self.unwritten.pop_front();
        }
    }

    /// The barriers that count a delivery of this outbox, with repetition.
    pub(crate) fn counted_by(&self) -> impl Iterator<Item = u32> {
        self.unwritten.iter().map(|unwritten| unwritten.barrier)
    }

    /// The barriers that gates of this outbox wait for.
    pub(crate) fn waits_for(&self) -> impl Iterator<Item = u32> {
        self.gates.iter().filter_map(|gate| gate.barrier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELIVER: LinkMsg<'_> = LinkMsg::Deliver { channel: "a", data: Some("1") };
    const ACK: LinkMsg<'_> = LinkMsg::Ack { cid: 1, deliver: true };

    fn length(msg: &LinkMsg<'_>) -> usize {
        let mut out = BytesMut::new();
        msg.write(&mut out);
        out.len()
    }

    #[test]
    fn a_gate_holds_everything_behind_it_and_gates_open_in_any_order() {
        let mut outbox = Outbox::default();
        outbox.push(&DELIVER);
        assert_eq!(outbox.next_gate(), 0);
        outbox.push_gated(&ACK, 7);
        outbox.push(&DELIVER);
        assert_eq!(outbox.next_gate(), 1);
        outbox.push_gated(&ACK, 8);
        let (deliver, ack) = (length(&DELIVER), length(&ACK));
        assert_eq!(outbox.sendable().len(), deliver);
        outbox.open(1);
        assert_eq!(outbox.sendable().len(), deliver);
        outbox.wrote(deliver, &mut Vec::new());
        assert_eq!(outbox.sendable().len(), 0);
        outbox.open(0);
        assert_eq!(outbox.sendable().len(), outbox.len());
        assert_eq!(outbox.len(), 2 * ack + deliver);
        assert_eq!(outbox.next_gate(), 2);
    }

    #[test]
    fn a_delivery_counts_as_written_with_its_last_byte() {
        let mut outbox = Outbox::default();
        outbox.push_counted(&DELIVER, 3);
        outbox.push_counted(&DELIVER, 4);
        let (mut done, deliver) = (Vec::new(), length(&DELIVER));
        outbox.wrote(deliver - 1, &mut done);
        assert!(done.is_empty());
        outbox.wrote(deliver, &mut done);
        assert_eq!(done, [3]);
        outbox.wrote(1, &mut done);
        assert_eq!(done, [3, 4]);
        assert_eq!(outbox.len(), 0);
    }
}
