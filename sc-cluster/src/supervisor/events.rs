//! What the supervisor tells: events for the log and the application.

use std::{fmt, time::Duration};

use crate::control::Role;

/// How a process ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExitInfo {
    /// Its exit code, if it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

impl fmt::Display for ExitInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None) => f.write_str("it never ran"),
        }
    }
}

/// Something that happened in the cluster. SocketCluster's master emits the like under the names given.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClusterEvent {
    /// Every worker and broker is ready, for the first time. SocketCluster: `ready`.
    Ready,
    /// A process was started. SocketCluster: `workerStart`, for workers.
    Start {
        /// Worker or broker.
        role: Role,
        /// Its number.
        id: u32,
        /// Its process id.
        pid: u32,
        /// Whether it replaces another.
        respawn: bool,
    },
    /// A process ended. SocketCluster: `workerExit`, for workers.
    Exit {
        /// Worker or broker.
        role: Role,
        /// Its number.
        id: u32,
        /// Its process id; `None`: it could not be started.
        pid: Option<u32>,
        /// How it ended.
        exit: ExitInfo,
        /// Whether it had been asked to.
        expected: bool,
        /// The pause before it is replaced; `None`: it is not, or another has its place already.
        respawn_in: Option<Duration>,
    },
    /// Worth a look. SocketCluster: `warning`.
    Warning(String),
    /// An error. SocketCluster: `fail`.
    Fail(String),
    /// News. SocketCluster: `info`.
    Info(String),
}
