//! The TCP connections of a worker: reading, the HTTP before a WebSocket, writing once a turn, and ends that lose nothing.
//!
//! [`Net`] knows when and how; what the bytes of a WebSocket mean is the engine's affair, which it sees as a [`Brain`].

use std::fs::File;
use std::io::{self, Read};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mio::net::TcpStream;
use mio::{Interest, Registry};
use sc_protocol::http::{HeadReader, RequestHead};
use sc_protocol::wheel::Wheel;
use slab::Slab;

use crate::brain::Brain;
use crate::conn::{Conn, Pending, State};
use crate::event_loop::Source;
use crate::options::BackpressurePolicy;
use crate::outbox::{Backlog, Frames, NO_LIST, Outbox};
use crate::pages::{self, Answer, Body, Pages};
use sc_server::Time;

/// Bytes read from one connection in one turn: after them the others have their turn.
const READ_BUDGET: usize = 256 * 1024;

/// Bytes read from all connections in one turn: after them what they brought about is written first.
const TURN_BUDGET: usize = 4 * 1024 * 1024;

/// How long a connection may be idle between two requests for pages.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// How long an ended connection may take to fetch what is still queued for it, or the next piece of a file.
const CLOSING_MAX: Duration = Duration::from_secs(10);

/// How long the end of the peer's half is awaited after ours.
const LINGERING_MAX: Duration = Duration::from_secs(1);

/// Precision of these deadlines.
const TICK: Duration = Duration::from_millis(100);

/// What can be set about connections.
#[derive(Debug, Clone)]
pub(crate) struct NetConfig {
    /// The paths of WebSockets; `None`: any.
    pub(crate) paths: Option<Vec<String>>,
    /// Unwritten bytes of one connection, at most: beyond it the connection is dropped.
    pub(crate) max_backpressure: usize,
    /// What happens beyond it.
    pub(crate) backpressure_policy: BackpressurePolicy,
    /// Time for the head of the first request.
    pub(crate) head_timeout: Duration,
}

/// What has been counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct NetCounters {
    /// Connections dropped because they were over `max_backpressure`.
    pub(crate) slow_closed_total: u64,
    /// Published messages dropped for connections that were over it.
    pub(crate) dropped_total: u64,
    /// HTTP responses other than those of WebSocket upgrades.
    pub(crate) responses_total: u64,
}

/// All connections of one loop.
#[derive(Debug)]
pub(crate) struct Net {
    config: NetConfig,
    pages: Arc<Pages>,
    at: Time,
    conns: Slab<Conn>,
    generation: u32,
    outbox: Outbox,
    wheel: Wheel<(u32, u32)>,
    due: Vec<(u32, u32)>,
    /// Connections that have more to do although no event will come for it.
    ready: Vec<u32>,
    /// Dropped since the engine was last told.
    dead: Vec<u32>,
    /// Dropped, and the engine knows.
    free: Vec<u32>,
    turn_budget: usize,
    /// Connections for pages end with their next answer.
    draining: bool,
    counters: NetCounters,
    /// Dropped for being slow since somebody asked.
    slow: u64,
}

impl Net {
    pub(crate) fn new(config: NetConfig, pages: Arc<Pages>, at: Time) -> Self {
        Self {
            config,
            pages,
            at,
            conns: Slab::new(),
            generation: 0,
            outbox: Outbox::new(),
            wheel: Wheel::new(at.now, TICK),
            due: Vec::new(),
            ready: Vec::new(),
            dead: Vec::new(),
            free: Vec::new(),
            turn_budget: TURN_BUDGET,
            draining: false,
            counters: NetCounters::default(),
            slow: 0,
        }
    }

    /// A turn begins.
    pub(crate) fn begin(&mut self, at: Time) {
        self.at = at;
        self.turn_budget = TURN_BUDGET;
    }

    /// Connections that are not over yet.
    pub(crate) fn len(&self) -> usize {
        self.conns.len() - self.dead.len() - self.free.len()
    }

