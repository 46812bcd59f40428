//! What can be set: one struct, with SocketCluster's names wherever it has them.
//!
//! The JSON names are camelCase, so an options object (or `SOCKETCLUSTER_OPTIONS`) of a SocketCluster installation works
//! unchanged; keys that mean nothing here are kept in [`Options::extra`] and reach every process. The table of all options stands in
//! the README of this crate, and a test holds it to this file.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::schedule::SchedulingPolicy;

mod choices;

use choices::user;
pub use choices::{BackpressurePolicy, LogFormat, User};

/// The longest duration that can be set, in milliseconds: what a JavaScript timer can hold, 2³¹ − 1 (24.8 days).
pub const DURATION_MS_MAX: u64 = 0x7fff_ffff;
/// The largest `workers` and `brokers`. Each worker has a link to each broker.
pub const PROCESSES_MAX: u32 = 1024;
/// The smallest `maxPayload`: a control frame of the WebSocket protocol has to fit.
pub const PAYLOAD_MIN: usize = 125;
/// The largest `maxPayload`: a publish has to cross a link between processes in one message.
pub const PAYLOAD_MAX: usize = 32 * 1024 * 1024;

/// All options of a cluster. [`Options::default`] are SocketCluster's defaults, with one worker and one broker; the
/// `socketcluster` command starts as many workers as there are cores.
///
/// ```
/// use sc_cluster::Options;
/// let mut options = Options { workers: Some(2), port: 0, ..Options::default() };
/// options.merge_json(r#"{"pingInterval": 5000, "myOwnKey": [1, 2]}"#)?;
/// assert_eq!((options.ping_interval_ms, options.workers()), (5000, 2));
/// assert!(options.extra.contains_key("myOwnKey"));
/// # Ok::<(), sc_cluster::InvalidOptionsError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Options {
    /// TCP port to listen on; 0 takes a free one.
    pub port: u16,
    /// Name or address to listen on; `None`: every address, IPv6 and IPv4.
    pub host: Option<String>,
    /// Connections that the kernel keeps for us; `None`: 511.
    pub tcp_syn_backlog: Option<u32>,
    /// Number of worker processes; `None`: 1.
    #[serde(deserialize_with = "workers_count")]
    pub workers: Option<u32>,
    /// Number of broker processes; `None`: 1.
    #[serde(deserialize_with = "brokers_count")]
    pub brokers: Option<u32>,
    /// How connections are spread over the workers.
    pub scheduling_policy: SchedulingPolicy,
    /// Connections that the master holds because no worker has taken them yet, at most; it accepts no more until workers do.
    pub handoff_pending_max: usize,
    /// A worker that ended by itself is replaced.
    pub reboot_worker_on_crash: bool,
    /// A panic in a handler ends the worker, else only the socket it happened on.
    pub crash_worker_on_error: bool,
    /// SIGUSR2 on the master replaces the workers one after the other.
    pub reboot_on_signal: bool,
    /// How long children may take to end when asked, in milliseconds, before they are killed.
    #[serde(rename = "processTermTimeout")]
    pub process_term_timeout_ms: u64,
    /// Over how long a worker that is replaced sends its clients away, evenly, in milliseconds.
    #[serde(rename = "drainTimeout")]
    pub drain_timeout_ms: u64,
    /// A child that gives no sign of life for so long, in milliseconds, is killed and replaced; 0: never.
    #[serde(rename = "workerHangTimeout")]
    pub worker_hang_timeout_ms: u64,
    /// How often workers tell what they count, and how large they are is looked at, in milliseconds.
    #[serde(rename = "workerStatusInterval")]
    pub worker_status_interval_ms: u64,
    /// A worker of which more bytes than this are in memory is replaced; `None`: no limit.
    pub kill_worker_memory_threshold: Option<u64>,
    /// What is logged: 0 nothing, 1 errors, 2 warnings too, 3 news, 4 everything.
    pub log_level: u8,
    /// How the log looks.
    pub log_format: LogFormat,
    /// The program that is started as worker and broker; `None`: this one. It has to run a cluster of the same version.
    pub worker_executable: Option<PathBuf>,
    /// The program that is started as worker, in place of `worker_executable`: one's own, linked with this crate.
    pub worker_controller: Option<PathBuf>,
    /// The program that is started as broker, in place of `worker_executable`.
    pub broker_controller: Option<PathBuf>,
    /// Workers and brokers run as this user; `None`: as the master.
    #[serde(deserialize_with = "user")]
    pub downgrade_to_user: Option<User>,
    /// Folder in which brokers listen for programs outside the cluster, at `b0`, `b1` and so on; `None`: they do not.
    pub socket_root: Option<PathBuf>,
    /// What such a program has to prove that it knows; without it brokers do not listen.
    pub secret_key: Option<Secret>,

    /// URL path of WebSocket connections, with or without slashes at its ends; `None`: any.
    pub path: Option<String>,
    /// Which of SocketCluster's two protocols clients may speak.
    pub protocol_version: ProtocolVersion,
    /// More paths of WebSocket connections, each with the protocol of its clients.
    pub protocol_paths: BTreeMap<String, ProtocolVersion>,
    /// How long the answer to `#handshake` waits for the pong that tells which protocol the client speaks, in milliseconds.
    #[serde(rename = "versionProbeTimeout")]
    pub version_probe_timeout_ms: u64,
    /// Time between two pings, in milliseconds.
    #[serde(rename = "pingInterval")]
    pub ping_interval_ms: u64,
    /// Silence after which a connection is given up, in milliseconds; `None`: 20 s in protocol 1 and 30 s in protocol 2.
    #[serde(rename = "pingTimeout")]
    pub ping_timeout_ms: Option<u64>,
    /// No pings, and no connection is given up for silence.
    pub ping_timeout_disabled: bool,
    /// How long acks of subscriptions that ask for it (`batch: true`, protocol 1) are collected, in milliseconds; `None` or 0: until
    /// the end of a turn.
    #[serde(rename = "pubSubBatchDuration")]
    pub pub_sub_batch_duration_ms: Option<u64>,
    /// Send everything in batches for the first moments of a session (protocol 2).
    pub batch_on_handshake: bool,
    /// How long these moments last, in milliseconds.
    #[serde(rename = "batchOnHandshakeDuration")]
    pub batch_on_handshake_duration_ms: u64,
    /// How long packets are collected while everything is batched, in milliseconds.
    #[serde(rename = "batchInterval")]
    pub batch_interval_ms: u64,
    /// How long an answer may take, in milliseconds.
    #[serde(rename = "ackTimeout")]
    pub ack_timeout_ms: u64,
    /// How long a client may take to its `#handshake`, in milliseconds.
    #[serde(rename = "handshakeTimeout")]
    pub handshake_timeout_ms: u64,
    /// Which web pages may connect: `host:port`, each part may be `*`, several in one string.
    #[serde(deserialize_with = "origin_list")]
    pub origins: String,
    /// Channels one socket may subscribe to; `None`: any number.
    pub socket_channel_limit: Option<u32>,
    /// Clients may publish themselves.
    pub allow_client_publish: bool,
    /// Bytes of the largest message a client may send.
    pub max_payload: usize,
    /// Bytes that may wait for one client that does not read.
    pub max_backpressure: usize,
    /// What happens to a client for which more waits.
    pub backpressure_policy: BackpressurePolicy,
    /// Bytes that may wait in a broker for one worker that does not read; beyond it publishes to that worker are refused.
    pub broker_link_limit: usize,
    /// Bytes of the shared data that each broker keeps, at most; what would be more is refused.
    pub broker_data_limit: usize,
    /// Refuse packets that come before `#handshake`.
    pub strict_handshake: bool,
    /// Log what middleware blocks, as warnings.
    pub middleware_emit_warnings: bool,

    /// Secret with which tokens are signed; `None`: a random one at each start.
    pub auth_key: Option<Secret>,
    /// Private key in PEM, to sign with; needs `auth_public_key`.
    pub auth_private_key: Option<Secret>,
    /// Public key in PEM, to verify with; needs `auth_private_key`.
    pub auth_public_key: Option<String>,
    /// Algorithm of signatures; `None`: HS256, or what fits the key pair.
    pub auth_algorithm: Option<String>,
    /// Algorithms that are accepted in tokens; `None`: all that fit the key, or `auth_algorithm` if it is set.
    pub auth_verify_algorithms: Option<Vec<String>>,
    /// More keys to verify tokens with: secrets, or public keys in PEM. To rotate keys, the old one stands here until the last
    /// token that it signed has expired.
    pub auth_verify_keys: Vec<Secret>,
    /// Life of a token, in seconds, where its maker says nothing.
    #[serde(rename = "authDefaultExpiry")]
    pub auth_default_expiry_secs: u64,

    /// Keys that mean nothing here, as they came.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Which of SocketCluster's wire protocols are served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProtocolVersion {
    /// Both on one port: the first pong of a client tells.
    #[default]
    Auto,
    /// Only protocol 1 (SocketCluster 3 to 14).
    V1,
    /// Only protocol 2 (SocketCluster 15 to 20).
    V2,
}

