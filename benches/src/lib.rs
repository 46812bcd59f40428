#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod body;
pub mod client;
pub mod dialect;
pub mod goals;
pub mod ledger;
pub mod many;
pub mod net;
pub mod paths;
pub mod peers;
pub mod plot;
pub mod process;
pub mod report;
pub mod rig;
pub mod run;
pub mod workload;
