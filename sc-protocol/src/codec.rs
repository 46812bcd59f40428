//! How packets become messages: as JSON text, unless both sides agree on something else (SC's `codecEngine`, since 5.1).
//!
//! Everything here works on packets as JSON text, and another codec stands between that and the wire. So JSON costs
//! nothing, and a codec has two functions.
//!
//! A client with a codec of its own cannot be asked which protocol version it speaks (the ping of the other version ends
//! it), so a server with one has to be told: `protocolVersion` 1 or 2.

use std::fmt;

use bytes::BytesMut;

use crate::sc_error::ScError;

mod min_bin;

pub use min_bin::MinBin;

/// Turns the JSON text of packets into messages and back.
///
/// ```
/// use bytes::BytesMut;
/// use sc_protocol::codec::{Codec, MinBin};
///
/// let mut message = BytesMut::new();
/// MinBin.encode(r#"{"rid":2}"#, &mut message)?;
/// assert_eq!(message, b"\x81\xa1r\x93\x02\xc0\xc0"[..]);
/// assert_eq!(MinBin.decode(&message)?, r#"{"rid":2,"error":null,"data":null}"#);
/// # Ok::<(), sc_protocol::ScError>(())
/// ```
pub trait Codec: fmt::Debug + Send + Sync {
    /// Whether messages are the JSON text itself; then the other functions are not called.
    fn is_json(&self) -> bool {
        false
    }

    /// Appends the message that says what `packet` says: a packet, a list of packets, or the text of a ping.
    ///
    /// # Errors
    /// The packet cannot be written in this codec.
    fn encode(&self, packet: &str, message: &mut BytesMut) -> Result<(), ScError>;

    /// The packet, as JSON text, that the payload of a binary frame holds. It came from the network: any bytes must be
    /// answered, none may panic.
    ///
    /// # Errors
    /// An `InvalidMessageError`: the bytes are none of this codec's.
    fn decode(&self, message: &[u8]) -> Result<String, ScError>;
}

/// The default: messages are JSON text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JsonCodec;

impl Codec for JsonCodec {
    fn is_json(&self) -> bool {
        true
    }

    fn encode(&self, packet: &str, message: &mut BytesMut) -> Result<(), ScError> {
        message.extend_from_slice(packet.as_bytes());
        Ok(())
    }

    fn decode(&self, message: &[u8]) -> Result<String, ScError> {
        let text = std::str::from_utf8(message).map_err(|error| ScError::invalid_message(error.to_string()))?;
        Ok(text.to_owned())
    }
}
