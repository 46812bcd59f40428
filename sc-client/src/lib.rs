#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod config;
mod core;
mod data;
#[cfg(feature = "driver")]
mod driver;
mod output;

pub use config::{Backoff, Config, Headers};
pub use core::{ChannelState, ClientCore, SubscribeOptions};
pub use data::{Data, FromData, Payload, Token, to_json};
#[cfg(feature = "driver")]
pub use driver::{
    Capacity, Client, ClientBuilder, ConnectError, Driver, Event, Events, FileStore, Incoming, Listener, MemoryStore,
    Overflow, Pending, ProxyChoice, Responder, Subscription, TimedOut, Tls, TlsBuilder, TokenStore, WAITING_OPS_MAX,
};
pub use output::{CallId, ChannelChange, Connected, Disconnected, Output, Raw, ReplyId, State};
pub use sc_protocol::ScError;
pub use sc_protocol::Version;
pub use sc_protocol::ws::CloseCode;