/// A text that is not shown by `Debug`, so that it does not come into a log by accident.
///
/// ```
/// use sc_cluster::Secret;
///
/// let secret = Secret::from("swordfish");
/// assert_eq!((format!("{secret:?}"), secret.text()), ("Secret".to_owned(), "swordfish"));
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// Options that cannot be used; named as in SocketCluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("InvalidOptionsError: {0}")]
pub struct InvalidOptionsError(pub String);

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 8000,
            host: None,
            tcp_syn_backlog: None,
            workers: None,
            brokers: None,
            scheduling_policy: SchedulingPolicy::Rr,
            handoff_pending_max: 1024,
            reboot_worker_on_crash: true,
            crash_worker_on_error: true,
            reboot_on_signal: true,
            process_term_timeout_ms: 10_000,
            drain_timeout_ms: 10_000,
            worker_hang_timeout_ms: 15_000,
            worker_status_interval_ms: 10_000,
            kill_worker_memory_threshold: None,
            log_level: 2,
            log_format: LogFormat::Text,
            worker_executable: None,
            worker_controller: None,
            broker_controller: None,
            downgrade_to_user: None,
            socket_root: None,
            secret_key: None,
            path: Some("/socketcluster/".to_owned()),
            protocol_version: ProtocolVersion::Auto,
            protocol_paths: BTreeMap::new(),
            version_probe_timeout_ms: 100,
            ping_interval_ms: 8000,
            ping_timeout_ms: None,
            ping_timeout_disabled: false,
            pub_sub_batch_duration_ms: None,
            batch_on_handshake: false,
            batch_on_handshake_duration_ms: 400,
            batch_interval_ms: 50,
            ack_timeout_ms: 10_000,
            handshake_timeout_ms: 10_000,
            origins: "*:*".to_owned(),
            socket_channel_limit: Some(1000),
            allow_client_publish: true,
            max_payload: 4 * 1024 * 1024,
            max_backpressure: 16 * 1024 * 1024,
            backpressure_policy: BackpressurePolicy::Disconnect,
            broker_link_limit: 64 * 1024 * 1024,
            broker_data_limit: 256 * 1024 * 1024,
            strict_handshake: true,
            middleware_emit_warnings: true,
            auth_key: None,
            auth_private_key: None,
            auth_public_key: None,
            auth_algorithm: None,
            auth_verify_algorithms: None,
            auth_verify_keys: Vec::new(),
            auth_default_expiry_secs: 86_400,
            extra: Map::new(),
        }
    }
}

