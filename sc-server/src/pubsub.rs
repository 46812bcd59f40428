//! Subscriptions, publishes and their fan-out.

use std::cell::OnceCell;

use bytes::Bytes;

use sc_broker::ExchangeEvent;
use sc_protocol::packet::{Version, write};
use sc_protocol::{ScError, json};

use crate::channels::Pending;
use crate::core::{Core, Task};
use crate::cx::Cx;
use crate::data::Data;
use crate::engine::Engine;
use crate::middleware::{PublishIn, PublishOut};
use crate::output::{Level, TicketId};
use crate::reply::Block;
use crate::socket::{Socket, SocketId, Subscription, Want};

/// A publish on its way to its broker and back.
#[derive(Debug)]
pub(crate) struct Publish {
    /// The `#publish` frame as every subscriber gets it, encoded once.
    frame: Bytes,
    /// The channel, if this worker had subscribers when the publish was made: number and generation.
    channel: Option<(u32, u32)>,
    pub(crate) origin: Origin,
}

#[derive(Debug)]
pub(crate) enum Origin {
    Client { socket: SocketId, want: Want, ack: Option<Box<str>> },
    Application(Option<TicketId>),
}

/// Names the channel whose interest the broker confirms: number and generation.
pub(crate) type Waiter = (u32, u32);

impl<S, P> Core<S, P> {
    /// Subscribes a socket. The ack waits for the broker, so that what is published after it arrives.
    pub(crate) fn join(&mut self, id: SocketId, name: &str, want: Want, batch: bool) -> Result<(), ScError> {
        let Some(socket) = self.socket(id) else { return Ok(()) };
        let known =
            self.channels.find(name).and_then(|channel| socket.subscription(channel).ok().map(|at| (channel, at)));
        if let Some((channel, at)) = known {
            let pending = socket.subscriptions[at].place == Subscription::PENDING;
            match self.channels.get_mut(channel) {
                Some(entry) if pending => entry.waiting.push(Pending { socket: id, want, batch }),
                _ => self.subscribed(id, &want, batch),
            }
            return Ok(());
        }
        let (limit, version) = (self.config.socket_channel_limit, socket.version());
        if socket.subscriptions.len() >= limit {
            return Err(ScError::channel_limit(&socket.id(), name, limit, version));
        }
        let (channel, new) = self.channels.intern(name);
        let Some(entry) = self.channels.get_mut(channel) else { return Ok(()) };
        let (live, generation) = (entry.live, entry.generation);
        entry.waiting.push(Pending { socket: id, want, batch });
        if let Some(socket) = self.socket_mut(id)
            && let Err(at) = socket.subscription(channel)
        {
            socket.subscriptions.insert(at, Subscription { channel, place: Subscription::PENDING });
        }
        if live {
            self.admit(channel);
        } else if new {
            self.exchange.subscribe(name, (channel, generation));
        }
        Ok(())
    }

    /// The broker has the interest: everybody who waited is subscribed and answered.
    fn admit(&mut self, channel: u32) {
        let Some(entry) = self.channels.get_mut(channel) else { return };
        entry.live = true;
        for Pending { socket: id, want, batch } in std::mem::take(&mut entry.waiting) {
            self.place(id, channel);
            self.subscribed(id, &want, batch);
        }
    }

    /// The ack of a `#subscribe`, by itself or with others.
    fn subscribed(&mut self, id: SocketId, want: &Want, batch: bool) {
        match want {
            Some(cid) if batch => self.add_to_batch(id, |out| write::response(out, cid, None, None)),
            want => self.respond(id, want.as_ref(), Ok(None)),
        }
    }

    fn place(&mut self, id: SocketId, channel: u32) {
        let Some(socket) = self.sockets.get_mut(id.slot as usize).and_then(Option::as_mut) else { return };
        if socket.generation != id.generation {
            return;
        }
        let (Ok(at), Some(entry)) = (socket.subscription(channel), self.channels.get_mut(channel)) else { return };
        let subscription = &mut socket.subscriptions[at];
        if subscription.place == Subscription::PENDING {
            subscription.place = entry.subscribers.len() as u32;
            entry.subscribers.push(id.slot);
        }
    }

