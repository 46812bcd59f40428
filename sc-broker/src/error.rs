//! What goes wrong: on a link, and for a request.

use std::borrow::Cow;

use sc_protocol::ipc::IpcError;
use sc_protocol::sc_error::ScError;

/// Why a broker can do nothing more with the link of a worker. The link is to be dropped; the worker, if it lives, comes
/// with a new one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The bytes are no messages.
    #[error(transparent)]
    Ipc(#[from] IpcError),
    /// Worker and broker are not of the same build: one of them is a controller executable of another version.
    #[error("the worker speaks version {theirs} of the link messages, this broker {ours}")]
    Version {
        /// What the worker said.
        theirs: u8,
        /// [`LINK_VERSION`](sc_protocol::ipc::LINK_VERSION).
        ours: u8,
    },
    /// The first message was not `Hello`, or a later one was.
    #[error("a link begins with one Hello")]
    Hello,
    /// A message that only a broker sends.
    #[error("a worker does not send {0}")]
    Direction(&'static str),
    /// The worker asks and asks without reading the answers.
    #[error("unread answers exceed answers_bytes_max, {max} bytes")]
    AnswersOverLimit {
        /// [`BrokerLimits::answers_bytes_max`](crate::BrokerLimits::answers_bytes_max).
        max: usize,
    },
}

/// The error of a request that was refused: SC's class, our reason.
pub(crate) fn refused(reason: impl Into<Cow<'static, str>>) -> ScError {
    ScError::new("BrokerError", reason)
}

/// The same, when a limit was the reason. The limit's name is in the message, for whoever has to raise it.
pub(crate) fn over_limit(what: &str, limit: &str, max: usize) -> ScError {
    refused(format!("{what}: {limit} is {max}"))
}

/// The error of a request that makes no sense.
pub(crate) fn invalid(reason: &'static str) -> ScError {
    ScError::new("InvalidArgumentsError", reason)
}
