//! The loop of a broker: see [`event_loop`](crate::event_loop) for the order of a turn.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use mio::{Events, Poll};
use sc_broker::{Broker, BrokerCall, BrokerEvent, BrokerLimits, LinkError, LinkId};
use sc_protocol::ScError;
use sc_protocol::ipc::Control;

use crate::broker_controller::{Application, Outside};
use crate::broker_link::{BrokerLink, ReadEnd};
use crate::broker_socket::{Arrival, BrokerSocket};
use crate::child::{Ended, Master, Order, catch_loop};
use crate::control::ControlLink;
use crate::event_loop::{Clock, EVENTS_MAX, SCRATCH_LEN, Source, earlier, wait};
use sc_server::{Level, Report, Time};

/// What the loop of a broker has to know.
#[derive(Debug, Clone)]
pub(crate) struct BrokerConfig {
    /// The broker's number.
    pub(crate) id: u32,
    /// Limits of the machine.
    pub(crate) limits: BrokerLimits,
    /// How long a worker may stay overloaded before its link is given up; `None`: for ever.
    pub(crate) hang_timeout: Option<Duration>,
    /// It takes the place of one that is gone.
    pub(crate) respawn: bool,
    /// Random: for hash tables.
    pub(crate) seed: u64,
}

/// Messages of the application that wait for the master, at most.
const MESSAGES_MAX: usize = 1024;

/// A broker's loop and everything it drives.
pub(crate) struct BrokerLoop {
    poll: Poll,
    scratch: Box<[u8]>,
    clock: Clock,
    at: Time,
    master: Master,
    broker: Broker,
    application: Option<Box<dyn Application>>,
    outside: Outside,
    /// For programs outside the cluster.
    socket: Option<BrokerSocket>,
    links: Vec<Option<WorkerLink>>,
    /// Links whose workers do not read, and since when.
    overloaded: BTreeMap<u32, Instant>,
    hang_timeout: Option<Duration>,
    terminate: bool,
    respawn: bool,
}

#[derive(Debug)]
struct WorkerLink {
    /// For the log.
    name: String,
    /// As the peer gave it with its first message.
    pid: Option<u32>,
    link: BrokerLink,
}

