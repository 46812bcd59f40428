#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod broker;
mod calls;
pub mod error;
pub mod exchange;
pub mod limits;
mod link;
mod names;
mod outbox;
pub mod shard;
pub mod store;
mod successor;
pub mod topic_tree;

pub use broker::{Broker, BrokerCall, BrokerEvent, CallId, LinkId};
pub use error::LinkError;
pub use exchange::{Exchange, ExchangeEvent};
pub use limits::{BrokerLimits, ExchangeLimits, StoreLimits};
pub use shard::{Mapped, Mapper, shard};
pub use store::{Key, Store};
pub use topic_tree::TopicTree;
