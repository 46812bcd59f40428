//! The brain of a broker process.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::BytesMut;
use sc_protocol::ipc::{CallKind, LINK_VERSION, LinkMsg, LinkReader};
use sc_protocol::sc_error::ScError;
use slab::Slab;

use crate::error::{LinkError, over_limit, refused};
use crate::limits::{BrokerLimits, FRAMING};
use crate::outbox::Outbox;
use crate::store::Store;
use crate::successor::Opening;
use crate::topic_tree::{Subscribed, TopicTree, Unsubscribed};

/// Routes what workers publish to the workers that are subscribed.
///
/// # Order
/// The messages of a channel have one order: that in which this broker read them. A publish from the link `O` becomes one
/// `Deliver` to every other subscribed link and one `Ack` to `O`, which with `deliver` set is also `O`'s own place in
/// that order, so every worker sees the same sequence.
///
/// # Acknowledged is delivered
/// An `Ack` leaves only after the `Deliver`s of its publish have been [written](Self::wrote) to all the links they are
/// for; a link that was [detached](Self::detached) does not count any more. Until then the `Ack` and everything behind it
/// stays, so that the order holds.
///
/// This cannot lock up. Streams are filled publish by publish, so on each of them the messages of an earlier publish stand
/// before those of a later one. Let `p` be the earliest publish that has an `Ack` at the head of a stream and held back.
/// What it waits for is a `Deliver` of `p` on another stream, and whatever stands before that belongs to publishes
/// earlier than `p`; none of it is an `Ack` held back, or `p` would not be the earliest. So that stream can be written as
/// soon as its worker reads.
///
/// It also means that a worker which does not read holds up the publishers of the channels it is subscribed to, and what
/// is queued behind their acknowledgements; [`Overloaded`](BrokerEvent::Overloaded) says whom to blame.
///
/// # Driving it
/// ```
/// use std::time::Instant;
/// use bytes::BytesMut;
/// use sc_broker::{Broker, BrokerLimits};
/// use sc_protocol::ipc::{LINK_VERSION, LinkMsg};
///
/// # #[expect(clippy::disallowed_methods, reason = "an example is a driver")]
/// let now = Instant::now();
/// let mut broker = Broker::new(BrokerLimits::default(), 42);
/// let link = broker.attach(now);
///
/// let mut from_worker = BytesMut::new();
/// LinkMsg::Hello { version: LINK_VERSION, worker: 0, pid: 4711 }.write(&mut from_worker);
/// LinkMsg::Subscribe { cid: 1, channel: "news" }.write(&mut from_worker);
/// broker.handle_bytes(now, link, &from_worker)?;
///
/// let mut to_worker = Vec::new();
/// while let Some((link, bytes)) = broker.poll_transmit() {
///     to_worker.extend_from_slice(bytes); // a real driver writes to the socket, and calls blocked() if that would block
///     let n = bytes.len();
///     broker.wrote(link, n);
/// }
/// let mut ack = BytesMut::new();
/// LinkMsg::Ack { cid: 1, deliver: false }.write(&mut ack);
/// assert_eq!(to_worker, ack);
/// # Ok::<(), sc_broker::LinkError>(())
/// ```
#[derive(Debug)]
pub struct Broker {
    pub(crate) limits: BrokerLimits,
    pub(crate) links: Slab<Link>,
    topics: TopicTree<u32>,
    pub(crate) store: Store,
    /// Publishes whose `Ack` is held back.
    barriers: Slab<Barrier>,
    /// Links that may have something sendable, each at most once ([`Link::ready`]).
    ready: VecDeque<u32>,
    events: VecDeque<BrokerEvent>,
    pub(crate) opening: Opening,
    /// JSON of the refusal that has to be cheap, because it is for times of overload.
    link_full: BytesMut,
    /// Kept for its memory.
    done: Vec<u32>,
}

/// A worker's link, from [`Broker::attach`] to [`Broker::detached`]. Its number is below the largest number of links
/// there were at a time, and is given again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u32);