    /// Unsubscribes a socket; answers whether it was subscribed.
    pub(crate) fn part(&mut self, id: SocketId, name: &str) -> bool {
        let Some(channel) = self.channels.find(name) else { return false };
        let Some(socket) = self.socket_mut(id) else { return false };
        let Ok(at) = socket.subscription(channel) else { return false };
        let subscription = socket.subscriptions.remove(at);
        self.leave(id, subscription);
        true
    }

    /// Takes a socket off a channel's list. A `#subscribe` that still waits is answered first: its ack comes before that
    /// of the `#unsubscribe`.
    pub(crate) fn leave(&mut self, id: SocketId, Subscription { channel, place }: Subscription) {
        let Some(entry) = self.channels.get_mut(channel) else { return };
        if place == Subscription::PENDING {
            let waiting = std::mem::take(&mut entry.waiting);
            let (own, others): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|pending| pending.socket == id);
            entry.waiting = others;
            for Pending { want, batch, .. } in own {
                self.subscribed(id, &want, batch);
            }
        } else {
            let place = place as usize;
            debug_assert_eq!(entry.subscribers.get(place), Some(&id.slot), "a subscription knows its place");
            entry.subscribers.swap_remove(place);
            if let Some(&moved) = entry.subscribers.get(place)
                && let Some(socket) = self.sockets.get_mut(moved as usize).and_then(Option::as_mut)
                && let Ok(at) = socket.subscription(channel)
            {
                socket.subscriptions[at].place = place as u32;
            }
        }
        if let Some(name) = self.channels.forget_if_empty(channel) {
            self.exchange.unsubscribe(&name);
        }
    }

    /// Puts a publish into the batches of those receivers that have everything batched, and takes them off the list.
    fn take_into_batches(&mut self, frame: &Bytes, slots: &mut Vec<u32>) {
        slots.retain(|&slot| {
            let Some(id) = self.id_of(slot).filter(|&id| self.socket(id).is_some_and(Socket::batches_all)) else {
                return true;
            };
            let packet = self.packet_of(frame).into_owned();
            self.add_to_batch(id, |out| out.extend_from_slice(packet.as_bytes()));
            false
        });
    }

    fn publish_frame(&mut self, channel: &str, data: Option<&str>) -> Bytes {
        self.frame(|out| {
            write::publish(out, channel, data);
        })
    }

    /// Sends a publish to its channel's broker. The frame for the subscribers is encoded here, once.
    fn send_publish(&mut self, channel: &str, data: Option<&str>, origin: Origin) -> Result<(), ScError> {
        let known =
            self.channels.find(channel).and_then(|at| self.channels.get(at).map(|entry| (at, entry.generation)));
        let frame = self.publish_frame(channel, data);
        if frame.is_empty() {
            return Err(ScError::invalid_message("The data cannot be written in this codec"));
        }
        self.counters.publishes_total += 1;
        let publish = Publish { frame, channel: known, origin };
        self.exchange.publish(channel, data, publish).map_err(|(error, _)| error)
    }

    pub(crate) fn publish_from_application(
        &mut self,
        channel: &str,
        data: Option<&str>,
        ticket: Option<TicketId>,
    ) -> Result<(), ScError> {
        self.send_publish(channel, data, Origin::Application(ticket))
    }
}

