//! The maxima of this crate, in one place.
//!
//! A bound that an application may choose (the size of a WebSocket message, the number of unanswered calls) is an
//! argument of the machine it bounds; here is its default. The other constants are hard: both ends of a link must agree
//! on them, or memory depends on them. The limits of an HTTP head stand in [`crate::http`], those of a control frame in
//! [`crate::ws`].

/// Bytes of one message on a link between a worker and a broker, counted behind its length field. A publish that is
/// larger cannot cross the link, so the largest WebSocket message must stay below it with room for a channel name.
pub const LINK_MESSAGE_MAX: usize = 64 * 1024 * 1024;

/// Bytes that a [`LinkReader`](crate::ipc::LinkReader) keeps allocated between two messages. What one large message
/// needed beyond it is given back.
pub const LINK_BUFFER_KEPT_MAX: usize = 64 * 1024;

/// Bytes of one control message between the master and a child. It has to fit into the socket's send buffer in one
/// piece (about 200 KiB by default on Linux).
pub const CONTROL_MESSAGE_MAX: usize = 128 * 1024;

/// File descriptors that travel with one control message (the kernel's own limit is 253).
pub const CONTROL_FDS_MAX: usize = 32;

/// Default for the packets of one batch (`[p1,p2,…]`).
pub const BATCH_PACKETS_MAX: usize = 10_000;

/// Default for the bytes of a channel's name.
pub const CHANNEL_NAME_MAX: usize = 1024;

/// Default for the unanswered calls of one peer, see [`AckTable`](crate::ack::AckTable).
pub const UNANSWERED_CALLS_MAX: usize = 1024;

/// Members of a peer's error object that get looked into. A larger one is kept as text, see
/// [`ScError::parse`](crate::ScError::parse).
pub const ERROR_MEMBERS_MAX: usize = 64;

/// Slots of a [heartbeat ring](crate::heartbeat::Ring). A slot lasts at most a second until the interval exceeds this
/// many seconds; from there on slots grow longer instead of more.
pub const HEARTBEAT_SLOTS_MAX: usize = 4096;

/// The longest interval or timeout, in milliseconds: 2³¹-1, what SocketCluster's own options allow (a JavaScript timer
/// takes no more).
pub const INTERVAL_MS_MAX: u64 = 0x7fff_ffff;

const _: () = assert!(LINK_MESSAGE_MAX <= u32::MAX as usize, "the length field has 32 bits");
const _: () = assert!(LINK_BUFFER_KEPT_MAX < LINK_MESSAGE_MAX);
const _: () = assert!(CONTROL_FDS_MAX <= 253, "SCM_MAX_FD of Linux");
