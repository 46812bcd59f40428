//! One connection as the loop keeps it: as little as possible while it is idle.

use std::fs::File;

use mio::net::TcpStream;
use sc_protocol::http::HeadReader;
use sc_protocol::wheel::TimerId;

use crate::outbox::{Backlog, NO_LIST};

/// A connection. Idle it owns its socket and nothing else: no buffer, no timer.
#[derive(Debug)]
pub(crate) struct Conn {
    /// `None`: dropped, the slot is freed at the end of a turn.
    pub(crate) stream: Option<TcpStream>,
    /// Tells events for this connection from late ones for its slot's previous owner.
    pub(crate) generation: u32,
    /// Its list in this turn's outbox.
    pub(crate) list: u32,
    pub(crate) state: State,
    /// The kernel took everything last time, or said since that it would take more.
    pub(crate) writable: bool,
    /// The engine does not want more input now.
    pub(crate) paused: bool,
    /// In the list of those to go on with in the next turn.
    pub(crate) queued: bool,
    /// The peer will send no more; there may be bytes left to read. No edge will come for them, so reads go on to the end.
    pub(crate) peer_done: bool,
    /// The end of the peer's bytes has been read.
    pub(crate) eof: bool,
    /// At least one request for a page has been answered.
    pub(crate) served: bool,
    /// The engine knows this slot, and is to be told when it closes.
    pub(crate) attached: bool,
    /// There is one deadline at a time: what it means is the state's affair.
    pub(crate) timer: Option<TimerId>,
    pub(crate) backlog: Option<Box<Backlog>>,
    pub(crate) pending: Option<Box<Pending>>,
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// HTTP requests are expected. Deadline: the next head must be there.
    Http,
    /// A WebSocket; its bytes are the engine's. No deadline.
    Socket,
    /// What is queued will be written, then our side is shut down; input is thrown away. A deadline while something is left to write.
    Closing,
    /// Our side is shut down; the peer's is awaited, since closing with unread input would send a reset that may overtake the last
    /// bytes we wrote. Deadline: the wait ends.
    Lingering,
}

/// What an HTTP connection has begun and not finished.
#[derive(Debug)]
pub(crate) enum Pending {
    /// A head that has come in part.
    Head(HeadReader),
    /// A file that has been sent in part: what is left of it.
    File(File, u64),
}

impl Conn {
    pub(crate) fn new(stream: TcpStream, generation: u32) -> Self {
        Self {
            stream: Some(stream),
            generation,
            list: NO_LIST,
            state: State::Http,
            writable: true,
            paused: false,
            queued: false,
            peer_done: false,
            eof: false,
            served: false,
            attached: false,
            timer: None,
            backlog: None,
            pending: None,
        }
    }

    /// Bytes that the kernel has not taken yet.
    pub(crate) fn unwritten(&self) -> usize {
        self.backlog.as_ref().map_or(0, |backlog| backlog.len())
    }

    /// Whether there is a file of which not all has been queued.
    pub(crate) fn has_file(&self) -> bool {
        matches!(self.pending.as_deref(), Some(Pending::File(..)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Conn>() <= 64, "{}", size_of::<Conn>());
    }
}
