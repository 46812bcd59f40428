//! What one turn of the loop has to write, and what was left from the turns before.
//!
//! The unit of cost in a socket server is the system call, not the message. So nothing is written while a turn handles its input: every frame
//! goes into the [`Outbox`]'s *log* once, however many sockets get it, and each socket that gets something has a list of `u32` indexes into that
//! log. At the end of the turn each of those sockets is written to once. A delivery therefore costs one `u32` and no reference count, and the order in
//! which frames were queued for a socket is the order of its list.
//!
//! Sockets with the same list, as in a fan-out, come one after the other: what was gathered for the first is used for the rest.
//!
//! What the kernel does not take waits in a [`Backlog`], which exists only for a socket that has one.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

use bytes::{Buf, Bytes, BytesMut};

mod shed;

/// The list of a socket that has nothing queued in this turn.
pub(crate) const NO_LIST: u32 = u32::MAX;

/// Several frames of up to this many bytes together are copied into one buffer and written plainly: below it the copy costs less than the kernel's walk
/// over as many slices. Beyond it they are written where they lie.
const GATHER_MAX: usize = 32 * 1024;

/// Unwritten pieces below this are copied, so that a slow reader does not pin the large buffer that a small frame may be a slice of.
const COPY_BELOW: usize = 4 * 1024;

/// A run of copied pieces is closed at this length and another one begun.
const RUN_MAX: usize = 64 * 1024;

/// Slices given to one `writev`.
const SLICES_MAX: usize = 64;

/// Lists kept for the next turn; a turn with more sockets gives the surplus back.
const LISTS_KEPT_MAX: usize = 16 * 1024;

/// Indexes that a kept list has room for; a larger list is shrunk.
const LIST_KEPT_MAX: usize = 256;

/// Frames that the kept log has room for.
const LOG_KEPT_MAX: usize = 16 * 1024;

/// The frames of one turn, and which socket gets which.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    log: Vec<Bytes>,
    /// Lists in use are the first `used`; the rest are empty and wait to be used.
    lists: Vec<List>,
    used: usize,
    gathered: Vec<u8>,
}

#[derive(Debug, Default)]
struct List {
    slot: u32,
    frames: Vec<u32>,
}

impl Outbox {
    /// An outbox that owns no memory yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Puts a frame into the log; the answer is what [`Outbox::queue`] wants, for each socket that gets it.
    pub(crate) fn log(&mut self, frame: Bytes) -> u32 {
        let index = self.log.len();
        self.log.push(frame);
        debug_assert!(index < NO_LIST as usize, "a turn logs fewer than 2^32 frames");
        index as u32
    }

    /// Queues a logged frame for the socket `slot`. `list` is the socket's own memory of its list: [`NO_LIST`] at the beginning of a turn.
    pub(crate) fn queue(&mut self, list: &mut u32, slot: u32, frame: u32) {
        self.touch(list, slot);
        self.lists[*list as usize].frames.push(frame);
    }

    /// Has `slot` flushed at the end of the turn even if nothing new is queued for it.
    pub(crate) fn touch(&mut self, list: &mut u32, slot: u32) {
        if *list != NO_LIST {
            return;
        }
        if self.used == self.lists.len() {
            self.lists.push(List::default());
        }
        self.lists[self.used].slot = slot;
        *list = self.used as u32;
        self.used += 1;
    }

    /// Whether no socket has anything to be flushed.
    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Calls `flush` once for each socket with a list, in the order in which they got their first frame, and forgets the turn. The callee
    /// resets the socket's list to [`NO_LIST`].
    pub(crate) fn flush(&mut self, mut flush: impl FnMut(u32, Frames<'_>)) {
        let mut previous: Option<usize> = None;
        let mut total = 0;
        for at in 0..self.used {
            let frames = &self.lists[at].frames;
            let same = previous.is_some_and(|before| self.lists[before].frames == *frames);
            if !same {
                total = frames.iter().map(|&frame| self.log[frame as usize].len()).sum();
                self.gathered.clear();
                if frames.len() > 1 && total <= GATHER_MAX {
                    for &frame in frames {
                        self.gathered.extend_from_slice(&self.log[frame as usize]);
                    }
                }
                previous = Some(at);
            }
            let gathered = &self.gathered[..];
            flush(self.lists[at].slot, Frames { log: &self.log, list: frames, gathered, total });
        }
        self.reset();
    }

    fn reset(&mut self) {
        self.log.clear();
        self.log.shrink_to(LOG_KEPT_MAX);
        for list in &mut self.lists[..self.used] {
            list.frames.clear();
            list.frames.shrink_to(LIST_KEPT_MAX);
        }
        self.lists.truncate(LISTS_KEPT_MAX);
        self.used = 0;
    }
}

/// The frames that one socket gets in this turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frames<'a> {
    log: &'a [Bytes],
    list: &'a [u32],
    /// The frames one behind the other, if there are several small ones.
    gathered: &'a [u8],
    total: usize,
}

