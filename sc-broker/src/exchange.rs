//! The worker's side: what this worker wants from the brokers and sends to them.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;
use sc_protocol::ipc::{IpcError, LINK_VERSION, LinkMsg};
use sc_protocol::limits::LINK_MESSAGE_MAX;
use sc_protocol::sc_error::ScError;

use crate::error::{over_limit, refused};
use crate::limits::{ExchangeLimits, FRAMING};
use crate::link::{InterestId, Link, Request, What, publish_bytes};
use crate::names::Names;
use crate::shard::Mapper;

mod call;

/// One link to each broker, the channels that this worker is interested in, and the publishes that are on their way.
///
/// `P` is what the caller wants back when a publish is answered, `W` when a subscription is. Each comes back exactly once.
/// An answer that arrives with bytes goes to the sink of [`handle_bytes`](Self::handle_bytes); what any other call leads to
/// comes from [`poll_event`](Self::poll_event).
///
/// # Order
/// Publishes to one channel go out in the order of the calls, since they go through one link or wait in one queue. For a
/// channel that this worker is subscribed to, `Deliver` and `Published { deliver: true }` together are the channel's one
/// order, the same at every worker.
///
/// # While a broker is away
/// Channels stay wanted and are subscribed to again, before anything else, as soon as the link is back. Publishes wait,
/// bounded. One that had been sent and not been answered fails, for nobody knows whether it was delivered.
///
/// ```
/// use sc_broker::{Exchange, ExchangeEvent, ExchangeLimits};
///
/// let mut exchange: Exchange<&str, &str> = Exchange::new(2, ExchangeLimits::default(), 42);
/// exchange.subscribe("news", "the first reader");
/// exchange.publish("news", Some("\"rain\""), "the reporter").unwrap();
/// assert!(exchange.poll_link().is_none(), "all of it waits for the broker");
///
/// exchange.link_up(exchange.shard_of("news"), 0, 4711);
/// let (shard, bytes) = exchange.poll_link().unwrap(); // Hello, Subscribe, Publish: for the broker
/// assert_eq!(shard, exchange.shard_of("news"));
///
/// # use sc_protocol::ipc::LinkMsg;
/// # let mut answer = bytes::BytesMut::new();
/// # LinkMsg::Ack { cid: 1, deliver: false }.write(&mut answer);
/// # LinkMsg::Ack { cid: 2, deliver: true }.write(&mut answer);
/// let mut done = Vec::new();
/// exchange.handle_bytes(shard, &answer, |_, event| match event {
///     ExchangeEvent::Subscribed { waiter } => done.push(waiter),
///     ExchangeEvent::Published { pending, deliver: true } => done.push(pending),
///     other => panic!("{other:?}"),
/// })?;
/// assert_eq!(done, ["the first reader", "the reporter"]);
/// # Ok::<(), sc_protocol::ipc::IpcError>(())
/// ```
pub struct Exchange<P, W> {
    limits: ExchangeLimits,
    links: Vec<Link<P>>,
    interests: Names<Interest<W>>,
    /// Number of the next interest.
    serial: u64,
    /// Waiters of all interests.
    waiters: usize,
    events: VecDeque<ExchangeEvent<'static, P, W>>,
    mapper: Option<Mapper>,
    /// Where [`Exchange::poll_link`] looks first, so that every link gets its turn.
    next_link: usize,
}

/// What an [`Exchange`] has to tell its worker.
#[derive(Debug, Clone, PartialEq)]
pub enum ExchangeEvent<'a, P, W> {
    /// Another worker published on a channel that this one is subscribed to.
    Deliver {
        /// The channel.
        channel: &'a str,
        /// Raw JSON text; `None` if the publish had no data.
        data: Option<&'a str>,
    },
    /// A publish was delivered to all subscribed workers.
    Published {
        /// What was given to [`Exchange::publish`].
        pending: P,
        /// This is its place in the channel's order, and this worker is subscribed: deliver it to its subscribers, now.
        deliver: bool,
    },
    /// A publish was refused, or its fate is unknown because the link broke.
    PublishFailed {
        /// What was given to [`Exchange::publish`].
        pending: P,
        /// A `BrokerError`.
        error: ScError,
    },
    /// The broker has the subscription: what is published from now on will be delivered.
    Subscribed {
        /// What was given to [`Exchange::subscribe`].
        waiter: W,
    },
    /// There is no subscription: a limit is reached, or nobody wants it any more and the link broke.
    SubscribeFailed {
        /// What was given to [`Exchange::subscribe`].
        waiter: W,
        /// A `BrokerError`.
        error: ScError,
    },
    /// A call was answered.
    Answered {
        /// What was given to [`Exchange::call`].
        number: u64,
        /// Raw JSON text; `None` is JavaScript's `undefined`.
        data: Option<&'a str>,
    },
    /// A call was refused, or its fate is unknown because the link broke.
    CallFailed {
        /// What was given to [`Exchange::call`].
        number: u64,
        /// Mostly a `BrokerError`; a query of the application has its own.
        error: ScError,
    },
}

