//! What has to hold, held against what clients see. It knows clients and brokers only from outside.

use std::collections::{BTreeMap, BTreeSet};

use sc_protocol::Version;

/// One connection of one client, from its handshake's ack to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionId(usize);

/// Who publishes: a client itself, or the application for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    Client,
    Application,
}

#[derive(Debug)]
struct Publish {
    channel: String,
    session: SessionId,
    by: By,
    acked: bool,
    /// Who was subscribed when it was sent, and has to get it if it is acknowledged and they stay.
    due: Vec<(SessionId, u64)>,
}

#[derive(Debug, Default)]
struct Channel {
    /// The last word of the server on it was the ack of a subscription.
    confirmed: bool,
    /// Counts what ends a subscription.
    epoch: u64,
    /// Requests to leave that are on their way.
    leaving: u32,
    got: BTreeSet<u64>,
    last: Option<(u64, u64)>,
}

#[derive(Debug)]
struct Session {
    client: usize,
    open: bool,
    /// Known to the server as well, so that its order can be relied on.
    version: Option<Version>,
    channels: BTreeMap<String, Channel>,
}

/// The place of each message in its channel's order, as the broker read them.
#[derive(Debug, Default)]
struct Order {
    place: BTreeMap<u64, u64>,
    last_of: BTreeMap<(SessionId, By), u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    violation: Option<String>,
    sessions: Vec<Session>,
    publishes: BTreeMap<u64, Publish>,
    orders: BTreeMap<String, Order>,
    next_id: u64,
    pub(crate) delivered: u64,
    pub(crate) acked: u64,
    pub(crate) failed: u64,
}

impl Model {
    /// Something that must not be. The first one counts.
    pub(crate) fn fail(&mut self, what: impl Into<String>) {
        self.violation.get_or_insert_with(|| what.into());
    }

