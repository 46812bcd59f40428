//! One connection of the generator: the client's role of `sc-protocol`'s machines, and as little else as possible.
//!
//! `sc-client`'s core is not used: it keeps names of channels, timers and a table of calls per connection, which is right for an application and
//! too much for a million connections on the machine that is measured.

use std::ops::ControlFlow;
use std::time::Instant;

use bytes::BytesMut;
use sc_protocol::Entropy as _;
use sc_protocol::entropy::SeededEntropy;
use sc_protocol::heartbeat::{PONG_TEXT_V1, PONG_TEXT_V2};
use sc_protocol::http::HeadReader;
use sc_protocol::json::Elements;
use sc_protocol::packet::{self, Cid, Packet, Version, write};
use sc_protocol::ws::handshake::ClientHandshake;
use sc_protocol::ws::{Event as Frame, OpCode, Reader, Role, frame};

use crate::body;
use crate::dialect::{Dialect, Foreign, Heard};

/// A server's message may be this long.
const PAYLOAD_MAX: usize = 8 << 20;

/// Numbers of calls from here on are those of a workload; smaller ones belong to the connection's own beginning.
pub const FIRST_NUMBER: u32 = 1 << 16;

/// What the connections of a run have in common.
#[derive(Debug)]
pub struct Shared {
    /// What the client answers pings with.
    pub version: Version,
    /// What is spoken at all.
    pub dialect: Dialect,
    /// `Host` header.
    pub host: String,
    /// Path of the upgrade.
    pub path: String,
    /// Characters in a body.
    pub size: usize,
    handshake: ClientHandshake,
    masks: SeededEntropy,
    /// Pings answered.
    pub pings: u64,
    /// Bytes received.
    pub bytes: u64,
}

/// What happened on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The server answered the handshake and every subscription.
    Up,
    /// It answered the call of this number, with the body of that number if there was one.
    Ack(u32, Option<u32>),
    /// It answered the call of this number with an error.
    Refused(u32),
    /// It delivered a publish whose body has this number.
    Delivery(u32),
    /// It sent a publish that nobody made.
    Unknown,
    /// The connection is over.
    Down,
}

/// The protocol's side of a connection.
#[derive(Debug)]
pub struct Client {
    reader: Reader,
    half: Half,
}

/// What is beside the reader, which lends out of itself.
#[derive(Debug)]
struct Half {
    phase: Phase,
    out: BytesMut,
    /// For protocols other than SocketCluster's.
    foreign: Option<Box<Foreign>>,
}

#[derive(Debug)]
enum Phase {
    Upgrading(HeadReader),
    /// `#handshake`, then so many subscriptions, have not been answered.
    Joining(u32),
    Up,
}

impl Shared {
    /// For a server at `host` (with port) and `path`, and bodies of `size` characters.
    #[must_use]
    pub fn new(version: Version, host: &str, path: &str, size: usize) -> Self {
        /// The nonce of the RFC's example: servers that can do nothing else know its answer by heart.
        struct Sample;
        impl sc_protocol::Entropy for Sample {
            fn fill(&mut self, buf: &mut [u8]) {
                buf.copy_from_slice(b"the sample nonce");
            }
        }
        Self {
            version,
            dialect: Dialect::SocketCluster,
            host: host.to_owned(),
            path: path.to_owned(),
            size,
            handshake: ClientHandshake::new(&mut Sample),
            masks: SeededEntropy::new(1),
            pings: 0,
            bytes: 0,
        }
    }
}

impl Client {
    /// A client that asks for the upgrade.
    ///
    /// # Panics
    /// If host or path cannot stand in a request.
    #[must_use]
    pub fn new(shared: &Shared) -> Self {
        let mut out = BytesMut::new();
        shared.handshake.write_request(&mut out, &shared.host, &shared.path, &[]).expect("a host and a path");
        let half = Half { phase: Phase::Upgrading(HeadReader::new()), out, foreign: None };
        Self { reader: Reader::new(Role::Client), half }
    }

