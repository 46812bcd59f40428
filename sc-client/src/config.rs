//! What a client can be told, with the names and defaults of SocketCluster's clients.

use std::fmt;
use std::time::Duration;

use sc_protocol::Version;
use sc_protocol::ws::CloseCode;

/// The options of a [`ClientCore`](crate::ClientCore).
#[derive(Debug, Clone)]
pub struct Config {
    /// For the `Host` header: the name, with the port unless it is the scheme's own. Default `localhost:8000`.
    pub host: String,
    /// Path and query of the upgrade request. Default `/socketcluster/`.
    pub target: String,
    /// More headers of the upgrade request, such as `Origin` or `Cookie`.
    pub headers: Headers,
    /// The protocol to speak. `None`, the default: the one that the server pings with; the newer one if it pings with both.
    pub protocol: Option<Version>,
    /// Time for the transport and the upgrade, else 4007. Default 20 s.
    pub connect_timeout: Duration,
    /// Time for an answer, and for an event to leave the buffer. Default 10 s.
    pub ack_timeout: Duration,
    /// How to come back when the connection is lost; `None`: not at all.
    pub reconnect: Option<Backoff>,
    /// Whether a call, a publish, an event or a subscription connects a client that is closed, or that waits to try
    /// again, at once. Default true, as in JavaScript.
    pub connect_on_demand: bool,
    /// Whether the server's pings are no sign of life that is waited for. Default false.
    pub ping_timeout_disabled: bool,
    /// Put in front of channel names on the wire, and taken off again. Default: nothing.
    pub channel_prefix: String,
    /// The longest message taken, in bytes; a longer one closes the connection with 1009. Default 64 MiB.
    pub max_payload: usize,
    /// Packets that may wait for the connection, or for room in it; beyond it they fail with a `ResourceLimitError`.
    /// Default 10,000.
    pub buffer_max: usize,
    /// Calls that may wait for their answers at once. Default 10,000.
    pub unanswered_max: usize,
    /// How long packets of subscriptions with `batch` are collected, at least a millisecond (the default). They go out before
    /// the next packet that is not collected. Servers before SocketCluster 8 know no batches.
    pub pub_sub_batch_duration: Duration,
    /// Collect everything into batches for that long after the connection is open. Default: no.
    pub batch_on_handshake: Option<Duration>,
    /// How long packets are collected while batching is on. Default 50 ms.
    pub batch_interval: Duration,
    /// Offer permessage-deflate (RFC 7692). Default false. Without the crate's feature `deflate` nothing is offered.
    pub deflate: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: "localhost:8000".to_owned(),
            target: "/socketcluster/".to_owned(),
            headers: Headers::default(),
            protocol: None,
            connect_timeout: Duration::from_secs(20),
            ack_timeout: Duration::from_secs(10),
            reconnect: Some(Backoff::default()),
            connect_on_demand: true,
            ping_timeout_disabled: false,
            channel_prefix: String::new(),
            max_payload: 64 << 20,
            buffer_max: 10_000,
            unanswered_max: 10_000,
            pub_sub_batch_duration: Duration::ZERO,
            batch_on_handshake: None,
            batch_interval: Duration::from_millis(50),
            deflate: false,
        }
    }
}

/// Headers by name and value. Values may be secrets: printing them for debugging shows the names only.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Headers(pub Vec<(String, String)>);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// SocketCluster's `autoReconnectOptions`: the n-th try since the connection was last open (from 0) comes after
/// `(initial_delay + random part of randomness) · multiplierⁿ`, at most `max_delay`.
///
/// ```
/// use std::time::Duration;
/// use sc_client::Backoff;
///
/// let backoff = Backoff::default();
/// assert_eq!(backoff.delay(0, 0.0), Duration::from_secs(10));
/// assert_eq!(backoff.delay(1, 0.5), Duration::from_millis(22_500));
/// assert_eq!(backoff.delay(50, 0.5), Duration::from_secs(60));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// Default 10 s.
    pub initial_delay: Duration,
    /// The most that is added at random. Default 10 s.
    pub randomness: Duration,
    /// Default 1.5.
    pub multiplier: f64,
    /// Default 60 s.
    pub max_delay: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial_delay: Duration::from_secs(10),
            randomness: Duration::from_secs(10),
            multiplier: 1.5,
            max_delay: Duration::from_secs(60),
        }
    }
}

impl Backoff {
    /// The delay before try `n`. `random` is at least 0 and below 1.
    #[must_use]
    pub fn delay(&self, n: u32, random: f64) -> Duration {
        let first = self.initial_delay.as_secs_f64() + self.randomness.as_secs_f64() * random;
        let seconds = first * self.multiplier.max(0.0).powi(n.min(10_000).cast_signed());
        let millis = (seconds * 1000.0).round().min(self.max_delay.as_secs_f64() * 1000.0);
        Duration::from_millis(if millis.is_finite() { millis as u64 } else { 0 })
    }
}

/// What a client does after a connection ended with a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// At once, if it is the first try.
    Immediately,
    /// After the backoff's delay.
    Later,
    Never,
}

impl Retry {
    pub(crate) const fn after(code: CloseCode) -> Self {
        match code.0 {
            4000 | 4001 | 1005 => Self::Immediately,
            1000 | 4500.. => Self::Never,
            _ => Self::Later,
        }
    }
}
