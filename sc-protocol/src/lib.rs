#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod ack;
pub mod codec;
pub mod entropy;
pub mod heartbeat;
pub mod http;
pub mod ipc;
pub mod json;
pub mod limits;
pub mod packet;
pub mod sc_error;
pub mod wheel;
pub mod ws;

pub use entropy::Entropy;
pub use packet::Version;
pub use sc_error::ScError;
