//! The engine's outputs in their order.
//!
//! What one read brings is often several packets of one socket, each with an answer to the same socket. Those are written one behind the
//! other into one buffer and leave as one [`Output::Transmit`]: an output, a shared piece of memory and its two reference counts
//! are per socket then, not per answer.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::output::Output;

/// Runs are cut off allocations of this size, one after the other, and are no longer than this and a packet.
const RUN_MAX: usize = 16 * 1024;

#[derive(Debug)]
pub(crate) struct Outputs {
    queue: VecDeque<Output>,
    /// For whom the bytes in `run` are. They come behind all of `queue`.
    slot: Option<u32>,
    run: BytesMut,
}

impl Outputs {
    pub(crate) fn new() -> Self {
        Self { queue: VecDeque::new(), slot: None, run: BytesMut::with_capacity(RUN_MAX) }
    }

    pub(crate) fn push(&mut self, output: Output) {
        self.end_run();
        self.queue.push_back(output);
    }

    /// Sends bytes to a slot, which `fill` appends.
    pub(crate) fn append(&mut self, slot: u32, fill: impl FnOnce(&mut BytesMut)) {
        if self.slot != Some(slot) {
            self.end_run();
            self.slot = Some(slot);
        }
        fill(&mut self.run);
        if self.run.len() >= RUN_MAX {
            self.end_run();
        }
    }

    /// Sends bytes to a slot: long ones as they are, short ones as copies.
    pub(crate) fn transmit(&mut self, slot: u32, bytes: Bytes) {
        const COPY_BELOW: usize = 512;
        if bytes.len() < COPY_BELOW {
            self.append(slot, |run| run.extend_from_slice(&bytes));
        } else {
            self.push(Output::Transmit(slot, bytes));
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Output> {
        if self.queue.is_empty() {
            self.end_run();
        }
        self.queue.pop_front()
    }

    fn end_run(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.queue.push_back(Output::Transmit(slot, self.run.split().freeze()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(outputs: &mut Outputs) -> Vec<String> {
        std::iter::from_fn(|| outputs.pop()).map(|output| format!("{output:?}")).collect()
    }

    #[test]
    fn packets_of_one_socket_are_one_output_until_something_else_comes() {
        let mut outputs = Outputs::new();
        let long = vec![b'l'; 600];
        outputs.append(1, |run| run.extend_from_slice(b"a"));
        outputs.transmit(1, Bytes::from_static(b"b"));
        outputs.append(2, |run| run.extend_from_slice(b"c"));
        outputs.push(Output::Read(2, false));
        outputs.append(2, |run| run.extend_from_slice(b"d"));
        outputs.transmit(2, long.clone().into());
        outputs.append(2, |run| run.extend_from_slice(b"e"));
        let long = Output::Transmit(2, long.into());
        let wanted = [r#"Transmit(1, b"ab")"#, r#"Transmit(2, b"c")"#, "Read(2, false)", r#"Transmit(2, b"d")"#];
        assert_eq!(drain(&mut outputs), [&wanted[..], &[&format!("{long:?}"), r#"Transmit(2, b"e")"#]].concat());
        assert!(drain(&mut outputs).is_empty());
    }

    #[test]
    fn a_run_ends_when_it_is_long() {
        let mut outputs = Outputs::new();
        for _ in 0..3 {
            outputs.append(1, |run| run.resize(run.len() + RUN_MAX / 2, b'x'));
        }
        assert_eq!(drain(&mut outputs).len(), 2);
    }
}
