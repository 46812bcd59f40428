#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod config;
mod core;
mod data;
mod output;

pub use config::{Backoff, Config};
pub use core::{ChannelState, ClientCore, SubscribeOptions};
pub use data::{Data, Token, to_json};
pub use output::{CallId, ChannelChange, Connected, Disconnected, Output, Raw, ReplyId, State};
pub use sc_protocol::ScError;
pub use sc_protocol::Version;
pub use sc_protocol::ws::CloseCode;
