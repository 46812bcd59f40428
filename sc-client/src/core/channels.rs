//! Subscriptions, which outlive connections.

use std::sync::Arc;
use std::time::Instant;

use sc_protocol::ScError;
use sc_protocol::packet::write;
use serde_json::json;

use super::outbound::{Kind, Sent};
use super::{ClientCore, Phase};
use crate::output::{ChannelChange, Output};

/// What a subscription is to be like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// Subscribe only while authenticated, and again whenever the client becomes so. Default false.
    pub wait_for_auth: bool,
    /// JSON text for the server's subscribe middleware.
    pub data: Option<String>,
    /// After a connection is made, channels with a higher priority are subscribed first. Default 0.
    pub priority: i32,
    /// Collect the packet into a batch, and ask the server to do so with its answer (SocketCluster 8 and later).
    pub batch: bool,
}

/// Where a channel stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelState {
    /// The application does not want it, or the server does not let it.
    Unsubscribed,
    /// It is to be subscribed, or about to be.
    Pending,
    /// The server took the subscription.
    Subscribed,
}

/// The channels that an application wants, by name.
#[derive(Debug, Default)]
pub(super) struct Channels {
    sorted: Vec<Channel>,
    last: u64,
}

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) name: Arc<str>,
    options: Option<Box<SubscribeOptions>>,
    /// The how-manieth it is, so that subscriptions go out in the order in which they were made.
    number: u64,
    subscribed: bool,
    /// The `#subscribe` that is under way.
    cid: Option<u64>,
}

impl Channels {
    fn place(&self, name: &str) -> Result<usize, usize> {
        self.sorted.binary_search_by(|channel| (*channel.name).cmp(name))
    }

    pub(super) fn get(&self, name: &str) -> Option<&Channel> {
        self.place(name).ok().map(|place| &self.sorted[place])
    }

    fn get_mut(&mut self, name: &str) -> Option<&mut Channel> {
        self.place(name).ok().map(|place| &mut self.sorted[place])
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<Channel> {
        self.place(name).ok().map(|place| self.sorted.remove(place))
    }
}

impl Channel {
    fn waits_for_auth(&self) -> bool {
        self.options.as_ref().is_some_and(|options| options.wait_for_auth)
    }

    fn priority(&self) -> i32 {
        self.options.as_ref().map_or(0, |options| options.priority)
    }
}

impl ClientCore {
    /// Subscribes to a channel, now or as soon as there is a connection (and, if asked for, authentication), and again after
    /// each loss of it. The news come as [`Output::Channel`]. A channel that is subscribed or pending keeps its options:
    /// nothing happens.
    pub fn subscribe(&mut self, now: Instant, channel: &str, options: &SubscribeOptions) {
        let Err(place) = self.channels.place(channel) else { return };
        self.channels.last += 1;
        let options = (*options != SubscribeOptions::default()).then(|| Box::new(options.clone()));
        let number = self.channels.last;
        let name: Arc<str> = channel.into();
        self.channels
            .sorted
            .insert(place, Channel { name: name.clone(), options, number, subscribed: false, cid: None });
        self.on_demand(now);
        self.send_subscribe(now, &name);
        self.check_invariants();
    }

    /// Unsubscribes from a channel. Messages that are still on their way are dropped.
    pub fn unsubscribe(&mut self, now: Instant, channel: &str) {
        let Some(channel) = self.channels.remove(channel) else { return };
        let sent = channel.subscribed || channel.cid.is_some();
        self.forget_subscribe(&channel);
        let change = ChannelChange::Unsubscribed;
        self.push(Output::Channel { channel: channel.name.clone(), change });
        if sent && matches!(self.phase, Phase::Open(_)) {
            let batch = channel.options.as_ref().is_some_and(|options| options.batch);
            self.before_subscription(now, batch);
            let name = json!(format!("{}{}", self.config.channel_prefix, channel.name)).to_string();
            self.send_packet(batch, |out| write::event(out, "#unsubscribe", Some(&name), None));
        }
        self.check_invariants();
    }

