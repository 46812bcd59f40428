//! The server's end of one connection of a client under test.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use sc_protocol::Version;
use sc_protocol::http::HeadReader;
use sc_protocol::ws::{Event, OpCode, Reader, Role, frame, handshake};
use serde_json::Value;

use crate::check::{Stop, Verdict};

/// Largest message that is taken.
const MESSAGE_MAX: usize = 1 << 20;

/// One connection.
#[derive(Debug)]
pub(crate) struct Served {
    stream: TcpStream,
    reader: Reader,
    texts: VecDeque<String>,
    close: Option<(u16, String)>,
    version: Version,
    patience: Duration,
    /// Packets that came, and up to where they were waited for.
    log: Vec<Value>,
    seen: usize,
}

impl Served {
    /// Answers the upgrade request.
    pub(crate) fn upgrade(mut stream: TcpStream, version: Version, patience: Duration) -> Verdict<Self> {
        let deadline = Instant::now() + patience;
        let (mut head, mut buf) = (HeadReader::new(), [0; 4096]);
        loop {
            let n = read(&mut stream, &mut buf, deadline)?;
            if n == 0 {
                return Err(Stop::fail("the client ends the connection before its request is whole"));
            }
            let mut out = BytesMut::new();
            let checked = head.request(&buf[..n], |head| {
                handshake::check(head).map(|upgrade| handshake::write_accept(&mut out, upgrade.key, None))
            });
            match checked.map_err(|error| Stop::fail(format!("the request is no HTTP: {error}")))? {
                None => {}
                Some((Err(error), _)) => return Err(Stop::fail(format!("the upgrade is wrong: {}", error.message()))),
                Some((Ok(()), used)) => {
                    stream.write_all(&out)?;
                    let reader = Reader::new(Role::Server);
                    let (texts, log) = (VecDeque::new(), Vec::new());
                    let mut served = Self { stream, reader, texts, close: None, version, patience, log, seen: 0 };
                    served.take(&mut buf[used..n].to_vec())?;
                    return Ok(served);
                }
            }
        }
    }

    pub(crate) fn send(&mut self, packet: &Value) -> Verdict {
        self.send_text(&packet.to_string())
    }

    pub(crate) fn send_text(&mut self, text: &str) -> Verdict {
        let mut out = BytesMut::new();
        frame::write(&mut out, OpCode::Text, text.as_bytes(), None);
        Ok(self.stream.write_all(&out)?)
    }

    /// The next text message.
    pub(crate) fn text(&mut self) -> Verdict<String> {
        let deadline = Instant::now() + self.patience;
        let mut buf = [0; 16 * 1024];
        loop {
            if let Some(text) = self.texts.pop_front() {
                return Ok(text);
            }
            if let Some((code, _)) = self.close {
                return Err(Stop::fail(format!("the client closes with {code}")));
            }
            match read(&mut self.stream, &mut buf, deadline)? {
                0 => return Err(Stop::fail("the client ends the connection")),
                n => self.take(&mut buf[..n])?,
            }
        }
    }

    /// The next packet that is no pong.
    pub(crate) fn packet(&mut self) -> Verdict<Value> {
        let pong = if self.version == Version::V1 { "#2" } else { "" };
        while self.seen == self.log.len() {
            let text = self.text()?;
            if text == pong {
                continue;
            }
            match serde_json::from_str::<Value>(&text) {
                Ok(Value::Array(batch)) => self.log.extend(batch),
                Ok(packet @ Value::Object(_)) => self.log.push(packet),
                _ => return Err(Stop::fail(format!("{text:?} is no packet"))),
            }
        }
        self.seen += 1;
        Ok(self.log[self.seen - 1].clone())
    }

    /// The next event of this name.
    pub(crate) fn event(&mut self, name: &str) -> Verdict<Value> {
        self.until(&format!("no event {name}"), |packet| packet["event"] == name)
    }

    /// The answer to a call of ours.
    pub(crate) fn answer(&mut self, cid: u64) -> Verdict<Value> {
        self.until(&format!("no answer to {cid}"), |packet| packet["rid"] == cid)
    }

    fn until(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Verdict<Value> {
        loop {
            match self.packet() {
                Ok(packet) if fits(&packet) => return Ok(packet),
                Ok(_) => {}
                Err(Stop::Fail(why)) => return Err(Stop::Fail(format!("{what}: {why}"))),
                Err(skip) => return Err(skip),
            }
        }
    }

    /// Whether an event of this name has come at all.
    pub(crate) fn came(&self, name: &str) -> bool {
        self.log.iter().any(|packet| packet["event"] == name)
    }

    /// Waits for the client's close frame, and answers it.
    pub(crate) fn closed(&mut self) -> Verdict<(u16, String)> {
        loop {
            match self.packet() {
                Ok(_) => {}
                Err(stop) => match self.close.clone() {
                    None => return Err(stop),
                    Some((code, reason)) => {
                        let mut out = BytesMut::new();
                        frame::write_close(&mut out, Some(code), "", None);
                        // It may be gone already.
                        let _ = self.stream.write_all(&out);
                        return Ok((code, reason));
                    }
                },
            }
        }
    }

    fn take(&mut self, data: &mut [u8]) -> Verdict {
        let (texts, close) = (&mut self.texts, &mut self.close);
        let read = self.reader.handle_bytes(MESSAGE_MAX, data, |event| {
            match event {
                Event::Text(text) => texts.push_back(text.to_owned()),
                Event::Close(frame) => {
                    let (code, reason) = frame.unwrap_or((1005, ""));
                    *close = Some((code, reason.to_owned()));
                }
                _ => {}
            }
            ControlFlow::Continue(())
        });
        read.map(drop).map_err(|error| Stop::fail(format!("the client breaks RFC 6455: {error}")))
    }
}

fn read(stream: &mut TcpStream, buf: &mut [u8], deadline: Instant) -> Verdict<usize> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Stop::fail("nothing came in time"));
    }
    stream.set_read_timeout(Some(left))?;
    match stream.read(buf) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Err(Stop::fail("nothing came in time"))
        }
        other => Ok(other?),
    }
}
