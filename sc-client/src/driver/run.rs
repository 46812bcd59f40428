//! The driver's loop: one poll, one read of the clock and one write per connection a turn.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use rustls::ClientConnection;
use sc_protocol::http::HeadReader;
use sc_protocol::wheel::Wheel;
use slab::Slab;

use super::link::{Link, Op, Wire};
use super::resolve::{Lookup, Resolver};
use super::target::Address;
use super::transport::{Stage, Stream, Transport};
use super::{Command, Queue, Waiting};

const WAKER: Token = Token(usize::MAX);

/// Room for one read of one connection.
const SCRATCH: usize = 64 << 10;

/// Reads of one connection in a turn; after them the others have theirs.
const READS_MAX: usize = 4;

/// Precision of deadlines.
const TICK: Duration = Duration::from_millis(10);

/// How long the peer's end of a connection is awaited after ours.
const LINGERING_MAX: Duration = Duration::from_secs(1);

/// How long one of several addresses may take before the next one is tried.
const ADDRESS_MAX: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy)]
enum Timer {
    /// A core's deadline: its place and serial number.
    Core(usize, u64),
    /// A transport has taken too long.
    Transport(usize),
}

pub(super) struct Loop {
    poll: Poll,
    queue: Arc<Queue>,
    now: Instant,
    links: Slab<Link>,
    by_id: HashMap<u64, usize>,
    serial: u64,
    transports: Slab<Transport>,
    wheel: Wheel<Timer>,
    due: Vec<Timer>,
    /// Transports with more to read although no event will say so.
    ready: Vec<usize>,
    /// Transports with something to write.
    dirty: Vec<usize>,
    resolver: Resolver,
    scratch: Box<[u8]>,
}

