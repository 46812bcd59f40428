//! How large things may get. What would go beyond is refused with a `BrokerError` that names the limit.

/// The limits of one [`Broker`](crate::Broker).
///
/// ```
/// use sc_broker::BrokerLimits;
///
/// let limits = BrokerLimits { link_bytes_max: 8 << 20, ..BrokerLimits::default() };
/// assert_eq!(limits.channels_max, 1_000_000);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerLimits {
    /// Bytes that wait for one worker (`brokerLinkLimit`). A publish that would go beyond at any of its receivers is
    /// refused as a whole, so that what was acknowledged was delivered. It must be larger than the largest publish.
    /// Default 32 MiB.
    pub link_bytes_max: usize,
    /// Bytes of answers that may wait for one worker beyond `link_bytes_max`. A worker bounds its requests itself (see
    /// [`ExchangeLimits::in_flight_max`]), so only one that is broken gets here, and loses its link. Default 64 MiB.
    pub answers_bytes_max: usize,
    /// Channels with subscribers. Default 1,000,000.
    pub channels_max: usize,
    /// Bytes of the names of those channels, together. Default 256 MiB.
    pub names_bytes_max: usize,
    /// Bytes of the query that a worker leaves for its end, name and argument. Default 64 KiB.
    pub death_bytes_max: usize,
    /// The limits of the shared data.
    pub store: StoreLimits,
}

impl Default for BrokerLimits {
    fn default() -> Self {
        Self {
            link_bytes_max: 32 << 20,
            answers_bytes_max: 64 << 20,
            channels_max: 1_000_000,
            names_bytes_max: 256 << 20,
            death_bytes_max: 64 << 10,
            store: StoreLimits::default(),
        }
    }
}

/// The limits of one [`Exchange`](crate::Exchange).
///
/// A publish goes out at once while its broker is there, below `in_flight_max` and `link_bytes_max`. Else it waits its
/// turn, and is refused when there is no more room to wait.
///
/// ```
/// use sc_broker::ExchangeLimits;
///
/// let limits = ExchangeLimits { waiting_publishes_max: 100, ..ExchangeLimits::default() };
/// assert_eq!(limits.in_flight_max, 16_384);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeLimits {
    /// Publishes that wait for one broker. Default 10,000.
    pub waiting_publishes_max: usize,
    /// Bytes of channels and data of the publishes that wait for one broker. Default 16 MiB.
    pub waiting_bytes_max: usize,
    /// Requests to one broker that it has not answered, from which on publishes wait. Subscriptions are requests too, but
    /// are not held up by it: `channels_max` bounds them. Default 16,384.
    pub in_flight_max: usize,
    /// Bytes not yet written to one broker, from which on publishes wait. One that is larger by itself is refused.
    /// Default 32 MiB.
    pub link_bytes_max: usize,
    /// Channels that this worker is interested in. Default 1,000,000.
    pub channels_max: usize,
    /// Bytes of the names of those channels, together. Default 256 MiB.
    pub names_bytes_max: usize,
    /// Subscribers that wait for the broker's word. Default 1,000,000.
    pub waiters_max: usize,
}

impl Default for ExchangeLimits {
    fn default() -> Self {
        Self {
            waiting_publishes_max: 10_000,
            waiting_bytes_max: 16 << 20,
            in_flight_max: 16_384,
            link_bytes_max: 32 << 20,
            channels_max: 1_000_000,
            names_bytes_max: 256 << 20,
            waiters_max: 1_000_000,
        }
    }
}

/// The limits of one [`Store`](crate::Store).
///
/// ```
/// use sc_broker::StoreLimits;
///
/// let limits = StoreLimits { store_bytes_max: 64 << 20, ..StoreLimits::default() };
/// assert_eq!(limits.store_answer_max, 16 << 20);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreLimits {
    /// Bytes of names and values, with what it takes to keep them (`brokerDataLimit`). Default 256 MiB.
    pub store_bytes_max: usize,
    /// Bytes of one answer. What would answer more is refused, and not done. Default 16 MiB.
    pub store_answer_max: usize,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self { store_bytes_max: 256 << 20, store_answer_max: 16 << 20 }
    }
}

/// Names in one [`Key`](crate::Key).
pub const KEY_DEPTH_MAX: usize = 64;

/// Bytes of the names of one [`Key`](crate::Key), together.
pub const KEY_BYTES_MAX: usize = 8192;

/// No message has more bytes on a link besides its channel and data. Room is counted with it.
pub(crate) const FRAMING: usize = 24;
