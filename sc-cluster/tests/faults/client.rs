//! One client, on a plain socket: what it sent, what it got, and how its connections ended.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use bytes::{Buf, BytesMut};
use mio::{Interest, Registry, Token, net::TcpStream};
use sc_protocol::{
    entropy::SeededEntropy,
    http::HeadReader,
    json,
    ws::{Event, OpCode, Reader, Role, frame, handshake::ClientHandshake},
};

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It never began.
    Refused,
    /// The server sent a close frame with this code.
    Close(u16),
    /// It broke off.
    Broken,
    /// The client left.
    Left,
}

/// What became of a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    Pending,
    Acked,
    /// The ack was an error: its name.
    Refused(String),
    /// The connection ended before the ack.
    Lost,
}

/// One connection of a client, from its beginning to its end.
#[derive(Debug, Default)]
pub(crate) struct Epoch {
    pub(crate) worker_pid: u32,
    /// It is subscribed; the first number published after that.
    pub(crate) due_from: Option<u32>,
    pub(crate) end: Option<End>,
    /// Numbers received on the channel, in order.
    pub(crate) received: Vec<u32>,
}

/// Where the connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    Down,
    Upgrading,
    Handshaking,
    Subscribing,
    Ready,
}

const HANDSHAKE_CID: u64 = 1;
const SUBSCRIBE_CID: u64 = 2;
const MASK: Option<[u8; 4]> = Some([7, 1, 9, 4]);

pub(crate) struct Client {
    pub(crate) id: usize,
    /// Its number, and its name.
    pub(crate) channel: usize,
    name: String,
    pub(crate) is_publisher: bool,
    /// Protocol 2, else 1.
    speaks_v2: bool,
    stream: Option<TcpStream>,
    handshake: ClientHandshake,
    head: HeadReader,
    reader: Reader,
    out: BytesMut,
    pub(crate) state: State,
    next_cid: u64,
    calls: HashMap<u64, u32>,
    /// Error and data of what else was answered, by cid.
    pub(crate) answers: HashMap<u64, (Option<String>, Option<String>)>,
    pub(crate) epochs: Vec<Epoch>,
    /// By number, from 0.
    pub(crate) fates: Vec<Fate>,
    pub(crate) publish_at: Option<Instant>,
    pub(crate) connect_at: Option<Instant>,
    /// Does not read any more.
    pub(crate) is_deaf: bool,
    /// Messages received, of any kind but pings.
    pub(crate) texts: usize,
}

impl Client {
    pub(crate) fn new(id: usize, crowd: &str, channel: usize, is_publisher: bool, now: Instant) -> Self {
        Self {
            id,
            channel,
            name: format!("{crowd} {channel}"),
            is_publisher,
            speaks_v2: id.is_multiple_of(2),
            stream: None,
            handshake: ClientHandshake::new(&mut SeededEntropy::new(id as u64)),
            head: HeadReader::new(),
            reader: Reader::new(Role::Client),
            out: BytesMut::new(),
            state: State::Down,
            next_cid: SUBSCRIBE_CID,
            calls: HashMap::new(),
            answers: HashMap::new(),
            epochs: Vec::new(),
            fates: Vec::new(),
            publish_at: None,
            connect_at: Some(now),
            is_deaf: false,
            texts: 0,
        }
    }

    pub(crate) fn epoch(&self) -> Option<&Epoch> {
        self.epochs.last().filter(|epoch| epoch.end.is_none())
    }

    pub(crate) fn worker_pid(&self) -> u32 {
        self.epoch().map_or(0, |epoch| epoch.worker_pid)
    }

