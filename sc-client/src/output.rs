//! What a core asks of its driver and tells its application.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sc_protocol::ScError;
use sc_protocol::packet::Cid;
use sc_protocol::ws::CloseCode;

use crate::data::{Data, Token};

/// One thing that a core wants done, or says. They come in one order.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Output {
    /// Open a transport. Answer with [`handle_connected`](crate::ClientCore::handle_connected), or with
    /// [`handle_closed`](crate::ClientCore::handle_closed) if that fails. A [`Close`](Self::Close) in between cancels it.
    Connect,
    /// Write these bytes to the transport.
    Transmit(Bytes),
    /// Close the transport when everything before has been written. Nothing that still comes from it is for the core.
    Close,
    /// Keep the token for the next start, or forget it.
    SaveToken(Option<Token>),
    /// The answer to a call, a publish or an authentication; exactly one for each.
    Answer(CallId, Result<Data, ScError>),
    /// A message of a channel that is subscribed, or is about to be.
    Message {
        /// The channel's name, without prefix.
        channel: Arc<str>,
        /// What was published.
        data: Data,
    },
    /// What became of a channel.
    Channel {
        /// Its name, without prefix.
        channel: Arc<str>,
        /// The news.
        change: ChannelChange,
    },
    /// The server emitted an event.
    Event {
        /// Its name.
        name: Box<str>,
        /// Its data.
        data: Data,
        /// The server waits for an answer: [`ClientCore::respond`](crate::ClientCore::respond).
        reply: Option<ReplyId>,
    },
    /// A message that is no packet.
    Raw(Raw),
    /// A transport is being opened.
    Connecting,
    /// The connection is open: the handshake has been answered.
    Connected(Connected),
    /// The connection ended, or an attempt failed.
    Disconnected(Disconnected),
    /// The client has become authenticated or not, or has another token.
    AuthState(Option<Token>),
}

/// Names a call until its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub(crate) u64);

/// Names a call of the server's, which waits for an answer on the connection it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyId {
    pub(crate) connection: u32,
    pub(crate) cid: Cid<'static>,
}

/// A message that is no packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Raw {
    /// A text message.
    Text(Box<str>),
    /// A binary message.
    Binary(Bytes),
}

/// News of a channel. The states behind them are SocketCluster's: unsubscribed, pending, subscribed.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ChannelChange {
    /// The server took the subscription.
    Subscribed,
    /// The server refused it; it is not tried again unless it waits for authentication.
    Failed(ScError),
    /// The connection is lost; the subscription is sent again on the next one.
    Pending,
    /// The application unsubscribed.
    Unsubscribed,
    /// The server took the client off the channel, with a message.
    Kicked(Data),
}

/// An open connection.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Connected {
    /// The server's name for this connection.
    pub id: Box<str>,
    /// Whether the server took the token.
    pub authenticated: bool,
    /// Why it did not.
    pub auth_error: Option<ScError>,
    /// How long the server's pings may stay away.
    pub ping_timeout: Duration,
}

/// A connection that ended, or an attempt that failed.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Disconnected {
    /// The close code; 1006 for a transport that broke or could not be opened.
    pub code: CloseCode,
    /// The peer's words, or what went wrong. May be empty.
    pub reason: Box<str>,
    /// Whether the connection was open before. SC's clients call it `disconnect` then, else `connectAbort`.
    pub was_open: bool,
    /// The HTTP status, if the upgrade was refused with one.
    pub status: Option<u16>,
    /// The server's error, if it refused the handshake with one.
    pub error: Option<ScError>,
    /// When the next try comes; `None`: there is none.
    pub retry_in: Option<Duration>,
}

impl Disconnected {
    /// As the error that SC's clients raise: the server's own, or a `SocketProtocolError` with the code. `None` for 1000 and
    /// 1001, which are no errors.
    #[must_use]
    pub fn to_error(&self) -> Option<ScError> {
        if let Some(error) = &self.error {
            return Some(error.clone());
        }
        if self.code.is_ignored() {
            return None;
        }
        let reason = &*self.reason;
        Some(match self.code.text() {
            Some(text) if reason.is_empty() || reason == text => ScError::socket_protocol(self.code.0, text),
            Some(text) => ScError::socket_protocol(self.code.0, &format!("{text}: {reason}")),
            None if reason.is_empty() => {
                let text = format!("Socket connection closed with status code {}", self.code);
                ScError::socket_protocol(self.code.0, &text)
            }
            None => {
                let text = format!("Socket connection closed with status code {} and reason: {reason}", self.code);
                ScError::socket_protocol(self.code.0, &text)
            }
        })
    }
}

/// How a client stands, in SocketCluster's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No connection and no attempt; perhaps one is planned.
    Closed,
    /// From the attempt to open a transport until the handshake's answer.
    Connecting,
    /// Packets flow.
    Open,
}
