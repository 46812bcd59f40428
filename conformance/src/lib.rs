#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod check;
pub mod client;
pub mod peer;
mod served;
pub mod server;
mod target;

pub use check::{Outcome, Report};
pub use sc_protocol::Version;
pub use target::Target;
