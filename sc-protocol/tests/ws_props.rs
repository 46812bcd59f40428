//! What holds for any input and any split of it.

use std::ops::ControlFlow;
use std::str;

use bytes::BytesMut;
use proptest::prelude::*;
use proptest::sample::select;
use sc_protocol::ws::frame::{self, Header};
use sc_protocol::ws::mask::apply_mask;
use sc_protocol::ws::utf8::Utf8Validator;
use sc_protocol::ws::{Event, OpCode, ProtocolError, Reader, Role};

const LIMIT: usize = 400;

/// An event that outlives its call.
#[derive(Debug, Clone, PartialEq)]
enum Owned {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

impl From<Event<'_>> for Owned {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Text(text) => Self::Text(text.to_owned()),
            Event::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Event::Ping(bytes) => Self::Ping(bytes.to_vec()),
            Event::Pong(bytes) => Self::Pong(bytes.to_vec()),
            Event::Close(close) => Self::Close(close.map(|(code, reason)| (code, reason.to_owned()))),
        }
    }
}

/// What a reader makes of the bytes, given in pieces of these sizes over and over.
fn read(role: Role, bytes: &[u8], sizes: &[usize]) -> (Vec<Owned>, Option<ProtocolError>) {
    let mut reader = Reader::new(role);
    let (mut events, mut rest) = (Vec::new(), bytes);
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*size).min(rest.len()));
        rest = after;
        let mut piece = piece.to_vec();
        let used = reader.handle_bytes(LIMIT, &mut piece, |event| {
            events.push(event.into());
            ControlFlow::Continue(())
        });
        match used {
            Ok(used) => assert_eq!(used, piece.len()),
            Err(error) => {
                assert!(reader.is_idle());
                return (events, Some(error));
            }
        }
        assert!(reader.buffered() <= LIMIT + 125 + 14);
    }
    (events, None)
}

fn role() -> impl Strategy<Value = Role> {
    select(vec![Role::Server, Role::Client])
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![Just(vec![1]), prop::collection::vec(1usize..40, 1..8), prop::collection::vec(1usize..400, 1..4)]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => "[a-zé€😀\"]{0,60}".prop_map(String::into_bytes),
        2 => prop::collection::vec(any::<u8>(), 0..20),
        1 => "[a€]{100,180}".prop_map(String::into_bytes),
        1 => (select(vec![1000u16, 1005, 4001]), "[a-z]{0,5}").prop_map(|(code, reason)| [&code.to_be_bytes(), reason.as_bytes()].concat()),
    ]
}

/// One frame, mostly a valid one, for a reader of that role.
fn frame_for(role: Role) -> impl Strategy<Value = Vec<u8>> {
    let opcodes = vec![
        (6, OpCode::Text),
        (2, OpCode::Binary),
        (6, OpCode::Continuation),
        (3, OpCode::Ping),
        (2, OpCode::Pong),
        (1, OpCode::Close),
    ];
    let opcode = prop::sample::select(
        opcodes.into_iter().flat_map(|(weight, opcode)| std::iter::repeat_n(opcode, weight)).collect::<Vec<_>>(),
    );
    let odd = prop::bool::weighted(0.02);
    (opcode, payload(), any::<[u8; 4]>(), any::<bool>(), odd, any::<u8>()).prop_map(
        move |(opcode, mut payload, key, fin, odd, noise)| {
            if opcode.is_control() {
                payload.truncate(125);
            }
            let masked = (role == Role::Server) != (odd && noise & 1 == 1);
            let header = Header {
                fin: fin || opcode.is_control(),
                rsv: if odd { noise >> 1 & 7 } else { 0 },
                opcode,
                mask: masked.then_some(key),
                payload_len: payload.len() as u64,
            };
            let mut out = BytesMut::new();
            header.write(&mut out);
            let start = out.len();
            out.extend_from_slice(&payload);
            if masked {
                apply_mask(&mut out[start..], key, 0);
            }
            out.to_vec()
        },
    )
}

fn stream() -> impl Strategy<Value = (Role, Vec<u8>)> {
    role().prop_flat_map(|role| (Just(role), prop::collection::vec(frame_for(role), 0..12).prop_map(|f| f.concat())))
}

/// A message, and where to cut it into fragments.
fn message() -> impl Strategy<Value = (Owned, Vec<usize>)> {
    let data = prop_oneof![
        "\\PC{0,80}".prop_map(Owned::Text),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Owned::Binary),
        prop::collection::vec(any::<u8>(), 0..=125).prop_map(Owned::Ping),
        prop::collection::vec(any::<u8>(), 0..=125).prop_map(Owned::Pong),
    ];
    (data, prop::collection::vec(0usize..300, 0..4))
}

