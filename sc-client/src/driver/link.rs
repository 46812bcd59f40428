//! A client as the driver has it: its core, and everybody who waits for something of it.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sc_protocol::ScError;
use sc_protocol::wheel::TimerId;

use super::builder::Plan;
use super::entropy::ThreadEntropy;
use super::feed::Sender;
use super::handle::View;
use super::pending::Resolver;
use super::streams::{Arrived, Event};
use crate::core::{ChannelState, ClientCore, SubscribeOptions};
use crate::data::{Data, Token};
use crate::output::{CallId, ChannelChange, Output, Raw, ReplyId, State};
use crate::{CloseCode, to_json};

/// What a handle wants of its client.
#[derive(Debug)]
pub(super) enum Op {
    Call {
        event: Box<str>,
        data: Option<String>,
        timeout: Option<Duration>,
        resolver: Resolver,
    },
    Transmit {
        event: Box<str>,
        data: Option<String>,
    },
    Publish {
        channel: Box<str>,
        data: Option<String>,
        resolver: Resolver,
    },
    Authenticate {
        token: Token,
        resolver: Resolver,
    },
    Deauthenticate,
    Raw(Raw),
    Respond {
        reply: ReplyId,
        result: Result<Option<String>, ScError>,
    },
    Subscribe {
        channel: Arc<str>,
        options: Box<SubscribeOptions>,
        number: u64,
        sender: Sender<Data>,
    },
    /// One subscription, or all of the channel.
    Unsubscribe {
        channel: Arc<str>,
        number: Option<u64>,
    },
    AwaitChannel {
        channel: Arc<str>,
        resolver: Resolver,
    },
    Listen {
        event: Option<Box<str>>,
        sender: Sender<Arrived>,
    },
    Events(Sender<Event>),
    Connected(Resolver),
    Connect,
    Disconnect {
        code: CloseCode,
        reason: Box<str>,
    },
    Batching(bool),
    Close(Resolver),
    /// The last handle is gone.
    Gone,
}

/// What a core wants of its transport.
#[derive(Debug)]
pub(super) enum Wire {
    Connect,
    Transmit(Bytes),
    Close,
}

pub(super) struct Link {
    pub(super) id: u64,
    /// Tells timers and lookups of this client from those of an earlier one in the same place.
    pub(super) serial: u64,
    pub(super) plan: Arc<Plan>,
    pub(super) core: ClientCore,
    pub(super) transport: Option<usize>,
    /// Counts attempts to open a transport; a lookup is for one of them.
    pub(super) attempt: u64,
    pub(super) addresses: VecDeque<SocketAddr>,
    pub(super) timer: Option<(Instant, TimerId)>,
    pub(super) congested: bool,
    /// It ends as soon as nothing is outstanding.
    pub(super) closing: bool,
    pub(super) closed: Vec<Resolver>,
    view: Arc<View>,
    calls: VecDeque<(CallId, Resolver)>,
    channels: HashMap<Arc<str>, Vec<(u64, Sender<Data>)>>,
    awaits_channel: Vec<(Arc<str>, Resolver)>,
    awaits_open: Vec<Resolver>,
    /// Why the client is closed and stays so: for those who ask only then.
    ended: Option<ScError>,
    listeners: Vec<(Option<Box<str>>, Sender<Arrived>)>,
    events: Vec<Sender<Event>>,
}

