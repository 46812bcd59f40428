//! The loop of a worker: see [`event_loop`](crate::event_loop) for the order of a turn.

use std::io;
use std::net;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Poll, Waker};
use sc_protocol::ipc::Control;
use sc_protocol::ws::CloseCode;
use sc_server::{DRAIN_ANSWERS_MAX, Level, Output, Report, TicketId, Time};

use crate::brain::Brain;
use crate::broker_link::{BrokerLink, ReadEnd};
use crate::child::{Ended, Master, Order, catch_loop};
use crate::control::ControlLink;
use crate::counts::{self, Rates};
use crate::event_loop::{Clock, EVENTS_MAX, SCRATCH_LEN, Source, earlier, wait};
use crate::letters::LetterBox;
use crate::listeners::Listeners;
use crate::log;
use crate::net::{Edge, Net, NetConfig};
use crate::offload::{Outcome, Pool};
use crate::pages::Pages;

/// Threads for offloaded work.
const OFFLOAD_THREADS_MAX: usize = 4;

/// What the loop of a worker has to know.
#[derive(Debug, Clone)]
pub(crate) struct WorkerConfig {
    /// About the connections.
    pub(crate) net: NetConfig,
    /// Brokers in the cluster.
    pub(crate) brokers: u32,
    /// How long sockets may take to close when the process is asked to end.
    pub(crate) term_timeout: Duration,
    /// How often the worker tells what it counts.
    pub(crate) status_interval: Duration,
    /// Where other threads leave things for the engine.
    pub(crate) letters: LetterBox,
}

/// A worker's loop and everything it drives.
pub(crate) struct WorkerLoop {
    config: WorkerConfig,
    poll: Poll,
    scratch: Box<[u8]>,
    clock: Clock,
    at: Time,
    master: Master,
    brain: Box<dyn Brain>,
    net: Net,
    links: Vec<Option<BrokerLink>>,
    listeners: Listeners,
    pool: Pool<TicketId>,
    done: Vec<(TicketId, Outcome)>,
    /// Connections that came from the master.
    taken_total: u64,
    rates: Rates,
    /// The process ends then, or when the last connection is gone.
    ending: Option<Instant>,
    /// It ends because the whole cluster does.
    terminated: bool,
    crashed: bool,
}

impl WorkerLoop {
    /// A loop around a brain that has been made at the time `at`.
    pub(crate) fn new(
        config: WorkerConfig,
        control: ControlLink,
        brain: Box<dyn Brain>,
        pages: Arc<Pages>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut clock = Clock::new();
        let at = clock.read();
        let waker = Arc::new(Waker::new(poll.registry(), Source::Waker.token())?);
        config.letters.attach(Arc::clone(&waker));
        log::queue::wake_this_thread(Arc::clone(&waker));
        Ok(Self {
            master: Master::new(control, poll.registry(), at.now)?,
            net: Net::new(config.net.clone(), pages, at),
            links: (0..config.brokers).map(|_| None).collect(),
            listeners: Listeners::default(),
            pool: Pool::new(waker, OFFLOAD_THREADS_MAX),
            done: Vec::new(),
            scratch: vec![0; SCRATCH_LEN].into(),
            taken_total: 0,
            rates: Rates::new(config.status_interval, at.now),
            ending: None,
            terminated: false,
            crashed: false,
            config,
            poll,
            clock,
            at,
            brain,
        })
    }

    /// Says `Ready` and runs until the process is to end. What it still has to say is sent.
    pub(crate) fn run(&mut self) -> io::Result<Ended> {
        let ended = catch_loop(|| self.run_loop());
        self.master.flush();
        ended
    }

