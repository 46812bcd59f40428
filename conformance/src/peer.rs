//! A connection to a server under test that sends what it is told, also what no client should, and shows all that comes.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use sc_protocol::Version;
use sc_protocol::entropy::SeededEntropy;
use sc_protocol::http::HeadReader;
use sc_protocol::ws::handshake::ClientHandshake;
use sc_protocol::ws::{Event, OpCode, Reader, Role, frame};
use serde_json::{Value, json};

use crate::check::{Stop, Verdict, ensure};
use crate::target::Target;

/// Largest message that is taken.
const MESSAGE_MAX: usize = 16 << 20;

/// What a peer may send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A text message; no ping of SocketCluster's that was answered.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// A pong of RFC 6455.
    Pong(Vec<u8>),
    /// A close frame: code and reason, 1005 where it has none.
    Close(u16, String),
    /// The end of the connection.
    End,
}

/// The answer to a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Its `error`.
    pub error: Option<Value>,
    /// Its `data`.
    pub data: Option<Value>,
}

impl Answer {
    /// A member of the error.
    #[must_use]
    pub fn error_member(&self, name: &str) -> Option<&Value> {
        self.error.as_ref()?.get(name)
    }

    /// Fails unless it is a success, and answers its data (`null` where there is none).
    ///
    /// # Errors
    /// It is an error.
    pub fn ok(self) -> Verdict<Value> {
        match self.error {
            None => Ok(self.data.unwrap_or(Value::Null)),
            Some(error) => Err(Stop::fail(format!("an error came where none was expected: {error}"))),
        }
    }

    /// Fails unless it is an error of this name.
    ///
    /// # Errors
    /// It is none, or another.
    pub fn refused(&self, name: &str) -> Verdict {
        let got = self.error_member("name").and_then(Value::as_str);
        ensure(got == Some(name), || format!("expected the error {name}, got {self:?}"))
    }
}

/// The answer to an upgrade request that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status code.
    pub status: u16,
    /// The body, as far as it came.
    pub body: String,
}

/// One connection.
#[derive(Debug)]
pub struct Peer {
    stream: TcpStream,
    reader: Reader,
    queue: VecDeque<Message>,
    ended: bool,
    version: Version,
    patience: Duration,
    entropy: SeededEntropy,
    cid: u64,
    /// Whether SocketCluster's pings are answered.
    pub pongs: bool,
    /// How many pings of the own version came.
    pub pings: u64,
    /// All packets that came, in order, answers too.
    pub log: Vec<Value>,
    /// Up to where [`event`](Self::event) has looked.
    seen: usize,
}

impl Peer {
    /// Upgrades a connection.
    ///
    /// # Errors
    /// It is refused, or the answer breaks RFC 6455.
    pub fn connect(target: &Target, query: &str) -> Verdict<Self> {
        match Self::try_connect(target, query, &[])? {
            Ok(peer) => Ok(peer),
            Err(refusal) => Err(Stop::fail(format!("the upgrade is refused: {} {}", refusal.status, refusal.body))),
        }
    }

    /// Asks for an upgrade, with more headers.
    ///
    /// # Errors
    /// The answer is no HTTP, or breaks RFC 6455.
    pub fn try_connect(target: &Target, query: &str, headers: &[(&str, &str)]) -> Verdict<Result<Self, Refusal>> {
        let mut entropy = SeededEntropy::new(target.next_seed());
        let handshake = ClientHandshake::new(&mut entropy);
        let mut out = BytesMut::new();
        let path = format!("{}{query}", target.path);
        let written = handshake.write_request(&mut out, &target.host, &path, headers);
        written.map_err(|error| Stop::fail(format!("the request cannot be written: {error}")))?;
        let mut stream = target.dial()?;
        stream.write_all(&out)?;
        let mut head = HeadReader::new();
        let mut buf = [0; 4096];
        let deadline = Instant::now() + target.patience;
        loop {
            let n = read_until(&mut stream, &mut buf, deadline)?;
            ensure(n > 0, || "the connection ends without an answer to the upgrade".to_owned())?;
            let parsed = head.response(&buf[..n], |head| (head.status, handshake.check(head)));
            let parsed =
                parsed.map_err(|error| Stop::fail(format!("the answer to the upgrade is no HTTP: {error}")))?;
            let Some(((status, checked), used)) = parsed else { continue };
            if status != 101 {
                let mut body = buf[used..n].to_vec();
                while let Ok(n @ 1..) = read_until(&mut stream, &mut buf, deadline) {
                    body.extend_from_slice(&buf[..n]);
                }
                return Ok(Err(Refusal { status, body: String::from_utf8_lossy(&body).into_owned() }));
            }
            checked.map_err(|error| Stop::fail(format!("the answer to the upgrade is wrong: {error}")))?;
            let mut peer = Self {
                stream,
                reader: Reader::new(Role::Client),
                queue: VecDeque::new(),
                ended: false,
                version: target.version,
                patience: target.patience,
                entropy,
                cid: 0,
                pongs: true,
                pings: 0,
                log: Vec::new(),
                seen: 0,
            };
            peer.take(&mut buf[used..n].to_vec())?;
            return Ok(Ok(peer));
        }
    }