/// A channel that this worker wants, or has just stopped wanting. LIFECYCLE.md has the picture.
struct Interest<W> {
    shard: u32,
    serial: u64,
    /// Whether anybody here wants it. If not, the only reason to be here is a `Subscribe` in flight.
    wanted: bool,
    at_broker: AtBroker,
    /// The broker had it once, so somebody may live on deliveries without waiting for an answer.
    was_held: bool,
    waiters: Vec<W>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AtBroker {
    /// The link is down, or the broker refused and was not asked again.
    Unknown,
    /// `Subscribe` is in flight.
    Asked,
    /// Answered: deliveries come.
    Held,
}

impl<P, W> Exchange<P, W> {
    /// An exchange for that many brokers (at least one), without links. `seed` is for its hash table: random in
    /// production, because clients choose the channels' names. Nothing an exchange does depends on it.
    #[must_use]
    pub fn new(brokers: u32, limits: ExchangeLimits, seed: u64) -> Self {
        Self {
            limits,
            links: (0..brokers.max(1)).map(|_| Link::new()).collect(),
            interests: Names::new(seed),
            serial: 0,
            waiters: 0,
            events: VecDeque::new(),
            mapper: None,
            next_link: 0,
        }
    }

    /// The link to a broker is there: says hello, subscribes to every channel of interest in the order in which their
    /// interests began (a freed place is taken by a later one), and sends the publishes that waited. `worker` and `pid`
    /// are for the broker's reports. A link that was up is taken to have gone down before.
    pub fn link_up(&mut self, shard: u32, worker: u32, pid: u32) {
        self.link_down(shard);
        let Some(link) = self.links.get_mut(shard as usize) else { return };
        link.up = true;
        LinkMsg::Hello { version: LINK_VERSION, worker, pid }.write(&mut link.out);
        for key in 0..self.interests.keys_end() {
            if self.interests.get(key).is_some_and(|interest| interest.shard == shard) {
                self.ask_broker(key);
            }
        }
        LinkMsg::Synced.write(&mut self.links[shard as usize].out);
        self.send_waiting(shard);
    }

    /// The link to a broker is gone. Publishes that it had not answered fail; those that wait go on waiting.
    pub fn link_down(&mut self, shard: u32) {
        let Some(link) = self.links.get_mut(shard as usize) else { return };
        if !link.up {
            return;
        }
        for request in link.down() {
            let error = || refused("The link to the broker broke before it answered");
            self.events.extend(match request {
                Request::Publish { pending, .. } => Some(ExchangeEvent::PublishFailed { pending, error: error() }),
                Request::Call(number) => Some(ExchangeEvent::CallFailed { number, error: error() }),
                Request::Subscribe(_) => None,
            });
        }
        for key in 0..self.interests.keys_end() {
            let Some(interest) = self.interests.get_mut(key).filter(|interest| interest.shard == shard) else {
                continue;
            };
            interest.at_broker = AtBroker::Unknown;
            if !interest.wanted {
                self.forget(key);
            }
        }
    }

    /// Somebody here wants the channel. `waiter` comes back with [`Subscribed`](ExchangeEvent::Subscribed) once the broker
    /// has the subscription, at once if it has it already, or with [`SubscribeFailed`](ExchangeEvent::SubscribeFailed).
    /// While the broker is away it waits; a timeout is the caller's.
    ///
    /// The exchange does not count subscribers: one [`unsubscribe`](Self::unsubscribe), when the last one has gone, ends
    /// the interest. It also ends when the broker refuses it at first, and its waiters have been told so.
    pub fn subscribe(&mut self, channel: &str, waiter: W) {
        let known = self.interests.find(channel);
        if known.is_some_and(|key| self.is_live(key)) {
            return self.events.push_back(ExchangeEvent::Subscribed { waiter });
        }
        if let Some(error) = self.no_room_for(channel, known.is_none()) {
            return self.events.push_back(ExchangeEvent::SubscribeFailed { waiter, error });
        }
        let key = known.unwrap_or_else(|| self.begin(channel));
        let Some(interest) = self.interests.get_mut(key) else { return };
        interest.wanted = true;
        interest.waiters.push(waiter);
        self.waiters += 1;
        if interest.at_broker == AtBroker::Unknown {
            self.ask_broker(key);
        }
    }

