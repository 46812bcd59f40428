//! The errors that the server and the client raise themselves, with the texts of SocketCluster 14.7.2 ([`Version::V1`])
//! and 20.0.1 ([`Version::V2`]); applications match on them. The errors of tokens are made where tokens are verified.

use serde::Serialize;

use super::ScError;
use crate::packet::Version;

impl ScError {
    /// What a peer learns of an error that is none of its business.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(super::INTERNAL.0, super::INTERNAL.1)
    }

    /// `TimeoutError`: the peer has not answered `event` within the ack timeout.
    #[must_use]
    pub fn timeout(event: &str, version: Version) -> Self {
        Self::new(
            "TimeoutError",
            match version {
                Version::V1 => format!("Event response for '{event}' timed out"),
                Version::V2 => format!("Event response for {event} event timed out"),
            },
        )
    }

    /// `SilentMiddlewareBlockedError`, with its `type`. `stage` is SC 14's name of the middleware: `handshakeWS`,
    /// `handshakeSC`, `authenticate`, `subscribe`, `publishIn`, `publishOut`, `emit`. V2 puts a call (`emit` here) through
    /// the action `invoke`, and names the line that the action belongs to.
    #[must_use]
    pub fn silent(stage: &str, version: Version) -> Self {
        let (message, kind) = match version {
            Version::V1 => (format!("Action was silently blocked by {stage} middleware"), stage),
            Version::V2 => {
                let line = match stage {
                    "handshakeWS" | "handshakeSC" => "handshake",
                    "publishOut" => "outbound",
                    "message" => "inboundRaw",
                    _ => "inbound",
                };
                let action = if stage == "emit" { "invoke" } else { stage };
                (format!("The {action} AGAction was blocked by {line} middleware"), line)
            }
        };
        Self::new("SilentMiddlewareBlockedError", message).with("type", kind)
    }

    /// `InvalidActionError` with any text.
    #[must_use]
    pub fn invalid_action(message: impl Into<String>) -> Self {
        Self::new("InvalidActionError", message.into())
    }

    /// `InvalidActionError`: a `#publish` while `allowClientPublish` is off.
    #[must_use]
    pub fn client_publish_disabled() -> Self {
        Self::invalid_action("Client publish feature is disabled")
    }

    /// `InvalidActionError` of V2, for a reserved packet whose data or cid has the wrong type: `what` is `Handshake request`,
    /// `Authenticate request`, `Subscribe channel name`, `Unsubscribe channel name` or `Publish channel name`.
    #[must_use]
    pub fn malformatted(what: &str) -> Self {
        Self::invalid_action(format!("{what} was malformatted"))
    }

    /// `InvalidActionError`: `#subscribe` before the handshake, where that is not a reason to close.
    #[must_use]
    pub fn subscribe_before_handshake() -> Self {
        Self::invalid_action("Cannot subscribe socket to a channel before it has completed the handshake")
    }

    /// `InvalidActionError`: a request has been answered twice.
    #[must_use]
    pub fn already_responded(cid: u64, version: Version) -> Self {
        Self::invalid_action(match version {
            Version::V1 => format!("Response {cid} has already been sent"),
            Version::V2 => format!("Response to request {cid} has already been sent"),
        })
    }

    /// `InvalidActionError`: the application emits a name that the socket keeps for itself.
    #[must_use]
    pub fn reserved_event(event: &str) -> Self {
        Self::invalid_action(format!("The \"{event}\" event is reserved and cannot be emitted on a server socket"))
    }

    /// `BrokerError` with any text.
    #[must_use]
    pub fn broker(message: impl Into<String>) -> Self {
        Self::new("BrokerError", message.into())
    }

    /// `BrokerError`: `socketChannelLimit` channels are subscribed already.
    #[must_use]
    pub fn channel_limit(socket_id: &str, channel: &str, limit: usize, version: Version) -> Self {
        let class = class_prefix(version);
        Self::broker(format!(
            "Failed to subscribe socket to the {channel} channel - \
             {class}Socket {socket_id} tried to exceed the channel subscription limit of {limit}"
        ))
    }

    /// A `#subscribe` whose channel is no string, printed as `shown` (JavaScript's text of it). V2 does not print it.
    #[must_use]
    pub fn subscribe_invalid_channel(socket_id: &str, shown: &str, version: Version) -> Self {
        match version {
            Version::V1 => Self::broker(format!(
                "Failed to subscribe socket to the {shown} channel - Socket {socket_id} provided an invalid channel name"
            )),
            Version::V2 => Self::malformatted("Subscribe channel name"),
        }
    }

    /// `BrokerError`: `#unsubscribe` of a channel that is not subscribed.
    #[must_use]
    pub fn not_subscribed(socket_id: &str, channel: &str, version: Version) -> Self {
        let class = class_prefix(version);
        Self::broker(format!(
            "Failed to unsubscribe socket from the {channel} channel - \
             {class}Socket {socket_id} tried to unsubscribe from a channel which it is not subscribed to"
        ))
    }

    /// An `#unsubscribe` whose channel is no string, printed as `shown`.
    #[must_use]
    pub fn unsubscribe_invalid_channel(socket_id: &str, shown: &str, version: Version) -> Self {
        match version {
            Version::V1 => Self::broker(format!(
                "Failed to unsubscribe socket from the {shown} channel - \
                 Socket {socket_id} tried to unsubscribe from an invalid channel name"
            )),
            Version::V2 => Self::malformatted("Unsubscribe channel name"),
        }
    }

    /// A `#publish` whose channel is no string, printed as `shown`.
    #[must_use]
    pub fn publish_invalid_channel(socket_id: &str, shown: &str, version: Version) -> Self {
        match version {
            Version::V1 => Self::broker(format!("Socket {socket_id} tried to publish to an invalid {shown} channel")),
            Version::V2 => Self::malformatted("Publish channel name"),
        }
    }

    /// `AuthTokenExpiredError` of a token that expired while it was in use. `expiry` is the token's numeric `exp` claim, in
    /// seconds (a token refused at verification carries a date there).
    #[must_use]
    pub fn auth_token_expired(expiry: impl Serialize) -> Self {
        Self::new("AuthTokenExpiredError", "The socket auth token has expired").with("expiry", expiry)
    }

    /// `AuthError` of V2: the client did not take the token, and said why.
    #[must_use]
    pub fn auth_token_not_delivered(reason: &str) -> Self {
        Self::new("AuthError", format!("Failed to deliver auth token to client - {reason}"))
    }

    /// `AuthError` of V2: the client did not take the token, and what it said of it is no error.
    #[must_use]
    pub fn auth_token_not_confirmed() -> Self {
        Self::new("AuthError", "Failed to confirm delivery of auth token to client due to malformatted error response")
    }

    /// `InvalidArgumentsError`: the algorithm of tokens is an option of the start.
    #[must_use]
    pub fn algorithm_at_runtime() -> Self {
        Self::new(
            "InvalidArgumentsError",
            "Cannot change auth token algorithm at runtime - It must be specified as a config option on launch",
        )
    }

    /// `InvalidOptionsError` with any text.
    #[must_use]
    pub fn invalid_options(message: impl Into<String>) -> Self {
        Self::new("InvalidOptionsError", message.into())
    }

    /// `InvalidMessageError` with any text.
    #[must_use]
    pub fn invalid_message(message: impl Into<String>) -> Self {
        Self::new("InvalidMessageError", message.into())
    }

    /// `InvalidMessageError`: the client got a `#setAuthToken` without a token.
    #[must_use]
    pub fn no_token_data() -> Self {
        Self::invalid_message("No token data provided by #setAuthToken event")
    }

    /// `ResourceLimitError` with any text: a bounded queue or table is full.
    #[must_use]
    pub fn resource_limit(message: impl Into<String>) -> Self {
        Self::new("ResourceLimitError", message.into())
    }

    /// `SocketProtocolError`: a connection closed with `code`, which says so by `text` of the table of close codes.
    #[must_use]
    pub fn socket_protocol(code: u16, text: &str) -> Self {
        Self::new("SocketProtocolError", text.to_owned()).with("code", code)
    }

    /// `ServerProtocolError`: an upgrade from a page that `origins` does not list.
    #[must_use]
    pub fn origin_refused(origin: &str) -> Self {
        Self::new("ServerProtocolError", format!("Failed to authorize socket handshake - Invalid origin: {origin}"))
    }

    /// `BadConnectionError`: the connection went away before the answer to `event` came. `kind` is `disconnect` or
    /// `connectAbort` (it never was open).
    #[must_use]
    pub fn bad_connection(event: &str, kind: &str, version: Version) -> Self {
        let message = match version {
            Version::V1 => format!("Event '{event}' was aborted due to a bad connection"),
            Version::V2 => format!("Event {event} was aborted due to a bad connection"),
        };
        Self::new("BadConnectionError", message).with("type", kind)
    }

    /// `BadConnectionError` of a server: the socket ended before the answer to its call of `event` came.
    #[must_use]
    pub fn call_aborted(event: &str, version: Version) -> Self {
        match version {
            Version::V1 => Self::bad_connection(event, "disconnect", version),
            Version::V2 => Self::new(
                "BadConnectionError",
                format!("Socket invoke {event} event was aborted due to a bad connection"),
            )
            .with("type", "disconnect"),
        }
    }
}

/// SC 20 puts the inner error's class into the outer one's message.
fn class_prefix(version: Version) -> &'static str {
    match version {
        Version::V1 => "",
        Version::V2 => "InvalidActionError: ",
    }
}