impl Link {
    pub(super) fn new(id: u64, serial: u64, plan: Plan, view: Arc<View>, now: Instant) -> Self {
        let mut core = ClientCore::new(plan.config.clone(), Box::new(ThreadEntropy), now);
        core.set_stored_token(plan.token.clone());
        Self {
            id,
            serial,
            core,
            plan: Arc::new(plan),
            transport: None,
            attempt: 0,
            addresses: VecDeque::new(),
            timer: None,
            congested: false,
            closing: false,
            closed: Vec::new(),
            view,
            calls: VecDeque::new(),
            channels: HashMap::new(),
            awaits_channel: Vec::new(),
            awaits_open: Vec::new(),
            ended: None,
            listeners: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Does what a handle wants, as far as the core is concerned.
    pub(super) fn apply(&mut self, now: Instant, op: Op) {
        match op {
            Op::Call { event, data, timeout, resolver } => {
                let call = self.core.call(now, &event, data.as_deref(), timeout);
                self.calls.push_back((call, resolver));
            }
            Op::Transmit { event, data } => self.core.transmit(now, &event, data.as_deref()),
            Op::Publish { channel, data, resolver } => {
                let call = self.core.publish(now, &channel, data.as_deref());
                self.calls.push_back((call, resolver));
            }
            Op::Authenticate { token, resolver } => {
                let call = self.core.authenticate(now, &token);
                self.calls.push_back((call, resolver));
            }
            Op::Deauthenticate => self.core.deauthenticate(now),
            Op::Raw(message) => self.core.send_raw(now, message),
            Op::Respond { reply, result } => {
                let result = result.as_ref().map(Option::as_deref);
                self.core.respond(now, &reply, result);
            }
            Op::Subscribe { channel, options, number, sender } => {
                self.channels.entry(channel.clone()).or_default().push((number, sender));
                self.core.subscribe(now, &channel, &options);
            }
            Op::Unsubscribe { channel, number } => self.unsubscribe(now, &channel, number),
            Op::AwaitChannel { channel, resolver } => match self.core.channel_state(&channel) {
                ChannelState::Subscribed => resolver.resolve(Ok(Data::absent())),
                ChannelState::Pending => self.awaits_channel.push((channel, resolver)),
                ChannelState::Unsubscribed => resolver.resolve(Err(not_subscribed(&channel))),
            },
            Op::Listen { event, sender } => self.listeners.push((event, sender)),
            Op::Events(sender) => self.events.push(sender),
            Op::Connected(resolver) => match self.core.state() {
                State::Open => resolver.resolve(Ok(Data::absent())),
                State::Connecting => self.awaits_open.push(resolver),
                State::Closed if self.core.poll_timeout().is_some() => self.awaits_open.push(resolver),
                State::Closed => resolver.resolve(Err(self.ended.clone().unwrap_or_else(closed))),
            },
            Op::Connect => self.core.connect(now),
            Op::Disconnect { code, reason } => self.core.disconnect(now, code, &reason),
            Op::Batching(true) => self.core.start_batching(now),
            Op::Batching(false) => self.core.stop_batching(now),
            Op::Close(resolver) => {
                self.closing = true;
                self.closed.push(resolver);
            }
            Op::Gone => self.closing = true,
        }
    }

    fn unsubscribe(&mut self, now: Instant, channel: &Arc<str>, number: Option<u64>) {
        let Some(senders) = self.channels.get_mut(channel) else { return };
        if let Some(number) = number {
            senders.retain(|(own, _)| *own != number);
        } else {
            senders.clear();
        }
        if senders.is_empty() {
            self.channels.remove(channel);
            self.core.unsubscribe(now, channel);
        }
    }

    /// The core's next wish for its transport; everything else that it puts out on the way is dealt with.
    pub(super) fn next_wire(&mut self) -> Option<Wire> {
        // Before anybody is woken who would look.
        self.show();
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Connect => {
                    self.load_token();
                    return Some(Wire::Connect);
                }
                Output::Transmit(bytes) => return Some(Wire::Transmit(bytes)),
                Output::Close => return Some(Wire::Close),
                Output::SaveToken(token) => self.save_token(token.as_ref()),
                Output::Answer(call, result) => {
                    // Calls have growing numbers, and are mostly answered in order.
                    if let Ok(place) = self.calls.binary_search_by_key(&call, |(call, _)| *call)
                        && let Some((_, resolver)) = self.calls.remove(place)
                    {
                        resolver.resolve(result);
                    }
                }
                Output::Message { channel, data } => self.message(&channel, &data),
                Output::Channel { channel, change } => self.channel_changed(channel, change),
                Output::Event { name, data, reply } => self.arrived(Arrived { name, data, reply }),
                Output::Raw(message) => self.tell(Event::Raw(message)),
                Output::Connecting => self.tell(Event::Connecting),
                Output::Connected(connected) => {
                    tracing::debug!(client = self.id, socket = %connected.id, "connected");
                    self.awaits_open.drain(..).for_each(|resolver| resolver.resolve(Ok(Data::absent())));
                    self.tell(Event::Connected(connected));
                }
                Output::Disconnected(end) => {
                    tracing::debug!(client = self.id, code = end.code.0, reason = %end.reason, retry = ?end.retry_in, "disconnected");
                    if end.retry_in.is_none() {
                        let error = end.to_error().unwrap_or_else(closed);
                        self.ended = Some(error.clone());
                        self.awaits_open.drain(..).for_each(|resolver| resolver.resolve(Err(error.clone())));
                    }
                    self.tell(Event::Disconnected(end));
                }
                Output::AuthState(token) => self.tell(Event::AuthState(token)),
            }
        }
        if self.calls.is_empty() && self.calls.capacity() > 64 {
            self.calls = VecDeque::new();
        }
        None
    }

