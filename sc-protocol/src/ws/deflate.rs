//! permessage-deflate (RFC 7692), both roles: what is offered and agreed, and messages in and out of it.
//!
//! Memory decides how it is used here. A compressor takes 300 KiB and a decompressor 30, so both ends are asked to keep
//! nothing between two messages (`no_context_takeover`); then a connection owns neither while nothing is under way. Where the
//! peer insists on its context, the decompressor is kept.
//!
//! ```
//! use sc_protocol::ws::deflate::{Params, accept};
//! use sc_protocol::ws::Role;
//!
//! // A server answers an offer …
//! let (params, answer) = accept("permessage-deflate; client_max_window_bits").unwrap();
//! assert!(answer.starts_with("permessage-deflate"));
//! // … and a client holds the answer to what it offered.
//! assert_eq!(Params::agreed(&answer), Some(params));
//! let mut deflate = params.start(Role::Server);
//! # let _ = &mut deflate;
//! ```

use bytes::{BufMut, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::frame::Header;
use super::mask::apply_mask;
use super::{OpCode, ProtocolError, Role};
use crate::http::{elements, is_token};

/// What a client of ours offers: that neither end keeps anything between two messages.
pub const OFFER: &str = "permessage-deflate; client_no_context_takeover; server_no_context_takeover";

/// Shorter messages are sent as they are: they would hardly get shorter.
pub const COMPRESS_MIN: usize = 128;

/// The end of each compressed message, which is not sent (section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Room that is added at once to what a message is inflated into, at least.
const GROW: usize = 4096;

/// The smallest window that the library can write; 8 is answered with it, which a peer that asked for 8 cannot read.
const WINDOW_MIN: u8 = 9;
const WINDOW_MAX: u8 = 15;

/// What the two ends agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// The server compresses each message without knowledge of those before.
    pub server_no_context_takeover: bool,
    /// The client does.
    pub client_no_context_takeover: bool,
    /// The server's window has this many bits: 9 to 15.
    pub server_max_window_bits: u8,
    /// The client's.
    pub client_max_window_bits: u8,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            server_no_context_takeover: false,
            client_no_context_takeover: false,
            server_max_window_bits: WINDOW_MAX,
            client_max_window_bits: WINDOW_MAX,
        }
    }
}

/// One extension with its parameters as they stand there.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parsed {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// Without a value it only says that the client would understand one.
    client_max_window_bits: Option<Option<u8>>,
}

impl Parsed {
    /// `None`: another extension, or parameters against the rules of section 7.1.
    fn read(extension: &str) -> Option<Self> {
        let mut parts = extension.split(';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case("permessage-deflate") {
            return None;
        }
        let mut parsed = Self::default();
        for part in parts {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
                None => (part, None),
            };
            if !is_token(name) {
                return None;
            }
            let bits = |value: &str| match value.parse::<u8>() {
                Ok(bits @ 8..=15) if !value.starts_with(['0', '+']) => Some(bits),
                _ => None,
            };
            match (name, value) {
                ("server_no_context_takeover", None) if !parsed.server_no_context_takeover => {
                    parsed.server_no_context_takeover = true;
                }
                ("client_no_context_takeover", None) if !parsed.client_no_context_takeover => {
                    parsed.client_no_context_takeover = true;
                }
                ("server_max_window_bits", Some(value)) if parsed.server_max_window_bits.is_none() => {
                    parsed.server_max_window_bits = Some(bits(value)?);
                }
                ("client_max_window_bits", None) if parsed.client_max_window_bits.is_none() => {
                    parsed.client_max_window_bits = Some(None);
                }
                ("client_max_window_bits", Some(value)) if parsed.client_max_window_bits.is_none() => {
                    parsed.client_max_window_bits = Some(Some(bits(value)?));
                }
                _ => return None,
            }
        }
        Some(parsed)
    }
}

/// A server's choice among what a client offers (the header `Sec-WebSocket-Extensions` of its request): what is agreed on,
/// and the header of the answer. `None`: nothing acceptable is offered, and the answer has no such header.
///
/// The server keeps no context, so that a message to many is compressed once; it asks the client to do the same.
#[must_use]
pub fn accept(offers: &str) -> Option<(Params, String)> {
    let offer = elements(offers).filter_map(Parsed::read).find(|offer| offer.server_max_window_bits != Some(8))?;
    let mut answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover".to_owned();
    let bits = offer.server_max_window_bits.unwrap_or(WINDOW_MAX);
    if bits < WINDOW_MAX {
        answer.push_str(&format!("; server_max_window_bits={bits}"));
    }
    let params = Params {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        server_max_window_bits: bits,
        client_max_window_bits: WINDOW_MAX,
    };
    Some((params, answer))
}

