//! The listeners that a worker accepts from itself (`schedulingPolicy: none`).

use std::io;
use std::net;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry};

use crate::event_loop::Source;
use crate::supervisor::{ACCEPT_PAUSE, FAILURE_SAID_FOR};

/// Connections accepted from one listener in one turn.
const ACCEPT_BUDGET: usize = 64;

/// All listeners of a worker.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    list: Vec<Listener>,
    /// Accepting failed, and is not tried before.
    again_at: Option<Instant>,
    failed_at: Option<Instant>,
}

#[derive(Debug)]
struct Listener {
    number: u32,
    socket: TcpListener,
    /// There may be more to accept, and no edge will come for it.
    more: bool,
}

impl Listeners {
    pub(crate) fn add(&mut self, number: u32, fd: OwnedFd, registry: &Registry) -> io::Result<()> {
        let mut socket = TcpListener::from_std(net::TcpListener::from(fd));
        registry.register(&mut socket, Source::Listener(number).token(), Interest::READABLE)?;
        self.list.push(Listener { number, socket, more: true });
        Ok(())
    }

    /// An edge of one of them.
    pub(crate) fn note(&mut self, number: u32) {
        if let Some(listener) = self.list.iter_mut().find(|listener| listener.number == number) {
            listener.more = true;
        }
    }

    /// Accepts no more.
    pub(crate) fn clear(&mut self) {
        self.list.clear();
    }

    /// When [`accept`](Self::accept) has something to do though no edge comes.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        self.list.iter().any(|listener| listener.more).then(|| self.again_at.map_or(now, |at| at.max(now)))
    }

    /// Accepts what there is, up to a budget. Answers why it cannot, if that is news: mostly descriptors ran out. Connections wait
    /// in the kernel then, or another worker takes them, and this one tries again after a pause.
    pub(crate) fn accept(&mut self, now: Instant, mut take: impl FnMut(TcpStream)) -> Option<io::Error> {
        if self.again_at.is_some_and(|at| at > now) {
            return None;
        }
        self.again_at = None;
        for listener in self.list.iter_mut().filter(|listener| listener.more) {
            for _ in 0..ACCEPT_BUDGET {
                match listener.socket.accept() {
                    Ok((stream, _)) => take(stream),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        listener.more = false;
                        break;
                    }
                    // The client went away before it was accepted, or a signal came.
                    Err(error) if is_passing(&error) => {}
                    Err(error) => {
                        self.again_at = Some(now + ACCEPT_PAUSE);
                        let before = self.failed_at.replace(now);
                        let age = before.map_or(Duration::MAX, |before| now.saturating_duration_since(before));
                        return (age >= FAILURE_SAID_FOR).then_some(error);
                    }
                }
            }
        }
        None
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionReset
    )
}
