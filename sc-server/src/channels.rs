//! The channels that sockets of this worker are subscribed to: names interned to small numbers, subscribers as lists of
//! slots, so that a fan-out reads nothing but that list.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::socket::SocketId;

/// A channel that at least one socket is subscribed to, or about to be.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) name: Arc<str>,
    pub(crate) generation: u32,
    /// Whether the broker has the worker's interest.
    pub(crate) live: bool,
    /// Whether the application itself gets what is published.
    pub(crate) watched: bool,
    /// Slots of the sockets that get what is published.
    pub(crate) subscribers: Vec<u32>,
    /// Sockets whose `#subscribe` is answered when the channel is live.
    pub(crate) waiting: Vec<Pending>,
}

/// A `#subscribe` that waits for the broker.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) socket: SocketId,
    pub(crate) want: crate::socket::Want,
    /// The ack belongs into a batch.
    pub(crate) batch: bool,
}

#[derive(Debug)]
pub(crate) struct Channels {
    by_name: HashMap<Arc<str>, u32, foldhash::fast::FixedState>,
    entries: slab::Slab<Channel>,
    generation: u32,
}

impl Channels {
    /// Names come from clients, so the table's hash takes a seed that they do not know.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            by_name: HashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed)),
            entries: slab::Slab::new(),
            generation: 0,
        }
    }

    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn get(&self, channel: u32) -> Option<&Channel> {
        self.entries.get(channel as usize)
    }

    pub(crate) fn get_mut(&mut self, channel: u32) -> Option<&mut Channel> {
        self.entries.get_mut(channel as usize)
    }

    /// Every `#subscribe` that waits for the broker.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Pending> {
        self.entries.iter().flat_map(|(_, channel)| &channel.waiting)
    }

    /// The channel of this name, and whether it is new.
    pub(crate) fn intern(&mut self, name: &str) -> (u32, bool) {
        if let Some(channel) = self.find(name) {
            return (channel, false);
        }
        let name: Arc<str> = name.into();
        self.generation = self.generation.wrapping_add(1);
        let entry = Channel {
            name: Arc::clone(&name),
            generation: self.generation,
            live: false,
            watched: false,
            subscribers: Vec::new(),
            waiting: Vec::new(),
        };
        let channel =
            u32::try_from(self.entries.insert(entry)).expect("invariant: fewer than 2^32 channels fit in memory");
        self.by_name.insert(name, channel);
        (channel, true)
    }

    /// The channels that the application watches, sorted.
    pub(crate) fn watched(&self) -> Vec<String> {
        let watched = self.entries.iter().filter(|(_, channel)| channel.watched);
        let mut names: Vec<String> = watched.map(|(_, channel)| channel.name.to_string()).collect();
        names.sort_unstable();
        names
    }

    /// Forgets a channel that nobody is subscribed to any more; answers its name if it was forgotten.
    pub(crate) fn forget_if_empty(&mut self, channel: u32) -> Option<Arc<str>> {
        let entry = self.entries.get(channel as usize)?;
        if entry.watched || !entry.subscribers.is_empty() || !entry.waiting.is_empty() {
            return None;
        }
        let entry = self.entries.remove(channel as usize);
        self.by_name.remove(&entry.name);
        Some(entry.name)
    }
}
