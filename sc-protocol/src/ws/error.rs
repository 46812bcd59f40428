//! What a peer can do wrong on an open WebSocket.

use super::CloseCode;

/// A violation of RFC 6455 by the other end, or a message over the limit. The connection cannot go on after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A reserved bit is set, but no extension that would give it a meaning was negotiated (section 5.2).
    #[error("reserved bits are set without a negotiated extension")]
    ReservedBits,
    /// One of the opcodes 3 to 7 and 11 to 15 (section 5.2).
    #[error("reserved opcode {0}")]
    ReservedOpCode(u8),
    /// A client sent a frame without a mask (section 5.1).
    #[error("a frame from a client is not masked")]
    NotMasked,
    /// A server sent a frame with a mask (section 5.1).
    #[error("a frame from a server is masked")]
    Masked,
    /// The length would have fitted a shorter form (section 5.2).
    #[error("the payload length is not in its shortest form")]
    LengthNotMinimal,
    /// The highest bit of a 64-bit length is set (section 5.2).
    #[error("the highest bit of the payload length is set")]
    LengthTooLarge,
    /// A control frame without FIN (section 5.5).
    #[error("a control frame is fragmented")]
    FragmentedControl,
    /// A control frame over 125 bytes (section 5.5).
    #[error("a control frame is longer than 125 bytes")]
    ControlTooLong,
    /// A continuation while no message is under way (section 5.4).
    #[error("a continuation without a message to continue")]
    UnexpectedContinuation,
    /// A new message while the fragments of another are under way (section 5.4).
    #[error("a new message within a fragmented one")]
    ExpectedContinuation,
    /// A close frame with a payload of one byte, which is half a code (section 5.5.1).
    #[error("a close frame with half a code")]
    CloseTooShort,
    /// A code that must not stand in a close frame (section 7.4).
    #[error("invalid close code {0}")]
    CloseCode(u16),
    /// Text, or the reason of a close frame, that is not UTF-8 (section 8.1).
    #[error("text is not valid UTF-8")]
    InvalidUtf8,
    /// A compressed message that is no compressed data (RFC 7692 section 7.2.2).
    #[error("a message cannot be decompressed")]
    Deflate,
    /// The message is longer than the limit its reader was given, counted over all its fragments.
    #[error("a message is longer than {limit} bytes")]
    TooBig {
        /// The limit in bytes.
        limit: usize,
    },
}

impl ProtocolError {
    /// The code to close the connection with: 1007 for text or compressed data that is none, 1009 for too much of it, else 1002.
    pub const fn close_code(&self) -> CloseCode {
        match self {
            Self::InvalidUtf8 | Self::Deflate => CloseCode::INVALID_PAYLOAD,
            Self::TooBig { .. } => CloseCode::TOO_BIG,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }
}