impl Options {
    /// The defaults, changed by the environment: see [`Options::merge_env`] and [`Options::merge_env_json`].
    ///
    /// # Errors
    /// A variable does not hold what it should.
    pub fn from_env() -> Result<Self, InvalidOptionsError> {
        let mut options = Self::default();
        let lookup = |name: &str| std::env::var(name).ok();
        options.merge_env(lookup)?;
        options.merge_env_json(lookup)?;
        Ok(options)
    }

    /// Takes the single variables of SocketCluster's images: `SOCKETCLUSTER_PORT`, `_HOST`, `_WORKERS`, `_BROKERS`, `_LOG_LEVEL`,
    /// `_SOCKET_CHANNEL_LIMIT`. Flags of a command line win over them.
    ///
    /// # Errors
    /// A variable is not a number where one is needed.
    pub fn merge_env(&mut self, lookup: impl Fn(&str) -> Option<String>) -> Result<(), InvalidOptionsError> {
        for (name, key) in ENV_NUMBERS {
            if let Some(text) = lookup(name).filter(|text| !text.is_empty()) {
                let number: u64 = text
                    .trim()
                    .parse()
                    .map_err(|_| InvalidOptionsError(format!("{name} must be a number, not {text:?}")))?;
                self.merge(Map::from_iter([((*key).to_owned(), number.into())]))?;
            }
        }
        if let Some(host) = lookup("SOCKETCLUSTER_HOST").filter(|host| !host.is_empty()) {
            self.host = Some(host);
        }
        Ok(())
    }

