//! Streams between machines: bytes arrive later, in pieces, or not at all.
//!
//! What holds is what the kernel promises. Bytes keep their order. An end of file comes behind the last byte. A stream whose
//! end is closed with unread bytes is reset, which on TCP loses what was on its way, and on a pair between processes does not.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::rng::Rng;

/// A stream; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamId(usize);

/// Which end: that which connected (a client, a worker), or the other (a server, a broker).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Near = 0,
    Far = 1,
}

impl End {
    fn other(self) -> Self {
        if self == Self::Near { Self::Far } else { Self::Near }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Data(Vec<u8>),
    Nothing,
    /// The peer has ended its half.
    Eof,
    /// The stream is broken.
    Reset,
}

/// The bytes for one end.
#[derive(Debug, Default)]
struct Pipe {
    chunks: VecDeque<(Instant, VecDeque<u8>)>,
    bytes: usize,
    /// The writer has ended its half; the reader sees it then.
    eof_at: Option<Instant>,
    eof_seen: bool,
}

#[derive(Debug)]
struct Stream {
    /// `pipes[end]` is what that end reads.
    pipes: [Pipe; 2],
    /// Who holds an end: processes share what was passed between them.
    holders: [u32; 2],
    shut: [bool; 2],
    reset: bool,
    capacity: usize,
    delay: Duration,
    tcp: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Net {
    streams: Vec<Stream>,
}

impl Net {
    pub(crate) fn connect(&mut self, capacity: usize, delay: Duration, tcp: bool) -> StreamId {
        let pipes = [Pipe::default(), Pipe::default()];
        let stream = Stream { pipes, holders: [1, 1], shut: [false; 2], reset: false, capacity, delay, tcp };
        self.streams.push(stream);
        StreamId(self.streams.len() - 1)
    }

    fn stream(&mut self, id: StreamId) -> &mut Stream {
        &mut self.streams[id.0]
    }

    /// Another process holds this end too.
    pub(crate) fn share(&mut self, id: StreamId, end: End) {
        self.stream(id).holders[end as usize] += 1;
    }

    /// One holder lets go; the last one closes it.
    pub(crate) fn close(&mut self, id: StreamId, end: End, now: Instant) {
        let stream = self.stream(id);
        let holders = &mut stream.holders[end as usize];
        debug_assert!(*holders > 0, "closed twice");
        *holders -= 1;
        if *holders > 0 {
            return;
        }
        if stream.tcp && stream.pipes[end as usize].bytes > 0 {
            return self.reset(id);
        }
        self.shutdown(id, end, now);
    }

    /// Breaks a stream: what was on its way is lost.
    pub(crate) fn reset(&mut self, id: StreamId) {
        let stream = self.stream(id);
        stream.reset = true;
        stream.pipes = [Pipe::default(), Pipe::default()];
    }

    /// Ends this end's half.
    pub(crate) fn shutdown(&mut self, id: StreamId, end: End, now: Instant) {
        let stream = self.stream(id);
        if !std::mem::replace(&mut stream.shut[end as usize], true) {
            let pipe = &mut stream.pipes[end.other() as usize];
            let last = pipe.chunks.back().map_or(now, |(at, _)| *at);
            pipe.eof_at = Some(last.max(now + stream.delay / 2));
        }
    }

    /// How many bytes this end may write now.
    pub(crate) fn room(&self, id: StreamId, end: End) -> usize {
        let stream = &self.streams[id.0];
        stream.capacity.saturating_sub(stream.pipes[end.other() as usize].bytes)
    }

    /// Writes what there is room for. `None`: nobody will read it any more.
    pub(crate) fn write(&mut self, id: StreamId, end: End, bytes: &[u8], now: Instant, rng: &mut Rng) -> Option<usize> {
        let room = self.room(id, end);
        let stream = self.stream(id);
        if stream.reset || stream.holders[end.other() as usize] == 0 {
            return None;
        }
        debug_assert!(!stream.shut[end as usize], "written after its end");
        let taken = bytes.len().min(room);
        if taken > 0 {
            let micros = stream.delay.as_micros() as usize;
            let at = now + Duration::from_micros(if micros == 0 { 0 } else { rng.below(micros) as u64 });
            let pipe = &mut stream.pipes[end.other() as usize];
            let at = pipe.chunks.back().map_or(at, |(last, _)| at.max(*last));
            pipe.chunks.push_back((at, bytes[..taken].iter().copied().collect()));
            pipe.bytes += taken;
        }
        Some(taken)
    }

    /// Reads up to `max` bytes of what has arrived.
    pub(crate) fn read(&mut self, id: StreamId, end: End, max: usize, now: Instant) -> Read {
        let stream = self.stream(id);
        if stream.reset {
            return Read::Reset;
        }
        let pipe = &mut stream.pipes[end as usize];
        let mut data = Vec::new();
        while let Some((at, chunk)) = pipe.chunks.front_mut() {
            if *at > now || data.len() == max {
                break;
            }
            let n = chunk.len().min(max - data.len());
            data.extend(chunk.drain(..n));
            if chunk.is_empty() {
                pipe.chunks.pop_front();
            }
        }
        pipe.bytes -= data.len();
        if !data.is_empty() {
            return Read::Data(data);
        }
        if pipe.chunks.is_empty() && pipe.eof_at.is_some_and(|at| at <= now) {
            pipe.eof_seen = true;
            return Read::Eof;
        }
        Read::Nothing
    }

    /// When this end has something to read: a time that has passed, or will.
    pub(crate) fn readable_at(&self, id: StreamId, end: End, now: Instant) -> Option<Instant> {
        let stream = &self.streams[id.0];
        if stream.reset {
            return Some(now);
        }
        let pipe = &stream.pipes[end as usize];
        pipe.chunks.front().map(|(at, _)| *at).or_else(|| pipe.eof_at.filter(|_| !pipe.eof_seen))
    }
}
