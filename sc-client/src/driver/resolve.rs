//! Names are looked up on a thread of its own: the system's resolver blocks.

use std::net::ToSocketAddrs;
use std::sync::{Arc, mpsc};
use std::{io, thread};

use super::{Command, Queue};

/// A name for an attempt of a client.
pub(super) struct Lookup {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) link: (usize, u64),
    pub(super) attempt: u64,
}

/// Looks names up, one after the other; those of many clients with one server are looked up once for as many as wait.
pub(super) struct Resolver {
    queue: Arc<Queue>,
    sender: Option<mpsc::Sender<Lookup>>,
}

impl Resolver {
    pub(super) const fn new(queue: Arc<Queue>) -> Self {
        Self { queue, sender: None }
    }

    /// The answer comes as a [`Command::Resolved`]. The number of lookups that wait is that of the clients that connect.
    pub(super) fn look_up(&mut self, lookup: Lookup) -> io::Result<()> {
        let lookup = match &self.sender {
            None => lookup,
            Some(sender) => match sender.send(lookup) {
                Ok(()) => return Ok(()),
                // The thread has died: a new one is made.
                Err(mpsc::SendError(lookup)) => lookup,
            },
        };
        let (sender, receiver) = mpsc::channel();
        let queue = self.queue.clone();
        thread::Builder::new().name("sc-client-resolve".to_owned()).spawn(move || run(&queue, &receiver))?;
        // The receiver is alive: the thread has it.
        let _ = sender.send(lookup);
        self.sender = Some(sender);
        Ok(())
    }
}

fn run(queue: &Queue, receiver: &mpsc::Receiver<Lookup>) {
    while let Ok(first) = receiver.recv() {
        let waiting: Vec<Lookup> = std::iter::once(first).chain(receiver.try_iter()).collect();
        let mut last: Option<(&Lookup, io::Result<Vec<std::net::SocketAddr>>)> = None;
        for lookup in &waiting {
            let same = last
                .as_ref()
                .is_some_and(|(last, found)| found.is_ok() && (&last.host, last.port) == (&lookup.host, lookup.port));
            if !same {
                let found = (&*lookup.host, lookup.port).to_socket_addrs().map(Iterator::collect);
                last = Some((lookup, found));
            }
            let Some((_, found)) = &last else { continue };
            let found = match found {
                Ok(addresses) => Ok(addresses.clone()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            };
            let command = Command::Resolved { link: lookup.link, attempt: lookup.attempt, found };
            if queue.push(command, false).is_err() {
                return;
            }
        }
    }
}