    pub(crate) fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.fail(what());
        }
    }

    pub(crate) fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    /// `version`: `None` if the server may take it for another, and its order is not to be relied on.
    pub(crate) fn opened(&mut self, client: usize, version: Option<Version>) -> SessionId {
        self.sessions.push(Session { client, open: true, version, channels: BTreeMap::new() });
        SessionId(self.sessions.len() - 1)
    }

    pub(crate) fn closed(&mut self, session: SessionId) {
        self.sessions[session.0].open = false;
    }

    fn channel(&mut self, session: SessionId, channel: &str) -> &mut Channel {
        self.sessions[session.0].channels.entry(channel.to_owned()).or_default()
    }

    pub(crate) fn subscribed(&mut self, session: SessionId, channel: &str) {
        self.channel(session, channel).confirmed = true;
    }

    /// A request to leave goes out: nothing is owed from now on.
    pub(crate) fn leaves(&mut self, session: SessionId, channel: &str) {
        let channel = self.channel(session, channel);
        channel.epoch += 1;
        channel.leaving += 1;
    }

    /// The server's word that the subscription is over.
    pub(crate) fn left(&mut self, session: SessionId, channel: &str) {
        let state = self.channel(session, channel);
        state.confirmed = false;
        let asked = state.leaving > 0;
        state.leaving = state.leaving.saturating_sub(1);
        self.check(asked, || format!("{session:?} was taken off {channel} and had not asked for it"));
    }

    /// The channels that a session is subscribed to, sorted; `None` while one of them is in question.
    pub(crate) fn subscriptions(&self, session: SessionId) -> Vec<String> {
        let channels = self.sessions[session.0].channels.iter();
        channels.filter(|(_, state)| state.confirmed).map(|(name, _)| name.clone()).collect()
    }

    /// A client sends a publish; answers its number.
    pub(crate) fn publishes(&mut self, session: SessionId, channel: &str, by: By) -> u64 {
        self.next_id += 1;
        let id = self.next_id;
        let due = self.sessions.iter().enumerate().filter(|(_, other)| other.open);
        let due = due.filter_map(|(at, other)| {
            let state = other.channels.get(channel).filter(|state| state.confirmed && state.leaving == 0)?;
            Some((SessionId(at), state.epoch))
        });
        let due = due.collect();
        self.publishes.insert(id, Publish { channel: channel.to_owned(), session, by, acked: false, due });
        id
    }

    /// A broker reads a publish: this is its place.
    pub(crate) fn placed(&mut self, channel: &str, id: u64) {
        let Some(publish) = self.publishes.get(&id) else { return self.fail(format!("nobody published {id}")) };
        let key = (publish.session, publish.by);
        if publish.channel != channel {
            return self.fail(format!("{id} was published on {} and not on {channel}", publish.channel));
        }
        let order = self.orders.entry(channel.to_owned()).or_default();
        let place = order.place.len() as u64;
        let twice = order.place.insert(id, place).is_some();
        let before = order.last_of.insert(key, id);
        self.check(!twice, || format!("{id} reached a broker twice"));
        self.check(before.is_none_or(|before| before < id), || {
            format!("{id} on {channel} overtook the later {} of its publisher", before.unwrap_or_default())
        });
    }

    /// A client gets a message.
    pub(crate) fn delivers(&mut self, session: SessionId, channel: &str, id: u64) {
        self.delivered += 1;
        let Some(&place) = self.orders.get(channel).and_then(|order| order.place.get(&id)) else {
            return self.fail(format!("{session:?} got {id} on {channel}, which no broker has seen"));
        };
        let client = self.sessions[session.0].client;
        let state = self.channel(session, channel);
        let (confirmed, fresh, last) = (state.confirmed, state.got.insert(id), state.last.replace((place, id)));
        self.check(confirmed, || format!("client {client} got {id} on {channel} without a subscription"));
        self.check(fresh, || format!("client {client} got {id} on {channel} twice"));
        if let Some((before, earlier)) = last {
            self.check(!fresh || before < place, || {
                format!("client {client} got {id} on {channel} behind {earlier}, which is later in the channel's order")
            });
        }
    }

    /// The publisher gets its ack, or an error.
    pub(crate) fn answered(&mut self, id: u64, ok: bool) {
        if !ok {
            self.failed += 1;
            return;
        }
        self.acked += 1;
        let Some(publish) = self.publishes.get_mut(&id) else { return };
        publish.acked = true;
        let (session, by, channel) = (publish.session, publish.by, publish.channel.clone());
        let due = publish.due.iter().find(|(to, _)| *to == session).copied();
        let own = due.is_some_and(|(to, epoch)| self.owed(to, &channel, epoch));
        let placed = self.orders.get(&channel).is_some_and(|order| order.place.contains_key(&id));
        self.check(placed, || format!("{id} was acknowledged and no broker had seen it"));
        let got = self.channel(session, &channel).got.contains(&id);
        match self.sessions[session.0].version {
            Some(version) if own => {
                let delivery_first = version == Version::V1 || by == By::Application;
                self.check(got == delivery_first, || {
                    format!("{version:?}: the ack of the own publish {id} came on the wrong side of its delivery")
                });
            }
            _ => {}
        }
    }

    /// Whether a session is still subscribed as it was then.
    fn owed(&self, session: SessionId, channel: &str, epoch: u64) -> bool {
        let session = &self.sessions[session.0];
        session.open && session.channels.get(channel).is_some_and(|state| state.epoch == epoch && state.confirmed)
    }

    /// When nothing is on its way any more: what was acknowledged has been delivered.
    pub(crate) fn check_delivered(&mut self) {
        let mut missing = None;
        for (id, publish) in self.publishes.iter().filter(|(_, publish)| publish.acked) {
            for &(to, epoch) in publish.due.iter().filter(|&&(to, epoch)| self.owed(to, &publish.channel, epoch)) {
                let state = &self.sessions[to.0].channels[&publish.channel];
                if state.epoch == epoch && !state.got.contains(id) {
                    let client = self.sessions[to.0].client;
                    missing.get_or_insert_with(|| {
                        format!("{id} on {} was acknowledged and client {client} never got it", publish.channel)
                    });
                }
            }
        }
        if let Some(missing) = missing {
            self.fail(missing);
        }
    }
}