impl<'a> Frames<'a> {
    /// Bytes of all frames together.
    pub(crate) fn len(&self) -> usize {
        self.total
    }

    /// One attempt to write: how many bytes the writer took. `Ok` with less than [`Frames::len`] means that it is full.
    pub(crate) fn write_to(&self, writer: &mut impl Write) -> io::Result<usize> {
        if self.total == 0 {
            return Ok(0);
        }
        if !self.gathered.is_empty() {
            return write_once(|| writer.write(self.gathered));
        }
        if let [frame] = self.list {
            return write_once(|| writer.write(&self.log[*frame as usize]));
        }
        let mut written = 0;
        for part in self.list.chunks(SLICES_MAX) {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let mut wanted = 0;
            for (slice, &frame) in slices.iter_mut().zip(part) {
                *slice = IoSlice::new(&self.log[frame as usize]);
                wanted += slice.len();
            }
            let n = write_once(|| writer.write_vectored(&slices[..part.len()]))?;
            written += n;
            if n < wanted {
                break;
            }
        }
        Ok(written)
    }

    /// Moves what is behind the first `written` bytes to the end of `backlog`.
    pub(crate) fn rest_into(&self, mut written: usize, backlog: &mut Backlog) {
        for &frame in self.list {
            let frame = &self.log[frame as usize];
            if written >= frame.len() {
                written -= frame.len();
                continue;
            }
            backlog.push(frame, written);
            written = 0;
        }
    }
}

/// What a peer has not taken yet, in order.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    queue: VecDeque<Bytes>,
    /// Copies of small pieces, behind all of `queue`.
    run: BytesMut,
    len: usize,
    /// Each piece is a frame, or the rest of the first one: nothing is gathered in `run`.
    keeps_frames: bool,
    /// Of the first piece something has been written.
    is_begun: bool,
}

impl Backlog {
    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether everything has been written.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends `frame` from its byte `from` on: a small piece as a copy, a large one as a share of the frame.
    pub(crate) fn push(&mut self, frame: &Bytes, from: usize) {
        let piece = &frame[from..];
        if self.is_empty() {
            self.is_begun = from > 0;
        }
        self.len += piece.len();
        if self.keeps_frames && piece.len() < COPY_BELOW {
            self.queue.push_back(Bytes::copy_from_slice(piece));
        } else if piece.len() < COPY_BELOW {
            self.run.extend_from_slice(piece);
            if self.run.len() >= RUN_MAX {
                self.close_run();
            }
        } else {
            self.close_run();
            self.queue.push_back(frame.slice(from..));
        }
    }

