//! What a reader makes of what a peer sends: the examples of RFC 6455, fragmentation, every kind of violation, limits.

use std::ops::ControlFlow;

use bytes::BytesMut;
use sc_protocol::ws::frame::{self, Header};
use sc_protocol::ws::{CloseCode, Event, OpCode, ProtocolError, Reader, Role};

const LIMIT: usize = 1000;
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Everything the bytes make, as text; an error is the last line.
fn run(role: Role, bytes: &[u8]) -> Vec<String> {
    let mut reader = Reader::new(role);
    let mut seen = Vec::new();
    let result = reader.handle_bytes(LIMIT, &mut bytes.to_vec(), |event| {
        seen.push(format!("{event:?}"));
        ControlFlow::Continue(())
    });
    match result {
        Ok(used) => assert_eq!(used, bytes.len()),
        Err(error) => seen.push(format!("{} {error}", error.close_code())),
    }
    seen
}

fn error(role: Role, bytes: &[u8]) -> Option<ProtocolError> {
    Reader::new(role).handle_bytes(LIMIT, &mut bytes.to_vec(), |_| ControlFlow::Continue(())).err()
}

/// An unmasked frame, as a server sends it, with any first byte.
fn from_server(first: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    [&[first, payload.len() as u8], payload].concat()
}