    fn run_loop(&mut self) -> io::Result<Ended> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        self.settle();
        self.master.send(&Control::Ready);
        loop {
            let deadline = self.deadline();
            wait(&mut self.poll, &mut events, deadline)?;
            if let Some(ended) = self.turn(&events) {
                return Ok(ended);
            }
        }
    }

    /// When the next turn is due though nothing happens.
    fn deadline(&self) -> Option<Instant> {
        let links = self.links.iter().flatten().any(BrokerLink::has_more);
        if links || self.net.has_work() || self.master.has_more() {
            return Some(self.at.now);
        }
        let engine = earlier(self.brain.poll_timeout(), self.net.poll_timeout());
        let own = earlier(Some(self.rates.due()), self.listeners.due(self.at.now));
        earlier(earlier(earlier(engine, own), self.ending), Some(self.master.beat_at()))
    }

    fn turn(&mut self, events: &Events) -> Option<Ended> {
        self.at = self.clock.read();
        self.net.begin(self.at);
        for event in events {
            self.handle_event(event);
        }
        self.go_on();
        self.handle_time();
        self.settle();
        if self.master.is_gone() {
            return Some(Ended::MasterGone);
        }
        if self.crashed {
            return Some(Ended::Crashed);
        }
        let settled = self.net.len() == 0 && self.brain.is_settled();
        let over = self.ending.is_some_and(|deadline| settled || deadline <= self.at.now);
        over.then_some(Ended::Terminated)
    }

    fn handle_event(&mut self, event: &Event) {
        match Source::from_token(event.token()) {
            Source::Conn { slot, generation } => {
                let edge = Edge {
                    readable: event.is_readable(),
                    writable: event.is_writable(),
                    peer_done: event.is_read_closed() || event.is_error(),
                };
                self.net.handle_event(slot, generation, edge, &mut self.scratch, &mut *self.brain);
            }
            Source::Control => {
                self.master.note(event);
                self.read_control();
            }
            Source::Link(shard) => {
                let Some(Some(link)) = self.links.get_mut(shard as usize) else { return };
                if link.note(event) {
                    self.read_link(shard);
                }
                self.flush_link(shard);
            }
            Source::Listener(number) => {
                self.listeners.note(number);
            }
            // The results are fetched in any case.
            Source::Waker => {}
        }
    }

    /// What stopped at its budget in the last turn; listeners, too, whose events only mark them.
    fn go_on(&mut self) {
        if self.master.has_more() {
            self.read_control();
        }
        for shard in 0..self.links.len() as u32 {
            if self.links[shard as usize].as_ref().is_some_and(BrokerLink::has_more) {
                self.read_link(shard);
            }
        }
        self.net.run_ready(&mut self.scratch, &mut *self.brain);
        self.accept();
        self.pool.take_done(&mut self.done);
        let mut done = std::mem::take(&mut self.done);
        for (ticket, outcome) in done.drain(..) {
            match outcome {
                Ok(value) => self.brain.handle_done(self.at, ticket, value),
                Err(panic) => {
                    let message = format!("an offloaded job panicked: {panic}");
                    self.report(Level::Error, "PanicError", message);
                    self.brain.handle_failed(self.at, ticket);
                }
            }
        }
        self.done = done;
        for letter in self.config.letters.take() {
            self.brain.handle_letter(self.at, letter);
        }
    }

    fn handle_time(&mut self) {
        if self.net.poll_timeout().is_some_and(|deadline| deadline <= self.at.now) {
            self.net.expire();
        }
        if self.brain.poll_timeout().is_some_and(|deadline| deadline <= self.at.now) {
            self.brain.handle_timeout(self.at);
        }
        let slow = self.net.take_slow();
        if slow > 0 {
            let message =
                format!("{slow} connection(s) closed: they did not read, and more than maxBackpressure waited");
            self.report(Level::Warning, "BackpressureError", message);
        }
        self.tell_status();
        self.master.beat(self.at.now, self.net.len());
    }

    fn tell_status(&mut self) {
        let (net, engine) = (self.net.counters(), self.brain.counters());
        let Some(interval) = self.rates.end(self.at.now, net, engine) else { return };
        self.brain.set_rates(interval.http_per_minute, interval.ws_per_minute);
        let status = counts::named(self.net.len(), net, engine, interval);
        self.master.status(&serde_json::Value::Object(status).to_string());
        if interval.dropped > 0 {
            let message = format!("{} messages were dropped for clients that read too slowly", interval.dropped);
            self.report(Level::Warning, "BackpressureError", message);
        }
    }

    /// Everything that the input of this turn brought about.
    fn settle(&mut self) {
        self.net.report_dead(&mut *self.brain);
        loop {
            while let Some(output) = self.brain.poll_output() {
                self.carry_out(output);
            }
            // A link that breaks while it is written brings about more.
            if !self.write_links() {
                break;
            }
        }
        self.net.flush();
        self.master.flush();
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Transmit(slot, bytes) => self.net.transmit(slot, bytes),
            Output::Fanout(bytes, slots) => {
                self.net.fan_out(bytes, &slots);
                self.brain.recycle(slots);
            }
            Output::Close(slot) => self.net.close(slot, &mut *self.brain),
            Output::Abort(slot) => self.net.abort(slot),
            Output::Read(slot, on) => self.net.set_reading(slot, on),
            Output::Offload(ticket, job) => {
                if let Err((ticket, _)) = self.pool.run(ticket, job) {
                    self.report(Level::Warning, "ResourceLimitError", "the offload queue is full".to_owned());
                    self.brain.handle_failed(self.at, ticket);
                }
            }
            Output::ToMaster { id, json } => self.master.tell(&Control::Message { id, json: &json }),
            Output::ReplyMaster { id, json } => self.master.tell(&Control::Reply { id, json: &json }),
            Output::Report(report) => self.master.report(&report),
            Output::Crash => self.crashed = true,
            _ => debug_assert!(false, "an output that this driver does not know"),
        }
    }

    /// Writes to each link what was collected for it: whether one of them broke.
    fn write_links(&mut self) -> bool {
        let mut broke = false;
        while let Some((shard, bytes)) = self.brain.poll_link() {
            let Some(Some(link)) = self.links.get_mut(shard as usize) else { continue };
            let result = link.write(&bytes);
            let queued = link.queued();
            match result {
                Ok(()) if queued > 0 => self.brain.link_queued(shard, queued),
                Ok(()) => {}
                Err(_) => {
                    self.end_link(shard);
                    broke = true;
                }
            }
        }
        broke
    }

    fn flush_link(&mut self, shard: u32) {
        let Some(Some(link)) = self.links.get_mut(shard as usize) else { return };
        if link.queued() == 0 {
            return;
        }
        match link.flush() {
            Ok(()) => self.brain.link_queued(shard, link.queued()),
            Err(_) => self.end_link(shard),
        }
    }

    fn read_link(&mut self, shard: u32) {
        let Some(Some(link)) = self.links.get_mut(shard as usize) else { return };
        let (brain, at) = (&mut self.brain, self.at);
        match link.read(&mut self.scratch, |data| brain.handle_link(at, shard, data)) {
            Ok(ReadEnd::Drained | ReadEnd::Budget) => {}
            Ok(ReadEnd::Closed) => self.end_link(shard),
            Err(error) => {
                let message = format!("the link to broker {shard} is dropped: {error}");
                self.report(Level::Error, "BrokerError", message);
                self.links[shard as usize] = None;
                self.brain.link_queued(shard, 0);
                self.brain.link_down(at, shard);
                // Only a successor gets another link.
                self.crashed = true;
            }
        }
    }

    /// A link is over, in order or because its broker died. What the broker had written until then it has acknowledged to
    /// publishers, so it is not lost with the link.
    fn end_link(&mut self, shard: u32) {
        let Some(mut link) = self.links[shard as usize].take() else { return };
        let (brain, at) = (&mut self.brain, self.at);
        while let Ok(ReadEnd::Budget) = link.read(&mut self.scratch, |data| brain.handle_link(at, shard, data)) {}
        self.brain.link_queued(shard, 0);
        self.brain.link_down(self.at, shard);
    }

    fn read_control(&mut self) {
        let mut taken = self.taken_total;
        for order in self.master.read() {
            match order {
                Order::Conns(fds, sent) => {
                    let lost = sent.saturating_sub(fds.len());
                    for fd in fds {
                        self.taken_total += 1;
                        self.adopt(TcpStream::from_std(net::TcpStream::from(fd)));
                    }
                    if lost > 0 {
                        // Said in the order of the connections: the master knows them by it.
                        taken = self.taken_total;
                        self.master.send(&Control::ConnsTaken { total: taken });
                        self.master.send(&Control::ConnsLost { count: u32::try_from(lost).unwrap_or(u32::MAX) });
                    }
                }
                Order::Listener(number, fd) => self.listen(number, fd),
                Order::Link(shard, fd) => self.link(shard, fd),
                Order::Drain(over) => self.drain(over),
                Order::Terminate => self.terminate(),
                Order::Linked => {}
                Order::Message { id, json } => self.brain.handle_master(self.at, id, &json),
                Order::Reply { id, json } => self.brain.handle_master_reply(self.at, id, &json),
            }
        }
        if self.taken_total != taken {
            // None of them has been read so far: their first edges come with the next wait.
            self.master.send(&Control::ConnsTaken { total: self.taken_total });
        }
    }

    fn adopt(&mut self, stream: TcpStream) {
        if self.terminated {
            return;
        }
        if let Err(error) = self.net.adopt(stream, self.poll.registry()) {
            self.report(Level::Error, "Error", format!("a connection could not be registered: {error}"));
        }
    }

    fn listen(&mut self, number: u32, fd: OwnedFd) {
        if let Err(error) = self.listeners.add(number, fd, self.poll.registry()) {
            self.report(Level::Error, "Error", format!("a listener could not be registered: {error}"));
        }
    }

    fn link(&mut self, shard: u32, fd: OwnedFd) {
        self.end_link_if_any(shard);
        let Some(place) = self.links.get_mut(shard as usize) else { return };
        match BrokerLink::new(fd, Source::Link(shard), self.poll.registry()) {
            Ok(link) => {
                *place = Some(link);
                self.brain.link_up(self.at, shard);
            }
            Err(error) => self.report(Level::Error, "BrokerError", format!("no link to broker {shard}: {error}")),
        }
    }

    fn end_link_if_any(&mut self, shard: u32) {
        if (shard as usize) < self.links.len() {
            self.end_link(shard);
        }
    }

    /// Others have the new connections from now on; the clients that are here go to them little by little.
    fn drain(&mut self, over: Duration) {
        if self.ending.is_none() {
            self.end(over + DRAIN_ANSWERS_MAX + self.config.term_timeout, over);
            self.net.drain();
        }
    }

    fn terminate(&mut self) {
        if !self.terminated {
            self.terminated = true;
            self.end(self.config.term_timeout, Duration::ZERO);
            self.net.end_pages();
        }
    }

    fn end(&mut self, latest: Duration, over: Duration) {
        self.ending = Some(self.at.now + latest);
        self.listeners.clear();
        // The code after which clients of every version come back at once, to another worker.
        self.brain.drain(self.at, over, CloseCode::PONG_TIMEOUT);
    }

    fn accept(&mut self) {
        let mut streams = Vec::new();
        let failed = self.listeners.accept(self.at.now, |stream| streams.push(stream));
        streams.into_iter().for_each(|stream| self.adopt(stream));
        if let Some(error) = failed {
            let message = format!("connections cannot be accepted ({error}); they wait until they can");
            self.report(Level::Warning, "Error", message);
        }
    }

    fn report(&mut self, level: Level, name: &str, message: String) {
        self.master.report(&Report { level, name: name.to_owned(), message });
    }
}