    /// Writes until everything is written or the writer is full: whether everything is written.
    pub(crate) fn write_to(&mut self, writer: &mut impl Write) -> io::Result<bool> {
        while !self.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let mut used = 0;
            let pieces =
                self.queue.iter().map(|piece| &piece[..]).chain((!self.run.is_empty()).then_some(&self.run[..]));
            let mut wanted = 0;
            for (slice, piece) in slices.iter_mut().zip(pieces) {
                *slice = IoSlice::new(piece);
                wanted += piece.len();
                used += 1;
            }
            let written = match &slices[..used] {
                [one] => write_once(|| writer.write(one))?,
                several => write_once(|| writer.write_vectored(several))?,
            };
            self.advance(written);
            if written < wanted {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn close_run(&mut self) {
        if !self.run.is_empty() {
            self.queue.push_back(std::mem::take(&mut self.run).freeze());
        }
    }

    fn advance(&mut self, mut written: usize) {
        debug_assert!(written <= self.len, "a writer takes no more than it is given");
        self.len -= written;
        while let Some(front) = self.queue.front_mut() {
            if written < front.len() {
                self.is_begun |= written > 0;
                front.advance(written);
                return;
            }
            written -= front.len();
            self.is_begun = false;
            self.queue.pop_front();
        }
        self.run.advance(written);
    }
}

/// Writes once; a full writer took 0 bytes, an interrupted one is asked again.
pub(crate) fn write_once(mut write: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match write() {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A writer that takes `room` bytes in all and counts its calls.
    struct Pipe {
        taken: Vec<u8>,
        room: usize,
        calls: usize,
    }

    impl Pipe {
        fn with_room(room: usize) -> Self {
            Self { taken: Vec::new(), room, calls: 0 }
        }
    }

    impl Write for Pipe {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            let n = data.len().min(self.room);
            if n == 0 && !data.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.room -= n;
            self.taken.extend_from_slice(&data[..n]);
            Ok(n)
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            self.write(&all)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn flush_all(outbox: &mut Outbox, pipes: &mut [Pipe]) -> Vec<Backlog> {
        let mut backlogs: Vec<Backlog> = pipes.iter().map(|_| Backlog::default()).collect();
        outbox.flush(|slot, frames| {
            let written = frames.write_to(&mut pipes[slot as usize]).unwrap();
            frames.rest_into(written, &mut backlogs[slot as usize]);
        });
        backlogs
    }

    #[test]
    fn frames_keep_their_order_for_each_socket() {
        let mut outbox = Outbox::new();
        let mut lists = [NO_LIST; 2];
        let own = outbox.log(Bytes::from_static(b"own "));
        outbox.queue(&mut lists[0], 0, own);
        let shared = outbox.log(Bytes::from_static(b"shared "));
        for slot in [1, 0] {
            outbox.queue(&mut lists[slot as usize], slot, shared);
        }
        let last = outbox.log(Bytes::from_static(b"last"));
        outbox.queue(&mut lists[0], 0, last);
        let mut pipes = [Pipe::with_room(100), Pipe::with_room(100)];
        flush_all(&mut outbox, &mut pipes);
        assert_eq!(pipes[0].taken, b"own shared last");
        assert_eq!(pipes[1].taken, b"shared ");
        assert_eq!((pipes[0].calls, pipes[1].calls), (1, 1), "one write each");
        assert!(outbox.is_empty());
    }

    #[test]
    fn equal_lists_are_gathered_once_and_different_ones_are_not_mixed_up() {
        let mut outbox = Outbox::new();
        let mut lists = [NO_LIST; 4];
        for text in ["a", "b"] {
            let frame = outbox.log(Bytes::from(text));
            for slot in 0..3 {
                outbox.queue(&mut lists[slot as usize], slot, frame);
            }
        }
        let frame = outbox.log(Bytes::from("c"));
        outbox.queue(&mut lists[1], 1, frame);
        outbox.queue(&mut lists[3], 3, frame);
        let mut pipes: Vec<Pipe> = (0..4).map(|_| Pipe::with_room(100)).collect();
        flush_all(&mut outbox, &mut pipes);
        let taken: Vec<&[u8]> = pipes.iter().map(|pipe| &pipe.taken[..]).collect();
        assert_eq!(taken, [&b"ab"[..], b"abc", b"ab", b"c"]);
    }

    #[test]
    fn a_touched_socket_is_flushed_with_nothing() {
        let mut outbox = Outbox::new();
        let mut list = NO_LIST;
        outbox.touch(&mut list, 7);
        assert!(!outbox.is_empty());
        let mut seen = Vec::new();
        outbox.flush(|slot, frames| seen.push((slot, frames.len())));
        assert_eq!(seen, [(7, 0)]);
    }

    #[test]
    fn large_lists_are_written_where_they_lie_and_whole() {
        let mut outbox = Outbox::new();
        let mut list = NO_LIST;
        let mut wanted = Vec::new();
        for i in 0..200_u32 {
            let frame = vec![i as u8; 1000 + i as usize];
            wanted.extend_from_slice(&frame);
            let frame = outbox.log(Bytes::from(frame));
            outbox.queue(&mut list, 0, frame);
        }
        let mut pipes = [Pipe::with_room(usize::MAX)];
        flush_all(&mut outbox, &mut pipes);
        assert_eq!(pipes[0].taken, wanted);
        assert_eq!(pipes[0].calls, 200_usize.div_ceil(SLICES_MAX));
    }

    #[test]
    fn what_is_left_follows_in_order_whatever_the_writer_takes() {
        let sizes = [10, 5000, 1, 40_000, 7, 70_000];
        let all: usize = sizes.iter().sum();
        for room in (0..all).step_by(997) {
            let mut outbox = Outbox::new();
            let mut list = NO_LIST;
            let mut wanted = Vec::new();
            for (i, &size) in sizes.iter().enumerate() {
                let frame = vec![i as u8 + 1; size];
                wanted.extend_from_slice(&frame);
                let frame = outbox.log(Bytes::from(frame));
                outbox.queue(&mut list, 0, frame);
            }
            let mut pipes = [Pipe::with_room(room)];
            let mut backlog = flush_all(&mut outbox, &mut pipes).remove(0);
            assert_eq!(backlog.len(), all - room);
            while !backlog.is_empty() {
                pipes[0].room = 3001;
                let done = backlog.write_to(&mut pipes[0]).unwrap();
                assert_eq!(done, backlog.is_empty());
            }
            assert!(pipes[0].taken == wanted, "room {room}");
        }
    }

    #[test]
    fn small_leftovers_are_copies_and_large_ones_are_shares() {
        let small = Bytes::from(vec![1; COPY_BELOW - 1]);
        let large = Bytes::from(vec![2; COPY_BELOW]);
        let mut backlog = Backlog::default();
        backlog.push(&small, 0);
        backlog.push(&large, 0);
        assert!(small.is_unique(), "copied: the frame may go");
        assert!(!large.is_unique(), "shared: not copied");
        backlog.push(&large, 1);
        assert_eq!(backlog.len(), 3 * COPY_BELOW - 2);
    }

    #[test]
    fn a_dead_writer_is_an_error() {
        struct Dead;
        impl Write for Dead {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut backlog = Backlog::default();
        backlog.push(&Bytes::from_static(b"x"), 0);
        assert!(backlog.write_to(&mut Dead).is_err());
        assert_eq!(backlog.len(), 1);
    }
}
