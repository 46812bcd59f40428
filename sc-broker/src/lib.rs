#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod broker;
pub mod error;
pub mod exchange;
pub mod limits;
mod link;
mod names;
mod outbox;
pub mod shard;
pub mod topic_tree;

pub use broker::{Broker, BrokerEvent, LinkId};
pub use error::LinkError;
pub use exchange::{Exchange, ExchangeEvent};
pub use limits::{BrokerLimits, ExchangeLimits};
pub use shard::shard;
pub use topic_tree::TopicTree;