#[test]
fn the_examples_of_the_rfc() {
    assert_eq!(run(Role::Client, b"\x81\x05Hello"), [r#"Text("Hello")"#]);
    let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(run(Role::Server, &masked), [r#"Text("Hello")"#]);
    assert_eq!(run(Role::Client, b"\x01\x03Hel\x80\x02lo"), [r#"Text("Hello")"#]);
    assert_eq!(run(Role::Client, b"\x89\x05Hello"), ["Ping([72, 101, 108, 108, 111])"]);
    let pong = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(run(Role::Server, &pong), ["Pong([72, 101, 108, 108, 111])"]);

    for (header, len) in [(&[0x82, 0x7e, 0x01, 0x00][..], 256), (&[0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0], 65536)] {
        let mut data = [header, &vec![7; len]].concat();
        let mut seen = 0;
        let used = Reader::new(Role::Client).handle_bytes(len, &mut data, |event| {
            assert_eq!(event, Event::Binary(&vec![7; len]));
            seen += 1;
            ControlFlow::Continue(())
        });
        assert_eq!((used, seen), (Ok(header.len() + len), 1));
    }
}

#[test]
fn empty_messages_are_messages() {
    assert_eq!(run(Role::Client, b"\x81\x00\x82\x00\x89\x00"), [r#"Text("")"#, "Binary([])", "Ping([])"]);
    assert_eq!(run(Role::Client, b"\x01\x00\x00\x00\x80\x00"), [r#"Text("")"#]);
    assert_eq!(run(Role::Server, &[0x81, 0x80, 1, 2, 3, 4]), [r#"Text("")"#]);
}

#[test]
fn control_frames_may_stand_between_fragments() {
    let bytes = [&b"\x01\x02He"[..], b"\x89\x01p", b"\x00\x02ll", b"\x8a\x00", b"\x80\x01o", b"\x82\x01\x09"].concat();
    assert_eq!(run(Role::Client, &bytes), ["Ping([112])", "Pong([])", r#"Text("Hello")"#, "Binary([9])"]);
}

#[test]
fn a_character_may_be_cut_by_fragments() {
    let bytes = [&b"\x01\x02a\xf0"[..], b"\x00\x01\x9f", b"\x89\x00", b"\x80\x02\x98\x80"].concat();
    assert_eq!(run(Role::Client, &bytes), ["Ping([])", "Text(\"a\u{1f600}\")"]);
}

#[test]
fn every_violation_has_its_error_and_code() {
    use ProtocolError as E;
    let text = |first: u8| from_server(first, b"x");
    let cases: &[(Vec<u8>, E, u16)] = &[
        (text(0xc1), E::ReservedBits, 1002),
        (text(0xa1), E::ReservedBits, 1002),
        (text(0x91), E::ReservedBits, 1002),
        (text(0xf9), E::ReservedBits, 1002),
        (text(0x83), E::ReservedOpCode(3), 1002),
        (text(0x8b), E::ReservedOpCode(11), 1002),
        (text(0x09), E::FragmentedControl, 1002),
        (text(0x08), E::FragmentedControl, 1002),
        ([&[0x89, 126, 0, 126], &[0; 126][..]].concat(), E::ControlTooLong, 1002),
        (vec![0x82, 126, 0, 125], E::LengthNotMinimal, 1002),
        (vec![0x82, 127, 0, 0, 0, 0, 0, 0, 0, 5], E::LengthNotMinimal, 1002),
        (vec![0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], E::LengthTooLarge, 1002),
        (text(0x80), E::UnexpectedContinuation, 1002),
        (text(0x00), E::UnexpectedContinuation, 1002),
        ([text(0x81), text(0x80)].concat(), E::UnexpectedContinuation, 1002),
        ([text(0x01), text(0x80), text(0x80)].concat(), E::UnexpectedContinuation, 1002),
        ([text(0x01), text(0x81)].concat(), E::ExpectedContinuation, 1002),
        ([text(0x02), text(0x89), text(0x02)].concat(), E::ExpectedContinuation, 1002),
        (vec![0x81, 0x81, 1, 2, 3, 4, 5], E::Masked, 1002),
        (from_server(0x88, &[3]), E::CloseTooShort, 1002),
        (from_server(0x88, &[3, 0xec]), E::CloseCode(1004), 1002),
        (from_server(0x88, &[0, 0]), E::CloseCode(0), 1002),
        (from_server(0x88, &[0xff, 0xff]), E::CloseCode(65535), 1002),
        (from_server(0x88, b"\x03\xe8\xce\xba\xe1"), E::InvalidUtf8, 1007),
        (from_server(0x81, b"\xed\xa0\x80"), E::InvalidUtf8, 1007),
        (from_server(0x81, b"cut \xe2\x82"), E::InvalidUtf8, 1007),
        ([from_server(0x01, b"cut \xe2\x82"), from_server(0x80, b"")].concat(), E::InvalidUtf8, 1007),
        (vec![0x82, 126, 0x03, 0xe9], E::TooBig { limit: LIMIT }, 1009),
        (vec![0x82, 127, 0x7f, 255, 255, 255, 255, 255, 255, 255], E::TooBig { limit: LIMIT }, 1009),
    ];
    for (bytes, expected, code) in cases {
        assert_eq!(error(Role::Client, bytes), Some(*expected), "{bytes:x?}");
        assert_eq!(expected.close_code(), CloseCode(*code));
    }
    assert_eq!(error(Role::Server, &text(0x81)), Some(E::NotMasked));
    assert_eq!(error(Role::Server, &text(0x89)), Some(E::NotMasked));
}

#[test]
fn close_codes_that_peers_may_send_are_reported() {
    for code in [1000u16, 1001, 1002, 1003, 1007, 1011, 1012, 3000, 3999, 4000, 4999] {
        let bytes = from_server(0x88, &code.to_be_bytes());
        assert_eq!(run(Role::Client, &bytes), [format!("Close(Some(({code}, \"\")))")]);
    }
    assert_eq!(run(Role::Client, b"\x88\x00"), ["Close(None)"]);
    assert_eq!(run(Role::Client, b"\x88\x05\x0f\xa1bye"), [r#"Close(Some((4001, "bye")))"#]);
    assert_eq!(run(Role::Client, &from_server(0x88, &[&[3, 0xe8], &[b'r'; 123][..]].concat())).len(), 1);
}

#[test]
fn nothing_follows_a_close_or_an_error() {
    assert_eq!(run(Role::Client, b"\x88\x00\x81\x01a\xff\xff"), ["Close(None)"]);

    let mut reader = Reader::new(Role::Client);
    assert!(reader.handle_bytes(LIMIT, &mut b"\x01\x01a\x83\x00".to_vec(), |_| ControlFlow::Continue(())).is_err());
    assert!(reader.is_idle());
    let again = reader.handle_bytes(LIMIT, &mut b"\x81\x01a".to_vec(), |event| panic!("{event:?} after an error"));
    assert_eq!(again, Ok(3));
}

#[test]
fn bad_text_is_refused_before_its_frame_is_whole() {
    let mut reader = Reader::new(Role::Client);
    let mut none = |_: Event<'_>| -> ControlFlow<()> { panic!("no event") };
    assert_eq!(reader.handle_bytes(LIMIT, &mut b"\x81\x10ok \xf4".to_vec(), &mut none), Ok(6));
    assert_eq!(reader.handle_bytes(LIMIT, &mut b"\x90".to_vec(), &mut none), Err(ProtocolError::InvalidUtf8));

    let mut reader = Reader::new(Role::Client);
    let bytes = [from_server(0x01, b"ok"), from_server(0x00, b"\xff"), vec![0x00]].concat();
    assert_eq!(reader.handle_bytes(LIMIT, &mut bytes.clone(), &mut none), Err(ProtocolError::InvalidUtf8));
}

#[test]
fn the_limit_counts_all_fragments_and_only_data() {
    let fragment = |first: u8, len: u16| {
        let mut frame = vec![first, 126];
        frame.extend(len.to_be_bytes());
        frame.resize(4 + usize::from(len), b'a');
        frame
    };
    let fits = [fragment(0x01, 600), from_server(0x89, &[1; 125]), fragment(0x80, 400)].concat();
    assert_eq!(run(Role::Client, &fits).len(), 2);
    let exceeds = [fragment(0x01, 600), fragment(0x80, 401)[..4].to_vec()].concat();
    assert_eq!(error(Role::Client, &exceeds), Some(ProtocolError::TooBig { limit: LIMIT }));

    let mut pings = 0;
    let mut small = Reader::new(Role::Client);
    let used = small.handle_bytes(0, &mut from_server(0x89, &[1; 125]), |_| {
        pings += 1;
        ControlFlow::Continue(())
    });
    assert_eq!((used, pings), (Ok(127), 1));
    let refused = small.handle_bytes(0, &mut b"\x81\x01".to_vec(), |_| ControlFlow::Continue(()));
    assert_eq!(refused, Err(ProtocolError::TooBig { limit: 0 }));
}

#[test]
fn whole_frames_are_lent_from_the_callers_buffer() {
    let mut data = BytesMut::new();
    for (opcode, payload) in [(OpCode::Text, &b"Hello"[..]), (OpCode::Ping, b"?"), (OpCode::Binary, &[1; 300])] {
        frame::write(&mut data, opcode, payload, Some(KEY));
    }
    let range = data.as_ptr_range();
    let mut reader = Reader::new(Role::Server);
    let mut events = 0;
    let used = reader.handle_bytes(LIMIT, &mut data, |event| {
        let lent = match event {
            Event::Text(text) => text.as_bytes(),
            Event::Binary(bytes) | Event::Ping(bytes) => bytes,
            other => panic!("{other:?}"),
        };
        assert!(range.contains(&lent.as_ptr()), "{event:?} was copied");
        events += 1;
        ControlFlow::Continue(())
    });
    assert_eq!((used, events), (Ok(data.len()), 3));
    assert!(reader.is_idle());
}

#[test]
fn a_reader_holds_what_came_and_lets_go_of_it() {
    let mut data = BytesMut::new();
    frame::write(&mut data, OpCode::Binary, &[5; 400], Some(KEY));
    let mut reader = Reader::new(Role::Server);
    let mut events = 0;
    for (at, byte) in data.iter().enumerate() {
        let used = reader.handle_bytes(LIMIT, &mut [*byte], |event| {
            assert_eq!(event, Event::Binary(&[5; 400]));
            events += 1;
            ControlFlow::Continue(())
        });
        assert_eq!(used, Ok(1));
        // A header of eight bytes, then the payload.
        let held = if at < 7 { at + 1 } else { at - 7 };
        assert_eq!(reader.buffered(), if at + 1 == data.len() { 0 } else { held });
        assert_eq!(reader.is_idle(), at + 1 == data.len());
    }
    assert_eq!(events, 1);
}

#[test]
fn a_split_control_frame_leaves_the_message_around_it_alone() {
    let mut reader = Reader::new(Role::Client);
    let mut seen = Vec::new();
    for chunk in [&b"\x01\x02He\x89\x04pi"[..], b"ng\x80", b"\x03llo"] {
        reader
            .handle_bytes(LIMIT, &mut chunk.to_vec(), |event| {
                seen.push(format!("{event:?}"));
                ControlFlow::Continue(())
            })
            .unwrap();
    }
    assert_eq!(seen, ["Ping([112, 105, 110, 103])", r#"Text("Hello")"#]);
    assert!(reader.is_idle());
}

#[test]
fn the_sink_may_stop_after_any_event() {
    let bytes = [&b"\x81\x01a"[..], b"\x01\x01b", b"\x80\x01c", b"\x88\x00", b"junk"].concat();
    let mut reader = Reader::new(Role::Client);
    let (mut seen, mut stops, mut rest) = (Vec::new(), Vec::new(), bytes.clone());
    while !rest.is_empty() {
        let used = reader.handle_bytes(LIMIT, &mut rest, |event| {
            seen.push(format!("{event:?}"));
            ControlFlow::Break(())
        });
        stops.push(used.unwrap());
        rest.drain(..used.unwrap());
    }
    assert_eq!(seen, [r#"Text("a")"#, r#"Text("bc")"#, "Close(None)"]);
    assert_eq!(stops, [3, 6, 2, 4]);
}

#[test]
fn a_header_alone_costs_no_buffer() {
    let mut data = BytesMut::new();
    Header { fin: true, rsv: 0, opcode: OpCode::Binary, mask: Some(KEY), payload_len: 1 << 30 }.write(&mut data);
    let mut reader = Reader::new(Role::Server);
    let used = reader.handle_bytes(usize::MAX, &mut data, |event| panic!("{event:?}"));
    assert_eq!((used, reader.buffered()), (Ok(14), 0));
    assert!(!reader.is_idle());
}
