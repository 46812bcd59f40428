//! The hot paths, each as a closure that goes it once: for time (`cargo bench -p benches`) and for instructions (`instructions`).
//!
//! The machines are the real ones; only the sockets between them are missing, except in `fd handoff` and `broker link`, which are about sockets.

use std::io::{Read as _, Write as _};
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};
use sc_broker::TopicTree;
use sc_protocol::heartbeat::Ring;
use sc_protocol::ipc::{LinkMsg, LinkReader};
use sc_protocol::packet::{self, Version, write};
use sc_protocol::wheel::Wheel;
use sc_protocol::ws::mask::apply_mask;
use sc_protocol::ws::{OpCode, Reader, Role, frame};

use crate::body;
use crate::rig::Rig;

/// A hot path.
pub struct HotPath {
    /// Its name.
    pub name: &'static str,
    /// How many units of work one call does.
    pub units: u64,
    /// Goes it once.
    pub call: Box<dyn FnMut()>,
}

impl std::fmt::Debug for HotPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HotPath").field("name", &self.name).finish_non_exhaustive()
    }
}

type Make = fn() -> Box<dyn FnMut()>;

/// Every path: name, units in one call, how to make it ready.
const PATHS: [(&str, u64, Make); 16] = [
    ("unmask 128 B", 1, || unmask(128)),
    ("unmask 64 KiB", 1, || unmask(64 * 1024)),
    ("frame parse, 128 B body", 1, frame_parse),
    ("packet decode, publish", 1, packet_decode),
    ("publish encode", 1, publish_encode),
    ("topic table, lookup in 10,000 channels", 1, topic_lookup),
    ("topic table, subscribe and unsubscribe", 1, topic_change),
    ("timer wheel, insert and cancel", 1, wheel),
    ("heartbeat ring, per connection and interval", 1000, ring),
    ("engine: echo", 1, || rig(1, |rig| rig.echo(1))),
    ("engine: 16 echoes in one read, each", 16, || rig(1, |rig| rig.echo(16))),
    ("engine and broker: publish to 1", 1, || rig(1, |rig| rig.publish())),
    ("engine and broker: publish to 1,000, per delivery", 1000, || rig(1000, |rig| rig.publish())),
    ("engine: connect, handshake, leave", 1, || rig(1, |rig| rig.come_and_go())),
    ("broker link, 16 publishes through a socket", 16, broker_link),
    ("fd handoff, 32 descriptors in a message", 32, fd_handoff),
];

/// The names of all paths.
pub fn names() -> impl Iterator<Item = &'static str> {
    PATHS.iter().map(|(name, ..)| *name)
}

/// The path of this name, ready to go.
#[must_use]
pub fn path(name: &str) -> Option<HotPath> {
    let (name, units, make) = *PATHS.iter().find(|(other, ..)| *other == name)?;
    Some(HotPath { name, units, call: make() })
}

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn publish_text() -> String {
    format!("{{\"event\":\"#publish\",\"data\":{{\"channel\":\"c17\",\"data\":{}}},\"cid\":4711}}", body::text(1, 128))
}

fn unmask(len: usize) -> Box<dyn FnMut()> {
    let mut data = vec![1; len];
    Box::new(move || apply_mask(std::hint::black_box(&mut data), KEY, 0))
}

fn frame_parse() -> Box<dyn FnMut()> {
    let mut frame = BytesMut::new();
    frame::write(&mut frame, OpCode::Text, publish_text().as_bytes(), Some(KEY));
    let (mut scratch, mut reader) = (frame.to_vec(), Reader::new(Role::Server));
    Box::new(move || {
        scratch.copy_from_slice(&frame);
        let used = reader.handle_bytes(1 << 20, &mut scratch, |event| {
            std::hint::black_box(event);
            ControlFlow::Continue(())
        });
        debug_assert_eq!(used, Ok(scratch.len()));
    })
}

fn packet_decode() -> Box<dyn FnMut()> {
    let text = publish_text();
    Box::new(move || {
        std::hint::black_box(packet::parse(std::hint::black_box(&text), Version::V2));
    })
}

fn publish_encode() -> Box<dyn FnMut()> {
    let (data, mut scratch) = (body::text(1, 128), BytesMut::new());
    Box::new(move || {
        let frame = frame::build(&mut scratch, OpCode::Text, |out| {
            write::publish(out, "c17", Some(std::hint::black_box(&data)));
        });
        std::hint::black_box(frame);
    })
}

