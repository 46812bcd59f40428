//! The receive half: bytes in, messages and control frames out.

use std::ops::ControlFlow;
use std::str;

use super::frame::{HEADER_MAX, Header};
use super::mask::apply_mask;
use super::utf8::Utf8Validator;
use super::{CloseCode, OpCode, ProtocolError, Role};

/// The reserved bit that says that a message is compressed (RFC 7692 section 6).
const RSV1: u8 = 0b100;

/// What a peer sent, lent for the duration of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole text message.
    Text(&'a str),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// To be answered by a pong with the same payload (RFC 6455 section 5.5.2).
    Ping(&'a [u8]),
    /// The answer to a ping.
    Pong(&'a [u8]),
    /// Code and reason, `None` for a close without a code (which counts as 1005). It is the last event; to be answered
    /// by a close frame if none was sent yet (section 5.5.1).
    Close(Option<(u16, &'a str)>),
}

/// The receive half of a WebSocket: takes bytes split anywhere, reports [`Event`]s.
///
/// A frame that is whole within the bytes it is given, and whole as a message, is unmasked where it is and lent from
/// there: no copy, no allocation. Everything unfinished is in one box that is freed as soon as nothing is unfinished,
/// so that an idle connection costs 16 bytes here. The box grows with what arrives, never with what a header announces.
///
/// ```
/// use std::ops::ControlFlow;
/// use sc_protocol::ws::{Event, Reader, Role};
///
/// let mut reader = Reader::new(Role::Client);
/// let mut texts = Vec::new();
/// for chunk in [&b"\x81\x05He"[..], b"llo\x81\x01!"] {
///     reader.handle_bytes(1 << 20, &mut chunk.to_vec(), |event| {
///         if let Event::Text(text) = event {
///             texts.push(text.to_owned());
///         }
///         ControlFlow::Continue(())
///     })?;
/// }
/// assert_eq!(texts, ["Hello", "!"]);
/// assert!(reader.is_idle());
/// # Ok::<(), sc_protocol::ws::ProtocolError>(())
/// ```
#[derive(Debug)]
pub struct Reader {
    role: Role,
    /// permessage-deflate was agreed on: the first frame of a message may have the bit that says it is compressed.
    compressed: bool,
    /// A close came, or an error was found: what follows is no WebSocket data (section 5.5.1).
    ended: bool,
    partial: Option<Box<Partial>>,
}

/// What is unfinished.
#[derive(Debug, Default)]
struct Partial {
    /// The start of a header.
    header: [u8; HEADER_MAX],
    header_len: usize,
    /// The frame whose payload is arriving, and how many bytes of it have.
    frame: Option<(Header, usize)>,
    /// What the data message under way is: `Text` or `Binary`.
    message: Option<OpCode>,
    /// Whether it is compressed.
    compressed: bool,
    /// The unmasked payload of that message so far, and behind it that of a control frame which is arriving.
    payload: Vec<u8>,
    /// Holds text to UTF-8 while it arrives, so that bad text is refused before its end comes.
    utf8: Utf8Validator,
}

impl Reader {
    /// A reader for a connection on which this end has the given role.
    pub const fn new(role: Role) -> Self {
        Self { role, compressed: false, ended: false, partial: None }
    }

    /// Takes what came from the peer and reports every event that is whole, in order. Payloads in `data` are unmasked
    /// in place.
    ///
    /// A data message may have up to `max_payload` bytes, over all its fragments; a longer one is refused when the
    /// header that announces too much is read, before anything of it is kept. Control frames have their own limit of
    /// 125 bytes.
    ///
    /// `sink` may stop the reader after any event. The answer is the number of bytes used: all of `data`, or, if `sink`
    /// stopped, all up to the end of the frame it stopped after; the caller gives the rest again when it wants to go
    /// on. What follows a close is used and ignored.
    ///
    /// # Errors
    /// What the peer did wrong. The connection is to be closed with [`ProtocolError::close_code`]; whatever is
    /// still given to the reader is used and ignored. Events before the error were reported. Neither they nor the error
    /// depend on how the input was split.
    pub fn handle_bytes(
        &mut self,
        max_payload: usize,
        data: &mut [u8],
        mut sink: impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<usize, ProtocolError> {
        debug_assert!(!self.compressed, "what is compressed needs handle_compressed");
        self.handle_compressed(max_payload, data, |event, _| sink(event))
    }

    /// Messages may be compressed from now on (RFC 7692 section 6): they are read with
    /// [`handle_compressed`](Self::handle_compressed).
    pub const fn allow_compressed(&mut self) {
        self.compressed = true;
    }

    /// [`handle_bytes`](Self::handle_bytes) for a connection that agreed on permessage-deflate. A compressed message comes as
    /// [`Event::Binary`], with the opcode that it will have; `max_payload` is the limit of what arrives.
    ///
    /// # Errors
    /// As there.
    pub fn handle_compressed(
        &mut self,
        max_payload: usize,
        data: &mut [u8],
        mut sink: impl FnMut(Event<'_>, Option<OpCode>) -> ControlFlow<()>,
    ) -> Result<usize, ProtocolError> {
        let mut used = 0;
        while used < data.len() {
            if self.ended {
                return Ok(data.len());
            }
            match self.step(max_payload, &mut data[used..], &mut sink) {
                Ok((step, flow)) => {
                    debug_assert!(step > 0, "each step uses at least one byte");
                    used += step;
                    if flow.is_break() {
                        break;
                    }
                }
                Err(error) => {
                    self.end();
                    return Err(error);
                }
            }
        }
        self.check_invariants();
        Ok(used)
    }

    /// Whether nothing is unfinished, and therefore no buffer is held.
    pub const fn is_idle(&self) -> bool {
        self.partial.is_none()
    }

    /// How many bytes of the peer's are held because they are not a whole message yet.
    pub fn buffered(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.header_len + partial.payload.len())
    }

    /// Goes on by one frame, or by all of `data`: the bytes used, and what the sink said.
    #[inline]
    fn step(
        &mut self,
        max_payload: usize,
        data: &mut [u8],
        sink: &mut impl FnMut(Event<'_>, Option<OpCode>) -> ControlFlow<()>,
    ) -> Result<(usize, ControlFlow<()>), ProtocolError> {
        if let Some(partial) = &self.partial
            && let Some((header, received)) = partial.frame
        {
            return self.resume(header, received, data, sink);
        }
        let Some((header, header_len)) = self.read_header(data)? else {
            return Ok((data.len(), ControlFlow::Continue(())));
        };
        self.check_header(&header, max_payload)?;
        let rest = &mut data[header_len..];
        let Some(payload) = usize::try_from(header.payload_len).ok().and_then(|len| rest.get_mut(..len)) else {
            let (used, flow) = self.resume(header, 0, rest, sink)?;
            return Ok((header_len + used, flow));
        };
        if let Some(key) = header.mask {
            apply_mask(payload, key, 0);
        }
        let used = header_len + payload.len();
        let flow = self.whole_frame(&header, payload, sink)?;
        Ok((used, flow))
    }

    /// The header at the start of `data`, or one whose start came before, and how many bytes of `data` are its.
    #[inline]
    fn read_header(&mut self, data: &[u8]) -> Result<Option<(Header, usize)>, ProtocolError> {
        let held = self.partial.as_ref().map_or(0, |partial| partial.header_len);
        if held == 0
            && let Some(parsed) = Header::parse(data)?
        {
            return Ok(Some(parsed));
        }
        let partial = self.partial.get_or_insert_default();
        let end = HEADER_MAX.min(held + data.len());
        partial.header[held..end].copy_from_slice(&data[..end - held]);
        let parsed = Header::parse(&partial.header[..end])?;
        partial.header_len = if parsed.is_some() { 0 } else { end };
        Ok(parsed.map(|(header, len)| (header, len - held)))
    }

    /// The rules that need more than the header itself.
    #[inline]
    fn check_header(&self, header: &Header, max_payload: usize) -> Result<(), ProtocolError> {
        let first = matches!(header.opcode, OpCode::Text | OpCode::Binary);
        if header.rsv != 0 && !(header.rsv == RSV1 && self.compressed && first) {
            return Err(ProtocolError::ReservedBits);
        }
        match self.role {
            Role::Server if header.mask.is_none() => return Err(ProtocolError::NotMasked),
            Role::Client if header.mask.is_some() => return Err(ProtocolError::Masked),
            _ => {}
        }
        if header.opcode.is_control() {
            return Ok(());
        }
        let mut held = 0;
        match (&self.partial, header.opcode) {
            (Some(partial), OpCode::Continuation) if partial.message.is_some() => held = partial.payload.len(),
            (_, OpCode::Continuation) => return Err(ProtocolError::UnexpectedContinuation),
            (Some(partial), _) if partial.message.is_some() => return Err(ProtocolError::ExpectedContinuation),
            _ => {}
        }
        if header.payload_len.saturating_add(held as u64) > max_payload as u64 {
            return Err(ProtocolError::TooBig { limit: max_payload });
        }
        Ok(())
    }

    /// A frame whose payload is whole in the caller's buffer, unmasked.
    #[inline]
    fn whole_frame(
        &mut self,
        header: &Header,
        payload: &[u8],
        sink: &mut impl FnMut(Event<'_>, Option<OpCode>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ProtocolError> {
        if header.opcode.is_control() || (header.fin && header.opcode != OpCode::Continuation) {
            let flow = match header.rsv {
                0 => sink(event(header.opcode, payload)?, None),
                _ => sink(Event::Binary(payload), Some(header.opcode)),
            };
            if header.opcode == OpCode::Close {
                self.end();
            }
            self.release();
            return Ok(flow);
        }
        let partial = self.partial.get_or_insert_default();
        partial.begin(header);
        partial.push(header, payload, payload.len())?;
        if header.fin { self.finish_message(sink) } else { Ok(ControlFlow::Continue(())) }
    }

    /// Takes what `data` has of a payload of which `received` bytes came before.
    fn resume(
        &mut self,
        header: Header,
        received: usize,
        data: &mut [u8],
        sink: &mut impl FnMut(Event<'_>, Option<OpCode>) -> ControlFlow<()>,
    ) -> Result<(usize, ControlFlow<()>), ProtocolError> {
        let missing = usize::try_from(header.payload_len).unwrap_or(usize::MAX) - received;
        let used = missing.min(data.len());
        let piece = &mut data[..used];
        if let Some(key) = header.mask {
            apply_mask(piece, key, received);
        }
        let partial = self.partial.get_or_insert_default();
        if received == 0 {
            partial.begin(&header);
        }
        partial.push(&header, piece, missing)?;
        if used < missing {
            partial.frame = Some((header, received + used));
            return Ok((used, ControlFlow::Continue(())));
        }
        partial.frame = None;
        let flow = if header.opcode.is_control() {
            let start = partial.payload.len() - (received + used);
            let flow = sink(event(header.opcode, &partial.payload[start..])?, None);
            partial.payload.truncate(start);
            if header.opcode == OpCode::Close {
                self.end();
            }
            self.release();
            flow
        } else if header.fin {
            self.finish_message(sink)?
        } else {
            ControlFlow::Continue(())
        };
        Ok((used, flow))
    }

    /// Reports the message under way, which is whole now.
    fn finish_message(
        &mut self,
        sink: &mut impl FnMut(Event<'_>, Option<OpCode>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ProtocolError> {
        let Some(partial) = self.partial.take() else { return Ok(ControlFlow::Continue(())) };
        debug_assert!(partial.message.is_some(), "a message that ends has begun");
        let opcode = partial.message.unwrap_or(OpCode::Binary);
        if partial.compressed {
            return Ok(sink(Event::Binary(&partial.payload), Some(opcode)));
        }
        Ok(sink(event(opcode, &partial.payload)?, None))
    }

    /// Frees the box if nothing in it is unfinished.
    #[inline]
    fn release(&mut self) {
        if let Some(partial) = &self.partial
            && partial.message.is_none()
            && partial.frame.is_none()
            && partial.header_len == 0
        {
            self.partial = None;
        }
    }

    fn end(&mut self) {
        self.ended = true;
        self.partial = None;
    }

    fn check_invariants(&self) {
        let Some(partial) = &self.partial else { return };
        debug_assert!(!self.ended, "an ended reader holds nothing");
        debug_assert!(partial.header_len < HEADER_MAX && (partial.header_len == 0 || partial.frame.is_none()));
        debug_assert!(
            partial.message.is_some() || partial.frame.is_some() || partial.header_len > 0,
            "the box is there because something is unfinished"
        );
    }
}

impl Partial {
    /// Notes that a data message begins, unless `header` continues one or is of a control frame.
    fn begin(&mut self, header: &Header) {
        if matches!(header.opcode, OpCode::Text | OpCode::Binary) {
            self.message = Some(header.opcode);
            self.compressed = header.rsv != 0;
        }
    }

    /// Keeps the next piece of a payload of which `missing` bytes, these included, have not been kept yet.
    fn push(&mut self, header: &Header, piece: &[u8], missing: usize) -> Result<(), ProtocolError> {
        let data = !header.opcode.is_control();
        let last = data && header.fin;
        if data && self.message == Some(OpCode::Text) && !self.compressed && !(last && piece.len() == missing) {
            // The whole text is validated at its end, so its last piece needs no look here.
            self.utf8.feed(piece)?;
        }
        let len = self.payload.len();
        if last && self.payload.capacity() - len < piece.len() {
            // Doubles as `Vec` does, but not beyond the message's known end. In other frames a bound at the frame's end
            // would make many small frames copy the whole message each time.
            self.payload.reserve_exact(piece.len().max(len).min(missing));
        }
        self.payload.extend_from_slice(piece);
        Ok(())
    }
}

/// What a whole payload says. `Continuation` does not come here: a message has its first fragment's opcode.
#[inline]
fn event(opcode: OpCode, payload: &[u8]) -> Result<Event<'_>, ProtocolError> {
    debug_assert_ne!(opcode, OpCode::Continuation);
    Ok(match opcode {
        OpCode::Text => Event::Text(str::from_utf8(payload).map_err(|_| ProtocolError::InvalidUtf8)?),
        OpCode::Binary | OpCode::Continuation => Event::Binary(payload),
        OpCode::Ping => Event::Ping(payload),
        OpCode::Pong => Event::Pong(payload),
        OpCode::Close => Event::Close(close(payload)?),
    })
}

fn close(payload: &[u8]) -> Result<Option<(u16, &str)>, ProtocolError> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(ProtocolError::CloseTooShort) };
    };
    let code = u16::from_be_bytes(*code);
    if !CloseCode(code).is_sendable() {
        return Err(ProtocolError::CloseCode(code));
    }
    Ok(Some((code, str::from_utf8(reason).map_err(|_| ProtocolError::InvalidUtf8)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_is_two_words() {
        assert!(size_of::<Reader>() <= 16);
    }

    /// The room a reader has taken after each of these pieces.
    fn room(reader: &mut Reader, pieces: &[&[u8]]) -> Vec<usize> {
        let mut take = |piece: &&[u8]| {
            let used = reader.handle_bytes(usize::MAX, &mut piece.to_vec(), |_| ControlFlow::Continue(()));
            assert_eq!(used, Ok(piece.len()));
            reader.partial.as_ref().map_or(0, |partial| partial.payload.capacity())
        };
        pieces.iter().map(&mut take).collect()
    }

    #[test]
    fn room_grows_with_what_arrives_and_ends_at_the_messages_end() {
        let header = [0x82, 127, 0, 0, 0, 0, 0, 0x10, 0, 0]; // one mebibyte is announced
        let piece = [0; 1000];
        let taken = room(&mut Reader::new(Role::Client), &[&header, &piece, &piece, &piece]);
        assert_eq!(taken, [0, 1000, 2000, 4000]);

        let header = [0x82, 126, 0x09, 0xc4]; // 2500 bytes
        let taken = room(&mut Reader::new(Role::Client), &[&header, &piece, &piece, &piece[..499], &piece[..1]]);
        assert_eq!(taken, [0, 1000, 2000, 2500, 0]);
    }

    #[test]
    fn small_fragments_do_not_copy_the_message_each_time() {
        let mut reader = Reader::new(Role::Client);
        let mut growths = 0;
        let mut before = room(&mut reader, &[b"\x02\x01a"])[0];
        for _ in 0..4000 {
            // A fragment, and a ping that comes split and so passes through the same buffer.
            for taken in room(&mut reader, &[b"\x00\x01a\x89\x02p", b"i"]) {
                growths += usize::from(taken != before);
                before = taken;
            }
        }
        assert!(growths < 20, "{growths} growths for 4 KB");
    }

    #[test]
    fn the_payload_of_a_close_is_none_or_a_code_and_text() {
        assert_eq!(close(b""), Ok(None));
        assert_eq!(close(&[3]), Err(ProtocolError::CloseTooShort));
        assert_eq!(close(&[3, 0xe8]), Ok(Some((1000, ""))));
        assert_eq!(close(b"\x0f\xa1bye"), Ok(Some((4001, "bye"))));
        assert_eq!(close(&[3, 0xed]), Err(ProtocolError::CloseCode(1005)));
        assert_eq!(close(b"\x03\xe8\xff"), Err(ProtocolError::InvalidUtf8));
    }
}
