#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod actions;
mod auth_flow;
mod batch;
mod binary;
mod channels;
mod coded;
mod config;
mod core;
mod cx;
mod data;
mod delivery;
mod drain;
mod engine;
mod inbound;
mod js_text;
mod master;
mod middleware;
mod open;
mod origin;
mod output;
mod outputs;
mod pubsub;
mod remote;
mod reply;
mod shared;
mod socket;
mod status;
mod tickets;
mod timers;
mod watch;
mod worker;

pub use binary::Binary;
pub use coded::published_channel;
pub use config::Config;
pub use cx::Cx;
pub use data::{Data, Payload};
pub use drain::DRAIN_ANSWERS_MAX;
pub use engine::Engine;
pub use master::read_reply;
pub use middleware::{
    Authenticate, Disconnect, Emit, Handshake, HandshakeSc, PublishIn, PublishOut, Request, Subscribe, Token,
};
pub use origin::Origins;
pub use output::{Counters, Job, Level, Output, Report, TicketId, Time};
pub use remote::{Completer, Letter, Mailbox, Remote};
pub use reply::{Answer, Block, Internal, Outcome, Pass, Reply, Ticket, Verdict};
pub use sc_broker::{Key, Mapped, Mapper, shard};
pub use sc_protocol::{ScError, codec};
pub use shared::{Call, Shared, Span};
pub use socket::SocketId;
pub use status::Status;
pub use watch::Published;
pub use worker::{RawMessage, Worker};