fn topic_lookup() -> Box<dyn FnMut()> {
    let names: Vec<String> = (0..10_000).map(|n| format!("room/{n}")).collect();
    let mut tree = TopicTree::new(7);
    for name in &names {
        tree.subscribe(name, 1);
        tree.subscribe(name, 2);
    }
    let mut next = 0;
    Box::new(move || {
        next = (next + 7919) % names.len();
        std::hint::black_box(tree.subscribers(&names[next]));
    })
}

fn topic_change() -> Box<dyn FnMut()> {
    let mut tree = TopicTree::new(7);
    for n in 0..1000 {
        tree.subscribe(&format!("room/{n}"), 1);
    }
    Box::new(move || {
        tree.subscribe("lobby", 1);
        tree.unsubscribe("lobby", &1);
    })
}

fn wheel() -> Box<dyn FnMut()> {
    let now = Instant::now();
    let mut wheel = Wheel::new(now, Duration::from_millis(10));
    for n in 0..1000 {
        wheel.insert(now + Duration::from_millis(10 * n), n);
    }
    Box::new(move || {
        let timer = wheel.insert(now + Duration::from_secs(10), 0);
        wheel.cancel(timer);
    })
}

fn ring() -> Box<dyn FnMut()> {
    let (mut now, interval) = (Instant::now(), Duration::from_secs(8));
    let mut ring = Ring::new(now, interval);
    for n in 0..1000 {
        now += Duration::from_millis(8);
        ring.insert(now, n);
    }
    let mut pinged = 0;
    Box::new(move || {
        now += interval;
        ring.advance(now, |key| {
            pinged += std::hint::black_box(key);
            true
        });
    })
}

fn rig(subscribers: u32, mut step: impl FnMut(&mut Rig) + 'static) -> Box<dyn FnMut()> {
    let mut rig = Rig::new(subscribers);
    Box::new(move || step(&mut rig))
}

/// What a worker writes to a broker in one turn, through a socket and taken apart.
fn broker_link() -> Box<dyn FnMut()> {
    let (mut near, mut far) = UnixStream::pair().expect("a pair of sockets");
    let (mut batch, mut scratch, mut reader) = (BytesMut::new(), vec![0; 64 * 1024], LinkReader::new());
    let data = body::text(1, 128);
    Box::new(move || {
        batch.clear();
        for cid in 0..16 {
            LinkMsg::Publish { cid, channel: "c17", data: Some(&data) }.write(&mut batch);
        }
        near.write_all(&batch).expect("the socket takes a batch");
        let read = far.read(&mut scratch).expect("the socket gives a batch");
        let mut seen = 0;
        reader.handle_bytes(&scratch[..read], |_| seen += 1).expect("a whole batch");
        assert_eq!(seen, 16);
    })
}

/// Descriptors from one process to another, and closed there.
fn fd_handoff() -> Box<dyn FnMut()> {
    const COUNT: usize = 32;
    const SPACE: usize = rustix::cmsg_space!(ScmRights(COUNT));
    let (near, far) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .expect("a pair of sockets");
    let (conn, _peer) = UnixStream::pair().expect("a pair of sockets");
    Box::new(move || {
        let mut space = [std::mem::MaybeUninit::uninit(); SPACE];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let lent = [conn.as_fd(); COUNT];
        assert!(control.push(SendAncillaryMessage::ScmRights(&lent)));
        let data = [std::io::IoSlice::new(b"conns")];
        rustix::net::sendmsg(&near, &data, &mut control, SendFlags::empty()).expect("the socket takes a message");
        let (mut space, mut data) = ([std::mem::MaybeUninit::uninit(); SPACE], [0; 64]);
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut into = [std::io::IoSliceMut::new(&mut data)];
        rustix::net::recvmsg(&far, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC).expect("a message");
        let mut taken: Vec<OwnedFd> = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                taken.extend(fds);
            }
        }
        assert_eq!(taken.len(), COUNT);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_can_be_gone_again_and_again() {
        for name in names() {
            let mut path = path(name).unwrap();
            for _ in 0..3 {
                (path.call)();
            }
        }
    }
}
