//! The control channel between the master and one child: whole [`Control`] messages, some of them with descriptors.
//!
//! Both sides use the same [`ControlLink`]. What a child is to be (its role, its number, the options) arrives as the first
//! message, [`Init`]: secrets travel in it, not in arguments or the environment, which other users of the machine can read.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use mio::{Interest, Registry, Token, event::Source};
use sc_protocol::{ipc::Control, limits::CONTROL_MESSAGE_MAX};
use serde::{Deserialize, Serialize};

use crate::{options::Options, sys::fd_pass::SeqPacket};

/// Messages that wait for the peer to read, at most. A peer that leaves so many unread is broken or hung.
pub(crate) const CONTROL_QUEUE_MAX: usize = 1024;

/// Bytes of these messages, at most.
pub(crate) const CONTROL_QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Messages read in one go, so that a talkative peer cannot hold the loop.
pub(crate) const CONTROL_READ_BUDGET: usize = 64;

/// What kind of process a child is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Serves clients.
    Worker,
    /// Carries messages between workers.
    Broker,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Worker => "worker",
            Self::Broker => "broker",
        })
    }
}

/// The first message to a child, as JSON in [`Control::Init`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Init {
    /// What the child is to be.
    pub(crate) role: Role,
    /// Its number among those of its role, from 0. A respawned child has the number of the one it replaces.
    pub(crate) id: u32,
    /// Whether it replaces one that ended.
    pub(crate) respawn: bool,
    /// How many brokers the cluster has.
    pub(crate) brokers: u32,
    /// How many workers the cluster has.
    pub(crate) workers: u32,
    /// The port that the cluster really listens on, also where the options say 0.
    pub(crate) port: u16,
    /// The master's process id.
    pub(crate) master_pid: u32,
    /// Must be what the child finds in its environment: the proof that its standard input comes from the master.
    pub(crate) nonce: String,
    /// The effective options, with the key that the master drew if none was given.
    pub(crate) options: Options,
}

/// How a call of [`ControlLink::recv`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Received {
    /// All is read; an edge will tell of more.
    Drained,
    /// The budget is used up and more may wait: call again in the next turn, no edge will come.
    Budget,
    /// The peer is gone.
    Closed,
}

/// A non-blocking end of a control channel.
#[derive(Debug)]
pub(crate) struct ControlLink {
    socket: SeqPacket,
    queue: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    queue_bytes: usize,
    out: Vec<u8>,
    input: Box<[u8]>,
}

impl ControlLink {
    pub(crate) fn new(socket: SeqPacket) -> Self {
        Self { socket, queue: VecDeque::new(), queue_bytes: 0, out: Vec::new(), input: Box::default() }
    }

    /// Sends a message, or queues it if the peer's buffer is full. The descriptors are lent: a copy goes to the peer (and into the
    /// queue). Answers `false` if the message waits for [`flush`](Self::flush), which is due when the socket is writable.
    ///
    /// # Errors
    /// The peer is gone, the queue is full ([`CONTROL_QUEUE_MAX`], [`CONTROL_QUEUE_BYTES_MAX`]), or the message is too long. The link is of no more use then,
    /// except in the last case.
    pub(crate) fn send(&mut self, msg: &Control<'_>, fds: &[BorrowedFd<'_>]) -> io::Result<bool> {
        if self.try_send(msg, fds)? {
            return Ok(true);
        }
        if self.queue.len() >= CONTROL_QUEUE_MAX || self.queue_bytes + self.out.len() > CONTROL_QUEUE_BYTES_MAX {
            return Err(io::Error::other("the other process does not read its control messages"));
        }
        let copies = fds.iter().map(BorrowedFd::try_clone_to_owned).collect::<io::Result<_>>()?;
        self.queue_bytes += self.out.len();
        self.queue.push_back((std::mem::take(&mut self.out), copies));
        Ok(false)
    }

    /// Sends a message now or, answering `false`, not at all.
    pub(crate) fn try_send(&mut self, msg: &Control<'_>, fds: &[BorrowedFd<'_>]) -> io::Result<bool> {
        if !msg.fits() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a control message is longer than allowed"));
        }
        self.out.clear();
        msg.write(&mut self.out);
        if !self.queue.is_empty() {
            return Ok(false);
        }
        sent(self.socket.send(&self.out, fds))
    }

    /// Writes what waits, as far as the peer's buffer goes.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while let Some((message, fds)) = self.queue.front() {
            let lent: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            if !sent(self.socket.send(message, &lent))? {
                break;
            }
            self.queue_bytes -= message.len();
            self.queue.pop_front();
        }
        Ok(())
    }

    /// Whether messages wait for the peer.
    pub(crate) fn is_blocked(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Reads messages until there are no more or the budget is used up, and gives each with its descriptors to `f`.
    ///
    /// # Errors
    /// A message that cannot be read: the peer is of another version or broken; drop the link.
    pub(crate) fn recv(&mut self, mut f: impl FnMut(Control<'_>, Vec<OwnedFd>)) -> io::Result<Received> {
        if self.input.is_empty() {
            self.input = vec![0; CONTROL_MESSAGE_MAX].into();
        }
        for _ in 0..CONTROL_READ_BUDGET {
            let mut fds = Vec::new();
            let message = match self.socket.recv(&mut self.input, &mut fds) {
                Ok(message) => message,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Received::Drained),
                // The peer ended before it had read everything. That is said once, and ahead of what it had sent.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => continue,
                Err(error) => return Err(error),
            };
            if message.len == 0 {
                return Ok(Received::Closed);
            }
            let control = Control::parse(&self.input[..message.len])
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            // Connections say how many they were, and the sender keeps its copies until they are acknowledged.
            if message.descriptors_lost && !matches!(control, Control::Conns { .. }) {
                return Err(io::Error::other("this process may not open as many descriptors as it was sent"));
            }
            f(control, fds);
        }
        Ok(Received::Budget)
    }

    /// Waits for the first message, which has to be [`Control::Init`].
    ///
    /// # Errors
    /// Nothing came in time, the master is gone, or the message is not one that this version understands.
    pub(crate) fn recv_init(&self, millis: u32) -> io::Result<Init> {
        if !self.socket.wait_readable(millis)? {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the master sent no options"));
        }
        let mut buf = vec![0; CONTROL_MESSAGE_MAX];
        let message = self.socket.recv(&mut buf, &mut Vec::new())?;
        match Control::parse(&buf[..message.len]) {
            Ok(Control::Init(json)) => serde_json::from_str(json).map_err(io::Error::from),
            _ if message.len == 0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the master is gone")),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the first message is not Init")),
        }
    }
}

