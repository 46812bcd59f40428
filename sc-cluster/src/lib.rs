#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "sc-cluster passes descriptors between processes by means of Linux; the other crates of the workspace run everywhere"
);

mod control;
mod options;
mod schedule;
mod sys;

pub use options::{
    DURATION_MS_MAX, InvalidOptionsError, Options, PAYLOAD_MAX, PAYLOAD_MIN, PROCESSES_MAX, ProtocolVersion,
};
pub use schedule::SchedulingPolicy;