    /// Takes `SOCKETCLUSTER_OPTIONS`, an options object in JSON that wins over everything else, flags included.
    ///
    /// # Errors
    /// It is no JSON object, or one of its members has the wrong type.
    pub fn merge_env_json(&mut self, lookup: impl Fn(&str) -> Option<String>) -> Result<(), InvalidOptionsError> {
        match lookup("SOCKETCLUSTER_OPTIONS").filter(|json| !json.trim().is_empty()) {
            Some(json) => self
                .merge_json(&json)
                .map_err(|InvalidOptionsError(text)| InvalidOptionsError(format!("SOCKETCLUSTER_OPTIONS: {text}"))),
            None => Ok(()),
        }
    }

    /// Replaces the options that a JSON object names, and keeps the others.
    ///
    /// # Errors
    /// The text is no JSON object, or one of its members has the wrong type.
    pub fn merge_json(&mut self, json: &str) -> Result<(), InvalidOptionsError> {
        let changes: Map<String, Value> =
            serde_json::from_str(json).map_err(|error| InvalidOptionsError(format!("not a JSON object: {error}")))?;
        self.merge(changes)
    }

    /// The number of workers: `workers`, or 1.
    #[must_use]
    pub fn workers(&self) -> u32 {
        self.workers.unwrap_or(1).max(1)
    }

    /// The number of brokers: `brokers`, or 1.
    #[must_use]
    pub fn brokers(&self) -> u32 {
        self.brokers.unwrap_or(1).max(1)
    }