impl<S: Send + 'static, P: Default + Send + 'static> Engine<S, P> {
    /// Something that the exchange has to tell.
    pub(crate) fn exchange_event(&mut self, event: ExchangeEvent<'_, Publish, Waiter>) {
        match event {
            ExchangeEvent::Deliver { channel, data } => {
                let Some(at) = self.core.channels.find(channel) else { return };
                let entry = self.core.channels.get(at);
                if entry.is_some_and(|entry| !entry.subscribers.is_empty()) {
                    let frame = self.core.publish_frame(channel, data);
                    self.deliver(at, frame, data);
                }
                if self.core.channels.get(at).is_some_and(|entry| entry.watched) {
                    self.run_watchers(channel, data);
                }
            }
            ExchangeEvent::Published { pending, deliver } => self.published(pending, deliver),
            ExchangeEvent::PublishFailed { pending, error } => self.publish_failed(pending, error),
            ExchangeEvent::Subscribed { waiter: (channel, generation) } => {
                if self.core.channels.get(channel).is_some_and(|entry| entry.generation == generation) {
                    self.core.admit(channel);
                }
            }
            ExchangeEvent::SubscribeFailed { waiter: (channel, generation), error } => {
                self.subscribe_failed(channel, generation, error);
            }
            ExchangeEvent::Answered { number, data } => {
                let data = Data::from_raw(data).into_owned();
                self.core.broker_answered(number, Ok(data));
            }
            ExchangeEvent::CallFailed { number, error } => {
                self.core.broker_answered(number, Err(error));
            }
        }
    }

    /// A publish of this worker has its place in the channel's order: it is delivered to the own subscribers and
    /// acknowledged; in protocol 2 the ack comes first.
    fn published(&mut self, publish: Publish, deliver: bool) {
        let Publish { frame, channel, origin } = publish;
        let version = match &origin {
            Origin::Client { socket, .. } => self.core.socket(*socket).map_or(Version::V1, Socket::version),
            Origin::Application(_) => Version::V1,
        };
        if version == Version::V2 {
            self.acknowledge(origin, Ok(()));
            self.deliver_own(frame, channel, deliver);
        } else {
            self.deliver_own(frame, channel, deliver);
            self.acknowledge(origin, Ok(()));
        }
    }

    fn publish_failed(&mut self, publish: Publish, error: ScError) {
        self.acknowledge(publish.origin, Err(error));
    }

    fn acknowledge(&mut self, origin: Origin, result: Result<(), ScError>) {
        match origin {
            Origin::Client { socket, want, ack } => {
                let result = result.as_ref().map(|()| ack.as_deref());
                self.core.respond(socket, want.as_ref(), result);
            }
            Origin::Application(Some(ticket)) => self.core.tasks.push_back(Task::Published(ticket, result)),
            Origin::Application(None) => {}
        }
    }

    fn deliver_own(&mut self, frame: Bytes, channel: Option<(u32, u32)>, deliver: bool) {
        if !deliver {
            return;
        }
        let same = |&(at, generation): &(u32, u32)| {
            self.core.channels.get(at).is_some_and(|entry| entry.generation == generation)
        };
        let at = match channel.filter(same) {
            Some((at, _)) => Some(at),
            // The channel came, or came anew, while the publish waited for its broker.
            None => publish_members(&self.core.packet_of(&frame)).and_then(|(name, _)| self.core.channels.find(&name)),
        };
        let Some(at) = at else { return };
        let watched = self.core.channels.get(at).is_some_and(|entry| entry.watched);
        if self.routes.publish_out.is_empty() && !watched {
            return self.deliver_shared(at, frame);
        }
        let packet = self.core.packet_of(&frame);
        let Some((name, data)) = publish_members(&packet) else { return };
        let data = data.map(str::to_owned);
        drop(packet);
        self.deliver(at, frame, data.as_deref());
        if watched {
            self.run_watchers(&name, data.as_deref());
        }
    }

    fn deliver(&mut self, channel: u32, frame: Bytes, data: Option<&str>) {
        if self.routes.publish_out.is_empty() {
            self.deliver_shared(channel, frame);
        } else {
            self.deliver_filtered(channel, frame, &Data::from_raw(data));
        }
    }