impl BrokerLoop {
    pub(crate) fn new(
        config: BrokerConfig,
        control: ControlLink,
        application: Option<Box<dyn Application>>,
        mut socket: Option<BrokerSocket>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        if let Some(socket) = &mut socket {
            socket.register(poll.registry())?;
        }
        let mut clock = Clock::new();
        let at = clock.read();
        Ok(Self {
            master: Master::new(control, poll.registry(), at.now)?,
            broker: if config.respawn {
                Broker::successor(config.limits, config.seed)
            } else {
                Broker::new(config.limits, config.seed)
            },
            application,
            socket,
            outside: Outside { id: config.id, at, reports: Vec::new(), messages: Vec::new() },
            scratch: vec![0; SCRATCH_LEN].into(),
            links: Vec::new(),
            overloaded: BTreeMap::new(),
            hang_timeout: config.hang_timeout,
            terminate: false,
            respawn: config.respawn,
            poll,
            clock,
            at,
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
        if self.respawn {
            let id = self.outside.id;
            let message = format!("broker {id} begins anew: the shared data that the one before it kept is lost");
            self.report(Level::Warning, message);
        }
        if let Some(application) = &mut self.application {
            application.start(&mut self.broker, &mut self.outside);
        }
        self.tell_master();
        self.master.send(&Control::Ready);
        loop {
            let deadline = self.deadline();
            wait(&mut self.poll, &mut events, deadline)?;
            self.turn(&events);
            if self.master.is_gone() {
                return Ok(Ended::MasterGone);
            }
            if self.terminate {
                return Ok(Ended::Terminated);
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let socket = self.socket.as_ref();
        if socket.is_some_and(BrokerSocket::has_more)
            || self.master.has_more()
            || self.links.iter().flatten().any(|worker| worker.link.has_more())
        {
            return Some(self.at.now);
        }
        let hung = self.hang_timeout.and_then(|timeout| Some(*self.overloaded.values().min()? + timeout));
        let data = earlier(self.broker.poll_timeout(), socket.and_then(BrokerSocket::poll_timeout));
        earlier(earlier(hung, data), Some(self.master.beat_at()))
    }

    fn turn(&mut self, events: &Events) {
        self.at = self.clock.read();
        self.outside.at = self.at;
        if self.broker.poll_timeout().is_some_and(|due| due <= self.at.now) {
            self.broker.handle_timeout(self.at.now);
        }
        for event in events {
            match Source::from_token(event.token()) {
                Source::Control => {
                    self.master.note(event);
                    self.read_control();
                }
                Source::Link(number) => {
                    let Some(Some(worker)) = self.links.get_mut(number as usize) else { continue };
                    let readable = worker.link.note(event);
                    if event.is_writable() {
                        self.broker.writable(LinkId(number));
                    }
                    if readable {
                        self.read_link(number);
                    }
                }
                Source::Listener(_) => self.accept_peers(),
                Source::Conn { slot, .. } => self.read_peer(slot),
                Source::Waker => {}
            }
        }
        if self.socket.as_ref().is_some_and(BrokerSocket::has_more) {
            self.accept_peers();
        }
        if self.master.has_more() {
            self.read_control();
        }
        for number in 0..self.links.len() as u32 {
            if self.links[number as usize].as_ref().is_some_and(|worker| worker.link.has_more()) {
                self.read_link(number);
            }
        }
        let (application, outside) = (&mut self.application, &mut self.outside);
        self.broker.release_held(|broker, call| {
            if let Some(application) = application {
                application.call(broker, outside, call);
            }
        });
        // Handlers of events may publish, and a link that breaks while it is written is an event for some.
        self.handle_events();
        loop {
            self.write_links();
            if !self.handle_events() {
                break;
            }
        }
        self.give_up_hung();
        self.give_up_silent();
        self.tell_master();
        self.master.beat(self.at.now, self.links.iter().flatten().count());
        self.master.flush();
    }

    fn read_control(&mut self) {
        for order in self.master.read() {
            match order {
                Order::Link(worker, fd) => {
                    let number = self.broker.attach(self.at.now);
                    self.link(number, format!("worker {worker}"), fd);
                }
                Order::Linked => self.broker.all_attached(),
                // It has no clients: those of workers are drained long before it ends.
                Order::Terminate | Order::Drain(_) => self.terminate = true,
                Order::Message { id, json } => self.master_message(id, &json),
                Order::Conns(..) | Order::Listener(..) | Order::Reply { .. } => {}
            }
        }
    }

    fn accept_peers(&mut self) {
        if let Some(socket) = &mut self.socket {
            socket.accept(self.at.now, self.poll.registry());
        }
    }

    fn read_peer(&mut self, slot: u32) {
        let arrival = self.socket.as_mut().and_then(|socket| socket.read(slot, self.poll.registry()));
        match arrival {
            Some(Arrival::Link(fd)) => {
                let number = self.broker.attach_guest(self.at.now);
                self.link(number, "a peer on the named socket".to_owned(), fd);
            }
            Some(Arrival::Refused(why)) => {
                self.report(Level::Warning, format!("a peer on the named socket {why}: it is turned away"));
            }
            None => {}
        }
    }

    /// Peers that take too long for their proof.
    fn give_up_silent(&mut self) {
        let silent = self.socket.as_mut().map_or(0, |socket| socket.expire(self.at.now));
        if silent > 0 {
            self.report(Level::Warning, format!("{silent} peer(s) on the named socket proved nothing in time"));
        }
    }

    fn link(&mut self, LinkId(number): LinkId, name: String, fd: OwnedFd) {
        match BrokerLink::new(fd, Source::Link(number), self.poll.registry()) {
            Ok(link) => {
                if self.links.len() <= number as usize {
                    self.links.resize_with(number as usize + 1, || None);
                }
                self.links[number as usize] = Some(WorkerLink { name, pid: None, link });
            }
            Err(error) => {
                self.broker.detached(self.at.now, LinkId(number));
                self.report(Level::Error, format!("no link to {name}: {error}"));
            }
        }
    }

    fn read_link(&mut self, number: u32) {
        let Some(Some(worker)) = self.links.get_mut(number as usize) else { return };
        let (broker, now, link) = (&mut self.broker, self.at.now, LinkId(number));
        let (application, outside) = (&mut self.application, &mut self.outside);
        let read = worker.link.read(&mut self.scratch, |data| -> Result<(), LinkError> {
            match application {
                None => broker.handle_bytes(now, link, data),
                Some(application) => {
                    let sink = |broker: &mut Broker, call: BrokerCall<'_>| application.call(broker, outside, call);
                    broker.handle_bytes_with(now, link, data, sink)
                }
            }
        });
        match read {
            Ok(ReadEnd::Drained | ReadEnd::Budget) => {}
            Ok(ReadEnd::Closed) => self.end_link(number),
            Err(error) => self.drop_link(number, &error.to_string()),
        }
    }

    /// Ends a link whose worker lives on. It would have no link to this broker any more, so the master replaces it.
    fn drop_link(&mut self, number: u32, why: &str) {
        if let Some(Some(worker)) = self.links.get(number as usize) {
            let (message, pid) = (format!("the link to {} is dropped: {why}", worker.name), worker.pid);
            self.report(Level::Error, message);
            if let Some(pid) = pid {
                self.master.send(&Control::Unlinked { pid });
            }
        }
        self.end_link(number);
    }

    fn end_link(&mut self, number: u32) {
        if self.links.get_mut(number as usize).and_then(Option::take).is_some() {
            self.overloaded.remove(&number);
            self.broker.detached(self.at.now, LinkId(number));
        }
    }

    /// Writes as long as the broker lends something: what is written to one link may set free what it holds for another.
    fn write_links(&mut self) {
        while let Some((LinkId(number), bytes)) = self.broker.poll_transmit() {
            let Some(Some(worker)) = self.links.get_mut(number as usize) else {
                debug_assert!(false, "the broker lends bytes for links that are there");
                self.broker.detached(self.at.now, LinkId(number));
                continue;
            };
            let wanted = bytes.len();
            match worker.link.write_some(bytes) {
                Ok(written) => {
                    self.broker.wrote(LinkId(number), written);
                    if written < wanted {
                        self.broker.blocked(LinkId(number));
                    }
                }
                Err(_) => self.end_link(number),
            }
        }
    }

    /// Answers whether there were any.
    fn handle_events(&mut self) -> bool {
        let mut any = false;
        while let Some(event) = self.broker.poll_event() {
            any = true;
            if let Some(application) = &mut self.application {
                application.event(&mut self.broker, &mut self.outside, &event);
            }
            match event {
                BrokerEvent::Hello { link: LinkId(number), pid, .. } => {
                    if let Some(Some(worker)) = self.links.get_mut(number as usize) {
                        worker.pid = Some(pid);
                    }
                }
                BrokerEvent::Overloaded(LinkId(number)) => {
                    self.overloaded.insert(number, self.at.now);
                    if let Some(Some(worker)) = self.links.get(number as usize) {
                        let message = format!("{} does not read: publishes to it are refused", worker.name);
                        self.report(Level::Warning, message);
                    }
                }
                BrokerEvent::Relieved(LinkId(number)) => {
                    self.overloaded.remove(&number);
                }
                BrokerEvent::Death { worker, query, .. } if self.application.is_none() => {
                    let message =
                        format!("worker {worker} left a query for its end, {query:?}, but there is no controller");
                    self.report(Level::Warning, message);
                }
                // Who is linked the master knows, and channels are the application's affair.
                _ => {}
            }
        }
        any
    }

    fn master_message(&mut self, id: u64, json: &str) {
        let answer = match &mut self.application {
            Some(application) => application.master_message(&mut self.broker, &mut self.outside, json),
            None => Err(ScError::new("BrokerError", "The broker has no controller")),
        };
        if id != 0 {
            let json = match answer {
                Ok(data) => format!("{{\"data\":{}}}", data.json().unwrap_or("null")),
                Err(error) => format!("{{\"error\":{}}}", error.to_json()),
            };
            let reply = Control::Reply { id, json: &json };
            if reply.fits() {
                self.master.send(&reply);
            } else {
                let error = ScError::new("BrokerError", "The answer is too large for the master");
                self.master.send(&Control::Reply { id, json: &format!("{{\"error\":{}}}", error.to_json()) });
            }
        }
    }

    /// What the application has for the log and for the master.
    fn tell_master(&mut self) {
        for report in self.outside.reports.drain(..) {
            self.master.report(&report);
        }
        let mut sent = 0;
        for json in &self.outside.messages {
            if !self.master.try_send(&Control::Message { id: 0, json }) {
                break;
            }
            sent += 1;
        }
        self.outside.messages.drain(..sent);
        let lost = self.outside.messages.len().saturating_sub(MESSAGES_MAX);
        if lost > 0 {
            self.outside.messages.truncate(MESSAGES_MAX);
            self.report(Level::Warning, format!("{lost} messages to the master are lost: it does not read"));
        }
    }

    /// A worker that stays overloaded holds up everybody who shares a channel with it.
    fn give_up_hung(&mut self) {
        let Some(timeout) = self.hang_timeout else { return };
        while let Some((&number, _)) = self.overloaded.iter().find(|&(_, &since)| since + timeout <= self.at.now) {
            self.drop_link(number, "it did not read for workerHangTimeout");
            self.overloaded.remove(&number);
        }
    }

    fn report(&mut self, level: Level, message: String) {
        self.master.report(&Report { level, name: "BrokerError".to_owned(), message });
    }
}