    pub(crate) fn counters(&self) -> NetCounters {
        self.counters
    }

    /// When [`Net::expire`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.wheel.poll_timeout()
    }

    /// Whether the next turn has work without any event.
    pub(crate) fn has_work(&self) -> bool {
        !self.ready.is_empty() || !self.dead.is_empty()
    }

    /// Takes a connection. It must be non-blocking.
    pub(crate) fn adopt(&mut self, mut stream: TcpStream, registry: &Registry) -> io::Result<()> {
        let entry = self.conns.vacant_entry();
        let slot = entry.key() as u32;
        self.generation = self.generation.wrapping_add(1) & Source::GENERATION_MAX;
        let generation = self.generation;
        let token = Source::Conn { slot, generation }.token();
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        entry.insert(Conn::new(stream, generation));
        self.set_timer(slot, Some(self.config.head_timeout));
        Ok(())
    }

    /// An edge of the connection that had this slot and generation.
    pub(crate) fn handle_event(
        &mut self,
        slot: u32,
        generation: u32,
        event: Edge,
        scratch: &mut [u8],
        brain: &mut dyn Brain,
    ) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        if conn.generation != generation || conn.stream.is_none() {
            return;
        }
        if event.writable && conn.backlog.is_some() {
            conn.writable = true;
            self.outbox.touch(&mut conn.list, slot);
        }
        conn.peer_done |= event.peer_done;
        if event.readable || event.peer_done {
            self.read(slot, scratch, brain);
        }
    }

    /// Goes on with what stopped at its budget, and with files.
    pub(crate) fn run_ready(&mut self, scratch: &mut [u8], brain: &mut dyn Brain) {
        for slot in std::mem::take(&mut self.ready) {
            let Some(conn) = self.conns.get_mut(slot as usize) else { continue };
            conn.queued = false;
            if conn.has_file() {
                self.pump_file(slot, scratch);
            } else {
                self.read(slot, scratch, brain);
            }
        }
    }

    /// Ends what has taken too long.
    pub(crate) fn expire(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.advance(self.at.now, &mut due);
        for (slot, generation) in due.drain(..) {
            let Some(conn) = self.conns.get_mut(slot as usize).filter(|conn| conn.generation == generation) else {
                continue;
            };
            conn.timer = None;
            let begun = matches!(conn.pending.as_deref(), Some(Pending::Head(_)));
            match conn.state {
                State::Http if begun => self.answer(slot, pages::error(408, self.at.unix_ms)),
                State::Http if conn.backlog.is_some() => {
                    // Not idle: it has not fetched all of the page. It may finish, but ask for no more.
                    conn.state = State::Closing;
                    self.set_timer(slot, Some(CLOSING_MAX));
                }
                _ => self.drop_conn(slot),
            }
        }
        self.due = due;
    }

    /// Tells the engine which of its sockets are gone. Its outputs are to be drained after it, and then [`Net::flush`] called.
    pub(crate) fn report_dead(&mut self, brain: &mut dyn Brain) {
        for slot in self.dead.drain(..) {
            if std::mem::take(&mut self.conns[slot as usize].attached) {
                brain.closed(self.at, slot);
            }
            self.free.push(slot);
        }
    }

    /// Queues bytes for one socket.
    pub(crate) fn transmit(&mut self, slot: u32, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        let frame = self.outbox.log(bytes);
        self.queue(slot, frame);
    }

    /// Queues the same bytes for many sockets.
    pub(crate) fn fan_out(&mut self, bytes: Bytes, slots: &[u32]) {
        if bytes.is_empty() {
            return;
        }
        let frame = self.outbox.log(bytes);
        for &slot in slots {
            self.queue(slot, frame);
        }
    }

    /// Ends a socket of the engine once everything queued for it has been written.
    pub(crate) fn close(&mut self, slot: u32, brain: &mut dyn Brain) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        if conn.stream.is_none() || conn.state == State::Lingering {
            return;
        }
        conn.state = State::Closing;
        self.outbox.touch(&mut conn.list, slot);
        if std::mem::take(&mut conn.attached) {
            brain.closed(self.at, slot);
        }
    }

    /// Ends a connection now, unwritten bytes and all.
    pub(crate) fn abort(&mut self, slot: u32) {
        if self.conns.contains(slot as usize) {
            self.drop_conn(slot);
        }
    }

    /// Stops reading from a socket, or goes on with it.
    pub(crate) fn set_reading(&mut self, slot: u32, on: bool) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        if on && std::mem::replace(&mut conn.paused, false) {
            self.go_on_later(slot);
        } else {
            conn.paused = !on;
        }
    }

    /// Writes to each socket that has something, once, and frees the slots of those that are gone.
    pub(crate) fn flush(&mut self) {
        if !self.outbox.is_empty() {
            let mut outbox = std::mem::take(&mut self.outbox);
            outbox.flush(|slot, frames| self.write(slot, frames));
            debug_assert!(self.outbox.is_empty(), "writing queues nothing");
            self.outbox = outbox;
        }
        for slot in self.free.drain(..) {
            self.conns.remove(slot as usize);
        }
    }

    /// How many were dropped for being slow since the last call.
    pub(crate) fn take_slow(&mut self) -> u64 {
        std::mem::take(&mut self.slow)
    }

    /// The process is about to end, but not at once: connections for pages end with their next answer. One that is idle between
    /// two requests ends now; a new one, whose first request may be under way, is waited for.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
        self.drop_idle(|conn| conn.served);
    }

    /// Ends every connection that is not the engine's, as soon as it has what was queued for it: the process is about to end.
    pub(crate) fn end_pages(&mut self) {
        self.draining = true;
        self.drop_idle(|_| true);
    }

    fn drop_idle(&mut self, which: impl Fn(&Conn) -> bool) {
        let idle = |conn: &Conn| conn.state == State::Http && conn.pending.is_none() && conn.backlog.is_none();
        let slots = self.conns.iter().filter(|(_, conn)| idle(conn) && which(conn)).map(|(slot, _)| slot as u32);
        for slot in slots.collect::<Vec<_>>() {
            self.drop_conn(slot);
        }
    }

    fn queue(&mut self, slot: u32, frame: u32) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        if conn.stream.is_some() && conn.state != State::Lingering {
            self.outbox.queue(&mut conn.list, slot, frame);
        }
    }

    fn go_on_later(&mut self, slot: u32) {
        let conn = &mut self.conns[slot as usize];
        if conn.stream.is_some() && !std::mem::replace(&mut conn.queued, true) {
            self.ready.push(slot);
        }
    }

    /// One deadline for the connection, from now; the one before it is forgotten.
    fn set_timer(&mut self, slot: u32, after: Option<Duration>) {
        let conn = &mut self.conns[slot as usize];
        if let Some(timer) = conn.timer.take() {
            self.wheel.cancel(timer);
        }
        conn.timer = after.map(|after| self.wheel.insert(self.at.now + after, (slot, conn.generation)));
    }

    /// Reads until the socket gave less than there was room for: an edge comes for what arrives later.
    fn read(&mut self, slot: u32, scratch: &mut [u8], brain: &mut dyn Brain) {
        let mut budget = READ_BUDGET;
        loop {
            let conn = &mut self.conns[slot as usize];
            let Some(stream) = conn.stream.as_mut() else { return };
            if conn.paused || conn.eof {
                return;
            }
            if budget == 0 || self.turn_budget == 0 {
                return self.go_on_later(slot);
            }
            let read = match stream.read(scratch) {
                Ok(0) => return self.read_end(slot, brain),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return self.drop_conn(slot),
            };
            let more = read == scratch.len() || conn.peer_done;
            match conn.state {
                State::Socket => brain.handle_bytes(self.at, slot, &mut scratch[..read]),
                State::Http => self.handle_http(slot, &mut scratch[..read], brain),
                State::Closing | State::Lingering => {}
            }
            if !more {
                return;
            }
            budget = budget.saturating_sub(read);
            self.turn_budget = self.turn_budget.saturating_sub(read);
        }
    }

    /// The peer has ended its half. What is queued for it is still written: it may have ended it right behind a request or a close frame.
    fn read_end(&mut self, slot: u32, brain: &mut dyn Brain) {
        let conn = &mut self.conns[slot as usize];
        conn.eof = true;
        if conn.state == State::Lingering {
            return self.drop_conn(slot);
        }
        conn.state = State::Closing;
        if std::mem::take(&mut conn.attached) {
            brain.closed(self.at, slot);
        }
        self.outbox.touch(&mut conn.list, slot);
    }

    fn handle_http(&mut self, slot: u32, data: &mut [u8], brain: &mut dyn Brain) {
        let mut reader = match self.conns[slot as usize].pending.take().map(|pending| *pending) {
            Some(Pending::Head(reader)) => reader,
            _ => HeadReader::new(),
        };
        let mut done = 0;
        while done < data.len() {
            let route = reader.request(&data[done..], |head| self.route(slot, head, brain));
            let answer = match route {
                Ok(None) => break,
                Ok(Some((Route::Opened, used))) => {
                    self.opened(slot);
                    let rest = &mut data[done + used..];
                    if !rest.is_empty() {
                        brain.handle_bytes(self.at, slot, rest);
                    }
                    return;
                }
                Ok(Some((Route::Answer(answer), used))) => {
                    done += used;
                    *answer
                }
                Err(error) => pages::error(error.status(), self.at.unix_ms),
            };
            let stays = answer.keep_alive;
            self.answer(slot, answer);
            if !stays {
                return;
            }
        }
        if reader.buffered() > 0 {
            self.conns[slot as usize].pending = Some(Box::new(Pending::Head(reader)));
        }
    }

    fn route(&self, slot: u32, head: &RequestHead<'_, '_>, brain: &mut dyn Brain) -> Route {
        if !head.has_token("upgrade", "websocket") {
            let for_sockets = self.config.paths.as_ref().is_some_and(|paths| is_among(paths, head));
            if for_sockets && !self.pages.covers(head.path()) {
                return Route::Answer(Box::new(pages::upgrade_required(head, self.at.unix_ms)));
            }
            return Route::Answer(Box::new(self.pages.answer(head, !self.draining, self.at.unix_ms)));
        }
        if self.config.paths.as_ref().is_some_and(|paths| !is_among(paths, head)) {
            return Route::Answer(Box::new(pages::error(400, self.at.unix_ms)));
        }
        let stream = self.conns[slot as usize].stream.as_ref();
        let remote = stream.and_then(|stream| stream.peer_addr().ok()).map(|address| address.ip().to_canonical());
        brain.open(self.at, slot, remote, head);
        Route::Opened
    }

    fn opened(&mut self, slot: u32) {
        self.set_timer(slot, None);
        let conn = &mut self.conns[slot as usize];
        conn.state = State::Socket;
        conn.attached = true;
    }

    fn answer(&mut self, slot: u32, answer: Answer) {
        self.counters.responses_total += 1;
        self.conns[slot as usize].served = true;
        self.transmit(slot, answer.head);
        let mut file = None;
        match answer.body {
            Body::Empty => {}
            Body::Bytes(body) => self.transmit(slot, body),
            Body::File(open, len) => file = Some(Box::new(Pending::File(open, len))),
        }
        if answer.keep_alive && file.is_none() {
            return self.set_timer(slot, Some(KEEP_ALIVE));
        }
        self.set_timer(slot, Some(CLOSING_MAX));
        let conn = &mut self.conns[slot as usize];
        conn.pending = file;
        conn.state = State::Closing;
    }

    /// Queues the next piece of the file that a connection is being sent.
    fn pump_file(&mut self, slot: u32, scratch: &mut [u8]) {
        let conn = &mut self.conns[slot as usize];
        let Some(Pending::File(file, left)) = conn.pending.as_deref_mut() else { return };
        let Ok(Some(piece)) = next_piece(file, left, scratch) else {
            // The file is shorter than it was when its length was sent: only the end of the connection can say so.
            return self.drop_conn(slot);
        };
        if *left == 0 {
            conn.pending = None;
        }
        self.set_timer(slot, Some(CLOSING_MAX));
        self.transmit(slot, piece);
    }

    /// The one write of a turn.
    fn write(&mut self, slot: u32, frames: Frames<'_>) {
        let (max, policy) = (self.config.max_backpressure, self.config.backpressure_policy);
        let conn = &mut self.conns[slot as usize];
        conn.list = NO_LIST;
        let Some(stream) = conn.stream.as_mut() else { return };
        let result = match &mut conn.backlog {
            None => frames.write_to(stream).map(|written| {
                conn.writable = written == frames.len();
                if !conn.writable {
                    let mut backlog = Box::new(match policy {
                        BackpressurePolicy::Disconnect => Backlog::default(),
                        _ => Backlog::of_frames(),
                    });
                    frames.rest_into(written, &mut backlog);
                    conn.backlog = Some(backlog);
                }
            }),
            Some(backlog) => {
                frames.rest_into(0, backlog);
                // Over its limit it gets one more try before it is given up: one large turn is no proof of a slow reader.
                if conn.writable || backlog.len() > max {
                    backlog.write_to(stream).map(|all| conn.writable = all)
                } else {
                    Ok(())
                }
            }
        };
        if result.is_err() {
            return self.drop_conn(slot);
        }
        if conn.unwritten() > max
            && let Some(backlog) = &mut conn.backlog
        {
            self.counters.dropped_total += backlog.shed(max, policy);
        }
        match conn.unwritten() {
            0 => conn.backlog = None,
            unwritten if unwritten > max => {
                self.counters.slow_closed_total += 1;
                self.slow += 1;
                return self.drop_conn(slot);
            }
            _ if conn.state == State::Closing && conn.timer.is_none() => {
                return self.set_timer(slot, Some(CLOSING_MAX));
            }
            _ => {}
        }
        if conn.state == State::Closing && conn.backlog.is_none() {
            if conn.has_file() {
                return self.go_on_later(slot);
            }
            self.finish(slot);
        }
    }

    /// Everything is written: ends our half.
    fn finish(&mut self, slot: u32) {
        let conn = &mut self.conns[slot as usize];
        let Some(stream) = conn.stream.as_ref() else { return };
        if conn.eof || stream.shutdown(Shutdown::Write).is_err() {
            return self.drop_conn(slot);
        }
        conn.state = State::Lingering;
        conn.paused = false;
        self.set_timer(slot, Some(LINGERING_MAX));
        // Reading may have been paused with bytes waiting, for which no edge comes.
        self.go_on_later(slot);
    }

    fn drop_conn(&mut self, slot: u32) {
        self.set_timer(slot, None);
        let conn = &mut self.conns[slot as usize];
        if conn.stream.take().is_some() {
            conn.backlog = None;
            conn.pending = None;
            self.dead.push(slot);
        }
    }
}

fn is_among(paths: &[String], head: &RequestHead<'_, '_>) -> bool {
    paths.iter().any(|path| path == head.path())
}

/// What an event said about a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edge {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The peer has ended its half, or the connection is broken.
    pub(crate) peer_done: bool,
}

enum Route {
    Opened,
    Answer(Box<Answer>),
}

/// `None`: the file ends although more of it was promised.
fn next_piece(file: &mut File, left: &mut u64, scratch: &mut [u8]) -> io::Result<Option<Bytes>> {
    let wanted = scratch.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
    let read = loop {
        match file.read(&mut scratch[..wanted]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    *left -= read as u64;
    Ok((read > 0).then(|| Bytes::copy_from_slice(&scratch[..read])))
}
