//! Who gets what is published on a channel.

use crate::names::Names;

/// For each channel the set of its subscribers.
///
/// `K` names a subscriber: in a [`Broker`](crate::Broker) the link of a worker. The set of one channel is a plain list in
/// the order of subscription, because a channel has at most as many subscribers as there are workers, and a publish
/// walks all of them; channels are flat names (SC has no patterns), so the whole tree is one level deep.
///
/// ```
/// use sc_broker::TopicTree;
///
/// let mut tree = TopicTree::new(42);
/// assert!(tree.subscribe("news", 1u32).is_first());
/// tree.subscribe("news", 2);
/// assert_eq!(tree.subscribers("news"), [1, 2]);
/// tree.unsubscribe("news", &1);
/// assert_eq!(tree.subscribers("news"), [2]);
/// ```
#[derive(Debug)]
pub struct TopicTree<K> {
    topics: Names<Vec<K>>,
    subscriptions: usize,
}

/// What [`TopicTree::subscribe`] changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subscribed {
    /// Nothing: the subscriber was there.
    Before,
    /// The channel had subscribers, and now has one more.
    Also,
    /// The channel had none.
    First,
}

impl Subscribed {
    /// Whether the channel had no subscriber before.
    #[must_use]
    pub const fn is_first(self) -> bool {
        matches!(self, Self::First)
    }
}

/// What [`TopicTree::unsubscribe`] changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsubscribed {
    /// Nothing: there was no such subscriber.
    Never,
    /// Others remain.
    OthersRemain,
    /// The channel has no subscriber any more and takes no memory.
    Last,
}

impl<K: Copy + PartialEq> TopicTree<K> {
    /// An empty tree. `seed` is for its hash table: random in production, because clients choose the names; equal seeds
    /// or not, what a tree answers is the same.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { topics: Names::new(seed), subscriptions: 0 }
    }

    /// Puts the subscriber behind those of the channel, once.
    pub fn subscribe(&mut self, channel: &str, subscriber: K) -> Subscribed {
        let Some(key) = self.topics.find(channel) else {
            self.topics.insert(channel, vec![subscriber]);
            self.subscriptions += 1;
            return Subscribed::First;
        };
        match self.topics.get_mut(key) {
            Some(subscribers) if !subscribers.contains(&subscriber) => {
                subscribers.push(subscriber);
                self.subscriptions += 1;
                Subscribed::Also
            }
            _ => Subscribed::Before,
        }
    }

    /// Takes the subscriber out; the order of the others stays.
    pub fn unsubscribe(&mut self, channel: &str, subscriber: &K) -> Unsubscribed {
        match self.topics.find(channel) {
            Some(key) => self.take(key, subscriber),
            None => Unsubscribed::Never,
        }
    }

    /// Takes the subscriber out of every channel, and calls `ended` with each channel that has none any more: in an order
    /// that does not depend on the seed.
    pub fn unsubscribe_all(&mut self, subscriber: &K, mut ended: impl FnMut(Box<str>)) {
        for key in 0..self.topics.keys_end() {
            if self.topics.get(key).is_some_and(|list| *list == [*subscriber]) {
                self.subscriptions -= 1;
                if let Some((name, _)) = self.topics.remove(key) {
                    ended(name);
                }
            } else {
                self.take(key, subscriber);
            }
        }
    }

    /// Everybody subscribed to the channel, in the order of subscription.
    #[must_use]
    pub fn subscribers(&self, channel: &str) -> &[K] {
        self.topics.find(channel).and_then(|key| self.topics.get(key)).map_or(&[], Vec::as_slice)
    }

    /// Channels that have subscribers.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.topics.len()
    }

    /// Pairs of a channel and a subscriber.
    #[must_use]
    pub const fn subscriptions(&self) -> usize {
        self.subscriptions
    }

    /// Bytes of all channels' names together, for a limit.
    #[must_use]
    pub const fn name_bytes(&self) -> usize {
        self.topics.name_bytes()
    }

    fn take(&mut self, key: u32, subscriber: &K) -> Unsubscribed {
        let Some(subscribers) = self.topics.get_mut(key) else { return Unsubscribed::Never };
        let Some(at) = subscribers.iter().position(|other| other == subscriber) else { return Unsubscribed::Never };
        subscribers.remove(at);
        self.subscriptions -= 1;
        if !subscribers.is_empty() {
            return Unsubscribed::OthersRemain;
        }
        self.topics.remove(key);
        Unsubscribed::Last
    }
}
