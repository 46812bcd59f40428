//! Messages between processes: they come back as they were, in whatever pieces, and rubbish is an error.

use bytes::BytesMut;
use proptest::prelude::*;
use sc_protocol::ipc::{CallKind, Control, IpcError, LINK_VERSION, LinkMsg, LinkReader};
use sc_protocol::limits::{CONTROL_MESSAGE_MAX, LINK_BUFFER_KEPT_MAX, LINK_MESSAGE_MAX};

/// An owned message: kind, numbers, texts.
type Owned = (u8, u64, bool, String, Option<String>);

fn lend((kind, number, flag, text, data): &Owned) -> LinkMsg<'_> {
    let (cid, channel, data) = (*number, text.as_str(), data.as_deref());
    match kind {
        0 => LinkMsg::Hello { version: LINK_VERSION, worker: cid as u32, pid: (cid >> 32) as u32 },
        1 => LinkMsg::Subscribe { cid, channel },
        2 => LinkMsg::Unsubscribe { channel },
        3 => LinkMsg::Publish { cid, channel, data },
        4 => LinkMsg::Deliver { channel, data },
        5 => LinkMsg::Ack { cid, deliver: *flag },
        6 => LinkMsg::Nack { cid, error: channel },
        7 => LinkMsg::Call { cid, what: CallKind::ALL[cid as usize % CallKind::ALL.len()], key: channel, data },
        _ => LinkMsg::Answer { cid, data },
    }
}

fn messages() -> impl Strategy<Value = Vec<Owned>> {
    let text = "[a-zé😀/]{0,40}";
    let data = proptest::option::of(r#"\["[a-zé]{0,300}"\]"#);
    prop::collection::vec((0u8..9, any::<u64>(), any::<bool>(), text, data), 0..12)
}

fn read(reader: &mut LinkReader, data: &[u8], seen: &mut Vec<String>) -> Result<(), IpcError> {
    reader.handle_bytes(data, |msg| seen.push(format!("{msg:?}")))
}

proptest! {
    #[test]
    fn any_split_gives_the_same_messages(list in messages(), cuts in prop::collection::vec(0usize..4000, 0..20)) {
        let mut stream = BytesMut::new();
        list.iter().for_each(|owned| lend(owned).write(&mut stream));
        let expected: Vec<String> = list.iter().map(|owned| format!("{:?}", lend(owned))).collect();

        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
        cuts.push(stream.len());
        cuts.sort_unstable();
        let (mut reader, mut seen, mut from) = (LinkReader::new(), Vec::new(), 0);
        for cut in cuts {
            read(&mut reader, &stream[from..cut], &mut seen).unwrap();
            from = cut;
        }
        prop_assert_eq!(seen, expected);
        prop_assert_eq!(reader.buffered(), 0);
    }

    #[test]
    fn arbitrary_bytes_never_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6)) {
        let mut reader = LinkReader::new();
        for piece in &pieces {
            if read(&mut reader, piece, &mut Vec::new()).is_err() {
                break;
            }
        }
        let _ = Control::parse(&pieces.concat());
    }

    #[test]
    fn a_small_frame_of_rubbish_never_panics(body in prop::collection::vec(any::<u8>(), 1..40)) {
        let mut frame = (body.len() as u32).to_be_bytes().to_vec();
        frame.extend(body);
        let _ = read(&mut LinkReader::new(), &frame, &mut Vec::new());
    }

    #[test]
    fn control_messages_come_back(number in any::<u32>(), total in any::<u64>(), text in ".{0,60}") {
        let all = [
            Control::Init(&text), Control::Conns { listener: number, count: 32 }, Control::Listener { listener: number },
            Control::Link { peer: number }, Control::Linked, Control::Terminate, Control::Message { id: total, json: &text }, Control::Ready,
            Control::ConnsTaken { total }, Control::Beat { connections: number }, Control::Report(&text),
            Control::Reply { id: total, json: &text }, Control::Status(&text), Control::Drain { millis: number },
            Control::ConnsLost { count: number }, Control::Unlinked { pid: number },
        ];
        for control in all {
            let mut msg = Vec::new();
            control.write(&mut msg);
            prop_assert!(control.fits());
            prop_assert_eq!(Control::parse(&msg), Ok(control));
        }
    }
}