/// Writes a data message in fragments, with a ping of the cut's number between them.
fn write_fragments(out: &mut BytesMut, opcode: OpCode, payload: &[u8], cuts: &[usize], mask: Option<[u8; 4]>) {
    let mut at = 0;
    let mut cuts: Vec<usize> = cuts.iter().map(|&cut| cut.min(payload.len())).collect();
    cuts.sort_unstable();
    cuts.push(payload.len());
    for (i, &end) in cuts.iter().enumerate() {
        let opcode = if i == 0 { opcode } else { OpCode::Continuation };
        let piece = &payload[at..end];
        let header = Header { fin: i + 1 == cuts.len(), rsv: 0, opcode, mask, payload_len: piece.len() as u64 };
        header.write(out);
        let start = out.len();
        out.extend_from_slice(piece);
        if let Some(key) = mask {
            apply_mask(&mut out[start..], key, 0);
        }
        if !header.fin {
            frame::write(out, OpCode::Ping, &[i as u8], mask);
        }
        at = end;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_same_events_and_error((role, bytes) in stream(), sizes in sizes()) {
        prop_assert_eq!(read(role, &bytes, &sizes), read(role, &bytes, &[usize::MAX]));
    }

    #[test]
    fn any_bytes_any_split_the_same((role, bytes, sizes) in (role(), prop::collection::vec(any::<u8>(), 0..200), sizes())) {
        prop_assert_eq!(read(role, &bytes, &sizes), read(role, &bytes, &[usize::MAX]));
    }

    #[test]
    fn what_is_written_is_read((role, messages, key, sizes) in (role(), prop::collection::vec(message(), 0..6), any::<[u8; 4]>(), sizes())) {
        let mask = (role == Role::Server).then_some(key);
        let (mut out, mut expected) = (BytesMut::new(), Vec::new());
        for (event, cuts) in messages {
            match &event {
                Owned::Text(_) | Owned::Binary(_) => {
                    let (opcode, payload) = match &event {
                        Owned::Text(text) => (OpCode::Text, text.as_bytes()),
                        Owned::Binary(bytes) => (OpCode::Binary, &bytes[..]),
                        _ => unreachable!(),
                    };
                    write_fragments(&mut out, opcode, payload, &cuts, mask);
                    expected.extend((0..cuts.len()).map(|i| Owned::Ping(vec![i as u8])));
                }
                Owned::Ping(bytes) => frame::write(&mut out, OpCode::Ping, bytes, mask),
                Owned::Pong(bytes) => frame::append(&mut out, OpCode::Pong, mask, |out| out.extend_from_slice(bytes)),
                Owned::Close(_) => unreachable!(),
            }
            expected.push(event);
        }
        frame::write_close(&mut out, Some(4001), "bye", mask);
        expected.push(Owned::Close(Some((4001, "bye".to_owned()))));
        prop_assert_eq!(read(role, &out, &sizes), (expected, None));
    }

    #[test]
    fn a_sink_that_stops_misses_nothing((role, bytes) in stream()) {
        let mut reader = Reader::new(role);
        let (mut events, mut rest, mut error) = (Vec::new(), bytes.clone(), None);
        while !rest.is_empty() && error.is_none() {
            let mut calls = 0;
            match reader.handle_bytes(LIMIT, &mut rest, |event| {
                events.push(event.into());
                calls += 1;
                ControlFlow::Break(())
            }) {
                Ok(used) => {
                    prop_assert!(used > 0 && calls <= 1);
                    rest.drain(..used);
                }
                Err(e) => error = Some(e),
            }
        }
        prop_assert_eq!((events, error), read(role, &bytes, &[usize::MAX]));
    }

    #[test]
    fn text_in_pieces_is_judged_as_std_judges_it(bytes in payload(), cuts in prop::collection::vec(0usize..100, 0..5)) {
        let mut validator = Utf8Validator::new();
        let mut at = 0;
        let mut ends: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        ends.sort_unstable();
        ends.push(bytes.len());
        let mut failed = None;
        for end in ends {
            if validator.feed(&bytes[at..end]).is_err() {
                failed = Some(end);
                break;
            }
            // Not failing yet is right as long as what came is the start of some valid text.
            prop_assert!(str::from_utf8(&bytes[..end]).is_ok_and(|_| validator.is_complete())
                || str::from_utf8(&bytes[..end]).is_err_and(|e| e.error_len().is_none() && !validator.is_complete()));
            at = end;
        }
        if let Some(end) = failed {
            prop_assert!(str::from_utf8(&bytes[..end]).is_err_and(|e| e.error_len().is_some()));
        }
    }

    #[test]
    fn headers_round_trip(fin: bool, rsv in 0u8..8, bits in 0u8..16, mask: Option<[u8; 4]>, len in 0..=u64::MAX >> 1, shift in 0u32..63) {
        let opcode = OpCode::from_bits(bits).unwrap_or(OpCode::Binary);
        let payload_len = if opcode.is_control() { (len >> shift) % 126 } else { len >> shift };
        let header = Header { fin: fin || opcode.is_control(), rsv, opcode, mask, payload_len };
        let mut out = BytesMut::new();
        header.write(&mut out);
        prop_assert_eq!(Header::parse(&out), Ok(Some((header, out.len()))));
    }
}