    /// Nobody here wants the channel any more: no delivery of it follows.
    pub fn unsubscribe(&mut self, channel: &str) {
        let Some(key) = self.interests.find(channel) else { return };
        let Some(interest) = self.interests.get_mut(key) else { return };
        interest.wanted = false;
        match interest.at_broker {
            // The broker is told when it has answered, unless the channel is wanted again by then. So there is at most one
            // request of a channel on its way, however often a client changes its mind.
            AtBroker::Asked => {}
            AtBroker::Held => self.give_up(key),
            AtBroker::Unknown => self.forget(key),
        }
    }

    /// Sends `data`, raw JSON text, to everybody subscribed to the channel, at this worker too. `pending` comes back with
    /// [`Published`](ExchangeEvent::Published) or [`PublishFailed`](ExchangeEvent::PublishFailed).
    ///
    /// # Errors
    /// A `BrokerError` that names the limit, with `pending`: the message is too large, or the broker is away or slow and
    /// too many are waiting.
    pub fn publish(&mut self, channel: &str, data: Option<&str>, pending: P) -> Result<(), (ScError, P)> {
        let shard = self.shard_of(channel);
        match self.may_send(shard, publish_bytes(channel, data)) {
            Ok(true) => {
                let interest = Self::current(&self.interests, channel);
                self.links[shard as usize].publish(channel, data, interest, pending);
            }
            Ok(false) => self.links[shard as usize].wait(channel, data, What::Publish(pending)),
            Err(error) => return Err((error, pending)),
        }
        Ok(())
    }

    /// Whether something of that size goes out at once (`true`) or has to wait.
    fn may_send(&self, shard: u32, bytes: usize) -> Result<bool, ScError> {
        let limits = &self.limits;
        let Some(link) = self.links.get(shard as usize) else { return Err(refused("There is no such broker")) };
        let largest = limits.link_bytes_max.min(LINK_MESSAGE_MAX);
        if bytes > largest {
            return Err(over_limit("The message is too large", "link_bytes_max", largest));
        }
        if link.waiting() == 0 && link.takes(bytes, limits) {
            return Ok(true);
        }
        let (count, size) = (limits.waiting_publishes_max, limits.waiting_bytes_max);
        if link.waiting() >= count {
            return Err(over_limit("Too many publishes wait for the broker", "waiting_publishes_max", count));
        }
        if link.waiting_bytes() + bytes > size {
            let what = "The publishes that wait for the broker are too large";
            return Err(over_limit(what, "waiting_bytes_max", size));
        }
        Ok(false)
    }

    /// Takes bytes that came from a broker, in any pieces. `sink` gets the exchange together with each event, so it may
    /// publish and subscribe right there. Afterwards drain [`poll_event`](Self::poll_event) and
    /// [`poll_link`](Self::poll_link).
    ///
    /// An answer that nobody waits for is ignored, and so is a message of a channel that is not wanted any more.
    ///
    /// # Errors
    /// The bytes are no messages: end the link, say [`link_down`](Self::link_down) and connect anew.
    pub fn handle_bytes(
        &mut self,
        shard: u32,
        data: &[u8],
        mut sink: impl FnMut(&mut Self, ExchangeEvent<'_, P, W>),
    ) -> Result<(), IpcError> {
        let Some(link) = self.links.get_mut(shard as usize).filter(|link| link.up) else { return Ok(()) };
        let life = link.lives;
        let mut reader = std::mem::take(&mut link.reader);
        let read = reader.handle_bytes(data, |msg| {
            if self.links[shard as usize].lives == life {
                self.message(shard, msg, &mut sink);
            }
        });
        let link = &mut self.links[shard as usize];
        if link.lives == life {
            link.reader = reader;
            self.send_waiting(shard);
        }
        read
    }

    /// An event that does not stem from a broker's bytes; drain them to `None` after every call.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<ExchangeEvent<'static, P, W>> {
        self.events.pop_front()
    }

    /// All that is to be written to some broker, and which; drain it to `None` at the end of a turn. What cannot be
    /// written the driver keeps, and reports with [`set_queued`](Self::set_queued).
    #[must_use]
    pub fn poll_link(&mut self) -> Option<(u32, Bytes)> {
        let count = self.links.len();
        let found = (self.next_link..self.next_link + count)
            .map(|index| index % count)
            .find(|&index| !self.links[index].out.is_empty())?;
        self.next_link = (found + 1) % count;
        Some((found as u32, self.links[found].out.split().freeze()))
    }