/// What a [`Broker`] has to tell its driver.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BrokerEvent {
    /// A worker said who it is.
    Hello {
        /// Its link.
        link: LinkId,
        /// Its number in the cluster.
        worker: u32,
        /// Its process id.
        pid: u32,
    },
    /// A channel has its first subscribed worker.
    Subscribe {
        /// The channel.
        channel: Box<str>,
    },
    /// A channel has no subscribed worker any more.
    Unsubscribe {
        /// The channel.
        channel: Box<str>,
    },
    /// Publishes are refused because this link's worker does not read. One that stays so for `workerHangTimeout` is to be
    /// killed, or all others wait for it.
    Overloaded(LinkId),
    /// A link that was overloaded is no more: its worker reads, and half of its room is free.
    Relieved(LinkId),
    /// The link of a worker has ended that had left a query for this case.
    Death {
        /// The worker's number in the cluster.
        worker: u32,
        /// The name of the query.
        query: Box<str>,
        /// Its argument, raw JSON text.
        data: Option<Box<str>>,
    },
}

/// What a worker said that is for the application's code in the broker: for the sink of
/// [`Broker::handle_bytes_with`], in the order in which the broker read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BrokerCall<'a> {
    /// A publish has been routed. It is not acknowledged yet.
    Published {
        /// The channel.
        channel: &'a str,
        /// Raw JSON text.
        data: Option<&'a str>,
    },
    /// Run a query, and say [`answer`](Broker::answer).
    Run {
        /// Whom to answer.
        call: CallId,
        /// The name under which the application has it.
        query: &'a str,
        /// Its argument, raw JSON text.
        data: Option<&'a str>,
    },
    /// Take a message, and say [`answer`](Broker::answer).
    Send {
        /// Whom to answer.
        call: CallId,
        /// Raw JSON text.
        data: Option<&'a str>,
    },
}

/// A request of a worker that is to be [answered](Broker::answer).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallId {
    pub(crate) link: u32,
    pub(crate) cid: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Link {
    reader: LinkReader,
    pub(crate) outbox: Outbox,
    worker: u32,
    /// The query for when it ends.
    pub(crate) death: Option<(Box<str>, Option<Box<str>>)>,
    greeted: bool,
    /// All that its worker is subscribed to has been said.
    pub(crate) synced: bool,
    blocked: bool,
    overloaded: bool,
    ready: bool,
}

/// A publish that was not written to all its receivers.
#[derive(Debug)]
struct Barrier {
    /// Receivers that lack it.
    left: u32,
    /// The publisher's link and the number of the gate before its `Ack`; `None` after that link's end.
    gate: Option<(u32, u64)>,
}

impl Broker {
    /// A broker without links. `seed` is for its hash tables: random in production, because clients choose the channels'
    /// names. Nothing a broker sends depends on it.
    #[must_use]
    pub fn new(limits: BrokerLimits, seed: u64) -> Self {
        let mut link_full = BytesMut::new();
        over_limit("A subscribed worker has fallen behind", "brokerLinkLimit", limits.link_bytes_max)
            .write(&mut link_full);
        Self {
            store: Store::new(limits.store.clone()),
            limits,
            links: Slab::new(),
            topics: TopicTree::new(seed),
            barriers: Slab::new(),
            ready: VecDeque::new(),
            events: VecDeque::new(),
            opening: Opening::default(),
            link_full,
            done: Vec::new(),
        }
    }

    /// A worker's link is there.
    pub fn attach(&mut self, _now: Instant) -> LinkId {
        LinkId(u32::try_from(self.links.insert(Link::default())).expect("invariant: fewer links than descriptors"))
    }

    /// A link that is not a worker's is there. Nobody waits for what it is subscribed to when this broker takes the place of
    /// another; else it is a link like any.
    pub fn attach_guest(&mut self, now: Instant) -> LinkId {
        let link = self.attach(now);
        self.links[link.0 as usize].synced = true;
        link
    }

