//! One frame: its header read and written, and whole frames built without moving their payloads about.

use bytes::{Buf, Bytes, BytesMut};

use super::mask::apply_mask;
use super::{CloseCode, OpCode, ProtocolError};

/// The longest header: two bytes, a 64-bit length and a masking key.
pub const HEADER_MAX: usize = 14;

/// The longest payload of a control frame (RFC 6455 section 5.5).
pub const CONTROL_PAYLOAD_MAX: usize = 125;

/// The longest reason in a close frame: what the code's two bytes leave of a control frame.
pub const CLOSE_REASON_MAX: usize = CONTROL_PAYLOAD_MAX - 2;

/// The longest header without a masking key, as a server writes it.
const UNMASKED_HEADER_MAX: usize = 10;

/// What stands in front of a payload (RFC 6455 section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whether this is the last (or only) frame of its message.
    pub fin: bool,
    /// The three reserved bits, RSV1 the highest of them (`0b100`). All zero unless an extension gives them a meaning.
    pub rsv: u8,
    /// What the payload is.
    pub opcode: OpCode,
    /// The masking key, if the payload is masked.
    pub mask: Option<[u8; 4]>,
    /// The number of bytes that follow the header.
    pub payload_len: u64,
}

impl Header {
    /// Reads a header from the start of `data`: the header and its own length in bytes, or `None` if it is not whole
    /// yet.
    ///
    /// Who may mask, the reserved bits and the order of fragments are the business of [`Reader`](super::Reader).
    ///
    /// ```
    /// use sc_protocol::ws::{OpCode, frame::Header};
    ///
    /// let (header, len) = Header::parse(b"\x81\x05Hello")?.unwrap();
    /// assert_eq!((header.opcode, header.payload_len, len), (OpCode::Text, 5, 2));
    /// assert_eq!(Header::parse(b"\x81")?, None);
    /// # Ok::<(), sc_protocol::ws::ProtocolError>(())
    /// ```
    ///
    /// # Errors
    /// A reserved opcode, a control frame that is fragmented or too long, a length that is not in its shortest form or
    /// over 63 bits; each as soon as its bytes are there, so that an error does not depend on how the input is split.
    #[inline]
    pub fn parse(data: &[u8]) -> Result<Option<(Self, usize)>, ProtocolError> {
        let Some(&first) = data.first() else { return Ok(None) };
        let fin = first & 0x80 != 0;
        let opcode = OpCode::from_bits(first & 0x0f).ok_or(ProtocolError::ReservedOpCode(first & 0x0f))?;
        if opcode.is_control() && !fin {
            return Err(ProtocolError::FragmentedControl);
        }
        let Some(&second) = data.get(1) else { return Ok(None) };
        let short_len = second & 0x7f;
        if opcode.is_control() && usize::from(short_len) > CONTROL_PAYLOAD_MAX {
            return Err(ProtocolError::ControlTooLong);
        }
        let after = &data[2..];
        let (payload_len, mut at) = match short_len {
            126 => {
                let Some(bytes) = after.first_chunk() else { return Ok(None) };
                (u64::from(u16::from_be_bytes(*bytes)), 4)
            }
            127 => {
                let Some(bytes) = after.first_chunk() else { return Ok(None) };
                (u64::from_be_bytes(*bytes), 10)
            }
            len => (u64::from(len), 2),
        };
        if payload_len > u64::MAX >> 1 {
            return Err(ProtocolError::LengthTooLarge);
        }
        if (short_len == 126 && payload_len < 126) || (short_len == 127 && payload_len <= 0xffff) {
            return Err(ProtocolError::LengthNotMinimal);
        }
        let mut mask = None;
        if second & 0x80 != 0 {
            let Some(key) = data[at..].first_chunk() else { return Ok(None) };
            mask = Some(*key);
            at += 4;
        }
        Ok(Some((Self { fin, rsv: first >> 4 & 7, opcode, mask, payload_len }, at)))
    }

    /// Writes the header behind what `out` holds, the length in its shortest form.
    pub fn write(&self, out: &mut BytesMut) {
        let (bytes, len) = self.encode();
        out.extend_from_slice(&bytes[..len]);
    }

    /// The header's bytes and how many of them count.
    #[inline]
    fn encode(&self) -> ([u8; HEADER_MAX], usize) {
        let mut bytes = [0; HEADER_MAX];
        bytes[0] = u8::from(self.fin) << 7 | (self.rsv & 7) << 4 | self.opcode as u8;
        let mask_bit = u8::from(self.mask.is_some()) << 7;
        let mut len = match self.payload_len {
            0..=125 => {
                bytes[1] = mask_bit | self.payload_len as u8;
                2
            }
            126..=0xffff => {
                bytes[1] = mask_bit | 126;
                bytes[2..4].copy_from_slice(&(self.payload_len as u16).to_be_bytes());
                4
            }
            _ => {
                bytes[1] = mask_bit | 127;
                bytes[2..10].copy_from_slice(&self.payload_len.to_be_bytes());
                10
            }
        };
        if let Some(key) = self.mask {
            bytes[len..len + 4].copy_from_slice(&key);
            len += 4;
        }
        (bytes, len)
    }

