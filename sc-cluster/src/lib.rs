#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "sc-cluster passes descriptors between processes by means of Linux; the other crates of the workspace run everywhere"
);

mod brain;
mod broker_controller;
mod broker_link;
mod broker_proc;
mod broker_socket;
mod child;
mod cluster;
mod conn;
mod control;
mod counts;
mod event_loop;
mod letters;
mod listeners;
mod log;
mod master;
mod net;
mod offload;
mod options;
mod outbox;
mod pages;
mod roles;
mod schedule;
#[cfg(feature = "tokio")]
mod spawn;
mod static_dir;
pub mod supervisor;
mod sys;
mod worker_proc;
#[cfg(test)]
mod worker_tests;

pub use broker_controller::{BrokerController, BrokerCx, BrokerStart, IntoBroker};
pub use broker_socket::{SOCKET_PEERS_MAX, connect_to_broker};
pub use cluster::{Cluster, ClusterReady};
pub use control::Role;
pub use master::api::{Event, LogEntry, MasterCx, Origin, ProcessStatus};
pub use options::{
    BackpressurePolicy, DURATION_MS_MAX, InvalidOptionsError, LogFormat, Options, PAYLOAD_MAX, PAYLOAD_MIN,
    PROCESSES_MAX, ProtocolVersion, Secret, User,
};
pub use pages::Pages;
pub use roles::{IntoWorker, WorkerStart};
pub use sc_auth as auth;
pub use sc_broker as broker;
pub use sc_server as server;
pub use schedule::SchedulingPolicy;
#[cfg(feature = "tokio")]
pub use spawn::Spawn;

/// What an application names most: `use sc_cluster::prelude::*;`.
pub mod prelude {
    pub use sc_server::{
        Answer, Block, Cx, Data, Internal, Pass, RawMessage, Reply, Request, ScError, SocketId, Ticket, Verdict, Worker,
    };

    #[cfg(feature = "tokio")]
    pub use crate::Spawn;
    pub use crate::{BrokerController, Cluster, Options, Pages, WorkerStart};
}
