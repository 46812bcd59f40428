//! The beginning of a broker that takes the place of one that is gone: publishes are held until it knows who is subscribed.

use std::collections::VecDeque;

use crate::broker::{Broker, BrokerCall};
use crate::error::over_limit;
use crate::limits::{BrokerLimits, FRAMING};

/// A publish that came before the broker knew to whom it is to be delivered.
#[derive(Debug)]
struct Held {
    origin: u32,
    cid: u64,
    channel: Box<str>,
    data: Option<Box<str>>,
}

impl Held {
    fn bytes(&self) -> usize {
        FRAMING + self.channel.len() + self.data.as_ref().map_or(0, |data| data.len())
    }
}

/// What a broker holds, and why.
#[derive(Debug, Default)]
pub(crate) struct Opening {
    /// Not all links are there, or not all of them have said what their workers are subscribed to.
    closed: bool,
    /// All workers that there are have links.
    attached: bool,
    held: VecDeque<Held>,
    bytes: usize,
}

impl Broker {
    /// A broker that takes the place of one that is gone, while workers have subscribers. A publish that it took at once
    /// would be acknowledged and miss those whose workers have not come back yet. So publishes are held (up to
    /// `link_bytes_max`, then refused) until [`all_attached`](Self::all_attached) was said and each attached worker has said
    /// what it is subscribed to, or is gone.
    #[must_use]
    pub fn successor(limits: BrokerLimits, seed: u64) -> Self {
        let mut broker = Self::new(limits, seed);
        broker.opening.closed = true;
        broker
    }

    /// Every worker that there is has been [attached](Self::attach). Say [`release_held`](Self::release_held) next.
    pub fn all_attached(&mut self) {
        self.opening.attached = true;
        self.open_if_synced();
    }

    /// Routes what was held, as soon as it may be. To be said after [`all_attached`](Self::all_attached) and
    /// [`detached`](Self::detached); bytes of links do it by themselves. The sink is that of
    /// [`handle_bytes_with`](Self::handle_bytes_with).
    pub fn release_held(&mut self, mut sink: impl FnMut(&mut Self, BrokerCall<'_>)) {
        while !self.opening.closed {
            let Some(held) = self.opening.held.pop_front() else { return };
            self.opening.bytes -= held.bytes();
            let (channel, data) = (&*held.channel, held.data.as_deref());
            if self.route(held.origin, held.cid, channel, data) {
                sink(self, BrokerCall::Published { channel, data });
            }
        }
    }

    /// Whether a publish has to wait, also behind others that do.
    pub(crate) fn holds(&self) -> bool {
        self.opening.closed || !self.opening.held.is_empty()
    }

    pub(crate) fn hold(&mut self, origin: u32, cid: u64, channel: &str, data: Option<&str>) {
        let held = Held { origin, cid, channel: channel.into(), data: data.map(Box::from) };
        let max = self.limits.link_bytes_max;
        if self.opening.bytes + held.bytes() > max {
            return self.refuse(origin, cid, &over_limit("The broker has only begun", "brokerLinkLimit", max));
        }
        self.opening.bytes += held.bytes();
        self.opening.held.push_back(held);
    }

    /// A link has said all that its worker is subscribed to.
    pub(crate) fn synced(&mut self, link: u32) {
        self.links[link as usize].synced = true;
        self.open_if_synced();
    }

    /// A link is gone: nobody waits for it, and nobody wants its publishes to be acknowledged.
    pub(crate) fn forget_held(&mut self, link: u32) {
        let opening = &mut self.opening;
        opening.held.retain(|held| held.origin != link);
        opening.bytes = opening.held.iter().map(Held::bytes).sum();
        self.open_if_synced();
    }

    fn open_if_synced(&mut self) {
        if self.opening.attached && self.links.iter().all(|(_, link)| link.synced) {
            self.opening.closed = false;
        }
    }
}