impl Source for ControlLink {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.socket.register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.socket.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.socket.deregister(registry)
    }
}

/// Too many descriptors under way (`ETOOMANYREFS`) passes like a full buffer: it ends when receivers take them.
fn sent(answer: io::Result<()>) -> io::Result<bool> {
    match answer {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) if rustix::io::Errno::from_io_error(&error) == Some(rustix::io::Errno::TOOMANYREFS) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (ControlLink, ControlLink) {
        let (a, b) = SeqPacket::pair().unwrap();
        (ControlLink::new(a), ControlLink::new(b))
    }

    #[test]
    fn the_last_words_of_a_peer_that_had_not_read_everything_are_heard() {
        let (mut master, mut child) = pair();
        assert!(master.try_send(&Control::Linked, &[]).unwrap());
        assert!(child.try_send(&Control::Report("it cannot begin"), &[]).unwrap());
        drop(child);
        let mut heard = Vec::new();
        let received = master.recv(|message, _| {
            if let Control::Report(text) = message {
                heard.push(text.to_owned());
            }
        });
        assert!(matches!(received, Ok(Received::Closed)));
        assert_eq!(heard, ["it cannot begin"]);
    }

    #[test]
    fn what_does_not_fit_waits_and_arrives_in_order() {
        let (mut master, mut child) = pair();
        let text = "x".repeat(1000);
        let mut total = 0;
        while master.send(&Control::ConnsTaken { total }, &[]).unwrap() && total < 100_000 {
            total += 1;
        }
        assert!(master.is_blocked());
        assert!(!master.try_send(&Control::Terminate, &[]).unwrap());
        let (_keep, lent) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(!master.send(&Control::Report(&text), &[lent.as_fd()]).unwrap());
        let (mut next, mut last) = (0, None);
        while last.is_none() {
            let state = child
                .recv(|msg, fds| match msg {
                    Control::ConnsTaken { total } => {
                        assert_eq!(total, next);
                        next += 1;
                    }
                    Control::Report(got) => last = Some((got.to_owned(), fds.len())),
                    other => panic!("{other:?}"),
                })
                .unwrap();
            assert_ne!(state, Received::Closed);
            master.flush().unwrap();
        }
        assert_eq!((next, last), (total + 1, Some((text, 1))));
        assert!(!master.is_blocked());
    }

    #[test]
    fn the_queue_is_bounded() {
        let (mut master, _child) = pair();
        let full = (0..1_000_000).find_map(|_| master.send(&Control::Terminate, &[]).err());
        assert!(full.is_some());
        assert_eq!(master.queue.len(), CONTROL_QUEUE_MAX);
    }

    #[test]
    fn the_queue_is_bounded_in_bytes_too() {
        let (mut master, _child) = pair();
        let text = "x".repeat(100_000);
        let full = (0..1_000_000).find_map(|_| master.send(&Control::Report(&text), &[]).err());
        assert!(full.is_some());
        assert!(master.queue.len() < 100 && master.queue_bytes <= CONTROL_QUEUE_BYTES_MAX);
    }

    #[test]
    fn the_end_and_the_budget_are_told() {
        let (mut master, mut child) = pair();
        for _ in 0..CONTROL_READ_BUDGET + 1 {
            master.send(&Control::Terminate, &[]).unwrap();
        }
        assert_eq!(child.recv(|_, _| ()).unwrap(), Received::Budget);
        assert_eq!(child.recv(|_, _| ()).unwrap(), Received::Drained);
        drop(master);
        assert_eq!(child.recv(|_, _| ()).unwrap(), Received::Closed);
    }

    #[test]
    fn garbage_is_an_error() {
        let (master, child) = SeqPacket::pair().unwrap();
        master.send(b"\xffgarbage", &[]).unwrap();
        assert!(ControlLink::new(child).recv(|_, _| ()).is_err());
    }

    #[test]
    fn init_is_read_and_its_absence_noticed() {
        let (mut master, child) = pair();
        let init = Init {
            role: Role::Broker,
            id: 1,
            respawn: false,
            brokers: 2,
            workers: 3,
            port: 8000,
            master_pid: 1,
            nonce: "n".into(),
            options: Options::default(),
        };
        assert_eq!(child.recv_init(0).unwrap_err().kind(), io::ErrorKind::TimedOut);
        master.send(&Control::Init(&serde_json::to_string(&init).unwrap()), &[]).unwrap();
        let got = child.recv_init(1000).unwrap();
        assert_eq!((got.role, got.id, got.workers, got.options), (Role::Broker, 1, 3, init.options));
        drop(master);
        assert_eq!(child.recv_init(1000).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
