//! What each middleware stage sees. Stages are added with the methods of [`Worker`](crate::Worker); several of one stage run
//! in the order in which they were added, and the first that blocks ends the chain.
//!
//! | stage | when | SC 4.2 | SC 14 |
//! |---|---|---|---|
//! | [`Handshake`] | at the HTTP upgrade, after the origin check | `handshake` | `handshakeWS` |
//! | [`HandshakeSc`] | at `#handshake`, after its token was verified | – | `handshakeSC` |
//! | [`Authenticate`] | a token that verified is about to be accepted | – | `authenticate` |
//! | [`Emit`] | an event of a client | `emit` | `emit` |
//! | [`Subscribe`] | `#subscribe` | `subscribe` | `subscribe` |
//! | [`PublishIn`] | `#publish` of a client | `publishIn` | `publishIn` |
//! | [`PublishOut`] | a publish about to go to one subscriber | `publishOut` | `publishOut` |

use core::net::IpAddr;
use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::Arc;

use serde_json::Value;

use sc_auth::Claims;
use sc_protocol::ScError;

use crate::data::{Data, Payload};
use crate::socket::SocketId;

/// The claims of a socket's token, shared with whoever looks at them.
pub type Token = Arc<Claims>;

/// An upgrade request, before its connection is a socket.
#[derive(Debug, Clone)]
pub struct Handshake<'r> {
    /// The request target, path and query, as it came.
    pub target: Cow<'r, str>,
    /// The `Origin` header.
    pub origin: Option<Cow<'r, str>>,
    /// All headers, in order. Values that are no UTF-8 are left out.
    pub headers: Vec<(Cow<'r, str>, Cow<'r, str>)>,
    /// The peer's address; `None` where the transport has none.
    pub remote: Option<IpAddr>,
}

impl Handshake<'_> {
    /// The value of the first header of this name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_ref())
    }

    /// The part behind the `?`, if any, not decoded.
    pub fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }

    pub(crate) fn into_owned(self) -> Handshake<'static> {
        Handshake {
            target: Cow::Owned(self.target.into_owned()),
            origin: self.origin.map(|origin| Cow::Owned(origin.into_owned())),
            headers: self
                .headers
                .into_iter()
                .map(|(key, value)| (Cow::Owned(key.into_owned()), Cow::Owned(value.into_owned())))
                .collect(),
            remote: self.remote,
        }
    }
}

/// A `#handshake` whose token, if it had one, has been verified.
#[derive(Debug, Clone)]
pub struct HandshakeSc {
    /// The socket.
    pub socket: SocketId,
    /// The claims of the token that came with it, if it was good.
    pub auth: Option<Token>,
    /// The close code if this stage blocks. Default 4008.
    pub close_code: u16,
}

/// A token that verified and is about to become the socket's.
#[derive(Debug, Clone)]
pub struct Authenticate<'r> {
    /// The socket.
    pub socket: SocketId,
    /// The token's claims.
    pub auth: Token,
    /// The token itself.
    pub signed: Cow<'r, str>,
    /// Set it when blocking, to have the client throw the token away (`isBadToken`).
    pub is_bad_token: bool,
}

/// An event that a client emitted.
#[derive(Debug, Clone)]
pub struct Emit<'r> {
    /// The socket.
    pub socket: SocketId,
    /// The event's name.
    pub event: Cow<'r, str>,
    /// Its data. What is put here reaches the handler.
    pub data: Data<'r>,
    /// The claims of the socket's token, if it has one.
    pub auth: Option<Token>,
    /// SC's `authTokenExpiredError`: the token was found expired with this very packet.
    pub expired: Option<ScError>,
}

/// A subscription that a client asks for.
#[derive(Debug, Clone)]
pub struct Subscribe<'r> {
    /// The socket.
    pub socket: SocketId,
    /// The channel.
    pub channel: Cow<'r, str>,
    /// Whether the client waited for authentication with it.
    pub wait_for_auth: bool,
    /// The `data` of the subscription's options.
    pub data: Data<'r>,
    /// Whether the ack is to be sent with others.
    pub(crate) batch: bool,
    /// The claims of the socket's token, if it has one.
    pub auth: Option<Token>,
    /// SC's `authTokenExpiredError`.
    pub expired: Option<ScError>,
}

/// A publish of a client.
#[derive(Debug, Clone)]
pub struct PublishIn<'r> {
    /// The socket.
    pub socket: SocketId,
    /// The channel.
    pub channel: Cow<'r, str>,
    /// Its data. What is put here is what gets published.
    pub data: Data<'r>,
    /// What goes into the publisher's ack as data (SC 6.1's `ackData`).
    pub ack: Data<'r>,
    /// The claims of the socket's token, if it has one.
    pub auth: Option<Token>,
    /// SC's `authTokenExpiredError`.
    pub expired: Option<ScError>,
}

/// A publish about to go to one of its subscribers.
#[derive(Debug)]
pub struct PublishOut<'r> {
    /// The receiving socket.
    pub socket: SocketId,
    /// The channel.
    pub channel: &'r str,
    /// What was published, the same for every receiver.
    pub data: &'r Data<'r>,
    /// The claims of the receiving socket's token, if it has one.
    pub auth: Option<Token>,
    pub(crate) parsed: &'r OnceCell<Value>,
    pub(crate) replacement: Option<Data<'static>>,
}

impl PublishOut<'_> {
    /// What was published as a [`Value`]. It is parsed once, by whoever asks first, for all receivers of this worker. Absent
    /// data, and data nested too deep for a `Value`, are `null`.
    pub fn value(&self) -> &Value {
        self.parsed.get_or_init(|| self.data.get().unwrap_or_default())
    }

    /// Sends something else to this receiver. It gets a frame of its own; all others share one. Filters behind this one
    /// still see what was published.
    pub fn replace(&mut self, data: &(impl Payload + ?Sized)) -> Result<(), ScError> {
        self.replacement = Some(Data::of(data)?);
        Ok(())
    }
}

/// An event that reached its handler.
#[derive(Debug, Clone)]
pub struct Request<'r> {
    /// The socket that emitted it.
    pub socket: SocketId,
    /// The event's name.
    pub event: Cow<'r, str>,
    /// Its data.
    pub data: Data<'r>,
    /// Whether the client waits for an ack.
    pub wants_ack: bool,
    /// The claims of the socket's token, if it has one.
    pub auth: Option<Token>,
    /// SC's `authTokenExpiredError`.
    pub expired: Option<ScError>,
}

impl Request<'_> {
    /// The event's data as a `T`; short for `data.get()`.
    pub fn data<T: serde::de::DeserializeOwned>(&self) -> Result<T, ScError> {
        self.data.get()
    }
}

/// How a socket ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnect {
    /// The close code: the peer's, ours, or 1006 where the connection just died.
    pub code: u16,
    /// The reason that came with it; may be empty.
    pub reason: String,
}