    /// The header of an unfragmented frame.
    fn whole(opcode: OpCode, mask: Option<[u8; 4]>, payload_len: usize) -> Self {
        debug_assert!(!opcode.is_control() || payload_len <= CONTROL_PAYLOAD_MAX, "a control frame over 125 bytes");
        Self { fin: true, rsv: 0, opcode, mask, payload_len: payload_len as u64 }
    }
}

/// Writes one unfragmented frame behind what `out` holds. A client gives a masking key, fresh for every frame and hard
/// to guess (RFC 6455 section 5.3); a server gives none.
///
/// ```
/// use bytes::BytesMut;
/// use sc_protocol::ws::{OpCode, frame};
///
/// let mut out = BytesMut::new();
/// frame::write(&mut out, OpCode::Text, b"Hello", Some([0x37, 0xfa, 0x21, 0x3d]));
/// assert_eq!(&out[..], [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
/// ```
pub fn write(out: &mut BytesMut, opcode: OpCode, payload: &[u8], mask: Option<[u8; 4]>) {
    let (header, header_len) = Header::whole(opcode, mask, payload.len()).encode();
    out.reserve(header_len + payload.len());
    out.extend_from_slice(&header[..header_len]);
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = mask {
        apply_mask(&mut out[start..], key, 0);
    }
}

/// Builds one unfragmented, unmasked frame whose payload `fill` appends, and never moves that payload: room for the
/// longest header is left in front of it and what the real header does not need is cut off.
///
/// What `scratch` held is dropped. The frame shares `scratch`'s allocation, whose rest serves the next calls, so that
/// one allocation holds many small frames; it is freed when the last of them is.
///
/// ```
/// use bytes::BytesMut;
/// use sc_protocol::ws::{OpCode, frame};
///
/// let mut scratch = BytesMut::with_capacity(1024);
/// let frame = frame::build(&mut scratch, OpCode::Text, |payload| payload.extend_from_slice(b"Hello"));
/// assert_eq!(&frame[..], b"\x81\x05Hello");
/// ```
///
/// # Panics
/// If `fill` cuts off what was there before it.
pub fn build(scratch: &mut BytesMut, opcode: OpCode, fill: impl FnOnce(&mut BytesMut)) -> Bytes {
    scratch.clear();
    scratch.extend_from_slice(&[0; UNMASKED_HEADER_MAX]);
    fill(scratch);
    let payload_len = appended(scratch, UNMASKED_HEADER_MAX);
    let (header, header_len) = Header::whole(opcode, None, payload_len).encode();
    let start = UNMASKED_HEADER_MAX - header_len;
    scratch[start..UNMASKED_HEADER_MAX].copy_from_slice(&header[..header_len]);
    let mut frame = scratch.split().freeze();
    frame.advance(start);
    frame
}

/// Writes one unfragmented frame, whose payload `fill` appends, behind what `out` holds; for either role.
///
/// The room left for the header fits payloads of 126 to 65,535 bytes. A shorter payload is moved by two bytes, which
/// costs next to nothing; a longer one by six.
///
/// # Panics
/// If `fill` cuts off what was there before it.
pub fn append(out: &mut BytesMut, opcode: OpCode, mask: Option<[u8; 4]>, fill: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    let guess = if mask.is_some() { 8 } else { 4 };
    out.extend_from_slice(&[0; 8][..guess]);
    fill(out);
    let payload_len = appended(out, start + guess);
    let (header, header_len) = Header::whole(opcode, mask, payload_len).encode();
    let (from, to) = (start + guess, start + header_len);
    if to > from {
        out.resize(to + payload_len, 0);
    }
    if to != from {
        out.copy_within(from..from + payload_len, to);
        out.truncate(to + payload_len);
    }
    out[start..to].copy_from_slice(&header[..header_len]);
    if let Some(key) = mask {
        apply_mask(&mut out[to..], key, 0);
    }
}