    /// Takes bytes that came on a link, in any pieces. Afterwards drain [`poll_transmit`](Self::poll_transmit) and
    /// [`poll_event`](Self::poll_event); reading from several links before that makes for larger writes.
    ///
    /// What is for the application is refused, for want of one: see [`handle_bytes_with`](Self::handle_bytes_with).
    ///
    /// # Errors
    /// The link is of no more use: end it and say [`detached`](Self::detached).
    pub fn handle_bytes(&mut self, now: Instant, link: LinkId, data: &[u8]) -> Result<(), LinkError> {
        self.handle_bytes_with(now, link, data, |broker, call| match call {
            BrokerCall::Published { .. } => {}
            BrokerCall::Run { call, .. } | BrokerCall::Send { call, .. } => {
                broker.answer(call, Err(&refused("The broker has no controller")));
            }
        })
    }

    /// As [`handle_bytes`](Self::handle_bytes), with the application behind `sink`: it gets the broker together with each
    /// [`BrokerCall`], in the order in which the worker made them, and has to [answer](Self::answer) those that want it. It
    /// may use the [store](Self::store_mut) and [publish](Self::publish) right there.
    ///
    /// # Errors
    /// As [`handle_bytes`](Self::handle_bytes).
    pub fn handle_bytes_with(
        &mut self,
        now: Instant,
        link: LinkId,
        data: &[u8],
        mut sink: impl FnMut(&mut Self, BrokerCall<'_>),
    ) -> Result<(), LinkError> {
        let Some(state) = self.links.get_mut(link.0 as usize) else { return Ok(()) };
        let mut reader = std::mem::take(&mut state.reader);
        let mut outcome = Ok(());
        let read = reader.handle_bytes(data, |msg| {
            if outcome.is_ok() {
                outcome = self.message(now, link.0, &msg, &mut sink);
            }
        });
        self.links[link.0 as usize].reader = reader;
        self.release_held(&mut sink);
        outcome?;
        Ok(read?)
    }

    /// A link has ended, or is to be ended: its worker is subscribed to nothing, and nobody waits for it.
    pub fn detached(&mut self, _now: Instant, link: LinkId) {
        let Some(state) = self.links.try_remove(link.0 as usize) else { return };
        self.ready.retain(|&other| other != link.0);
        let events = &mut self.events;
        self.topics.unsubscribe_all(&link.0, |channel| events.push_back(BrokerEvent::Unsubscribe { channel }));
        if let Some((query, data)) = state.death {
            self.events.push_back(BrokerEvent::Death { worker: state.worker, query, data });
        }
        for barrier in state.outbox.waits_for() {
            self.barriers[barrier as usize].gate = None;
        }
        for barrier in state.outbox.counted_by() {
            self.count_down(barrier);
        }
        self.forget_held(link.0);
    }

    /// The next bytes that may be written to some link: all of that link's that may. Report what became of them with
    /// [`wrote`](Self::wrote), [`blocked`](Self::blocked) or [`detached`](Self::detached), and ask again; what is written
    /// to one link may set free what another holds. `None`: nothing may be written now.
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<(LinkId, &[u8])> {
        loop {
            let first = *self.ready.front()?;
            let link = &mut self.links[first as usize];
            if !link.blocked && !link.outbox.sendable().is_empty() {
                break;
            }
            link.ready = false;
            self.ready.pop_front();
        }
        let first = *self.ready.front()?;
        Some((LinkId(first), self.links[first as usize].outbox.sendable()))
    }

    /// The first `n` bytes of what was lent for this link are in the kernel's hands.
    pub fn wrote(&mut self, link: LinkId, n: usize) {
        let Some(state) = self.links.get_mut(link.0 as usize) else { return };
        let mut done = std::mem::take(&mut self.done);
        state.outbox.wrote(n, &mut done);
        self.relieve(link.0);
        for barrier in done.drain(..) {
            self.count_down(barrier);
        }
        self.done = done;
    }

    /// The link takes no more bytes until [`writable`](Self::writable).
    pub fn blocked(&mut self, link: LinkId) {
        if let Some(state) = self.links.get_mut(link.0 as usize) {
            state.blocked = true;
        }
    }

    /// The link takes bytes again.
    pub fn writable(&mut self, link: LinkId) {
        if let Some(state) = self.links.get_mut(link.0 as usize) {
            state.blocked = false;
            self.mark_ready(link.0);
            self.relieve(link.0);
        }
    }

    /// The next event; drain them to `None` after every input.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<BrokerEvent> {
        self.events.pop_front()
    }

