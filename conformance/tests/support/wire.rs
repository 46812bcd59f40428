//! A client of our own for tests that have to see everything that comes in, and when a connection ends.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Instant;

use bytes::BytesMut;
use sc_protocol::entropy::SeededEntropy;
use sc_protocol::http::HeadReader;
use sc_protocol::packet::{self, Packet, Version, write};
use sc_protocol::ws::handshake::ClientHandshake;
use sc_protocol::ws::{Event, OpCode, Reader, Role, frame};
use serde_json::{Value, json};

use super::PATIENCE;

/// The largest message it takes.
const MESSAGE_MAX: usize = 16 << 20;

/// What came in, but for answers and pings.
#[derive(Debug, Clone, PartialEq)]
pub enum Got {
    /// An event: name and data. What was published is named `#publish`.
    Event(String, Value),
    /// A message that is no packet.
    Raw(String),
    /// The end of the connection, with the close code (1006: none came).
    End(u16),
}

type Answers = Mutex<Option<HashMap<u64, mpsc::Sender<Result<Value, Value>>>>>;

/// A connection that has completed its handshake. It speaks protocol 2.
#[derive(Debug)]
pub struct Wire {
    shared: Arc<Shared>,
    events: Mutex<mpsc::Receiver<Got>>,
    cid: AtomicU64,
    /// What the contract server said first.
    pub welcome: Value,
}

#[derive(Debug)]
struct Shared {
    stream: TcpStream,
    /// `None` when the connection has ended: no answer will come.
    answers: Answers,
}

impl Wire {
    /// Connects to this port of this machine, where a server says welcome.
    pub fn connect(port: u16) -> Result<Self, String> {
        let mut wire = Self::open(port)?;
        wire.welcome = wire.event("welcome")?;
        Ok(wire)
    }

    /// Connects to this port of this machine.
    pub fn open(port: u16) -> Result<Self, String> {
        let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
        let shared = Arc::new(Shared { stream, answers: Mutex::new(Some(HashMap::new())) });
        let (sender, events) = mpsc::channel();
        let (upgraded, is_upgraded) = mpsc::channel();
        let reading = Arc::clone(&shared);
        thread::spawn(move || {
            let code = reading.read(&sender, &upgraded);
            *reading.answers.lock().unwrap_or_else(PoisonError::into_inner) = None;
            let _ = sender.send(Got::End(code));
        });
        is_upgraded.recv_timeout(PATIENCE).map_err(|_| "the upgrade was refused".to_owned())?;
        let wire = Self { shared, events: Mutex::new(events), cid: AtomicU64::new(1), welcome: Value::Null };
        wire.call("#handshake", json!({})).map_err(|error| error.to_string())?;
        Ok(wire)
    }

    /// A connection to this worker, which may have to come back first.
    pub fn to_worker(port: u16, worker: u64) -> Result<Self, String> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let wire = Self::connect(port)?;
            if wire.worker() == worker {
                return Ok(wire);
            }
        }
        Err(format!("no connection came to worker {worker}"))
    }

    /// The number of the worker that serves it.
    pub fn worker(&self) -> u64 {
        self.welcome["worker"].as_u64().unwrap_or(u64::MAX)
    }

    /// The process id of that worker.
    pub fn pid(&self) -> u32 {
        self.welcome["pid"].as_u64().and_then(|pid| pid.try_into().ok()).unwrap_or(0)
    }

    /// Emits and waits for the answer: data, or the error. An ended connection's error is a string.
    pub fn call(&self, event: &str, data: Value) -> Result<Value, Value> {
        let cid = self.cid.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = mpsc::channel();
        match &mut *self.shared.answers.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(answers) => drop(answers.insert(cid, answer)),
            None => return Err("the connection has ended".into()),
        }
        self.shared.send(|out| write::event(out, event, Some(&data.to_string()), Some(cid)));
        match answered.recv_timeout(PATIENCE) {
            Ok(answer) => answer,
            Err(mpsc::RecvTimeoutError::Timeout) => Err(format!("{event} was not answered").into()),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err("the connection has ended".into()),
        }
    }

    /// Subscribes and waits for the answer.
    pub fn subscribe(&self, channel: &str) -> Result<(), String> {
        self.call("#subscribe", json!({ "channel": channel })).map(drop).map_err(|error| error.to_string())
    }

    /// Publishes and waits for the answer.
    pub fn publish(&self, channel: &str, data: impl Into<Value>) -> Result<(), Value> {
        self.call("#publish", json!({ "channel": channel, "data": data.into() })).map(drop)
    }

    /// The next thing that came in.
    pub fn next(&self) -> Result<Got, String> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.recv_timeout(PATIENCE).map_err(|_| "nothing came".to_owned())
    }

    /// What has come in and was not looked at.
    pub fn waiting(&self) -> Vec<Got> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).try_iter().collect()
    }

    /// The data of the next event of this name; what comes before it is dropped.
    pub fn event(&self, name: &str) -> Result<Value, String> {
        loop {
            match self.next()? {
                Got::Event(event, data) if event == name => return Ok(data),
                Got::End(code) => return Err(format!("the connection ended with {code} before {name} came")),
                _ => {}
            }
        }
    }

    /// The close code, when the connection has ended.
    pub fn end(&self) -> Result<u16, String> {
        loop {
            if let Got::End(code) = self.next()? {
                return Ok(code);
            }
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.shared.stream.shutdown(Shutdown::Both);
    }
}

