//! One client on a plain socket that waits for what it is told.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::time::Duration;

use bytes::BytesMut;
use sc_protocol::entropy::SeededEntropy;
use sc_protocol::http::HeadReader;
use sc_protocol::ws::{Event, OpCode, Reader, Role, frame, handshake::ClientHandshake};
use serde_json::Value;

/// A test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Client {
    stream: TcpStream,
    reader: Reader,
    inbox: VecDeque<Value>,
    cid: u64,
    /// The worker that serves it.
    pub(crate) worker: u64,
}

impl Client {
    pub(crate) fn connect(port: u16) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the cluster listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        let (handshake, mut out) = (ClientHandshake::new(&mut SeededEntropy::new(1)), BytesMut::new());
        handshake.write_request(&mut out, "localhost", "/socketcluster/", &[]).expect("a plain request");
        stream.write_all(&out).expect("it reads");
        let (mut head, mut byte, mut upgraded) = (HeadReader::new(), [0], false);
        while !upgraded {
            stream.read_exact(&mut byte).expect("an answer");
            upgraded = head.response(&byte, |_| ()).expect("a response").is_some();
        }
        let reader = Reader::new(Role::Client);
        let mut client = Self { stream, reader, inbox: VecDeque::new(), cid: 0, worker: 0 };
        client.ask("#handshake", "{}").expect("a handshake");
        client.worker = client.event("whoami").as_u64().expect("a number");
        client
    }

    /// Two clients on different workers.
    pub(crate) fn pair(port: u16) -> [Self; 2] {
        let one = Self::connect(port);
        loop {
            let other = Self::connect(port);
            if other.worker != one.worker {
                return [one, other];
            }
        }
    }

    fn send(&mut self, text: &str) {
        let mut out = BytesMut::new();
        frame::write(&mut out, OpCode::Text, text.as_bytes(), Some([1, 2, 3, 4]));
        self.stream.write_all(&out).expect("it reads");
    }

    fn read(&mut self) {
        let mut buf = [0; 16 * 1024];
        let n = self.stream.read(&mut buf).expect("something within the test's patience");
        assert!(n > 0, "the connection lasts");
        let mut texts = Vec::new();
        let read = self.reader.handle_bytes(64 << 20, &mut buf[..n], |event| {
            if let Event::Text(text) = event {
                texts.push(text.to_owned());
            }
            ControlFlow::Continue(())
        });
        read.expect("frames");
        for text in texts {
            match text.as_str() {
                "#1" => self.send("#2"),
                "" => {}
                text => self.inbox.push_back(serde_json::from_str(text).expect("a packet")),
            }
        }
    }

    fn take(&mut self, mut is_it: impl FnMut(&Value) -> bool) -> Value {
        loop {
            if let Some(place) = self.inbox.iter().position(&mut is_it) {
                return self.inbox.remove(place).expect("it is there");
            }
            self.read();
        }
    }

    /// Emits an event, and waits for its ack: data or error.
    pub(crate) fn ask(&mut self, event: &str, data: &str) -> Result<Value, Value> {
        self.cid += 1;
        let cid = self.cid;
        self.send(&format!(r#"{{"event":"{event}","data":{data},"cid":{cid}}}"#));
        let mut ack = self.take(|packet| packet["rid"] == cid);
        match ack["error"].take() {
            Value::Null => Ok(ack["data"].take()),
            error => Err(error),
        }
    }

    /// Waits for an event's data.
    pub(crate) fn event(&mut self, event: &str) -> Value {
        self.take(|packet| packet["event"] == event)["data"].take()
    }

    pub(crate) fn subscribe(&mut self, channel: &str) {
        self.ask("#subscribe", &format!(r#"{{"channel":"{channel}"}}"#)).expect("subscribed");
    }

    /// Waits for the next message of a channel.
    pub(crate) fn message(&mut self, channel: &str) -> Value {
        self.take(|packet| packet["event"] == "#publish" && packet["data"]["channel"] == channel)["data"]["data"].take()
    }
}