    /// Checks what the types cannot, and answers what is odd but usable.
    ///
    /// # Errors
    /// The first option found that cannot be used.
    pub fn validate(&self) -> Result<Vec<String>, InvalidOptionsError> {
        let refuse = |text: String| Err(InvalidOptionsError(text));
        for (name, value) in self.durations() {
            if value > DURATION_MS_MAX {
                return refuse(format!("The {name} value provided exceeded the maximum amount allowed"));
            }
        }
        for (name, value) in [
            ("pingInterval", self.ping_interval_ms),
            ("ackTimeout", self.ack_timeout_ms),
            ("workerStatusInterval", self.worker_status_interval_ms),
        ] {
            if value == 0 {
                return refuse(format!("The {name} option must be above 0"));
            }
        }
        for (name, value) in [("workers", self.workers()), ("brokers", self.brokers())] {
            if value > PROCESSES_MAX {
                return refuse(format!("The {name} option must be at most {PROCESSES_MAX}"));
            }
        }
        if self.handoff_pending_max == 0 {
            return refuse("The handoffPendingMax option must be above 0".to_owned());
        }
        if !(PAYLOAD_MIN..=PAYLOAD_MAX).contains(&self.max_payload) {
            return refuse(format!("The maxPayload option must be from {PAYLOAD_MIN} to {PAYLOAD_MAX}"));
        }
        if self.max_backpressure < self.max_payload {
            return refuse("The maxBackpressure option must be at least maxPayload".to_owned());
        }
        if self.broker_link_limit < 2 * self.max_payload {
            return refuse("The brokerLinkLimit option must be at least twice maxPayload".to_owned());
        }
        match (&self.auth_private_key, &self.auth_public_key) {
            (None, Some(_)) => {
                return refuse("The authPrivateKey option must be specified if authPublicKey is specified".to_owned());
            }
            (Some(_), None) => {
                return refuse("The authPublicKey option must be specified if authPrivateKey is specified".to_owned());
            }
            _ => {}
        }
        if self.secret_key.as_ref().is_some_and(|secret| secret.text().is_empty()) {
            return refuse("The secretKey option must not be empty".to_owned());
        }
        if self.auth_key.as_ref().is_some_and(|secret| secret.text().is_empty()) {
            return refuse("The authKey option must not be empty".to_owned());
        }
        Ok(self.oddities())
    }

    /// `path` as it is compared: with a slash at both ends, which SocketCluster adds where they are missing. `None`: any path.
    #[must_use]
    pub fn path(&self) -> Option<String> {
        self.path.as_deref().map(with_slashes)
    }

    /// `protocolPaths`, the paths as they are compared.
    pub(crate) fn protocol_paths(&self) -> impl Iterator<Item = (String, ProtocolVersion)> {
        self.protocol_paths.iter().map(|(path, version)| (with_slashes(path), *version))
    }

    pub(crate) const fn millis(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// `handshakeTimeout`.
    #[must_use]
    pub const fn handshake_timeout(&self) -> Duration {
        Duration::from_millis(self.handshake_timeout_ms)
    }

    /// `processTermTimeout`.
    #[must_use]
    pub const fn process_term_timeout(&self) -> Duration {
        Duration::from_millis(self.process_term_timeout_ms)
    }

    /// `drainTimeout`.
    #[must_use]
    pub const fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }

    /// `workerHangTimeout`; `None` when it is off.
    #[must_use]
    pub fn worker_hang_timeout(&self) -> Option<Duration> {
        (self.worker_hang_timeout_ms > 0).then(|| Duration::from_millis(self.worker_hang_timeout_ms))
    }

    fn merge(&mut self, changes: Map<String, Value>) -> Result<(), InvalidOptionsError> {
        // A struct with string keys is always an object; its values are plain.
        let Ok(Value::Object(mut all)) = serde_json::to_value(&*self) else {
            return Err(InvalidOptionsError("the options cannot be written as JSON".to_owned()));
        };
        all.extend(changes);
        *self = serde_json::from_value(Value::Object(all)).map_err(|error| InvalidOptionsError(error.to_string()))?;
        Ok(())
    }

