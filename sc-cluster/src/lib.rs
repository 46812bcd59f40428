#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "sc-cluster passes descriptors between processes by means of Linux; the other crates of the workspace run everywhere"
);

mod cluster;
mod control;
mod log;
mod master;
mod options;
mod schedule;
pub mod supervisor;
mod sys;

pub use cluster::Cluster;
pub use control::Role;
pub use options::{
    DURATION_MS_MAX, InvalidOptionsError, Options, PAYLOAD_MAX, PAYLOAD_MIN, PROCESSES_MAX, ProtocolVersion,
};
pub use schedule::SchedulingPolicy;
