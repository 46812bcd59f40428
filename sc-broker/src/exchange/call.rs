//! Which broker keeps what, and what is asked of it besides channels.

use sc_protocol::ipc::CallKind;
use sc_protocol::sc_error::ScError;

use super::Exchange;
use crate::link::{Link, What, publish_bytes};
use crate::shard::{Mapped, Mapper, shard};
use crate::store::Key;

impl<P, W> Exchange<P, W> {
    /// The broker that keeps the channel.
    #[must_use]
    pub fn shard_of(&self, channel: &str) -> u32 {
        match self.mapper {
            None => shard(channel, self.links.len() as u32),
            Some(mapper) => self.mapped(mapper, Mapped::Channel(channel)),
        }
    }

    /// The broker that keeps the value: by its key's first name, so that all that is inside one value is together.
    #[must_use]
    pub fn shard_of_key(&self, key: &Key) -> u32 {
        match self.mapper {
            None => shard(key.first(), self.links.len() as u32),
            Some(mapper) => self.mapped(mapper, Mapped::Key(key)),
        }
    }

    fn mapped(&self, mapper: Mapper, what: Mapped<'_>) -> u32 {
        let brokers = self.links.len() as u32;
        mapper(what, brokers) % brokers
    }

    /// How many brokers there are.
    #[must_use]
    pub fn brokers(&self) -> u32 {
        self.links.len() as u32
    }

    /// Lets the application say which broker keeps what. It has to be said before anything is asked of a broker, and the
    /// same in every worker.
    ///
    /// # Errors
    /// An `InvalidActionError`: something lives at its old place already. Nothing has changed.
    pub fn set_mapper(&mut self, mapper: Mapper) -> Result<(), ScError> {
        let is_idle = |link: &Link<P>| link.waiting() == 0 && link.in_flight() == 0;
        if self.interests.len() > 0 || !self.links.iter().all(is_idle) {
            return Err(ScError::new("InvalidActionError", "The mapper has to be set before the exchange is used"));
        }
        self.mapper = Some(mapper);
        Ok(())
    }

    /// Has a broker do something: see [`CallKind`]. `number` comes back with [`Answered`](crate::ExchangeEvent::Answered) or
    /// [`CallFailed`](crate::ExchangeEvent::CallFailed). Calls to one broker and publishes to its channels keep their order.
    ///
    /// # Errors
    /// A `BrokerError`, as for [`publish`](Self::publish), or because there is no such broker.
    pub fn call(
        &mut self,
        shard: u32,
        what: CallKind,
        key: &str,
        data: Option<&str>,
        number: u64,
    ) -> Result<(), ScError> {
        if self.may_send(shard, publish_bytes(key, data))? {
            self.links[shard as usize].call(what, key, data, number);
        } else {
            self.links[shard as usize].wait(key, data, What::Call(what, number));
        }
        Ok(())
    }
}