/// Writes a close frame behind what `out` holds.
///
/// The reason is cut to [`CLOSE_REASON_MAX`] bytes at the end of a character. Without a code there is no reason either;
/// a code that must not stand in a close frame (see [`CloseCode::is_sendable`]), such as 1005, is left out in the same
/// way.
pub fn write_close(out: &mut BytesMut, code: Option<u16>, reason: &str, mask: Option<[u8; 4]>) {
    let Some(code) = code.filter(|&code| CloseCode(code).is_sendable()) else {
        return write(out, OpCode::Close, b"", mask);
    };
    let mut end = reason.len().min(CLOSE_REASON_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut payload = [0; CONTROL_PAYLOAD_MAX];
    payload[..2].copy_from_slice(&code.to_be_bytes());
    payload[2..2 + end].copy_from_slice(&reason.as_bytes()[..end]);
    write(out, OpCode::Close, &payload[..2 + end], mask);
}

/// How many bytes a caller's `fill` appended behind `start`.
fn appended(out: &BytesMut, start: usize) -> usize {
    out.len().checked_sub(start).expect("`fill` may only append to what it is given")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    #[test]
    fn the_reserved_bits_are_kept() {
        let (header, len) = Header::parse(&[0xc1, 0x00]).unwrap().unwrap();
        assert_eq!((header.rsv, len), (0b100, 2));
        let mut out = BytesMut::new();
        header.write(&mut out);
        assert_eq!(&out[..], [0xc1, 0x00]);
    }

    #[test]
    fn a_header_is_whole_with_its_last_byte_only() {
        for payload_len in [0, 125, 126, 0xffff, 0x10000, u64::MAX >> 1] {
            for mask in [None, Some(KEY)] {
                let header = Header { fin: true, rsv: 0, opcode: OpCode::Binary, mask, payload_len };
                let mut out = BytesMut::new();
                header.write(&mut out);
                for cut in 0..out.len() {
                    assert_eq!(Header::parse(&out[..cut]), Ok(None));
                }
                assert_eq!(Header::parse(&out), Ok(Some((header, out.len()))));
            }
        }
    }

    #[test]
    fn bad_headers_are_refused_at_their_first_bad_byte() {
        let cases: [(&[u8], ProtocolError); 8] = [
            (&[0x83], ProtocolError::ReservedOpCode(3)),
            (&[0x8f], ProtocolError::ReservedOpCode(15)),
            (&[0x09], ProtocolError::FragmentedControl),
            (&[0x89, 0x7e], ProtocolError::ControlTooLong),
            (&[0x88, 0xff], ProtocolError::ControlTooLong),
            (&[0x82, 126, 0, 125], ProtocolError::LengthNotMinimal),
            (&[0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], ProtocolError::LengthNotMinimal),
            (&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], ProtocolError::LengthTooLarge),
        ];
        for (bytes, error) in cases {
            assert_eq!(Header::parse(bytes), Err(error), "{bytes:x?}");
            assert_eq!(Header::parse(&bytes[..bytes.len() - 1]), Ok(None), "{bytes:x?} without its last byte");
        }
    }

    #[test]
    fn all_ways_to_write_a_frame_agree() {
        let mut scratch = BytesMut::new();
        for len in [0, 1, 124, 125, 126, 127, 1000, 0xffff, 0x10000, 70_000] {
            let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let mut written = BytesMut::from(&b"before"[..]);
            write(&mut written, OpCode::Binary, &payload, None);
            let built = build(&mut scratch, OpCode::Binary, |out| out.extend_from_slice(&payload));
            assert_eq!(written[6..], built[..]);

            for mask in [None, Some(KEY)] {
                let mut written = BytesMut::from(&b"before"[..]);
                write(&mut written, OpCode::Binary, &payload, mask);
                let mut appended = BytesMut::from(&b"before"[..]);
                append(&mut appended, OpCode::Binary, mask, |out| out.extend_from_slice(&payload));
                assert_eq!(written, appended);
            }
        }
    }

    #[test]
    fn frames_built_one_after_another_do_not_touch_each_other() {
        let mut scratch = BytesMut::with_capacity(256);
        let frames: Vec<Bytes> = (0..50u8)
            .map(|i| build(&mut scratch, OpCode::Text, |out| out.extend_from_slice(&[b'a'; 20][..i as usize % 20])))
            .collect();
        for (i, frame) in frames.iter().enumerate() {
            assert_eq!(frame[..2], [0x81, i as u8 % 20]);
            assert_eq!(frame.len(), 2 + i % 20);
        }
    }

    #[test]
    fn a_close_reason_is_cut_at_a_character() {
        let mut out = BytesMut::new();
        write_close(&mut out, Some(4003), &"é".repeat(100), None);
        assert_eq!(out[..4], [0x88, 124, 0x0f, 0xa3]);
        assert_eq!(&out[4..], "é".repeat(61).as_bytes());

        out.clear();
        write_close(&mut out, Some(1000), &"a".repeat(124), None);
        assert_eq!(out.len(), 2 + 125);
    }

    #[test]
    fn a_code_that_may_not_be_sent_makes_an_empty_close() {
        for code in [None, Some(1005), Some(1006), Some(0), Some(5000)] {
            let mut out = BytesMut::new();
            write_close(&mut out, code, "why", None);
            assert_eq!(&out[..], [0x88, 0]);
        }
    }
}