    /// Takes what came; `channels` is asked once, for what to subscribe to.
    ///
    /// # Errors
    /// The server did something that no SocketCluster server does.
    pub fn handle_bytes(
        &mut self,
        shared: &mut Shared,
        mut data: &mut [u8],
        channels: &dyn Fn() -> Vec<u32>,
        sink: &mut dyn FnMut(Event),
    ) -> Result<(), String> {
        shared.bytes += data.len() as u64;
        let Self { reader, half } = self;
        if let Phase::Upgrading(head) = &mut half.phase {
            let Some((checked, used)) = head
                .response(data, |head| shared.handshake.check(head).map_err(|error| error.to_string()))
                .map_err(|error| error.to_string())?
            else {
                return Ok(());
            };
            checked?;
            half.begin(shared, &channels());
            data = &mut data[used..];
        }
        let mut wrong = None;
        let read = reader.handle_bytes(PAYLOAD_MAX, data, |event| {
            match event {
                Frame::Text(text) if shared.dialect == Dialect::SocketCluster => half.text(shared, text, sink),
                Frame::Text(text) => half.foreign(shared, text.as_bytes(), sink),
                Frame::Binary(bytes) if shared.dialect == Dialect::Nats => half.foreign(shared, bytes, sink),
                Frame::Ping(payload) => {
                    frame::write(&mut half.out, OpCode::Pong, payload, Some(shared.masks.next_u32().to_ne_bytes()));
                }
                Frame::Pong(_) => {}
                Frame::Binary(_) => wrong = Some("a binary message".to_owned()),
                Frame::Close(close) => wrong = Some(format!("closed: {close:?}")),
            }
            if wrong.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        read.map_err(|error| error.to_string())?;
        wrong.map_or(Ok(()), Err)
    }

    /// Bytes to be written; what was written is to be cut off.
    pub fn out(&mut self) -> &mut BytesMut {
        &mut self.half.out
    }

    /// Gives back the memory of an empty output.
    pub fn slim(&mut self) {
        if self.half.out.is_empty() {
            self.half.out = BytesMut::new();
        }
    }

    /// Sends an event whose answer will have the number `cid`.
    pub fn call(&mut self, shared: &mut Shared, event: &str, data: &str, cid: u32) {
        let Some(foreign) = &mut self.half.foreign else {
            return self.half.send(shared, |out| write::event(out, event, Some(data), Some(cid.into())));
        };
        if let Some(text) = foreign.call(shared.dialect, event, data, cid) {
            self.half.send(shared, |out| out.extend_from_slice(text.as_bytes()));
        }
    }
}

impl Half {
    fn send(&mut self, shared: &mut Shared, fill: impl FnOnce(&mut BytesMut)) {
        let mask = shared.masks.next_u32().to_ne_bytes();
        frame::append(&mut self.out, OpCode::Text, Some(mask), fill);
    }

    fn begin(&mut self, shared: &mut Shared, channels: &[u32]) {
        if shared.dialect != Dialect::SocketCluster {
            let (texts, answers) = self.foreign.get_or_insert_default().begin(shared.dialect, channels);
            for text in texts {
                self.send(shared, |out| out.extend_from_slice(text.as_bytes()));
            }
            self.phase = Phase::Joining(answers);
            return;
        }
        let data = r#"{"authToken":null}"#;
        self.send(shared, |out| write::event(out, "#handshake", Some(data), Some(1)));
        let mut text = String::new();
        for (cid, channel) in (2..).zip(channels) {
            text.clear();
            subscription(&mut text, *channel);
            self.send(shared, |out| write::event(out, "#subscribe", Some(&text), Some(cid)));
        }
        self.phase = Phase::Joining(1 + channels.len() as u32);
    }

    fn text(&mut self, shared: &mut Shared, text: &str, sink: &mut dyn FnMut(Event)) {
        let bytes = text.as_bytes();
        if bytes.starts_with(b"{\"event\":\"#publish\",\"data\":{\"channel\":\"") {
            let number = body::number(bytes, shared.size);
            return sink(number.map_or(Event::Unknown, Event::Delivery));
        }
        if let Some(rest) = bytes.strip_prefix(b"{\"rid\":")
            && let Some((rid, rest)) = digits(rest)
            && (rest == b"}" || rest.starts_with(b",\"data\":"))
        {
            return self.answered(shared, rid, Ok(rest), sink);
        }
        match (bytes, shared.version) {
            (b"#1", Version::V1) => self.pong(shared, PONG_TEXT_V1),
            (b"", Version::V2) => self.pong(shared, PONG_TEXT_V2),
            // The other half of a server's question which protocol this is.
            (b"#1" | b"", _) => {}
            _ => match packet::parse(text, shared.version) {
                Packet::Batch(elements) => self.batch(shared, elements, sink),
                other => self.packet(shared, &other, sink),
            },
        }
    }

    fn batch(&mut self, shared: &Shared, elements: Elements<'_>, sink: &mut dyn FnMut(Event)) {
        for element in elements {
            self.packet(shared, &packet::parse_element(element, shared.version), sink);
        }
    }

    /// The long way, for messages that are written in another manner than usual.
    fn packet(&mut self, shared: &Shared, packet: &Packet<'_>, sink: &mut dyn FnMut(Event)) {
        match packet {
            Packet::Event(event) if event.name == "#publish" => {
                let number = event.data.and_then(|data| body::number(data.as_bytes(), shared.size));
                sink(number.map_or(Event::Unknown, Event::Delivery));
            }
            Packet::Response(response) => {
                let Cid::Int(rid) = response.rid else { return sink(Event::Unknown) };
                let data = response.data.unwrap_or_default().as_bytes();
                self.answered(shared, rid as u32, if response.error.is_some() { Err(()) } else { Ok(data) }, sink);
            }
            // Events of the application or of the protocol that nothing here depends on.
            _ => {}
        }
    }

    fn answered(&mut self, shared: &Shared, rid: u32, data: Result<&[u8], ()>, sink: &mut dyn FnMut(Event)) {
        if let Phase::Joining(left) = &mut self.phase
            && rid < FIRST_NUMBER
        {
            *left -= 1;
            if data.is_err() {
                return sink(Event::Refused(rid));
            }
            if *left == 0 {
                self.phase = Phase::Up;
                sink(Event::Up);
            }
            return;
        }
        sink(match data {
            Ok(data) => Event::Ack(rid, body::number(data, shared.size)),
            Err(()) => Event::Refused(rid),
        });
    }

    fn foreign(&mut self, shared: &mut Shared, bytes: &[u8], sink: &mut dyn FnMut(Event)) {
        let Some(mut foreign) = self.foreign.take() else { return };
        if shared.dialect == Dialect::Nats {
            foreign.nats(bytes, |heard| self.heard(shared, heard, sink));
        } else if let Some(heard) = std::str::from_utf8(bytes).ok().and_then(|text| foreign.socket_io(text)) {
            self.heard(shared, heard, sink);
        }
        self.foreign = Some(foreign);
    }

    fn heard(&mut self, shared: &mut Shared, heard: Heard<'_>, sink: &mut dyn FnMut(Event)) {
        match heard {
            Heard::Answer(number, data) => self.answered(shared, number, Ok(data), sink),
            Heard::Publish(data) => {
                sink(body::number(data, shared.size).map_or(Event::Unknown, Event::Delivery));
            }
            Heard::Reply(text) => self.send(shared, |out| out.extend_from_slice(text.as_bytes())),
            Heard::Begun(texts) => {
                for text in texts {
                    self.send(shared, |out| out.extend_from_slice(text.as_bytes()));
                }
                self.answered(shared, 1, Ok(b""), sink);
            }
            Heard::Refused => sink(Event::Refused(0)),
        }
    }

    fn pong(&mut self, shared: &mut Shared, text: &str) {
        shared.pings += 1;
        self.send(shared, |out| out.extend_from_slice(text.as_bytes()));
    }
}

/// Data of a `#subscribe`.
pub fn subscription(text: &mut String, channel: u32) {
    use std::fmt::Write as _;
    // Writing to a string cannot fail.
    let _ = write!(text, "{{\"channel\":\"c{channel}\"}}");
}

/// Data of a `#publish` whose body has this number.
pub fn publication(text: &mut String, channel: u32, number: u32, size: usize) {
    use std::fmt::Write as _;
    let _ = write!(text, "{{\"channel\":\"c{channel}\",\"data\":");
    body::write(text, number, size);
    text.push('}');
}

fn digits(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let len = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = std::str::from_utf8(&bytes[..len]).ok()?.parse().ok()?;
    Some((number, &bytes[len..]))
}

/// When something happened, and on which connection.
#[derive(Debug, Clone, Copy)]
pub struct Happened {
    /// The connection.
    pub conn: u32,
    /// What.
    pub event: Event,
    /// The time at which its bytes were read.
    pub at: Instant,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(client: &mut Client, shared: &mut Shared, bytes: &[u8]) -> Result<Vec<Event>, String> {
        let mut events = Vec::new();
        client.handle_bytes(shared, &mut bytes.to_vec(), &|| vec![4, 5], &mut |event| events.push(event))?;
        Ok(events)
    }

    fn text(text: &str) -> Vec<u8> {
        let mut out = BytesMut::new();
        frame::write(&mut out, OpCode::Text, text.as_bytes(), None);
        out.to_vec()
    }

    fn sent(client: &mut Client) -> Vec<String> {
        let (mut bytes, mut texts) = (std::mem::take(client.out()), Vec::new());
        Reader::new(Role::Server)
            .handle_bytes(PAYLOAD_MAX, &mut bytes, |event| {
                let Frame::Text(text) = event else { panic!("{event:?}") };
                texts.push(text.to_owned());
                ControlFlow::Continue(())
            })
            .unwrap();
        texts
    }

    #[test]
    fn from_the_upgrade_to_the_first_delivery() {
        let mut shared = Shared::new(Version::V1, "localhost:8000", "/socketcluster/", 16);
        let mut client = Client::new(&shared);
        assert!(client.out().starts_with(b"GET /socketcluster/ HTTP/1.1\r\n"));
        client.out().clear();
        let mut accept = BytesMut::new();
        sc_protocol::ws::handshake::write_accept(&mut accept, "dGhlIHNhbXBsZSBub25jZQ==", None);
        accept.extend_from_slice(b"\x81\x02#1\x81\x00");
        assert_eq!(feed(&mut client, &mut shared, &accept), Ok(vec![]));
        let texts = sent(&mut client);
        assert_eq!(texts.len(), 4, "{texts:?}");
        assert_eq!(texts[1], r##"{"event":"#subscribe","data":{"channel":"c4"},"cid":2}"##);
        assert_eq!(texts[3], "#2");
        assert_eq!(feed(&mut client, &mut shared, &text(r#"{"rid":1,"data":{"id":"x"}}"#)), Ok(vec![]));
        let acks = [text(r#"{"rid":3}"#), text(r#"[{"rid":2}]"#)].concat();
        assert_eq!(feed(&mut client, &mut shared, &acks), Ok(vec![Event::Up]));
        let mut data = String::new();
        publication(&mut data, 4, 70_000, 16);
        client.call(&mut shared, "#publish", &data, 70_000);
        let call = sent(&mut client).remove(0);
        assert_eq!(feed(&mut client, &mut shared, &text(&call)), Ok(vec![Event::Delivery(70_000)]));
        let answers = [text(r#"{"rid":70000}"#), text(r#"{"rid":70001,"error":{"name":"E"}}"#)].concat();
        let wanted = vec![Event::Ack(70_000, None), Event::Refused(70_001)];
        assert_eq!(feed(&mut client, &mut shared, &answers), Ok(wanted));
    }
}