impl Shared {
    fn send(&self, write: impl FnOnce(&mut BytesMut)) {
        let mut out = BytesMut::new();
        // The mask only has to be there: nobody is in between.
        frame::append(&mut out, OpCode::Text, Some([1, 2, 3, 4]), write);
        // One that fails is told of by the reader.
        let _ = (&self.stream).write_all(&out);
    }

    /// Reads until the end; answers the close code.
    fn read(&self, events: &mpsc::Sender<Got>, upgraded: &mpsc::Sender<()>) -> u16 {
        let handshake = ClientHandshake::new(&mut SeededEntropy::new(1));
        let (mut request, mut input) = (BytesMut::new(), vec![0; 64 * 1024]);
        if handshake.write_request(&mut request, "127.0.0.1", "/socketcluster/", &[]).is_err() {
            return 1006;
        }
        let (mut head, mut reader, mut code) = (Some(HeadReader::new()), Reader::new(Role::Client), 1006);
        let mut sent = (&self.stream).write_all(&request);
        while sent.is_ok() {
            let Ok(len @ 1..) = (&self.stream).read(&mut input) else { break };
            let mut from = 0;
            if let Some(reader) = &mut head {
                match reader.response(&input[..len], |head| handshake.check(head).is_ok()) {
                    Ok(None) => continue,
                    Ok(Some((true, used))) => from = used,
                    _ => break,
                }
                head = None;
                sent = upgraded.send(()).map_err(std::io::Error::other);
            }
            let result = reader.handle_bytes(MESSAGE_MAX, &mut input[from..len], |event| {
                match event {
                    Event::Text(text) => self.text(text, events),
                    Event::Close(close) => code = close.map_or(1005, |(code, _)| code),
                    _ => {}
                }
                ControlFlow::Continue(())
            });
            if result.is_err() || code != 1006 {
                break;
            }
        }
        let _ = self.stream.shutdown(Shutdown::Both);
        code
    }

    fn text(&self, text: &str, events: &mpsc::Sender<Got>) {
        let value =
            |json: Option<&str>| json.map_or(Value::Null, |json| serde_json::from_str(json).unwrap_or_default());
        let got = match packet::parse(text, Version::V2) {
            _ if text.is_empty() => return self.send(|_| {}),
            _ if text == "#1" => return,
            Packet::Event(event) => Got::Event(event.name.into_owned(), value(event.data)),
            Packet::Response(response) => {
                let answer = match response.error {
                    Some(error) => Err(value(Some(error))),
                    None => Ok(value(response.data)),
                };
                let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
                let waiting = response.rid.int().and_then(|rid| answers.as_mut()?.remove(&rid));
                if let Some(waiting) = waiting {
                    let _ = waiting.send(answer);
                }
                return;
            }
            _ => Got::Raw(text.to_owned()),
        };
        let _ = events.send(got);
    }
}
