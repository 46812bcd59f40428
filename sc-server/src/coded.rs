//! What a codec other than JSON changes: messages are binary, and packets are translated on their way in and out. Inside,
//! everything is the JSON text of packets, so that nothing else knows of it.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};

use sc_protocol::codec::Codec;
use sc_protocol::heartbeat::Policy;
use sc_protocol::packet::Version;
use sc_protocol::ws::{OpCode, frame};
use sc_protocol::{ScError, heartbeat, json};

use crate::core::Core;
use crate::engine::Engine;
use crate::output::Level;
use crate::socket::{Socket, SocketId};
use crate::worker::RawMessage;

impl<S, P> Core<S, P> {
    pub(crate) fn set_codec(&mut self, codec: Box<dyn Codec>) {
        if codec.is_json() {
            return;
        }
        if self.config.protocol_version == Policy::Auto {
            // `Worker::check` is where this is an error; here nobody can be told.
            self.report(Level::Error, "InvalidOptionsError", NEEDS_VERSION.to_owned());
            self.config.protocol_version = Policy::V2;
        }
        for (_, policy) in self.config.protocol_paths.iter_mut().filter(|(_, policy)| *policy == Policy::Auto) {
            *policy = Policy::V2;
        }
        self.codec = Some(codec);
        let mut ping = BytesMut::new();
        json::write_string(&mut ping, "#1");
        self.ping_v1 = self.frame(|out| out.extend_from_slice(&ping));
    }

    /// A packet, which `f` writes as JSON text, as a frame.
    pub(crate) fn frame(&mut self, f: impl FnOnce(&mut BytesMut)) -> Bytes {
        match self.codec {
            None => frame::build(&mut self.scratch, OpCode::Text, f),
            Some(_) => self.coded_frame(f),
        }
    }

    fn coded_frame(&mut self, f: impl FnOnce(&mut BytesMut)) -> Bytes {
        let mut text = BytesMut::new();
        f(&mut text);
        let mut message = BytesMut::new();
        let text = String::from_utf8_lossy(&text);
        let encoded = self.codec.as_ref().map_or(Ok(()), |codec| codec.encode(&text, &mut message));
        if let Err(error) = encoded {
            let message = format!("a packet cannot be written in this codec: {}", error.message());
            self.report(Level::Error, "InvalidMessageError", message);
            return Bytes::new();
        }
        frame::build(&mut self.scratch, OpCode::Binary, |out| out.extend_from_slice(&message))
    }

    /// The packet inside a frame of our own, as JSON text.
    pub(crate) fn packet_of<'a>(&self, frame: &'a [u8]) -> Cow<'a, str> {
        let payload = payload_of(frame);
        match &self.codec {
            None => String::from_utf8_lossy(payload),
            Some(codec) => codec.decode(payload).map_or(Cow::Borrowed("null"), Cow::Owned),
        }
    }
}

impl<S: Send + 'static, P: Default + Send + 'static> Engine<S, P> {
    /// A binary message where there is a codec.
    pub(crate) fn coded_message(&mut self, id: SocketId, bytes: &[u8]) {
        let Some(codec) = &self.core.codec else { return };
        match codec.decode(bytes) {
            // Protocol 1 has its pongs go through the codec.
            Ok(packet) if packet == "\"#2\"" && self.speaks(id, Version::V1) => {
                self.pong(id, Version::V1);
            }
            Ok(packet) => self.message(id, &packet, RawMessage::Binary(bytes)),
            Err(error) => self.undecodable(error.message()),
        }
    }

    /// A text message where there is a codec: the pong of protocol 2 is one, others are none of the codec's.
    pub(crate) fn uncoded_message(&mut self, id: SocketId, text: &str) {
        if text == heartbeat::PONG_TEXT_V2 && self.speaks(id, Version::V2) {
            self.pong(id, Version::V2);
        } else {
            self.undecodable("a text message, where the codec has binary ones");
        }
    }

    fn speaks(&self, id: SocketId, version: Version) -> bool {
        self.core.socket(id).is_some_and(|socket| Socket::is_live(socket) && socket.version() == version)
    }

    fn undecodable(&mut self, why: &str) {
        self.core.counters.messages_in_total += 1;
        self.core.report(Level::Warning, "InvalidMessageError", why.to_owned());
    }
}

const NEEDS_VERSION: &str = "A codec other than JSON needs the protocolVersion option to be 1 or 2";

/// Whether clients of this codec can be told apart as the policy wants it.
pub(crate) fn check(codec: Option<&dyn Codec>, policy: Policy) -> Result<(), ScError> {
    match codec {
        Some(codec) if !codec.is_json() && policy == Policy::Auto => Err(ScError::invalid_options(NEEDS_VERSION)),
        _ => Ok(()),
    }
}

/// The payload of a frame of our own: unmasked, so the header's length byte tells where it begins (RFC 6455 §5.2).
fn payload_of(frame: &[u8]) -> &[u8] {
    let header = match frame.get(1) {
        Some(126) => 4,
        Some(127) => 10,
        _ => 2,
    };
    frame.get(header..).unwrap_or_default()
}

/// The channel of a whole `#publish` frame of this crate, as JSON text; `None` for every other frame. For drivers that may
/// leave out messages when a client is slow.
pub fn published_channel(frame: &[u8]) -> Option<&str> {
    const HEAD: &[u8] = br##"{"event":"#publish","data":{"channel":"##;
    let payload = payload_of(frame);
    let len = match *frame {
        [0x81, len @ 0..126, ..] => usize::from(len),
        [0x81, 126, a, b, ..] => usize::from(u16::from_be_bytes([a, b])),
        [0x81, 127, a, b, c, d, e, f, g, h, ..] => {
            usize::try_from(u64::from_be_bytes([a, b, c, d, e, f, g, h])).ok()?
        }
        _ => return None,
    };
    let name = payload.strip_prefix(HEAD).filter(|_| payload.len() == len)?;
    let mut escaped = true;
    let end = name.iter().position(|&byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    std::str::from_utf8(&name[..=end]).ok()
}
