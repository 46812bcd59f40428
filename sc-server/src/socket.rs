//! One socket's state. It has to stay small: a worker holds a hundred thousand of them.

use core::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use sc_protocol::ack::AckTable;
use sc_protocol::heartbeat::Probe;
use sc_protocol::packet::{Cid, Version};
use sc_protocol::wheel::TimerId;
use sc_protocol::ws;

use crate::auth_flow::Auth;
use crate::batch::Batch;
use crate::inbound::Inbound;
use crate::output::TicketId;

/// Names a socket of a worker. It is never given to another socket: acting on one that is gone does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl SocketId {
    /// The slot that the driver chose for it.
    pub const fn slot(self) -> u32 {
        self.slot
    }
}

/// Where a connection is in its life (PROTOCOL: `connecting`, `open`, `closed`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// The verdict on its upgrade is pending; nothing has been sent.
    Upgrading,
    /// 101 was sent; `#handshake` has not been answered.
    Connecting,
    /// The handshake is complete.
    Open,
    /// The session is over; the close frame is on its way or the peer's is awaited.
    Closing,
    /// The transport was told to close; nothing more is sent or read.
    Closed,
}

/// A channel of a socket and the socket's place in the channel's list of subscribers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subscription {
    pub(crate) channel: u32,
    /// [`Subscription::PENDING`] until the broker has the worker's interest.
    pub(crate) place: u32,
}

impl Subscription {
    pub(crate) const PENDING: u32 = u32::MAX;
}

pub(crate) struct Socket<P> {
    pub(crate) generation: u32,
    pub(crate) phase: Phase,
    /// Whether `#handshake` was answered, so that `disconnection` is due.
    pub(crate) connected: bool,
    /// Whether a fine timer for the pong timeout is set.
    pub(crate) pong_timer: bool,
    pub(crate) probe: Probe,
    /// Ticks of [`TICK`](crate::timers::TICK) since the engine began, when something last came in.
    pub(crate) last_seen: u32,
    pub(crate) name: [u8; 15],
    pub(crate) remote: Option<IpAddr>,
    pub(crate) reader: ws::Reader,
    /// The timer of the phase: handshake, or the peer's close frame.
    pub(crate) timer: Option<TimerId>,
    /// Sorted by channel.
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) auth: Option<Box<Auth>>,
    pub(crate) calls: AckTable<TicketId>,
    /// What waits for a verdict, the probe, or the upgrade.
    pub(crate) inbound: Option<Box<Inbound>>,
    /// Packets that go out together; most sockets never have one.
    pub(crate) batch: Option<Box<Batch>>,
    /// Path and query of the upgrade, where they say more than the path.
    pub(crate) target: Option<Box<str>>,
    pub(crate) session: P,
}

impl<P> Socket<P> {
    pub(crate) fn version(&self) -> Version {
        self.probe.version()
    }

    /// Still taking part: packets go in and out.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Connecting | Phase::Open)
    }

    pub(crate) fn subscription(&self, channel: u32) -> Result<usize, usize> {
        self.subscriptions.binary_search_by_key(&channel, |subscription| subscription.channel)
    }

    /// The socket's id on the wire: 15 bytes as 20 characters of base64url, as SC's base64id makes them.
    pub(crate) fn id(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.name)
    }
}

// A worker holds a hundred thousand of them, most of them idle.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Option<Socket<()>>>() <= 256);

/// The request id of an action, and whether it wants an answer at all.
pub(crate) type Want = Option<Cid<'static>>;
