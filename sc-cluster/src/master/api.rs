//! The application's code in the master: what it is told, and what it can do. SC's `server.js`.

use std::{fmt, time::Instant};

use sc_server::{Answer, Data, Payload, ScError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Master;
use crate::{
    control::Role,
    options::Options,
    supervisor::{ExitInfo, SupIn},
};

/// Which process something comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Origin {
    /// `None`: the master itself.
    pub role: Option<Role>,
    /// Its number among those of its role.
    pub id: u32,
    /// Its process id; 0: it never had one.
    pub pid: u32,
}

impl Origin {
    pub(crate) fn master() -> Self {
        Self { role: None, id: 0, pid: std::process::id() }
    }

    pub(crate) fn child(role: Role, id: u32, pid: Option<u32>) -> Self {
        Self { role: Some(role), id, pid: pid.unwrap_or(0) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.role {
            Some(role) => write!(f, "{role} {}", self.id),
            None => f.write_str("master"),
        }
    }
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogEntry {
    /// Who said it.
    pub origin: Origin,
    /// When, in milliseconds since 1970 (UTC).
    pub unix_ms: u64,
    /// Name of the error, if it is one with a name.
    pub name: Option<String>,
    /// What happened.
    pub text: String,
}

/// What happens in the cluster: SC's events of the master.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Every process serves, for the first time. SC: `ready`.
    Ready {
        /// The port that the cluster listens on.
        port: u16,
    },
    /// An error anywhere. SC: `fail`.
    Fail(LogEntry),
    /// Worth a look. SC: `warning`.
    Warning(LogEntry),
    /// News. SC: `info`.
    Info(LogEntry),
    /// A process was started. SC: `workerStart`, for workers.
    Start {
        /// Which.
        origin: Origin,
        /// Whether it replaces another.
        respawn: bool,
    },
    /// A process ended. SC: `workerExit`, for workers.
    Exit {
        /// Which.
        origin: Origin,
        /// How it ended.
        exit: ExitInfo,
        /// Whether it had been asked to.
        expected: bool,
    },
    /// A process sent a message. SC: `workerMessage` and `brokerMessage`. To answer it, see
    /// [`Cluster::on_message`](crate::Cluster::on_message).
    Message {
        /// Which.
        origin: Origin,
        /// What it sent.
        data: Data<'static>,
    },
}

/// What a process has last said of itself.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ProcessStatus {
    /// Which process.
    pub origin: Origin,
    /// Bytes of it that are in memory.
    pub memory_bytes: u64,
    /// What it counts, by the names in the README (`sc_connections`, …), and for workers `clientCount`, `httpRPM` and `wsRPM`, each
    /// of a time `workerStatusInterval` ago at most. Empty: it has not said anything yet.
    pub counters: Map<String, Value>,
}

pub(crate) type EventHook = Box<dyn FnMut(&Event, &mut MasterCx<'_>)>;
pub(crate) type MessageHook = Box<dyn FnMut(&Origin, Data<'_>, &mut MasterCx<'_>) -> Answer>;
pub(crate) type Then = Box<dyn FnOnce(Result<Data<'static>, ScError>, &mut MasterCx<'_>)>;

/// What is to be called in the master.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) ready: Option<crate::cluster::ReadyHook>,
    pub(crate) event: Option<EventHook>,
    pub(crate) message: Option<MessageHook>,
}

/// What the application's code in the master acts through. It runs on the master's thread, which also hands out connections: it
/// must not block.
pub struct MasterCx<'a> {
    pub(super) master: &'a mut Master,
    pub(super) now: Instant,
}

impl fmt::Debug for MasterCx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterCx").field("port", &self.master.port).finish_non_exhaustive()
    }
}

impl MasterCx<'_> {
    /// The options in effect.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.master.options
    }

    /// Sends data to a worker ([`on_master_message`](sc_server::Worker::on_master_message)): SC's `sendToWorker`.
    ///
    /// # Errors
    /// There is no such worker now, or the data cannot be written.
    pub fn send_to_worker(&mut self, id: u32, data: impl Payload) -> Result<(), ScError> {
        self.master.send_message(self.now, Role::Worker, id, &Data::of(&data)?, None)
    }

    /// Sends data to a broker: SC's `sendToBroker`.
    ///
    /// # Errors
    /// There is no such broker now, or the data cannot be written.
    pub fn send_to_broker(&mut self, id: u32, data: impl Payload) -> Result<(), ScError> {
        self.master.send_message(self.now, Role::Broker, id, &Data::of(&data)?, None)
    }

    /// Sends data to a worker and runs `then` with its answer: with its error, a `TimeoutError` after `ackTimeout`, or a
    /// `BadConnectionError` if it ends before.
    ///
    /// # Errors
    /// There is no such worker now, too many answers are awaited, or the data cannot be written; `then` does not run.
    pub fn call_worker(
        &mut self,
        id: u32,
        data: impl Payload,
        then: impl FnOnce(Result<Data<'static>, ScError>, &mut MasterCx<'_>) + 'static,
    ) -> Result<(), ScError> {
        self.master.send_message(self.now, Role::Worker, id, &Data::of(&data)?, Some(Box::new(then)))
    }

    /// As [`call_worker`](Self::call_worker), with a broker.
    ///
    /// # Errors
    /// As there.
    pub fn call_broker(
        &mut self,
        id: u32,
        data: impl Payload,
        then: impl FnOnce(Result<Data<'static>, ScError>, &mut MasterCx<'_>) + 'static,
    ) -> Result<(), ScError> {
        self.master.send_message(self.now, Role::Broker, id, &Data::of(&data)?, Some(Box::new(then)))
    }

    /// What all processes have last said of themselves, in the order of their starts.
    #[must_use]
    pub fn status(&self) -> Vec<ProcessStatus> {
        self.master.status()
    }

    /// Replaces all workers, as SIGUSR2 does.
    pub fn reload(&mut self) {
        self.master.supervisor.handle(self.now, SupIn::Reload);
    }

    /// One worker more, as SIGTTIN.
    pub fn add_worker(&mut self) {
        self.master.supervisor.handle(self.now, SupIn::AddWorker);
    }

    /// One worker less, as SIGTTOU.
    pub fn remove_worker(&mut self) {
        self.master.supervisor.handle(self.now, SupIn::RemoveWorker);
    }

    /// Ends the cluster, as SIGTERM does.
    pub fn end(&mut self) {
        self.master.supervisor.handle(self.now, SupIn::Terminate(15));
    }
}

/// What a child sends with `Control::Status`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Status(pub(crate) Map<String, Value>);