impl Loop {
    pub(super) fn new() -> io::Result<(Arc<Queue>, Self)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let queue = Arc::new(Queue { waiting: Waiting::default().into(), waker });
        let now = Instant::now();
        let run = Self {
            poll,
            queue: queue.clone(),
            now,
            links: Slab::new(),
            by_id: HashMap::new(),
            serial: 0,
            transports: Slab::new(),
            wheel: Wheel::new(now, TICK),
            due: Vec::new(),
            ready: Vec::new(),
            dirty: Vec::new(),
            resolver: Resolver::new(queue.clone()),
            scratch: vec![0; SCRATCH].into_boxed_slice(),
        };
        Ok((queue, run))
    }

    /// Runs until nobody is left.
    pub(super) fn run(mut self) {
        let _guard = Dead(self.queue.clone());
        let mut events = Events::with_capacity(1024);
        loop {
            let timeout = self.timeout();
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "the client's thread cannot poll");
                    return;
                }
            }
            self.now = Instant::now();
            for event in &events {
                if event.token() != WAKER {
                    self.ready(event);
                }
            }
            for key in std::mem::take(&mut self.ready) {
                if let Some(transport) = self.transports.get_mut(key) {
                    transport.queued = false;
                    self.read(key);
                }
            }
            let ended = self.take_commands();
            self.expire();
            self.flush();
            if ended && self.links.is_empty() && self.transports.is_empty() {
                return;
            }
        }
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.ready.is_empty() || !self.dirty.is_empty() {
            return Some(Duration::ZERO);
        }
        // The clock is read once a turn, so this is a little too long; the poll rounds to milliseconds anyhow.
        let next = self.wheel.poll_timeout()?;
        Some(next.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
    }

    /// Whether no commands can come any more.
    fn take_commands(&mut self) -> bool {
        let (commands, ended) = {
            let mut waiting = self.queue.lock();
            (std::mem::take(&mut waiting.commands), waiting.ended)
        };
        for command in commands {
            match command {
                Command::Add { id, plan, view } => {
                    self.serial += 1;
                    let connects = plan.connects;
                    let key = self.links.insert(Link::new(id, self.serial, *plan, view, self.now));
                    self.by_id.insert(id, key);
                    if connects {
                        self.apply(key, Op::Connect);
                    }
                }
                Command::To(id, op) => {
                    // Of a client that was closed, the resolver that is dropped here says so.
                    if let Some(&key) = self.by_id.get(&id) {
                        self.apply(key, op);
                    }
                }
                Command::Resolved { link: (key, serial), attempt, found } => {
                    self.resolved(key, serial, attempt, found);
                }
            }
        }
        ended
    }

    fn apply(&mut self, key: usize, op: Op) {
        self.links[key].apply(self.now, op);
        self.drain(key);
    }

    /// Carries out what a core has put out, and sees to its timer and its end.
    fn drain(&mut self, key: usize) {
        loop {
            while let Some(wire) = self.links[key].next_wire() {
                match wire {
                    Wire::Connect => self.open(key),
                    Wire::Transmit(bytes) => {
                        if let Some(transport) = self.links[key].transport {
                            self.transports[transport].queue(bytes);
                            self.dirty.push(transport);
                        }
                    }
                    Wire::Close => self.let_go(key),
                }
            }
            let link = &mut self.links[key];
            if !link.closing || link.core.outstanding() > 0 {
                break;
            }
            if link.core.state() == crate::State::Closed && link.transport.is_none() {
                let link = self.remove(key);
                link.closed.into_iter().for_each(|resolver| resolver.resolve(Ok(crate::Data::absent())));
                return;
            }
            link.core.disconnect(self.now, crate::CloseCode::NORMAL, "");
        }
        let link = &mut self.links[key];
        // An earlier timer than needed finds nothing to do and is set anew; only a later one would be wrong.
        if let Some(next) = link.core.poll_timeout()
            && link.timer.is_none_or(|(at, _)| at > next)
        {
            let timer = self.wheel.insert(next, Timer::Core(key, link.serial));
            if let Some((_, earlier)) = link.timer.replace((next, timer)) {
                self.wheel.cancel(earlier);
            }
        }
    }

    fn remove(&mut self, key: usize) -> Link {
        let mut link = self.links.remove(key);
        self.by_id.remove(&link.id);
        if let Some((_, timer)) = link.timer.take() {
            self.wheel.cancel(timer);
        }
        link
    }

    /// A core wants a transport.
    fn open(&mut self, key: usize) {
        let link = &mut self.links[key];
        debug_assert!(link.transport.is_none(), "a core has one transport");
        link.attempt += 1;
        link.addresses = VecDeque::new();
        let plan = link.plan.clone();
        let address = plan.proxy.as_ref().map_or(&plan.address, |proxy| &proxy.address);
        match address {
            #[cfg(unix)]
            Address::Unix(path) => {
                let stream = mio::net::UnixStream::connect(path).map(Stream::Unix);
                let opened = stream.and_then(|stream| self.register(key, stream));
                if let Err(error) = opened {
                    self.failed(key, &error.to_string());
                }
            }
            #[cfg(not(unix))]
            Address::Unix(_) => self.failed(key, "this system has no unix sockets"),
            Address::Tcp { host, port } => {
                if let Ok(address) = host.parse::<IpAddr>() {
                    link.addresses.push_back(SocketAddr::new(address, *port));
                    return self.try_address(key, None);
                }
                let lookup =
                    Lookup { host: host.clone(), port: *port, link: (key, link.serial), attempt: link.attempt };
                if let Err(error) = self.resolver.look_up(lookup) {
                    self.failed(key, &error.to_string());
                }
            }
        }
    }

    fn resolved(&mut self, key: usize, serial: u64, attempt: u64, found: io::Result<Vec<SocketAddr>>) {
        let Some(link) = self.links.get_mut(key) else { return };
        if link.serial != serial || link.attempt != attempt || link.core.state() != crate::State::Connecting {
            return;
        }
        match found {
            Ok(addresses) => {
                link.addresses = addresses.into();
                self.try_address(key, None);
            }
            Err(error) => self.failed(key, &error.to_string()),
        }
    }

    /// Tries the next address; `why` is what was wrong with the one before.
    fn try_address(&mut self, key: usize, why: Option<String>) {
        let mut why = why.unwrap_or_else(|| "the name has no address".to_owned());
        while let Some(address) = self.links[key].addresses.pop_front() {
            match TcpStream::connect(address).and_then(|stream| self.register(key, Stream::Tcp(stream))) {
                Ok(()) => return,
                Err(error) => why = error.to_string(),
            }
        }
        self.failed(key, &why);
    }

    fn register(&mut self, key: usize, stream: Stream) -> io::Result<()> {
        let entry = self.transports.vacant_entry();
        let token = entry.key();
        let mut transport = Transport::new(stream, key);
        self.poll.registry().register(transport.source(), Token(token), Interest::READABLE | Interest::WRITABLE)?;
        if !self.links[key].addresses.is_empty() {
            transport.timer = Some(self.wheel.insert(self.now + ADDRESS_MAX, Timer::Transport(token)));
        }
        entry.insert(transport);
        self.links[key].transport = Some(token);
        Ok(())
    }

    /// No transport could be opened.
    fn failed(&mut self, key: usize, why: &str) {
        self.links[key].core.handle_closed(self.now, why);
        self.drain(key);
    }

    fn ready(&mut self, event: &mio::event::Event) {
        let key = event.token().0;
        let Some(transport) = self.transports.get_mut(key) else { return };
        if event.is_writable() {
            transport.set_writable();
            self.dirty.push(key);
        }
        if matches!(transport.stage, Stage::Connecting) {
            match transport.is_connected() {
                Ok(true) => self.connected(key),
                Ok(false) => return,
                Err(error) => return self.broken(key, &error.to_string()),
            }
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.queue_read(key);
        }
    }

    fn queue_read(&mut self, key: usize) {
        if let Some(transport) = self.transports.get_mut(key)
            && !std::mem::replace(&mut transport.queued, true)
        {
            self.ready.push(key);
        }
    }

    /// TCP (or the unix socket) is there; a proxy may stand between it and the server.
    fn connected(&mut self, key: usize) {
        let transport = &mut self.transports[key];
        if let Some(timer) = transport.timer.take() {
            self.wheel.cancel(timer);
        }
        let Some(owner) = transport.owner else { return };
        let plan = self.links[owner].plan.clone();
        let Some(proxy) = &plan.proxy else { return self.opened(key) };
        let Address::Tcp { host, port } = &plan.address else { return self.opened(key) };
        transport.stage = Stage::Proxy(Box::new(HeadReader::new()));
        let host = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let mut request = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n");
        if let Some(authorization) = &proxy.authorization {
            request.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
        }
        request.push_str("\r\n");
        transport.queue_small(BytesMut::from(request.as_str()));
        self.dirty.push(key);
    }

    /// Bytes reach the server: TLS begins, if there is some, and the core is told. What it writes waits for the end of TLS's
    /// own handshake.
    fn opened(&mut self, key: usize) {
        let transport = &mut self.transports[key];
        let Some(owner) = transport.owner else { return };
        let link = &mut self.links[owner];
        if let (Some(tls), Some(name)) = (&link.plan.tls, &link.plan.server_name) {
            match ClientConnection::new(tls.0.clone(), name.clone()) {
                Ok(connection) => transport.start_tls(connection),
                Err(error) => return self.broken(key, &error.to_string()),
            }
        }
        transport.stage = Stage::Open;
        self.dirty.push(key);
        link.addresses = VecDeque::new();
        link.core.handle_connected(self.now);
        self.drain(owner);
    }

    /// A connection is of no use any more.
    fn broken(&mut self, key: usize, why: &str) {
        let transport = self.drop_transport(key);
        let Some(owner) = transport.owner else { return };
        self.links[owner].transport = None;
        if matches!(transport.stage, Stage::Connecting) {
            return self.try_address(owner, Some(why.to_owned()));
        }
        self.failed(owner, why);
    }

    fn drop_transport(&mut self, key: usize) -> Transport {
        let mut transport = self.transports.remove(key);
        let _ = self.poll.registry().deregister(transport.source());
        if let Some(timer) = transport.timer.take() {
            self.wheel.cancel(timer);
        }
        for resolver in transport.on_end.drain(..) {
            resolver.resolve(Ok(crate::Data::absent()));
        }
        transport
    }

    /// A core lets go of its transport, or of the attempt to open one. What is queued is still written.
    fn let_go(&mut self, key: usize) {
        let link = &mut self.links[key];
        link.attempt += 1;
        link.addresses = VecDeque::new();
        link.congested = false;
        let Some(token) = link.transport.take() else { return };
        let on_end = if link.closing { std::mem::take(&mut link.closed) } else { Vec::new() };
        let transport = &mut self.transports[token];
        transport.owner = None;
        transport.on_end = on_end;
        if !matches!(transport.stage, Stage::Open) {
            self.drop_transport(token);
            return;
        }
        transport.stage = Stage::Closing;
        if let Some(timer) = transport.timer.take() {
            self.wheel.cancel(timer);
        }
        transport.timer = Some(self.wheel.insert(self.now + LINGERING_MAX, Timer::Transport(token)));
        self.dirty.push(token);
        self.queue_read(token);
    }

    fn read(&mut self, key: usize) {
        for _ in 0..READS_MAX {
            let Some(transport) = self.transports.get_mut(key) else { return };
            let read = match &transport.stage {
                Stage::Connecting => return,
                Stage::Proxy(_) => transport.read_plain(&mut self.scratch),
                Stage::Open | Stage::Closing => transport.read(&mut self.scratch),
            };
            match read {
                Ok(None) => {
                    // Reading may have brought TLS to want to write.
                    self.dirty.push(key);
                    return;
                }
                Ok(Some(0)) => return self.broken(key, "the server ended the connection"),
                Ok(Some(read)) => self.handle_bytes(key, read),
                Err(error) => return self.broken(key, &error.to_string()),
            }
        }
        self.queue_read(key);
    }

    fn handle_bytes(&mut self, key: usize, read: usize) {
        let transport = &mut self.transports[key];
        match &mut transport.stage {
            Stage::Open => {
                let Some(owner) = transport.owner else { return };
                self.links[owner].core.handle_bytes(self.now, &mut self.scratch[..read]);
                self.drain(owner);
            }
            Stage::Proxy(head) => match head.response(&self.scratch[..read], |head| head.status) {
                Ok(None) => {}
                // Nothing follows: the server speaks when it has been spoken to.
                Ok(Some((200..=299, used))) if used == read => self.opened(key),
                Ok(Some((status, _))) => self.broken(key, &format!("the proxy answered with status {status}")),
                Err(error) => self.broken(key, &format!("the proxy's answer is no HTTP: {error}")),
            },
            Stage::Connecting | Stage::Closing => {}
        }
    }

    fn expire(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.advance(self.now, &mut due);
        for timer in due.drain(..) {
            match timer {
                Timer::Core(key, serial) => {
                    let Some(link) = self.links.get_mut(key).filter(|link| link.serial == serial) else { continue };
                    link.timer = None;
                    link.core.handle_timeout(self.now);
                    self.drain(key);
                }
                Timer::Transport(key) => {
                    let Some(transport) = self.transports.get_mut(key) else { continue };
                    transport.timer = None;
                    self.broken(key, "no answer in time");
                }
            }
        }
        self.due = due;
    }

    /// Each connection with something to write writes once.
    fn flush(&mut self) {
        while let Some(key) = self.dirty.pop() {
            let Some(transport) = self.transports.get_mut(key) else { continue };
            if matches!(transport.stage, Stage::Connecting) {
                continue;
            }
            match transport.flush() {
                Err(error) => {
                    self.broken(key, &error.to_string());
                    continue;
                }
                Ok(true) if matches!(transport.stage, Stage::Closing) => {
                    if !transport.end_half() {
                        self.drop_transport(key);
                    }
                    continue;
                }
                Ok(_) => {}
            }
            let (backlog, Some(owner)) = (transport.backlog(), transport.owner) else { continue };
            let link = &mut self.links[owner];
            let max = link.plan.max_backpressure;
            let congested = backlog > if link.congested { max / 2 } else { max };
            if congested != link.congested {
                link.congested = congested;
                link.core.set_congested(self.now, congested);
                self.drain(owner);
            }
        }
    }
}

/// Says that nobody takes commands any more, however the thread ends.
struct Dead(Arc<Queue>);

impl Drop for Dead {
    fn drop(&mut self) {
        let commands = {
            let mut waiting = self.0.lock();
            waiting.dead = true;
            std::mem::take(&mut waiting.commands)
        };
        drop(commands);
    }
}
