//! One end of the byte stream between a worker and a broker, as a loop drives it.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net;

use bytes::Bytes;
use mio::event::Event;
use mio::net::UnixStream;
use mio::{Interest, Registry};

use crate::event_loop::Source;
use crate::outbox::{Backlog, write_once};

/// Bytes read from one link in one turn.
const READ_BUDGET: usize = 1024 * 1024;

/// An end of a link. Any error means that the link is of no more use.
#[derive(Debug)]
pub(crate) struct BrokerLink {
    stream: UnixStream,
    backlog: Backlog,
    writable: bool,
    peer_done: bool,
    more: bool,
}

/// How a read ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum ReadEnd {
    /// All is read; an edge will tell of more.
    Drained,
    /// The budget is used up: [`BrokerLink::has_more`], and no edge will come.
    Budget,
    /// The other end is gone.
    Closed,
}

impl BrokerLink {
    /// Takes a connected, non-blocking stream and registers it as `source`.
    pub(crate) fn new(fd: OwnedFd, source: Source, registry: &Registry) -> io::Result<Self> {
        let mut stream = UnixStream::from_std(net::UnixStream::from(fd));
        registry.register(&mut stream, source.token(), Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { stream, backlog: Backlog::default(), writable: true, peer_done: false, more: false })
    }

    /// Notes what an event says: whether there is something to read.
    pub(crate) fn note(&mut self, event: &Event) -> bool {
        self.writable |= event.is_writable();
        self.peer_done |= event.is_read_closed() || event.is_error();
        event.is_readable() || self.peer_done
    }

    /// Whether the last read stopped at its budget.
    pub(crate) fn has_more(&self) -> bool {
        self.more
    }

    /// Reads until there is nothing, or the budget is used up. `sink` ends it with an error.
    pub(crate) fn read<E>(
        &mut self,
        scratch: &mut [u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<ReadEnd, E> {
        let mut budget = READ_BUDGET;
        self.more = false;
        while budget > 0 {
            match self.stream.read(scratch) {
                Ok(0) => return Ok(ReadEnd::Closed),
                Ok(read) => {
                    sink(&scratch[..read])?;
                    if read < scratch.len() && !self.peer_done {
                        return Ok(ReadEnd::Drained);
                    }
                    budget = budget.saturating_sub(read);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(ReadEnd::Drained),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Ok(ReadEnd::Closed),
            }
        }
        self.more = true;
        Ok(ReadEnd::Budget)
    }

    /// Writes `bytes` behind what waits; what the kernel does not take waits too.
    pub(crate) fn write(&mut self, bytes: &Bytes) -> io::Result<()> {
        let mut written = 0;
        if self.backlog.is_empty() {
            written = self.write_some(bytes)?;
        }
        if written < bytes.len() {
            self.backlog.push(bytes, written);
            self.flush()?;
        }
        Ok(())
    }

    /// Writes what waits, as far as the kernel takes it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if self.writable && !self.backlog.is_empty() {
            self.writable = self.backlog.write_to(&mut self.stream)?;
        }
        Ok(())
    }

    /// Writes once: how much the kernel took. With less than all of it the link is not writable.
    pub(crate) fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.writable || bytes.is_empty() {
            return Ok(0);
        }
        let written = write_once(|| io::Write::write(&mut self.stream, bytes))?;
        self.writable = written == bytes.len();
        Ok(written)
    }

    /// Bytes that wait for the other end to read.
    pub(crate) fn queued(&self) -> usize {
        self.backlog.len()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use mio::{Events, Poll};

    use super::*;

    fn keep(got: &mut Vec<u8>, data: &[u8]) -> Result<(), Infallible> {
        got.extend_from_slice(data);
        Ok(())
    }

    fn pair(poll: &Poll) -> (BrokerLink, BrokerLink) {
        let (a, b) = crate::sys::fd_pass::stream_pair().unwrap();
        let link = |fd, number| BrokerLink::new(fd, Source::Link(number), poll.registry()).unwrap();
        (link(a, 0), link(b, 1))
    }

    #[test]
    fn what_the_kernel_does_not_take_follows_in_order() {
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(8);
        let (mut a, mut b) = pair(&poll);
        let all: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
        for part in all.chunks(100_000) {
            a.write(&Bytes::copy_from_slice(part)).unwrap();
        }
        assert!(a.queued() > 0 && !a.writable);
        let mut got = Vec::new();
        let mut scratch = vec![0; 64 * 1024];
        while got.len() < all.len() {
            poll.poll(&mut events, None).unwrap();
            for event in &events {
                match Source::from_token(event.token()) {
                    Source::Link(0) => {
                        a.note(event);
                        a.flush().unwrap();
                    }
                    _ if b.note(event) => loop {
                        let end = b.read(&mut scratch, |data| keep(&mut got, data));
                        if end == Ok(ReadEnd::Drained) {
                            break;
                        }
                        assert_eq!(end, Ok(ReadEnd::Budget));
                    },
                    _ => {}
                }
            }
        }
        assert!(got == all && a.queued() == 0);
    }

    #[test]
    fn the_end_is_seen_behind_the_last_bytes() {
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(8);
        let (mut a, mut b) = pair(&poll);
        a.write(&Bytes::from_static(b"last")).unwrap();
        drop(a);
        let mut got = Vec::new();
        let mut scratch = vec![0; 1024];
        poll.poll(&mut events, None).unwrap();
        for event in &events {
            if Source::from_token(event.token()) == Source::Link(1) && b.note(event) {
                let end = b.read(&mut scratch, |data| keep(&mut got, data));
                assert_eq!(end, Ok(ReadEnd::Closed));
            }
        }
        assert_eq!(got, b"last");
    }

    #[test]
    fn a_sink_ends_the_read() {
        let poll = Poll::new().unwrap();
        let (mut a, mut b) = pair(&poll);
        a.write(&Bytes::from_static(b"x")).unwrap();
        assert_eq!(b.read(&mut [0; 16], |_| Err("broken")), Err("broken"));
    }
}
