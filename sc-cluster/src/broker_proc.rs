//! The loop of a broker: see [`event_loop`](crate::event_loop) for the order of a turn.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use mio::{Events, Poll};
use sc_broker::{Broker, BrokerEvent, BrokerLimits, LinkId};
use sc_protocol::ipc::Control;

use crate::broker_link::{BrokerLink, ReadEnd};
use crate::child::{Ended, Master, Order};
use crate::control::ControlLink;
use crate::event_loop::{Clock, EVENTS_MAX, SCRATCH_LEN, Source, earlier, wait};
use sc_server::{Level, Report, Time};

/// What the loop of a broker has to know.
#[derive(Debug, Clone)]
pub(crate) struct BrokerConfig {
    /// Limits of the machine.
    pub(crate) limits: BrokerLimits,
    /// How long a worker may stay overloaded before its link is given up; `None`: for ever.
    pub(crate) hang_timeout: Option<Duration>,
    /// It takes the place of one that is gone.
    pub(crate) respawn: bool,
    /// Random: for hash tables.
    pub(crate) seed: u64,
}

/// A broker's loop and everything it drives.
#[derive(Debug)]
pub(crate) struct BrokerLoop {
    poll: Poll,
    scratch: Box<[u8]>,
    clock: Clock,
    at: Time,
    master: Master,
    broker: Broker,
    links: Vec<Option<WorkerLink>>,
    /// Links whose workers do not read, and since when.
    overloaded: BTreeMap<u32, Instant>,
    hang_timeout: Option<Duration>,
    terminate: bool,
}

#[derive(Debug)]
struct WorkerLink {
    worker: u32,
    link: BrokerLink,
}

impl BrokerLoop {
    pub(crate) fn new(config: BrokerConfig, control: ControlLink) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut clock = Clock::new();
        let at = clock.read();
        Ok(Self {
            master: Master::new(control, poll.registry(), at.now)?,
            broker: if config.respawn {
                Broker::successor(config.limits, config.seed)
            } else {
                Broker::new(config.limits, config.seed)
            },
            scratch: vec![0; SCRATCH_LEN].into(),
            links: Vec::new(),
            overloaded: BTreeMap::new(),
            hang_timeout: config.hang_timeout,
            terminate: false,
            poll,
            clock,
            at,
        })
    }

    /// Says `Ready` and runs until the process is to end.
    pub(crate) fn run(&mut self) -> io::Result<Ended> {
        let mut events = Events::with_capacity(EVENTS_MAX);
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
        if self.master.has_more() || self.links.iter().flatten().any(|worker| worker.link.has_more()) {
            return Some(self.at.now);
        }
        let hung = self.hang_timeout.and_then(|timeout| Some(*self.overloaded.values().min()? + timeout));
        earlier(hung, Some(self.master.beat_at()))
    }

    fn turn(&mut self, events: &Events) {
        self.at = self.clock.read();
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
                Source::Waker | Source::Listener(_) | Source::Conn { .. } => {}
            }
        }
        if self.master.has_more() {
            self.read_control();
        }
        for number in 0..self.links.len() as u32 {
            if self.links[number as usize].as_ref().is_some_and(|worker| worker.link.has_more()) {
                self.read_link(number);
            }
        }
        // No controller listens yet: it would be told of them here.
        self.broker.release_held(|_, _| ());
        self.write_links();
        self.handle_events();
        self.give_up_hung();
        self.master.beat(self.at.now, self.links.iter().flatten().count());
        self.master.flush();
    }

    fn read_control(&mut self) {
        for order in self.master.read() {
            match order {
                Order::Link(worker, fd) => self.link(worker, fd),
                Order::Linked => self.broker.all_attached(),
                // It has no clients: those of workers are drained long before it ends.
                Order::Terminate | Order::Drain(_) => self.terminate = true,
                Order::Conns(..) | Order::Listener(..) | Order::Message(_) => {}
            }
        }
    }

    fn link(&mut self, worker: u32, fd: OwnedFd) {
        let LinkId(number) = self.broker.attach(self.at.now);
        match BrokerLink::new(fd, Source::Link(number), self.poll.registry()) {
            Ok(link) => {
                if self.links.len() <= number as usize {
                    self.links.resize_with(number as usize + 1, || None);
                }
                self.links[number as usize] = Some(WorkerLink { worker, link });
            }
            Err(error) => {
                self.broker.detached(self.at.now, LinkId(number));
                self.report(Level::Error, format!("no link to worker {worker}: {error}"));
            }
        }
    }

    fn read_link(&mut self, number: u32) {
        let Some(Some(worker)) = self.links.get_mut(number as usize) else { return };
        let (broker, now) = (&mut self.broker, self.at.now);
        match worker.link.read(&mut self.scratch, |data| broker.handle_bytes(now, LinkId(number), data)) {
            Ok(ReadEnd::Drained | ReadEnd::Budget) => {}
            Ok(ReadEnd::Closed) => self.end_link(number),
            Err(error) => {
                let message = format!("the link to worker {} is dropped: {error}", worker.worker);
                self.report(Level::Error, message);
                self.end_link(number);
            }
        }
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

    fn handle_events(&mut self) {
        while let Some(event) = self.broker.poll_event() {
            match event {
                BrokerEvent::Overloaded(LinkId(number)) => {
                    self.overloaded.insert(number, self.at.now);
                    if let Some(Some(worker)) = self.links.get(number as usize) {
                        let message = format!("worker {} does not read: publishes to it are refused", worker.worker);
                        self.report(Level::Warning, message);
                    }
                }
                BrokerEvent::Relieved(LinkId(number)) => {
                    self.overloaded.remove(&number);
                }
                // Of use to nobody yet: who is linked the master knows, and channels are the application's affair.
                _ => {}
            }
        }
    }

    /// A worker that stays overloaded holds up everybody who shares a channel with it.
    fn give_up_hung(&mut self) {
        let Some(timeout) = self.hang_timeout else { return };
        while let Some((&number, _)) = self.overloaded.iter().find(|&(_, &since)| since + timeout <= self.at.now) {
            let worker = self.links[number as usize].as_ref().map_or(u32::MAX, |worker| worker.worker);
            self.report(
                Level::Error,
                format!("worker {worker} did not read for workerHangTimeout: its link is dropped"),
            );
            self.end_link(number);
            self.overloaded.remove(&number);
        }
    }

    fn report(&mut self, level: Level, message: String) {
        self.master.report(&Report { level, name: "BrokerError".to_owned(), message });
    }
}
