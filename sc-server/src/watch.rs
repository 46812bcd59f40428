//! Channels that the application itself is subscribed to: SC's `exchange.subscribe` and `watch`.

use std::sync::Arc;

use crate::core::Core;
use crate::cx::Cx;
use crate::data::Data;
use crate::engine::Engine;

/// A publish that reached this worker, on a channel that it watches.
#[derive(Debug, Clone)]
pub struct Published<'r> {
    /// The channel.
    pub channel: &'r str,
    /// What was published.
    pub data: Data<'r>,
}

impl Published<'_> {
    /// The data as a `T`; short for `data.get()`.
    pub fn data<T: serde::de::DeserializeOwned>(&self) -> Result<T, sc_protocol::ScError> {
        self.data.get()
    }
}

impl<S, P> Core<S, P> {
    pub(crate) fn watch(&mut self, name: &str) {
        let (channel, new) = self.channels.intern(name);
        let Some(entry) = self.channels.get_mut(channel) else { return };
        entry.watched = true;
        let generation = entry.generation;
        if new {
            self.exchange.subscribe(name, (channel, generation));
        }
    }

    fn unwatch(&mut self, name: &str) {
        let Some(channel) = self.channels.find(name) else { return };
        if let Some(entry) = self.channels.get_mut(channel) {
            entry.watched = false;
        }
        if let Some(name) = self.channels.forget_if_empty(channel) {
            self.exchange.unsubscribe(&name);
        }
    }
}

impl<S, P> Cx<'_, S, P> {
    /// Subscribes this worker to a channel: what is published there, on any worker, reaches the handlers of
    /// [`Worker::on_publish`](crate::Worker::on_publish), once for each worker that watches. It begins when the broker has
    /// the subscription, and goes on when a broker is replaced. Publishes that this worker makes from now on are seen.
    pub fn watch(&mut self, channel: &str) {
        self.core.watch(channel);
    }

    /// Ends what [`watch`](Self::watch) began; nothing comes after it.
    pub fn unwatch(&mut self, channel: &str) {
        self.core.unwatch(channel);
    }

    /// The channels that this worker watches, sorted.
    pub fn watched(&self) -> Vec<String> {
        self.core.channels.watched()
    }
}

impl<S: Send + 'static, P: Default + Send + 'static> Engine<S, P> {
    /// Runs the handlers for a publish: those of its channel, then those of all channels.
    pub(crate) fn run_watchers(&mut self, channel: &str, data: Option<&str>) {
        let routes = Arc::clone(&self.routes);
        let own = routes.watched.iter().filter(|(name, _)| **name == *channel).map(|(_, handler)| handler);
        for handler in own.chain(&routes.publish) {
            let published = Published { channel, data: Data::from_raw(data) };
            self.guard(None, "on_publish", |_, state, core| handler(state, &mut Cx::new(core), published));
        }
        self.apply_after();
    }
}