    pub(crate) fn connect(&mut self, address: SocketAddr, registry: &Registry) {
        self.connect_at = None;
        self.epochs.push(Epoch::default());
        let mut stream = TcpStream::connect(address).expect("a socket");
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, Token(self.id), interest).expect("registered");
        (self.stream, self.state) = (Some(stream), State::Upgrading);
        (self.head, self.reader) = (HeadReader::new(), Reader::new(Role::Client));
        self.next_cid = SUBSCRIBE_CID;
        self.out.clear();
        let target = "/socketcluster/";
        self.handshake.write_request(&mut self.out, "localhost", target, &[]).expect("a plain request");
    }

    /// Something happened on the socket.
    pub(crate) fn event(&mut self, published: &[u32], now: Instant) {
        self.flush(now);
        let mut buf = [0; 64 * 1024];
        while !self.is_deaf {
            let Some(stream) = &mut self.stream else { return };
            match stream.read(&mut buf) {
                Ok(0) => return self.end(End::Broken, now),
                Ok(n) => self.bytes(&mut buf[..n], published, now),
                Err(error) if error.kind() == ErrorKind::WouldBlock || error.kind() == ErrorKind::NotConnected => break,
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => return self.end(End::Refused, now),
                Err(_) => return self.end(End::Broken, now),
            }
        }
        self.flush(now);
    }

    pub(crate) fn flush(&mut self, now: Instant) {
        while let Some(stream) = self.stream.as_mut().filter(|_| !self.out.is_empty()) {
            match stream.write(&self.out) {
                Ok(n) => self.out.advance(n),
                Err(error) if error.kind() == ErrorKind::WouldBlock || error.kind() == ErrorKind::NotConnected => {
                    return;
                }
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => self.end(End::Refused, now),
                // What the server said before is still to be read.
                Err(_) if self.state >= State::Handshaking => return self.out.clear(),
                Err(_) => self.end(End::Broken, now),
            }
        }
    }

    /// Ends the connection from this side, as a client does that has seen a close frame.
    pub(crate) fn end(&mut self, end: End, now: Instant) {
        self.stream = None;
        self.state = State::Down;
        self.connect_at = Some(now + Duration::from_millis(if end == End::Refused { 50 } else { 1 }));
        self.publish_at = None;
        for (_, number) in self.calls.drain() {
            self.fates[number as usize] = Fate::Lost;
        }
        if let Some(epoch) = self.epochs.last_mut() {
            epoch.end = Some(end);
        }
    }

    pub(crate) fn send(&mut self, text: &str) {
        frame::write(&mut self.out, OpCode::Text, text.as_bytes(), MASK);
    }

    pub(crate) fn emit(&mut self, event: &str, data: &str) -> u64 {
        self.next_cid += 1;
        let cid = self.next_cid;
        self.send(&format!(r#"{{"event":"{event}","data":{data},"cid":{cid}}}"#));
        cid
    }

    pub(crate) fn publish(&mut self, now: Instant) {
        let number = self.fates.len() as u32;
        let cid = self.emit("#publish", &format!(r#"{{"channel":"{}","data":{number}}}"#, self.name));
        self.fates.push(Fate::Pending);
        self.calls.insert(cid, number);
        self.publish_at = None;
        self.flush(now);
    }

    fn subscribe(&mut self) {
        let name = &self.name;
        self.send(&format!(r##"{{"event":"#subscribe","data":{{"channel":"{name}"}},"cid":{SUBSCRIBE_CID}}}"##));
    }

    fn bytes(&mut self, data: &mut [u8], published: &[u32], now: Instant) {
        let mut rest = data;
        if self.state == State::Upgrading {
            let handshake = &self.handshake;
            match self.head.response(rest, |head| handshake.check(head)) {
                Ok(None) => return,
                Ok(Some((Ok(()), used))) => {
                    self.state = State::Handshaking;
                    self.send(&format!(r##"{{"event":"#handshake","data":{{}},"cid":{HANDSHAKE_CID}}}"##));
                    rest = &mut rest[used..];
                }
                other => panic!("the upgrade of client {} was refused: {other:?}", self.id),
            }
        }
        let mut reader = std::mem::replace(&mut self.reader, Reader::new(Role::Client));
        let read = reader.handle_bytes(64 << 20, rest, |event| {
            match event {
                Event::Text(text) => self.text(text, published, now),
                Event::Close(close) => {
                    let code = close.map_or(1005, |(code, _)| code);
                    self.end(End::Close(code), now);
                    return ControlFlow::Break(());
                }
                _ => {}
            }
            ControlFlow::Continue(())
        });
        read.expect("the server speaks RFC 6455");
        if self.stream.is_some() {
            self.reader = reader;
        }
    }

    fn text(&mut self, text: &str, published: &[u32], now: Instant) {
        match text {
            "#1" if !self.speaks_v2 => return self.send("#2"),
            "" if self.speaks_v2 => return self.send(""),
            "#1" | "" => return,
            _ => self.texts += 1,
        }
        let [event, data, rid, error] = json::object(text, ["event", "data", "rid", "error"]).expect("a packet");
        match event.and_then(json::string).as_deref() {
            Some("#publish") => self.delivered(data.expect("a publish has data")),
            Some("whoami") => {
                let pid = data.and_then(|data| json::object(data, ["pid"])).and_then(|[pid]| json::number(pid?));
                if let (Some(pid), Some(epoch)) = (pid, self.epochs.last_mut()) {
                    epoch.worker_pid = pid as u32;
                }
            }
            Some(_) => {}
            None => self.answered(rid.and_then(json::number).expect("an answer") as u64, error, data, published, now),
        }
    }

    fn delivered(&mut self, data: &str) {
        let [data] = json::object(data, ["data"]).expect("an object");
        let number = data.and_then(json::number);
        if let (Some(number), Some(epoch)) = (number, self.epochs.last_mut()) {
            epoch.received.push(number as u32);
        }
    }

    fn answered(&mut self, rid: u64, error: Option<&str>, data: Option<&str>, published: &[u32], now: Instant) {
        if let Some(number) = self.calls.remove(&rid) {
            self.fates[number as usize] = match error {
                None => Fate::Acked,
                Some(error) => {
                    let name = json::object(error, ["name"]).and_then(|[name]| json::string(name?));
                    Fate::Refused(name.map_or_else(|| error.to_owned(), std::borrow::Cow::into_owned))
                }
            };
            // A little slower than it could: the point is what is lost, not how much goes through.
            self.publish_at = Some(now + Duration::from_millis(10));
        } else if rid == HANDSHAKE_CID {
            assert_eq!(error, None, "the handshake is answered");
            self.state = State::Subscribing;
            self.subscribe();
        } else if rid == SUBSCRIBE_CID && error.is_some() {
            self.subscribe();
        } else if rid == SUBSCRIBE_CID {
            self.state = State::Ready;
            self.publish_at = self.is_publisher.then_some(now);
            if let Some(epoch) = self.epochs.last_mut() {
                epoch.due_from = Some(published[self.channel]);
            }
        } else {
            self.answers.insert(rid, (error.map(str::to_owned), data.map(str::to_owned)));
        }
    }
}