impl Params {
    /// What a server's answer (its `Sec-WebSocket-Extensions`) to [`OFFER`] agrees to. `None`: it is no possible answer,
    /// and the connection is to be failed.
    #[must_use]
    pub fn agreed(answer: &str) -> Option<Self> {
        let mut answers = elements(answer);
        let (Some(answer), None) = (answers.next(), answers.next()) else { return None };
        let parsed = Parsed::read(answer)?;
        // A limit for the client's window was not offered, so none may be set.
        if parsed.client_max_window_bits.is_some() {
            return None;
        }
        Some(Self {
            server_no_context_takeover: parsed.server_no_context_takeover,
            client_no_context_takeover: parsed.client_no_context_takeover,
            server_max_window_bits: parsed.server_max_window_bits.unwrap_or(WINDOW_MAX),
            client_max_window_bits: WINDOW_MAX,
        })
    }

    /// The machine of one end of a connection.
    #[must_use]
    pub const fn start(self, role: Role) -> Deflate {
        let (own_bits, peer_forgets) = match role {
            Role::Server => (self.server_max_window_bits, self.client_no_context_takeover),
            Role::Client => (self.client_max_window_bits, self.server_no_context_takeover),
        };
        Deflate { own_bits, peer_forgets, decompress: None }
    }
}

/// Messages of one connection in and out of compression. Idle, and with a peer that forgets, it owns nothing.
#[derive(Debug)]
pub struct Deflate {
    own_bits: u8,
    peer_forgets: bool,
    /// What the peer's messages so far have left, if it does not forget.
    decompress: Option<Box<Decompress>>,
}

impl Deflate {
    /// Writes a message behind what `out` holds, compressed if that is worth it.
    pub fn write(&self, out: &mut BytesMut, opcode: OpCode, payload: &[u8], mask: Option<[u8; 4]>) {
        let compressed = if payload.len() < COMPRESS_MIN { None } else { self.compress(payload) };
        let compressed = compressed.filter(|compressed| compressed.len() < payload.len());
        let (rsv, payload) = compressed.as_deref().map_or((0, payload), |compressed| (0b100, compressed));
        Header { fin: true, rsv, opcode, mask, payload_len: payload.len() as u64 }.write(out);
        let start = out.len();
        out.put_slice(payload);
        if let Some(key) = mask {
            apply_mask(&mut out[start..], key, 0);
        }
    }

    /// A compressed payload, without its [`TAIL`]. Our end keeps no context, which is allowed whatever was agreed on.
    fn compress(&self, payload: &[u8]) -> Option<Vec<u8>> {
        let bits = self.own_bits.max(WINDOW_MIN);
        let mut compress = Compress::new_with_window_bits(Compression::fast(), false, bits);
        let mut out = Vec::with_capacity(payload.len() / 2 + 64);
        loop {
            let used = usize::try_from(compress.total_in()).ok()?;
            compress.compress_vec(&payload[used..], &mut out, FlushCompress::Sync).ok()?;
            if compress.total_in() == payload.len() as u64 && out.len() < out.capacity() {
                break;
            }
            out.reserve(out.capacity().max(64));
        }
        let len = out.len().checked_sub(TAIL.len())?;
        debug_assert_eq!(out[len..], TAIL, "a sync flush ends so");
        out.truncate(len);
        Some(out)
    }

    /// The message that a compressed payload is; at most `max` bytes.
    ///
    /// # Errors
    /// [`ProtocolError::TooBig`], or [`ProtocolError::Deflate`] if it is no compressed data. The connection is to be closed.
    pub fn inflate(&mut self, payload: &[u8], max: usize) -> Result<Vec<u8>, ProtocolError> {
        // A decompressor for the largest window reads those of smaller ones as well.
        let mut decompress =
            self.decompress.take().unwrap_or_else(|| Box::new(Decompress::new_with_window_bits(false, WINDOW_MAX)));
        let mut out = Vec::new();
        for piece in [payload, &TAIL] {
            inflate(&mut decompress, piece, &mut out, max)?;
        }
        if !self.peer_forgets {
            self.decompress = Some(decompress);
        }
        Ok(out)
    }
}