    /// Where a channel stands.
    #[must_use]
    pub fn channel_state(&self, channel: &str) -> ChannelState {
        match self.channels.get(channel) {
            None => ChannelState::Unsubscribed,
            Some(channel) if channel.subscribed => ChannelState::Subscribed,
            Some(_) => ChannelState::Pending,
        }
    }

    /// The names of the channels that are subscribed or pending, sorted.
    pub fn channels(&self) -> impl Iterator<Item = &str> {
        self.channels.sorted.iter().map(|channel| &*channel.name)
    }

    /// Subscribes what is pending: by priority, then in the order in which the application asked for it.
    pub(super) fn subscribe_pending(&mut self, now: Instant) {
        let pending = self.channels.sorted.iter().filter(|channel| !channel.subscribed && channel.cid.is_none());
        let mut pending: Vec<_> =
            pending.map(|channel| (-i64::from(channel.priority()), channel.number, channel.name.clone())).collect();
        pending.sort_unstable();
        for (.., name) in pending {
            self.send_subscribe(now, &name);
        }
    }

    fn send_subscribe(&mut self, now: Instant, name: &Arc<str>) {
        if !matches!(self.phase, Phase::Open(_)) {
            return;
        }
        let authenticated = self.authenticated;
        let Some(channel) = self.channels.get_mut(name) else { return };
        if channel.subscribed || channel.cid.is_some() || (channel.waits_for_auth() && !authenticated) {
            return;
        }
        let sent = Sent { call: None, deadline: None, kind: Kind::Subscribe(name.clone()) };
        let Ok(cid) = self.acks.insert(usize::MAX, sent, None) else { return };
        channel.cid = Some(cid);
        let mut data = json!({ "channel": format!("{}{name}", self.config.channel_prefix) }).to_string();
        let mut batch = false;
        if let Some(options) = &channel.options {
            batch = options.batch;
            data.pop();
            if options.wait_for_auth {
                data.push_str(",\"waitForAuth\":true");
            }
            if let Some(json) = &options.data {
                data.push_str(",\"data\":");
                data.push_str(json);
            }
            if options.batch {
                data.push_str(",\"batch\":true");
            }
            data.push('}');
        }
        self.before_subscription(now, batch);
        self.send_packet(batch, |out| write::event(out, "#subscribe", Some(&data), Some(cid)));
    }

    pub(super) fn subscribe_answered(&mut self, name: &str, error: Option<ScError>) {
        let authenticated = self.authenticated;
        let Some(channel) = self.channels.get_mut(name) else { return };
        channel.cid = None;
        let channel_name = channel.name.clone();
        let change = match error {
            None => {
                channel.subscribed = true;
                ChannelChange::Subscribed
            }
            Some(error) => {
                // Refused for want of authentication: it stays pending until there is some.
                if !channel.waits_for_auth() || authenticated {
                    self.channels.remove(name);
                }
                ChannelChange::Failed(error)
            }
        };
        self.push(Output::Channel { channel: channel_name, change });
    }

    /// The answer of a `#subscribe` that is under way is of no interest any more.
    pub(super) fn forget_subscribe(&mut self, channel: &Channel) {
        if let Some(cid) = channel.cid {
            self.acks.take(cid);
        }
    }

    /// The connection is gone: what was subscribed is to be subscribed again.
    pub(super) fn channels_lost(&mut self) {
        let mut lost = Vec::new();
        for channel in &mut self.channels.sorted {
            channel.cid = None;
            if std::mem::take(&mut channel.subscribed) {
                lost.push((channel.number, channel.name.clone()));
            }
        }
        lost.sort_unstable();
        for (_, channel) in lost {
            self.push(Output::Channel { channel, change: ChannelChange::Pending });
        }
    }
}