    fn show(&self) {
        let (state, core) = (self.core.state(), &self.core);
        self.view.set(|known| {
            known.open = state == State::Open;
            known.connecting = state == State::Connecting;
            known.authenticated = core.is_authenticated();
            known.version = core.version();
            if *known.id != *core.id() {
                known.id = core.id().into();
            }
            if known.token.as_ref() != core.token() {
                known.token = core.token().cloned();
            }
        });
    }

    fn message(&self, channel: &Arc<str>, data: &Data) {
        // Those whose readers are gone have said so, and are taken out then.
        for (_, sender) in self.channels.get(channel).into_iter().flatten() {
            sender.send(data.clone());
        }
    }

    fn arrived(&mut self, event: Arrived) {
        self.listeners.retain(|(_, sender)| !sender.is_gone());
        let wanted = |name: &Option<Box<str>>| name.as_ref().is_none_or(|name| *name == event.name);
        for (_, sender) in self.listeners.iter().filter(|(name, _)| wanted(name)) {
            sender.send(event.clone());
        }
    }

    fn tell(&mut self, event: Event) {
        self.events.retain(|sender| sender.send(event.clone()));
    }

    fn channel_changed(&mut self, channel: Arc<str>, change: ChannelChange) {
        let result = match &change {
            ChannelChange::Subscribed => Some(Ok(Data::absent())),
            ChannelChange::Failed(error) => Some(Err(error.clone())),
            ChannelChange::Kicked(message) => Some(Err(kicked(&channel, message))),
            ChannelChange::Unsubscribed => Some(Err(not_subscribed(&channel))),
            ChannelChange::Pending => None,
        };
        if let Some(result) = result {
            if let Err(error) = &result
                && self.core.channel_state(&channel) == ChannelState::Unsubscribed
            {
                let error = (!matches!(change, ChannelChange::Unsubscribed)).then_some(error);
                for (_, sender) in self.channels.remove(&channel).into_iter().flatten() {
                    sender.end(error.cloned());
                }
            }
            let awaits = std::mem::take(&mut self.awaits_channel);
            for (name, resolver) in awaits {
                if name == channel {
                    resolver.resolve(result.clone());
                } else {
                    self.awaits_channel.push((name, resolver));
                }
            }
        }
        self.tell(Event::Channel { channel, change });
    }

    fn load_token(&mut self) {
        if let Some((store, name)) = &self.plan.store
            && let Some(token) = store.load(name)
        {
            self.core.set_stored_token(Some(token));
        }
    }

    fn save_token(&self, token: Option<&Token>) {
        if let Some((store, name)) = &self.plan.store
            && let Err(error) = store.save(name, token)
        {
            tracing::warn!(client = self.id, %error, "the token could not be saved");
        }
    }
}

fn closed() -> ScError {
    ScError::new("BadConnectionError", "The client is closed")
}

fn not_subscribed(channel: &str) -> ScError {
    ScError::new("BrokerError", format!("The client is not subscribed to the {channel} channel"))
}

fn kicked(channel: &str, message: &Data) -> ScError {
    let text = message.parse::<String>().or_else(|_| to_json(&channel)).unwrap_or_default();
    ScError::new("KickedOutError", text).with("channel", channel)
}