fn inflate(decompress: &mut Decompress, mut data: &[u8], out: &mut Vec<u8>, max: usize) -> Result<(), ProtocolError> {
    loop {
        // One byte more than allowed is enough to know.
        let room = (max + 1 - out.len()).min(out.len().max(GROW).max(data.len()));
        out.reserve_exact(room);
        let before = (decompress.total_in(), out.len());
        let status = decompress.decompress_vec(data, out, FlushDecompress::Sync).map_err(|_| ProtocolError::Deflate)?;
        if out.len() > max {
            return Err(ProtocolError::TooBig { limit: max });
        }
        let used = usize::try_from(decompress.total_in() - before.0).unwrap_or(data.len());
        data = &data[used..];
        if status == Status::StreamEnd {
            // A peer may end its stream with a message and begin another one (section 7.2.3.5).
            decompress.reset(false);
        }
        let stuck = used == 0 && out.len() == before.1;
        if data.is_empty() && (out.len() < out.capacity() || stuck) {
            return Ok(());
        }
        if stuck && status != Status::StreamEnd {
            return Err(ProtocolError::Deflate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_and_answers() {
        let (params, answer) = accept(OFFER).unwrap();
        assert_eq!(
            answer,
            OFFER.replace("client_no_context_takeover; server", "server") + "; client_no_context_takeover"
        );
        assert_eq!(Params::agreed(&answer), Some(params));
        let (params, answer) = accept("x-other, permessage-deflate; server_max_window_bits=10").unwrap();
        assert_eq!(params.server_max_window_bits, 10);
        assert_eq!(Params::agreed(&answer), Some(params));
        let second = accept("permessage-deflate; server_max_window_bits=8, permessage-deflate; client_max_window_bits");
        assert_eq!(second.unwrap().0.server_max_window_bits, 15);
        for none in ["", "x-other", "permessage-deflate; what", "permessage-deflate; server_max_window_bits=16"] {
            assert_eq!(accept(none), None, "{none}");
        }
        assert_eq!(Params::agreed("permessage-deflate"), Some(Params::default()));
        for bad in [
            "permessage-deflate, permessage-deflate",
            "permessage-deflate; client_max_window_bits=10",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; server_max_window_bits=010",
            "permessage-deflate; server_no_context_takeover=1",
            "x-other",
        ] {
            assert_eq!(Params::agreed(bad), None, "{bad}");
        }
    }

    /// The examples of RFC 7692 section 7.2.3: "Hello" without and with context takeover, not compressed, and with a final
    /// block.
    #[test]
    fn the_rfcs_examples() {
        let mut peer = Params::default().start(Role::Client);
        let first = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        let second = [0xf2, 0x00, 0x11, 0x00, 0x00];
        assert_eq!(peer.inflate(&first, 5).as_deref(), Ok(&b"Hello"[..]));
        assert_eq!(peer.inflate(&second, 5).as_deref(), Ok(&b"Hello"[..]));
        let plain = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
        assert_eq!(peer.inflate(&plain, 5).as_deref(), Ok(&b"Hello"[..]));
        let ended = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
        assert_eq!(peer.inflate(&ended, 5).as_deref(), Ok(&b"Hello"[..]));
        assert_eq!(peer.inflate(&[0], 5).as_deref(), Ok(&b""[..]), "an empty message");
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let params = Params { server_no_context_takeover: true, ..Params::default() };
        let mut client = params.start(Role::Client);
        let bomb = params.start(Role::Server).compress(&vec![b'a'; 4 << 20]).unwrap();
        assert!(bomb.len() < 100_000);
        assert_eq!(client.inflate(&bomb, 1000), Err(ProtocolError::TooBig { limit: 1000 }));
        assert_eq!(client.inflate(&bomb, 4 << 20).map(|message| message.len()), Ok(4 << 20));
        assert!(client.decompress.is_none(), "a peer that forgets costs nothing");
        assert_eq!(client.inflate(&[0xff, 0xff, 0xff], 1000), Err(ProtocolError::Deflate));
    }
}
