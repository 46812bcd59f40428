//! The upgrade and RFC 6455.

use bytes::BytesMut;
use sc_protocol::ws::{OpCode, frame};
use serde_json::json;

use super::Check;
use crate::check::{Verdict, ensure, equal};
use crate::peer::{Message, Peer};
use crate::target::Target;

pub(super) const CHECKS: &[Check] = &[
    Check::both("upgrade/accepted", "RFC 6455 §4.2.2", accepted),
    Check::both("upgrade/blocked-by-middleware", "SC server: handshake middleware, 401", blocked),
    Check::both("upgrade/without-key", "RFC 6455 §4.2.1", without_key),
    Check::both("frames/fragments-and-control", "RFC 6455 §5.4", fragments),
    Check::both("frames/binary-packet", "sc-formatter: a binary message is decoded as text", binary_packet),
    Check::both("frames/unmasked", "RFC 6455 §5.1", unmasked),
    Check::both("frames/bad-utf8", "RFC 6455 §8.1", bad_utf8),
    Check::both("frames/close-is-answered", "RFC 6455 §5.5.1", close_is_answered),
    Check::both("frames/large-message", "SC server: messages of 1 MB", large_message),
];

fn accepted(target: &Target) -> Verdict {
    Peer::connect(target, "").map(drop)
}

fn blocked(target: &Target) -> Verdict {
    match Peer::try_connect(target, "?deny=1", &[])? {
        Ok(_) => ensure(false, || "the upgrade is accepted".to_owned()),
        Err(refusal) => equal("the status", refusal.status, 401),
    }
}

fn without_key(target: &Target) -> Verdict {
    use std::io::{Read, Write};
    let mut stream = target.dial()?;
    let head = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n",
        target.path, target.host
    );
    stream.write_all(head.as_bytes())?;
    stream.set_read_timeout(Some(target.patience))?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    equal("the status line", String::from_utf8_lossy(&status).as_ref(), "HTTP/1.1 400")
}

fn fragments(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    let text = br#"{"event":"echo","data":"in pieces","cid":77}"#;
    let mut out = BytesMut::new();
    let mask = Some([7, 6, 5, 4]);
    for (n, piece) in text.chunks(17).enumerate() {
        let opcode = if n == 0 { OpCode::Text } else { OpCode::Continuation };
        let start = out.len();
        frame::write(&mut out, opcode, piece, mask);
        if (n + 1) * 17 < text.len() {
            // Not the last one.
            out[start] &= 0x7f;
            frame::write(&mut out, OpCode::Ping, b"between", mask);
        }
    }
    peer.send_bytes(&out)?;
    for _ in 0..2 {
        equal("the answer to a ping", peer.message()?, Message::Pong(b"between".to_vec()))?;
    }
    equal("the echo", peer.answer(&json!(77))?.ok()?, json!("in pieces"))
}

fn binary_packet(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    peer.send_frame(OpCode::Binary, br#"{"event":"echo","data":5,"cid":78}"#)?;
    equal("the echo", peer.answer(&json!(78))?.ok()?, json!(5))
}

fn unmasked(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    let mut out = BytesMut::new();
    frame::write(&mut out, OpCode::Text, b"{}", None);
    peer.send_bytes(&out)?;
    equal("the close code", peer.closed()?.0, 1002)
}

fn bad_utf8(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    peer.send_frame(OpCode::Text, b"\xff\xfe")?;
    equal("the close code", peer.closed()?.0, 1007)
}

fn close_is_answered(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    peer.send_frame(OpCode::Close, &1000_u16.to_be_bytes())?;
    equal("the close code", peer.closed()?.0, 1000)
}

fn large_message(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    let text = "x".repeat(1_000_000);
    let got = peer.call("echo", Some(json!(text)))?.ok()?;
    ensure(got == json!(text), || "the echo of a large text is not the text".to_owned())
}