    /// The common case: one frame, one list of slots, nothing looked at in between.
    fn deliver_shared(&mut self, channel: u32, frame: Bytes) {
        let mut slots = self.core.recipients();
        if let Some(entry) = self.core.channels.get(channel) {
            slots.extend_from_slice(&entry.subscribers);
        }
        self.core.counters.deliveries_total += slots.len() as u64;
        if self.core.batching > 0 {
            self.core.take_into_batches(&frame, &mut slots);
        }
        self.core.fanout(frame, slots);
    }

    fn deliver_filtered(&mut self, channel: u32, frame: Bytes, data: &Data<'_>) {
        let Some(entry) = self.core.channels.get(channel) else { return };
        let (name, receivers) = (std::sync::Arc::clone(&entry.name), entry.subscribers.clone());
        let mut slots = self.core.recipients();
        let parsed = OnceCell::new();
        for slot in receivers {
            let Some(socket) = self.core.id_of(slot) else { continue };
            match self.publish_out(socket, &name, data, &parsed) {
                Err(_) => self.core.counters.blocked_total += 1,
                Ok(None) => slots.push(slot),
                Ok(Some(replacement)) => {
                    self.core.counters.deliveries_total += 1;
                    self.core.send(socket, |out| {
                        write::publish(out, &name, replacement.json());
                    });
                }
            }
        }
        self.core.counters.deliveries_total += slots.len() as u64;
        if self.core.batching > 0 {
            self.core.take_into_batches(&frame, &mut slots);
        }
        self.core.fanout(frame, slots);
    }

    /// Runs the filters for one receiver: blocked, passed, or passed with something else in its place.
    fn publish_out(
        &mut self,
        socket: SocketId,
        channel: &str,
        data: &Data<'_>,
        parsed: &OnceCell<serde_json::Value>,
    ) -> Result<Option<Data<'static>>, Block> {
        let routes = std::sync::Arc::clone(&self.routes);
        let auth = self.core.token(socket);
        let mut request = PublishOut { socket, channel, data, auth, parsed, replacement: None };
        for filter in &routes.publish_out {
            self.guard(Some(socket), "publish_out", |_, state, core| filter(state, &mut Cx::new(core), &mut request))
                .unwrap_or(Err(Block::Silent))?;
        }
        Ok(request.replacement)
    }

    fn subscribe_failed(&mut self, channel: u32, generation: u32, error: ScError) {
        let Some(entry) = self.core.channels.get_mut(channel).filter(|entry| entry.generation == generation) else {
            return;
        };
        let name = std::sync::Arc::clone(&entry.name);
        let watched = std::mem::take(&mut entry.watched);
        for Pending { socket: id, want, .. } in std::mem::take(&mut entry.waiting) {
            if let Some(socket) = self.core.socket_mut(id)
                && let Ok(at) = socket.subscription(channel)
            {
                socket.subscriptions.remove(at);
            }
            let message = format!("Failed to subscribe socket to the {name} channel - {}", error.message());
            self.core.respond(id, want.as_ref(), Err(&ScError::broker(message)));
        }
        if watched {
            self.core.report(Level::Error, "BrokerError", format!("{name} is not watched: {}", error.message()));
        }
        self.core.channels.forget_if_empty(channel);
    }

    /// All middleware has passed a client's publish: it goes to its broker.
    pub(crate) fn accept_publish(&mut self, request: PublishIn<'_>, want: Want) {
        let ack = request.ack.json().map(Box::from);
        let origin = Origin::Client { socket: request.socket, want: want.clone(), ack };
        if let Err(error) = self.core.send_publish(&request.channel, request.data.json(), origin) {
            self.core.respond(request.socket, want.as_ref(), Err(&error));
        }
    }
}

/// Channel and data of a `#publish` of our own.
fn publish_members(packet: &str) -> Option<(String, Option<&str>)> {
    let [data] = json::object(packet, ["data"])?;
    let [channel, data] = json::object(data?, ["channel", "data"])?;
    Some((json::string(channel?)?.into_owned(), data))
}