    /// Upgrades, completes the handshake without a token, and has seen `welcome`.
    ///
    /// # Errors
    /// Any of it fails.
    pub fn open(target: &Target) -> Verdict<Self> {
        let mut peer = Self::connect(target, "")?;
        peer.handshake(None)?.ok()?;
        peer.event("welcome")?;
        Ok(peer)
    }

    /// Sends `#handshake` and waits for its answer.
    ///
    /// # Errors
    /// None comes.
    pub fn handshake(&mut self, token: Option<&str>) -> Verdict<Answer> {
        self.call("#handshake", Some(json!({ "authToken": token })))
    }

    fn mask(&mut self) -> [u8; 4] {
        use sc_protocol::Entropy as _;
        self.entropy.next_u32().to_be_bytes()
    }

    /// Sends a text message.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send(&mut self, text: &str) -> Verdict {
        self.send_frame(OpCode::Text, text.as_bytes())
    }

    /// Sends any frame.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send_frame(&mut self, opcode: OpCode, payload: &[u8]) -> Verdict {
        let mut out = BytesMut::new();
        let mask = self.mask();
        frame::write(&mut out, opcode, payload, Some(mask));
        self.send_bytes(&out)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Verdict {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Emits with an ack wanted; answers the `cid`.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn emit(&mut self, event: &str, data: Option<Value>) -> Verdict<u64> {
        self.cid += 1;
        let mut packet = json!({ "event": event, "cid": self.cid });
        if let Some(data) = data {
            packet["data"] = data;
        }
        self.send(&packet.to_string())?;
        Ok(self.cid)
    }

    /// Emits without wanting an ack.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn transmit(&mut self, event: &str, data: &Value) -> Verdict {
        self.send(&json!({ "event": event, "data": data }).to_string())
    }

    /// Emits and waits for the ack.
    ///
    /// # Errors
    /// None comes.
    pub fn call(&mut self, event: &str, data: Option<Value>) -> Verdict<Answer> {
        let cid = self.emit(event, data)?;
        self.answer(&json!(cid)).map_err(|stop| match stop {
            Stop::Fail(why) => Stop::Fail(format!("no answer to {event}: {why}")),
            skip => skip,
        })
    }

    /// Waits for the answer to a `cid`, unless it came already.
    ///
    /// # Errors
    /// None comes.
    pub fn answer(&mut self, cid: &Value) -> Verdict<Answer> {
        let mut looked = 0;
        loop {
            while let Some(packet) = self.log.get(looked) {
                looked += 1;
                if packet.get("rid") == Some(cid) {
                    return Ok(Answer { error: packet.get("error").cloned(), data: packet.get("data").cloned() });
                }
            }
            self.packet()?;
        }
    }

    /// Where in the log the answer to a `cid` is.
    #[must_use]
    pub fn place_of_answer(&self, cid: u64) -> Option<usize> {
        self.log.iter().position(|packet| packet.get("rid") == Some(&json!(cid)))
    }

    /// Where in the log the first event of this name is.
    #[must_use]
    pub fn place_of_event(&self, name: &str) -> Option<usize> {
        self.log.iter().position(|packet| is_event(packet, name))
    }

    /// Waits for the next event of this name; those of other names stay in the log.
    ///
    /// # Errors
    /// None comes.
    pub fn event(&mut self, name: &str) -> Verdict<Value> {
        loop {
            while let Some(packet) = self.log.get(self.seen) {
                self.seen += 1;
                if is_event(packet, name) {
                    return Ok(packet.clone());
                }
            }
            self.packet().map_err(|stop| match stop {
                Stop::Fail(why) => Stop::Fail(format!("no event {name}: {why}")),
                skip => skip,
            })?;
        }
    }

    /// How many events of this name came so far, and were not waited for.
    #[must_use]
    pub fn unseen(&self, name: &str) -> usize {
        self.log[self.seen.min(self.log.len())..].iter().filter(|packet| is_event(packet, name)).count()
    }

    /// After it, everything that was sent before has been handled, and what it brought about at once has come.
    ///
    /// # Errors
    /// The connection does not live.
    pub fn barrier(&mut self) -> Verdict {
        let value = json!({ "barrier": self.cid });
        let got = self.call("echo", Some(value.clone()))?.ok()?;
        ensure(got == value, || format!("echo answers {got}"))
    }

    /// Waits for the next packet and logs it. Messages that are no packets are logged as strings.
    ///
    /// # Errors
    /// The connection ends, or nothing comes.
    pub fn packet(&mut self) -> Verdict {
        match self.message()? {
            Message::Text(text) => match serde_json::from_str::<Value>(&text) {
                Ok(Value::Array(batch)) => self.log.extend(batch),
                Ok(packet @ Value::Object(_)) => self.log.push(packet),
                _ => self.log.push(Value::String(text)),
            },
            Message::Binary(_) | Message::Pong(_) => {}
            Message::Close(code, reason) => {
                return Err(Stop::fail(format!("the server closes with {code} {reason:?}")));
            }
            Message::End => return Err(Stop::fail("the connection ends")),
        }
        Ok(())
    }

    /// The next message; pings are answered, if they are to be.
    ///
    /// # Errors
    /// Nothing comes, or what comes breaks RFC 6455.
    pub fn message(&mut self) -> Verdict<Message> {
        self.message_within(self.patience)
    }

    /// As [`message`](Self::message), with a patience of its own.
    ///
    /// # Errors
    /// As there.
    pub fn message_within(&mut self, patience: Duration) -> Verdict<Message> {
        let deadline = Instant::now() + patience;
        let mut buf = [0; 16 * 1024];
        loop {
            if let Some(message) = self.queue.pop_front() {
                return Ok(message);
            }
            if self.ended {
                return Ok(Message::End);
            }
            match read_until(&mut self.stream, &mut buf, deadline) {
                Ok(0) => self.ended = true,
                Ok(n) => self.take(&mut buf[..n])?,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => self.ended = true,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for a close frame and answers its code and reason.
    ///
    /// # Errors
    /// None comes.
    pub fn closed(&mut self) -> Verdict<(u16, String)> {
        self.closed_within(self.patience)
    }

    /// As [`closed`](Self::closed), with a patience of its own.
    ///
    /// # Errors
    /// None comes.
    pub fn closed_within(&mut self, patience: Duration) -> Verdict<(u16, String)> {
        let deadline = Instant::now() + patience;
        loop {
            match self.message_within(deadline.saturating_duration_since(Instant::now()))? {
                Message::Close(code, reason) => return Ok((code, reason)),
                Message::End => return Err(Stop::fail("the connection ends without a close frame")),
                Message::Text(text) => {
                    self.log.extend(serde_json::from_str::<Value>(&text).ok().filter(Value::is_object));
                }
                _ => {}
            }
        }
    }

    fn take(&mut self, data: &mut [u8]) -> Verdict {
        let (queue, own) = (&mut self.queue, if self.version == Version::V1 { "#1" } else { "" });
        let mut pings = 0;
        let read = self.reader.handle_bytes(MESSAGE_MAX, data, |event| {
            queue.extend(match event {
                Event::Text(text) if text == own => {
                    pings += 1;
                    None
                }
                // A server that does not know the version yet may send both pings.
                Event::Text("" | "#1") => None,
                Event::Text(text) => Some(Message::Text(text.to_owned())),
                Event::Binary(bytes) => Some(Message::Binary(bytes.to_vec())),
                Event::Ping(_) => None,
                Event::Pong(bytes) => Some(Message::Pong(bytes.to_vec())),
                Event::Close(close) => {
                    let (code, reason) = close.unwrap_or((1005, ""));
                    Some(Message::Close(code, reason.to_owned()))
                }
            });
            ControlFlow::Continue(())
        });
        read.map_err(|error| Stop::fail(format!("the server breaks RFC 6455: {error}")))?;
        self.pings += pings;
        for _ in 0..pings {
            if self.pongs {
                self.send(if self.version == Version::V1 { "#2" } else { "" })?;
            }
        }
        Ok(())
    }
}

fn is_event(packet: &Value, name: &str) -> bool {
    packet.get("event").and_then(Value::as_str) == Some(name)
}

fn read_until(stream: &mut TcpStream, buf: &mut [u8], deadline: Instant) -> std::io::Result<usize> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(std::io::Error::new(ErrorKind::TimedOut, "nothing came in time"));
    }
    stream.set_read_timeout(Some(left))?;
    match stream.read(buf) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Err(std::io::Error::new(ErrorKind::TimedOut, "nothing came in time"))
        }
        other => other,
    }
}
