//! The generator's connections: one thread, one epoll, each socket written once a turn.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Buf;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use socket2::{Domain, Protocol, Socket, Type};

use crate::client::{Client, Event, Happened, Shared};

/// Addresses that connections come from, when the server is on this machine: so that the few ten thousand ports of one address
/// are no limit.
const SOURCES: u32 = 4096;

const SCRATCH: usize = 256 * 1024;

/// All connections.
pub struct Net {
    poll: Poll,
    events: Events,
    /// What the connections have in common.
    pub shared: Shared,
    server: SocketAddr,
    conns: Slab<Conn>,
    /// Connections ever opened.
    opened: u32,
    dirty: Vec<u32>,
    scratch: Vec<u8>,
    channels: Box<dyn Fn(u32) -> Vec<u32>>,
    /// Idle connections keep no memory for output.
    pub lean: bool,
}

struct Conn {
    stream: TcpStream,
    client: Client,
    opened: Instant,
    dirty: bool,
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Net").field("conns", &self.conns.len()).finish_non_exhaustive()
    }
}

impl Net {
    /// For a server; `channels` says what the connection of a number (the first has 0) subscribes to.
    ///
    /// # Errors
    /// There is no epoll.
    pub fn new(server: SocketAddr, shared: Shared, channels: Box<dyn Fn(u32) -> Vec<u32>>) -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            shared,
            server,
            conns: Slab::new(),
            opened: 0,
            dirty: Vec::new(),
            scratch: vec![0; SCRATCH],
            channels,
            lean: false,
        })
    }

    /// Opens the next connection. An [`Event::Up`] or [`Event::Down`] will come for it.
    ///
    /// # Errors
    /// The machine has no more descriptors or ports.
    pub fn open(&mut self, at: Instant) -> io::Result<u32> {
        let domain = if self.server.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        if let IpAddr::V4(address) = self.server.ip()
            && address.is_loopback()
        {
            let source = 0x7f01_0001 + self.opened % SOURCES;
            socket.bind(&SocketAddr::from((Ipv4Addr::from_bits(source), 0)).into())?;
        }
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&self.server.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        let mut stream = TcpStream::from_std(socket.into());
        let entry = self.conns.vacant_entry();
        let slot = entry.key();
        self.poll.registry().register(&mut stream, Token(slot), Interest::READABLE | Interest::WRITABLE)?;
        entry.insert(Conn { stream, client: Client::new(&self.shared), opened: at, dirty: false });
        self.opened += 1;
        Ok(slot as u32)
    }

    /// Ends a connection.
    pub fn close(&mut self, conn: u32) {
        let _ = self.conns.try_remove(conn as usize);
    }

    /// When a connection was opened.
    #[must_use]
    pub fn opened_at(&self, conn: u32) -> Option<Instant> {
        self.conns.get(conn as usize).map(|conn| conn.opened)
    }

    /// Connections open or being opened.
    #[must_use]
    pub fn len(&self) -> usize {
        self.conns.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.conns.is_empty()
    }

    /// Queues an event whose answer will have the number `cid`.
    pub fn call(&mut self, conn: u32, event: &str, data: &str, cid: u32) {
        let Some(state) = self.conns.get_mut(conn as usize) else { return };
        state.client.call(&mut self.shared, event, data, cid);
        if !std::mem::replace(&mut state.dirty, true) {
            self.dirty.push(conn);
        }
    }

    /// Writes what is queued, waits at most `patience`, reads everything there is to read, and appends what happened.
    ///
    /// # Errors
    /// The wait failed.
    pub fn turn(&mut self, patience: Option<Duration>, happened: &mut Vec<Happened>) -> io::Result<()> {
        self.flush(happened);
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        match self.poll.poll(&mut events, patience) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
            Err(error) => return Err(error),
        }
        for event in &events {
            let conn = event.token().0 as u32;
            if event.is_writable() {
                self.write(conn, happened);
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                self.read(conn, event.is_read_closed(), happened);
            }
        }
        self.events = events;
        Ok(())
    }

    /// Writes what is queued.
    pub fn flush(&mut self, happened: &mut Vec<Happened>) {
        for conn in std::mem::take(&mut self.dirty) {
            self.write(conn, happened);
        }
    }

    fn write(&mut self, slot: u32, happened: &mut Vec<Happened>) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        conn.dirty = false;
        while !conn.client.out().is_empty() {
            match conn.stream.write(conn.client.out()) {
                Ok(written) => conn.client.out().advance(written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Not connected yet, or full: an edge comes.
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => return,
                Err(_) => return self.down(slot, happened),
            }
        }
        if self.lean {
            conn.client.slim();
        }
    }

    fn read(&mut self, slot: u32, is_closed: bool, happened: &mut Vec<Happened>) {
        loop {
            let Some(conn) = self.conns.get_mut(slot as usize) else { return };
            let read = match conn.stream.read(&mut self.scratch) {
                Ok(0) => return self.down(slot, happened),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return self.down(slot, happened),
            };
            let (at, channels) = (Instant::now(), &self.channels);
            let result = conn.client.handle_bytes(
                &mut self.shared,
                &mut self.scratch[..read],
                &|| channels(slot),
                &mut |event| happened.push(Happened { conn: slot, event, at }),
            );
            if !conn.client.out().is_empty() && !std::mem::replace(&mut conn.dirty, true) {
                self.dirty.push(slot);
            }
            if let Err(error) = result {
                eprintln!("connection {slot}: {error}");
                return self.down(slot, happened);
            }
            if read < self.scratch.len() && !is_closed {
                return;
            }
        }
    }

    fn down(&mut self, slot: u32, happened: &mut Vec<Happened>) {
        self.close(slot);
        happened.push(Happened { conn: slot, event: Event::Down, at: Instant::now() });
    }
}