    fn durations(&self) -> [(&'static str, u64); 12] {
        [
            ("ackTimeout", self.ack_timeout_ms),
            ("pingInterval", self.ping_interval_ms),
            ("pingTimeout", self.ping_timeout_ms.unwrap_or(0)),
            ("handshakeTimeout", self.handshake_timeout_ms),
            ("processTermTimeout", self.process_term_timeout_ms),
            ("drainTimeout", self.drain_timeout_ms),
            ("workerStatusInterval", self.worker_status_interval_ms),
            ("workerHangTimeout", self.worker_hang_timeout_ms),
            ("versionProbeTimeout", self.version_probe_timeout_ms),
            ("pubSubBatchDuration", self.pub_sub_batch_duration_ms.unwrap_or(0)),
            ("batchOnHandshakeDuration", self.batch_on_handshake_duration_ms),
            ("batchInterval", self.batch_interval_ms),
        ]
    }

    fn oddities(&self) -> Vec<String> {
        let mut odd = Vec::new();
        if self.socket_root.is_some() && self.secret_key.is_none() {
            odd.push("socketRoot is set, but not secretKey: brokers listen on no socket".to_owned());
        }
        for (name, value) in [("workers", self.workers), ("brokers", self.brokers)] {
            if value == Some(0) {
                odd.push(format!("The {name} option is 0; 1 is taken"));
            }
        }
        if let Some(timeout) = self.ping_timeout_ms.filter(|timeout| *timeout <= self.ping_interval_ms) {
            let interval = self.ping_interval_ms;
            odd.push(format!(
                "pingTimeout ({timeout} ms) is not above pingInterval ({interval} ms): clients will be cut off"
            ));
        }
        odd
    }
}

fn with_slashes(path: &str) -> String {
    match path.trim_matches('/') {
        "" => "/".to_owned(),
        path => format!("/{path}/"),
    }
}

const ENV_NUMBERS: &[(&str, &str)] = &[
    ("SOCKETCLUSTER_PORT", "port"),
    ("SOCKETCLUSTER_WORKERS", "workers"),
    ("SOCKETCLUSTER_BROKERS", "brokers"),
    ("SOCKETCLUSTER_LOG_LEVEL", "logLevel"),
    ("SOCKETCLUSTER_SOCKET_CHANNEL_LIMIT", "socketChannelLimit"),
];

/// One string, or a list of them, as SocketCluster takes it.
fn origin_list<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    match Value::deserialize(from)? {
        Value::String(list) => Ok(list),
        Value::Array(list) if list.iter().all(Value::is_string) => {
            Ok(list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "))
        }
        _ => Err(D::Error::custom("The origins option must be a string or a list of strings")),
    }
}

fn workers_count<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    count(from, "The workers option must be a number")
}

fn brokers_count<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    count(from, "The brokers option must be a number")
}

/// `null` or a whole number; below 1 is kept as 0, which counts as 1 with a warning, as in SocketCluster.
fn count<'de, D: Deserializer<'de>>(from: D, refusal: &str) -> Result<Option<u32>, D::Error> {
    match Value::deserialize(from)? {
        Value::Null => Ok(None),
        Value::Number(number) => match number.as_f64() {
            Some(negative) if negative < 1.0 => Ok(Some(0)),
            _ => {
                let whole = number.as_u64().and_then(|n| u32::try_from(n).ok());
                whole.map(Some).ok_or_else(|| serde::de::Error::custom(refusal))
            }
        },
        _ => Err(serde::de::Error::custom(refusal)),
    }
}

impl Serialize for ProtocolVersion {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => to.serialize_str("auto"),
            Self::V1 => to.serialize_u8(1),
            Self::V2 => to.serialize_u8(2),
        }
    }
}

impl<'de> Deserialize<'de> for ProtocolVersion {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(from)?;
        match (value.as_u64(), value.as_str()) {
            (Some(1), _) | (_, Some("1")) => Ok(Self::V1),
            (Some(2), _) | (_, Some("2")) => Ok(Self::V2),
            (_, Some("auto")) => Ok(Self::Auto),
            _ if value.is_null() => Ok(Self::Auto),
            _ => Err(serde::de::Error::custom("The protocolVersion option must be \"auto\", 1 or 2")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Options;

    #[test]
    fn origins_may_be_a_list() {
        let mut options = Options::default();
        options.merge_json(r#"{"origins":["good.example:443","*:8000"]}"#).unwrap();
        assert_eq!(options.origins, "good.example:443 *:8000");
        options.merge_json(r#"{"origins":"any.example:*"}"#).unwrap();
        assert_eq!(options.origins, "any.example:*");
        let error = options.merge_json(r#"{"origins":[5]}"#).unwrap_err();
        assert!(error.to_string().contains("The origins option must be"));
    }
}
