//! What gives way when a client reads too slowly: messages of channels, if the application prefers that to the client's end.

use std::collections::BTreeSet;
use std::mem;

use sc_server::published_channel;

use super::Backlog;
use crate::options::BackpressurePolicy;

impl Backlog {
    /// A backlog that knows where its frames begin, so that some may be dropped. It costs a little more for each.
    pub(crate) fn of_frames() -> Self {
        Self { keeps_frames: true, ..Self::default() }
    }

    /// Drops published messages as the policy says, and answers how many. Everything else stays: acks, events, pings, and a frame
    /// that has been written in part.
    pub(crate) fn shed(&mut self, max: usize, policy: BackpressurePolicy) -> u64 {
        let before = self.queue.len();
        match policy {
            BackpressurePolicy::Disconnect => {}
            BackpressurePolicy::DropOldest => self.drop_oldest(max),
            BackpressurePolicy::KeepLatest => self.keep_latest(),
        }
        self.len = self.queue.iter().map(|piece| piece.len()).sum::<usize>() + self.run.len();
        (before - self.queue.len()) as u64
    }

    /// A quarter of the room is made free, so that not every further message has to look through all of them.
    fn drop_oldest(&mut self, max: usize) {
        let (begun, goal) = (usize::from(self.is_begun), max - max / 4);
        let mut left = self.len;
        let mut at = 0;
        self.queue.retain(|frame| {
            at += 1;
            let goes = at > begun && left > goal && published_channel(frame).is_some();
            left -= if goes { frame.len() } else { 0 };
            !goes
        });
    }

    fn keep_latest(&mut self) {
        let begun = usize::from(self.is_begun);
        let mut seen = BTreeSet::new();
        let mut goes = vec![false; self.queue.len()];
        for (at, frame) in self.queue.iter().enumerate().skip(begun).rev() {
            goes[at] = published_channel(frame).is_some_and(|channel| !seen.insert(channel));
        }
        let mut goes = mem::take(&mut goes).into_iter();
        self.queue.retain(|_| !goes.next().unwrap_or(false));
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use sc_protocol::packet::write;
    use sc_protocol::ws::{OpCode, frame};

    use super::*;

    fn published(channel: &str, data: &str) -> Bytes {
        frame::build(&mut BytesMut::new(), OpCode::Text, |out| {
            write::publish(out, channel, Some(data));
        })
    }

    fn ack(cid: u32) -> Bytes {
        frame::build(&mut BytesMut::new(), OpCode::Text, |out| {
            out.extend_from_slice(format!("{{\"rid\":{cid}}}").as_bytes());
        })
    }

    fn backlog(frames: &[Bytes]) -> Backlog {
        let mut backlog = Backlog::of_frames();
        frames.iter().for_each(|frame| backlog.push(frame, 0));
        backlog
    }

    fn left(mut backlog: Backlog) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(backlog.write_to(&mut out).unwrap() && backlog.is_empty());
        out
    }

    #[test]
    fn the_oldest_messages_go_and_nothing_else() {
        let frames: Vec<_> = (0..100).flat_map(|n| [published("a", &n.to_string()), ack(n)]).collect();
        let mut backlog = backlog(&frames);
        let max = backlog.len() - 1;
        let dropped = backlog.shed(max, BackpressurePolicy::DropOldest) as usize;
        assert!(dropped > 0 && backlog.len() <= max - max / 4);
        let expected: Vec<u8> = frames
            .iter()
            .enumerate()
            .filter(|(at, _)| at % 2 == 1 || *at >= 2 * dropped)
            .flat_map(|(_, frame)| frame.to_vec())
            .collect();
        assert_eq!(left(backlog), expected);
    }

    #[test]
    fn the_latest_of_each_channel_stays() {
        let frames =
            [published("a", "1"), published("b\\\"", "1"), ack(1), published("a", "2"), published("b\\\"", "2")];
        let mut backlog = backlog(&frames);
        assert_eq!(backlog.shed(0, BackpressurePolicy::KeepLatest), 2);
        assert_eq!(left(backlog), [&frames[2][..], &frames[3], &frames[4]].concat());
    }

    #[test]
    fn a_frame_that_has_begun_is_finished() {
        let (first, second) = (published("a", "1"), published("a", "2"));
        let mut written = backlog(&[first.clone(), second.clone()]);
        written.advance(3);
        let mut pushed = Backlog::of_frames();
        pushed.push(&first, 3);
        pushed.push(&second, 0);
        for mut backlog in [written, pushed] {
            assert_eq!(backlog.shed(0, BackpressurePolicy::DropOldest), 1);
            assert_eq!(left(backlog), first[3..]);
        }
    }
}
