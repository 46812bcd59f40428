//! RFC 6455, both roles, as pure machines.
//!
//! ```text
//!  bytes in ──► http::HeadReader ──► handshake::check ──► handshake::write_accept ──► bytes out
//!  bytes in ──► Reader ──► Event::{Text, Binary, Ping, Pong, Close}
//!  payload  ──► frame::{write, build, append, write_close} ──► bytes out
//! ```
//!
//! Nothing here answers by itself: a [`Reader`] reports pings and closes, and the layer above writes the pong or the
//! close, because only that layer knows what else waits to be sent. permessage-deflate (RFC 7692) is the module `deflate`, behind
//! the feature of that name; without an agreement on it [`Reader`] refuses the bit that it uses.

pub mod close;
#[cfg(feature = "deflate")]
pub mod deflate;
pub mod error;
pub mod frame;
pub mod handshake;
pub mod mask;
pub mod message;
pub mod utf8;

pub use close::CloseCode;
pub use error::ProtocolError;
pub use message::{Event, Reader};

/// Which end of the connection *this* end is.
///
/// A client masks the frames it sends and a server does not (RFC 6455 section 5.1), so a server reads masked frames
/// and writes unmasked ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// This end accepted the connection.
    Server,
    /// This end opened the connection.
    Client,
}

/// What a frame carries (RFC 6455 section 5.2). The other eleven values are reserved and refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum OpCode {
    /// A further fragment of the message under way.
    Continuation = 0,
    /// A message of UTF-8 text, or its first fragment.
    Text = 1,
    /// A message of bytes, or its first fragment.
    Binary = 2,
    /// The start, or the answer, of the closing handshake.
    Close = 8,
    /// A question whether the other end is alive, to be answered by a pong with the same payload.
    Ping = 9,
    /// The answer to a ping, or an unasked sign of life.
    Pong = 10,
}

impl OpCode {
    /// The opcode of these four bits, `None` if they are reserved.
    #[inline]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    /// Whether it is a control frame: at most 125 bytes, never fragmented, allowed between the fragments of a message.
    #[inline]
    pub const fn is_control(self) -> bool {
        self as u8 >= 8
    }
}