    /// How many of the bytes taken with [`poll_link`](Self::poll_link) the driver still keeps for a broker: to be said after
    /// each change. When it goes down, publishes that waited may go out, so drain `poll_link` again.
    pub fn set_queued(&mut self, shard: u32, bytes: usize) {
        if let Some(link) = self.links.get_mut(shard as usize).filter(|link| link.up) {
            link.queued = bytes;
            self.send_waiting(shard);
        }
    }

    /// Whether the link to that broker is up.
    #[must_use]
    pub fn is_up(&self, shard: u32) -> bool {
        self.links.get(shard as usize).is_some_and(|link| link.up)
    }

    /// Channels this worker is interested in, and those that it is about to unsubscribe from.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.interests.len()
    }

    /// Publishes that wait for a broker.
    #[must_use]
    pub fn waiting(&self, shard: u32) -> usize {
        self.links.get(shard as usize).map_or(0, Link::waiting)
    }

    /// What the caller gave with each publish that has not been answered, sent or not.
    pub fn unanswered(&self) -> impl Iterator<Item = &P> {
        self.links.iter().flat_map(Link::unanswered)
    }

    /// Requests that a broker has not answered.
    #[must_use]
    pub fn in_flight(&self, shard: u32) -> usize {
        self.links.get(shard as usize).map_or(0, Link::in_flight)
    }