#[test]
fn the_bytes_of_a_publish() {
    let mut out = BytesMut::new();
    LinkMsg::Publish { cid: 258, channel: "ab", data: Some("null") }.write(&mut out);
    assert_eq!(out[..], *b"\0\0\0\x13\x04\0\0\0\0\0\0\x01\x02\0\0\0\x02abnull");
}

#[test]
fn absent_data_is_not_null() {
    let mut out = BytesMut::new();
    LinkMsg::Deliver { channel: "c", data: None }.write(&mut out);
    LinkMsg::Deliver { channel: "c", data: Some("null") }.write(&mut out);
    let mut data = Vec::new();
    LinkReader::new()
        .handle_bytes(&out, |msg| match msg {
            LinkMsg::Deliver { data: text, .. } => data.push(text.map(str::to_owned)),
            other => panic!("{other:?}"),
        })
        .unwrap();
    assert_eq!(data, [None, Some("null".to_owned())]);
}

#[test]
fn a_length_over_the_limit_is_refused_before_the_body_comes() {
    let length = (LINK_MESSAGE_MAX as u32 + 1).to_be_bytes();
    let error = IpcError::TooLong { len: LINK_MESSAGE_MAX + 1, max: LINK_MESSAGE_MAX };
    assert_eq!(read(&mut LinkReader::new(), &length, &mut Vec::new()), Err(error.clone()));

    let mut reader = LinkReader::new();
    read(&mut reader, &length[..3], &mut Vec::new()).unwrap();
    assert_eq!(read(&mut reader, &length[3..], &mut Vec::new()), Err(error));
}

#[test]
fn broken_messages_are_errors() {
    let cases: [(&[u8], IpcError); 6] = [
        (b"\0\0\0\0", IpcError::WrongLength),
        (b"\0\0\0\x01\x63", IpcError::UnknownKind(99)),
        (b"\0\0\0\x02\x06\0", IpcError::WrongLength),
        (b"\0\0\0\x0b\x06\0\0\0\0\0\0\0\x01\x01\x01", IpcError::WrongLength),
        (b"\0\0\0\x06\x05\0\0\0\x02a", IpcError::WrongLength),
        (b"\0\0\0\x02\x03\xff", IpcError::NotUtf8),
    ];
    for (bytes, error) in cases {
        assert_eq!(read(&mut LinkReader::new(), bytes, &mut Vec::new()), Err(error), "{bytes:?}");
    }
    assert_eq!(Control::parse(b""), Err(IpcError::WrongLength));
    assert_eq!(Control::parse(b"\x05x"), Err(IpcError::WrongLength));
    assert_eq!(Control::parse(b"\xc8"), Err(IpcError::UnknownKind(200)));
}

#[test]
fn a_hello_of_a_later_version_is_read() {
    let hello = b"\0\0\0\x0b\x01\x09\0\0\0\x01\0\0\0\x02!";
    let mut seen = Vec::new();
    read(&mut LinkReader::new(), hello, &mut seen).unwrap();
    assert_eq!(seen, [format!("{:?}", LinkMsg::Hello { version: 9, worker: 1, pid: 2 })]);
}

#[test]
fn what_is_too_long_does_not_fit() {
    let long = "x".repeat(LINK_MESSAGE_MAX - 13);
    assert!(LinkMsg::Publish { cid: 1, channel: "", data: Some(&long) }.fits());
    assert!(!LinkMsg::Publish { cid: 1, channel: "c", data: Some(&long) }.fits());
    let long = "x".repeat(CONTROL_MESSAGE_MAX);
    assert!(!Control::Report(&long).fits() && !Control::Message { id: 0, json: &long[8..] }.fits());
    let mut msg = Vec::new();
    Control::Report(&long).write(&mut msg);
    assert_eq!(Control::parse(&msg), Err(IpcError::TooLong { len: CONTROL_MESSAGE_MAX + 1, max: CONTROL_MESSAGE_MAX }));
}

#[test]
fn the_buffer_of_a_large_message_is_given_back() {
    let data = "x".repeat(4 * LINK_BUFFER_KEPT_MAX);
    let mut out = BytesMut::new();
    LinkMsg::Deliver { channel: "c", data: Some(&data) }.write(&mut out);
    let mut reader = LinkReader::new();
    let mut seen = Vec::new();
    let (head, tail) = out.split_at(out.len() - 1);
    read(&mut reader, head, &mut seen).unwrap();
    assert_eq!(reader.buffered(), head.len());
    read(&mut reader, tail, &mut seen).unwrap();
    assert_eq!((seen.len(), reader.buffered()), (1, 0));
}
