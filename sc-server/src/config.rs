//! What an engine can be told, with SC's names and defaults.

use std::time::Duration;

use sc_protocol::heartbeat::Policy;

use crate::origin::Origins;
use crate::remote::Mailbox;

/// The options of an [`Engine`](crate::Engine). Names and defaults are SocketCluster's (the options of 4.2 and 14 under
/// the same names in camelCase), unless a field says otherwise.
#[derive(Debug, Clone)]
pub struct Config {
    /// Number of this worker, from 0. Worker 0 is the leader.
    pub worker_id: u32,
    /// Process id, for `welcome`-style events and reports. The engine cannot ask: it is pure.
    pub pid: u32,
    /// How many brokers there are; channels are spread over them by hash. Default 1.
    pub brokers: u32,
    /// Which protocol versions are spoken: found out per socket (`Auto`, the default), or one only.
    pub protocol_version: Policy,
    /// URL paths whose clients speak something else than `protocol_version` says; compared whole, without the query. Which paths
    /// are served is the driver's affair. Default: none.
    pub protocol_paths: Vec<(Box<str>, Policy)>,
    /// How long the answer to `#handshake` waits for the first pong, which tells the client's protocol version. Default 100 ms.
    pub version_probe_timeout: Duration,
    /// Time between two pings. Default 8 s.
    pub ping_interval: Duration,
    /// Silence after which a socket is closed with 4001. Default: 20 s for protocol 1 and 30 s for protocol 2, as SC 14
    /// and SC 20; a value here holds for both.
    pub ping_timeout: Option<Duration>,
    /// No pings and no close for silence (SC 11.2). A client whose version is not known still gets the first pings, which tell
    /// it. Default false.
    pub ping_timeout_disabled: bool,
    /// How long acks of subscriptions that ask for it (`batch: true`, protocol 1) are collected. Default zero: until the end of
    /// the turn.
    pub pub_sub_batch_duration: Duration,
    /// Send everything in batches for the first moments of a session (protocol 2). Default false.
    pub batch_on_handshake: bool,
    /// How long these moments last. Default 400 ms.
    pub batch_on_handshake_duration: Duration,
    /// How long packets are collected while everything is batched. Default 50 ms.
    pub batch_interval: Duration,
    /// Time from the upgrade until `#handshake` has to come, else 4005. Default 10 s.
    pub handshake_timeout: Duration,
    /// Time for the peer to answer an emit that wants an ack, and for a deferred verdict or answer. Default 10 s.
    pub ack_timeout: Duration,
    /// Refuse packets before `#handshake` with 4009 (SC 14.6). Default true.
    pub strict_handshake: bool,
    /// Largest message taken, in bytes; beyond it the socket is closed with 1009. Default 4 MiB.
    pub max_payload: usize,
    /// Most channels of one socket. Default 1000.
    pub socket_channel_limit: usize,
    /// Longest channel name in bytes. Default 1024.
    pub channel_name_max: usize,
    /// Most packets in one batch; the rest of a longer one is refused with 1009. Default 10,000.
    pub batch_max: usize,
    /// Bytes of packets that may wait behind one whose verdict is pending; beyond it the socket is not read. Default 256 KiB.
    pub pending_inbound_max: usize,
    /// Most acks of one socket that may be awaited at once. Default 10,000.
    pub pending_acks_max: usize,
    /// Most deferred verdicts and answers at once, over all sockets; beyond it they resolve at once with a `ResourceLimitError`.
    /// Default 1024.
    pub deferred_max: usize,
    /// Most closures of other threads that wait to be run ([`Remote::run`](crate::Remote::run)). Default 65,536.
    pub remote_max: usize,
    /// Where other threads leave what they have for the engine. Default: nowhere.
    pub mailbox: Mailbox,
    /// May clients publish? Default true.
    pub allow_client_publish: bool,
    /// Origins that may connect. Default: all.
    pub origins: Origins,
    /// Report what middleware blocks. Default true.
    pub middleware_emit_warnings: bool,
    /// A panic in a handler ends the worker (which is started anew) instead of one socket. Default true, as in SC.
    pub crash_worker_on_error: bool,
    /// How long a socket that sent its close frame waits for the peer's. Default 2 s.
    pub close_timeout: Duration,
}

impl Config {
    /// What clients at this path speak.
    pub(crate) fn policy(&self, path: &str) -> Policy {
        let own = self.protocol_paths.iter().find(|(own, _)| **own == *path);
        own.map_or(self.protocol_version, |(_, policy)| *policy)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            worker_id: 0,
            pid: 0,
            brokers: 1,
            protocol_version: Policy::Auto,
            protocol_paths: Vec::new(),
            version_probe_timeout: Duration::from_millis(100),
            ping_interval: Duration::from_secs(8),
            ping_timeout: None,
            ping_timeout_disabled: false,
            pub_sub_batch_duration: Duration::ZERO,
            batch_on_handshake: false,
            batch_on_handshake_duration: Duration::from_millis(400),
            batch_interval: Duration::from_millis(50),
            handshake_timeout: Duration::from_secs(10),
            ack_timeout: Duration::from_secs(10),
            strict_handshake: true,
            max_payload: 4 << 20,
            socket_channel_limit: 1000,
            channel_name_max: 1024,
            batch_max: 10_000,
            pending_inbound_max: 256 << 10,
            pending_acks_max: 10_000,
            deferred_max: 1024,
            remote_max: 65_536,
            mailbox: Mailbox::default(),
            allow_client_publish: true,
            origins: Origins::default(),
            middleware_emit_warnings: true,
            crash_worker_on_error: true,
            close_timeout: Duration::from_secs(2),
        }
    }
}