    fn message(&mut self, shard: u32, msg: LinkMsg<'_>, sink: &mut impl FnMut(&mut Self, ExchangeEvent<'_, P, W>)) {
        match msg {
            LinkMsg::Deliver { channel, data } => {
                if self.interests.find(channel).is_some_and(|key| self.is_live(key)) {
                    sink(self, ExchangeEvent::Deliver { channel, data });
                }
            }
            LinkMsg::Ack { cid, deliver } => match self.links[shard as usize].answered(cid) {
                Some(Request::Publish { pending, interest }) => {
                    let deliver = deliver && interest.is_some_and(|id| self.is_this(id) && self.is_live(id.key));
                    sink(self, ExchangeEvent::Published { pending, deliver });
                }
                Some(Request::Subscribe(id)) => self.granted(id, sink),
                Some(Request::Call(number)) => sink(self, ExchangeEvent::Answered { number, data: None }),
                None => {}
            },
            LinkMsg::Answer { cid, data } => {
                if let Some(Request::Call(number)) = self.links[shard as usize].answered(cid) {
                    sink(self, ExchangeEvent::Answered { number, data });
                }
            }
            LinkMsg::Nack { cid, error } => match self.links[shard as usize].answered(cid) {
                Some(Request::Publish { pending, .. }) => {
                    sink(self, ExchangeEvent::PublishFailed { pending, error: ScError::parse(error) });
                }
                Some(Request::Subscribe(id)) => self.denied(id, &ScError::parse(error), sink),
                Some(Request::Call(number)) => {
                    sink(self, ExchangeEvent::CallFailed { number, error: ScError::parse(error) });
                }
                None => {}
            },
            // Only a worker says these. A broker that does is broken in a way that harms nobody here.
            LinkMsg::Hello { .. }
            | LinkMsg::Synced
            | LinkMsg::Subscribe { .. }
            | LinkMsg::Unsubscribe { .. }
            | LinkMsg::Publish { .. }
            | LinkMsg::Call { .. } => {}
        }
    }

    /// The broker has the subscription.
    fn granted(&mut self, id: InterestId, sink: &mut impl FnMut(&mut Self, ExchangeEvent<'_, P, W>)) {
        if !self.is_this(id) {
            return;
        }
        let Some(interest) = self.interests.get_mut(id.key) else { return };
        interest.at_broker = AtBroker::Held;
        interest.was_held = true;
        let waiters = std::mem::take(&mut interest.waiters);
        self.waiters -= waiters.len();
        if !interest.wanted {
            self.give_up(id.key);
        }
        for waiter in waiters {
            sink(self, ExchangeEvent::Subscribed { waiter });
        }
    }

    /// The broker refused the subscription. An interest that it had before stays, for somebody counts on it: it is asked
    /// for again with the next subscriber or link.
    fn denied(&mut self, id: InterestId, error: &ScError, sink: &mut impl FnMut(&mut Self, ExchangeEvent<'_, P, W>)) {
        if !self.is_this(id) {
            return;
        }
        let Some(interest) = self.interests.get_mut(id.key) else { return };
        interest.at_broker = AtBroker::Unknown;
        let waiters = std::mem::take(&mut interest.waiters);
        self.waiters -= waiters.len();
        if !interest.wanted || !interest.was_held {
            self.interests.remove(id.key);
        }
        for waiter in waiters {
            sink(self, ExchangeEvent::SubscribeFailed { waiter, error: error.clone() });
        }
    }

    fn no_room_for(&self, channel: &str, is_new: bool) -> Option<ScError> {
        let ExchangeLimits { waiters_max, channels_max, names_bytes_max, .. } = self.limits;
        if self.waiters >= waiters_max {
            return Some(over_limit("Too many subscribers wait for the broker", "waiters_max", waiters_max));
        }
        if is_new && self.interests.len() >= channels_max {
            return Some(over_limit("The worker has too many channels", "channels_max", channels_max));
        }
        let room = names_bytes_max.saturating_sub(self.interests.name_bytes());
        if is_new && channel.len() > room.min(LINK_MESSAGE_MAX - FRAMING) {
            return Some(over_limit("The worker has too long channel names", "names_bytes_max", names_bytes_max));
        }
        None
    }

    fn begin(&mut self, channel: &str) -> u32 {
        self.serial += 1;
        let interest = Interest {
            shard: self.shard_of(channel),
            serial: self.serial,
            wanted: true,
            at_broker: AtBroker::Unknown,
            was_held: false,
            waiters: Vec::new(),
        };
        self.interests.insert(channel, interest)
    }

    /// Sends `Subscribe`, if the link is up.
    fn ask_broker(&mut self, key: u32) {
        let Some(interest) = self.interests.get(key) else { return };
        let (id, link) = (InterestId { key, serial: interest.serial }, &mut self.links[interest.shard as usize]);
        if !link.up {
            return;
        }
        if let Some(name) = self.interests.name(key) {
            link.subscribe(name, id);
        }
        if let Some(interest) = self.interests.get_mut(key) {
            interest.at_broker = AtBroker::Asked;
        }
    }

    /// Ends an interest that the broker has.
    fn give_up(&mut self, key: u32) {
        if let Some((name, interest)) = self.interests.remove(key) {
            debug_assert!(interest.waiters.is_empty(), "waiters are answered when the broker has it");
            LinkMsg::Unsubscribe { channel: &name }.write(&mut self.links[interest.shard as usize].out);
        }
    }

    /// Ends an interest that no broker knows of.
    fn forget(&mut self, key: u32) {
        let Some((_, interest)) = self.interests.remove(key) else { return };
        self.waiters -= interest.waiters.len();
        for waiter in interest.waiters {
            let error = refused("Unsubscribed while the broker was away");
            self.events.push_back(ExchangeEvent::SubscribeFailed { waiter, error });
        }
    }

    fn send_waiting(&mut self, shard: u32) {
        let link = &mut self.links[shard as usize];
        while let Some(waiting) = link.next_waiting(&self.limits) {
            let (name, data) = (&*waiting.name, waiting.data.as_deref());
            match waiting.what {
                What::Publish(pending) => {
                    link.publish(name, data, Self::current(&self.interests, name), pending);
                }
                What::Call(what, number) => link.call(what, name, data, number),
            }
        }
    }

    /// The interest in a channel as it is now, to be compared with that at the time of an answer.
    fn current(interests: &Names<Interest<W>>, channel: &str) -> Option<InterestId> {
        let key = interests.find(channel)?;
        Some(InterestId { key, serial: interests.get(key)?.serial })
    }

    fn is_this(&self, id: InterestId) -> bool {
        self.interests.get(id.key).is_some_and(|interest| interest.serial == id.serial)
    }

    /// Whether deliveries of the channel are for somebody. One that comes before the answer to `Subscribe` belongs to an
    /// earlier interest; and whatever is held is wanted, for the broker's word on what is not ends it.
    fn is_live(&self, key: u32) -> bool {
        let held = self.interests.get(key).filter(|interest| interest.at_broker == AtBroker::Held);
        debug_assert!(held.is_none_or(|interest| interest.wanted));
        held.is_some()
    }
}

impl<P, W> fmt::Debug for Exchange<P, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("brokers", &self.links.len())
            .field("channels", &self.interests.len())
            .field("waiters", &self.waiters)
            .finish_non_exhaustive()
    }
}