    /// Bytes that wait for a link.
    #[must_use]
    pub fn queued(&self, link: LinkId) -> usize {
        self.links.get(link.0 as usize).map_or(0, |link| link.outbox.len())
    }

    /// Who is subscribed: the keys are the numbers of [`LinkId`].
    #[must_use]
    pub const fn topics(&self) -> &TopicTree<u32> {
        &self.topics
    }

    /// Publishes that were not yet written to all their receivers.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.barriers.len()
    }

    fn message(
        &mut self,
        now: Instant,
        link: u32,
        msg: &LinkMsg<'_>,
        sink: &mut impl FnMut(&mut Self, BrokerCall<'_>),
    ) -> Result<(), LinkError> {
        if self.links[link as usize].greeted == matches!(msg, LinkMsg::Hello { .. }) {
            return Err(LinkError::Hello);
        }
        match *msg {
            LinkMsg::Publish { cid, channel, data } if self.holds() => self.hold(link, cid, channel, data),
            LinkMsg::Synced => {
                self.synced(link);
                return Ok(());
            }
            LinkMsg::Publish { cid, channel, data } => {
                if self.route(link, cid, channel, data) {
                    sink(self, BrokerCall::Published { channel, data });
                }
            }
            LinkMsg::Subscribe { cid, channel } => self.subscribe(link, cid, channel),
            LinkMsg::Unsubscribe { channel } => {
                if self.topics.unsubscribe(channel, &link) == Unsubscribed::Last {
                    self.events.push_back(BrokerEvent::Unsubscribe { channel: channel.into() });
                }
                return Ok(());
            }
            LinkMsg::Hello { version: LINK_VERSION, worker, pid } => {
                let state = &mut self.links[link as usize];
                (state.greeted, state.worker) = (true, worker);
                self.events.push_back(BrokerEvent::Hello { link: LinkId(link), worker, pid });
                return Ok(());
            }
            LinkMsg::Hello { version, .. } => {
                return Err(LinkError::Version { theirs: version, ours: LINK_VERSION });
            }
            LinkMsg::Deliver { .. } => return Err(LinkError::Direction("Deliver")),
            LinkMsg::Ack { .. } => return Err(LinkError::Direction("Ack")),
            LinkMsg::Nack { .. } => return Err(LinkError::Direction("Nack")),
            LinkMsg::Answer { .. } => return Err(LinkError::Direction("Answer")),
            LinkMsg::Call { cid, what, key, data } => {
                let call = CallId { link, cid };
                match what {
                    CallKind::Run => sink(self, BrokerCall::Run { call, query: key, data }),
                    CallKind::Send => sink(self, BrokerCall::Send { call, data }),
                    what => self.data_call(now, call, what, key, data),
                }
            }
        }
        let max = self.limits.answers_bytes_max;
        if self.links[link as usize].outbox.len() > self.limits.link_bytes_max.saturating_add(max) {
            return Err(LinkError::AnswersOverLimit { max });
        }
        Ok(())
    }

    fn subscribe(&mut self, link: u32, cid: u64, channel: &str) {
        if self.topics.subscribers(channel).is_empty()
            && let Some(error) = self.no_room_for(channel)
        {
            return self.refuse(link, cid, &error);
        }
        if self.topics.subscribe(channel, link) == Subscribed::First {
            self.events.push_back(BrokerEvent::Subscribe { channel: channel.into() });
        }
        self.reply(link, &LinkMsg::Ack { cid, deliver: false });
    }

    fn no_room_for(&self, channel: &str) -> Option<ScError> {
        let BrokerLimits { channels_max, names_bytes_max, .. } = self.limits;
        if self.topics.channels() >= channels_max {
            return Some(over_limit("The broker has too many channels", "channels_max", channels_max));
        }
        let too_long = self.topics.name_bytes() + channel.len() > names_bytes_max;
        too_long.then(|| over_limit("The broker has too long channel names", "names_bytes_max", names_bytes_max))
    }

    /// Answers whether the publish was taken.
    pub(crate) fn route(&mut self, origin: u32, cid: u64, channel: &str, data: Option<&str>) -> bool {
        let receivers = self.topics.subscribers(channel);
        let need = FRAMING + channel.len() + data.map_or(0, str::len);
        let (mut deliver, mut left) = (false, 0u32);
        for &receiver in receivers {
            if receiver == origin {
                deliver = true;
                continue;
            }
            if self.links[receiver as usize].outbox.len() + need > self.limits.link_bytes_max {
                self.refuse_for(origin, cid, receiver);
                return false;
            }
            left += 1;
        }
        let ack = LinkMsg::Ack { cid, deliver };
        if left == 0 {
            self.reply(origin, &ack);
            return true;
        }
        let gate = self.links[origin as usize].outbox.next_gate();
        let barrier = self.barriers.insert(Barrier { left, gate: Some((origin, gate)) });
        let barrier = u32::try_from(barrier).expect("invariant: every barrier has bytes in an outbox of bounded size");
        let msg = LinkMsg::Deliver { channel, data };
        for &receiver in receivers.iter().filter(|&&receiver| receiver != origin) {
            let link = &mut self.links[receiver as usize];
            link.outbox.push_counted(&msg, barrier);
            if link.wants_turn() {
                self.ready.push_back(receiver);
            }
        }
        self.links[origin as usize].outbox.push_gated(&ack, barrier);
        true
    }

    /// Refuses a publish because of the full outbox of `receiver`, and says who is to blame: that worker if it does not
    /// read. If instead its outbox is held up by a gate, then what keeps the gate closed is, in the end, unread by some
    /// worker whose link is blocked.
    fn refuse_for(&mut self, origin: u32, cid: u64, receiver: u32) {
        let error = self.link_full.clone();
        match std::str::from_utf8(&error) {
            Ok(error) => self.reply(origin, &LinkMsg::Nack { cid, error }),
            Err(_) => self.refuse(origin, cid, &refused("A subscribed worker has fallen behind")),
        }
        let full = &self.links[receiver as usize];
        if full.blocked {
            self.blame(receiver);
        } else if full.outbox.sendable().is_empty() {
            for other in 0..self.links.capacity() {
                if self.links.get(other).is_some_and(|link| link.blocked) {
                    self.blame(other as u32);
                }
            }
        }
    }

    fn blame(&mut self, link: u32) {
        let state = &mut self.links[link as usize];
        if !state.overloaded {
            state.overloaded = true;
            self.events.push_back(BrokerEvent::Overloaded(LinkId(link)));
        }
    }

    fn relieve(&mut self, link: u32) {
        let state = &mut self.links[link as usize];
        if state.overloaded && !state.blocked && state.outbox.len() <= self.limits.link_bytes_max / 2 {
            state.overloaded = false;
            self.events.push_back(BrokerEvent::Relieved(LinkId(link)));
        }
    }

    pub(crate) fn refuse(&mut self, link: u32, cid: u64, error: &ScError) {
        let mut json = BytesMut::new();
        error.write(&mut json);
        self.reply(link, &LinkMsg::Nack { cid, error: std::str::from_utf8(&json).unwrap_or("{}") });
    }

    pub(crate) fn reply(&mut self, link: u32, msg: &LinkMsg<'_>) {
        self.links[link as usize].outbox.push(msg);
        self.mark_ready(link);
    }

    /// One receiver of a publish has it, or is gone.
    fn count_down(&mut self, barrier: u32) {
        let state = &mut self.barriers[barrier as usize];
        debug_assert!(state.left > 0, "a receiver is counted once");
        state.left -= 1;
        if state.left > 0 {
            return;
        }
        if let Some((origin, gate)) = self.barriers.remove(barrier as usize).gate {
            self.links[origin as usize].outbox.open(gate);
            self.mark_ready(origin);
        }
    }

    fn mark_ready(&mut self, link: u32) {
        if self.links[link as usize].wants_turn() {
            self.ready.push_back(link);
        }
    }
}

impl Link {
    /// Whether the link is to be put into the ready list, which it then is.
    fn wants_turn(&mut self) -> bool {
        let wants = !self.ready && !self.blocked && !self.outbox.sendable().is_empty();
        self.ready |= wants;
        wants
    }
}
