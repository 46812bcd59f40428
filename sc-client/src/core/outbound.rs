//! What goes out: calls and their deadlines, the buffer before the connection is open, batches, frames.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use sc_protocol::packet::write;
use sc_protocol::ws::{OpCode, frame};
use sc_protocol::{ScError, json};

use super::{ClientCore, Phase, Queued};
use crate::data::{Data, Token};
use crate::output::{CallId, Raw};

/// A call that was sent.
#[derive(Debug)]
pub(super) struct Sent {
    /// Who waits; nobody outside for packets of the client's own.
    pub(super) call: Option<CallId>,
    pub(super) deadline: Option<Instant>,
    pub(super) kind: Kind,
}

/// What a call that was sent is about.
#[derive(Debug)]
pub(super) enum Kind {
    Handshake(Option<Token>),
    Subscribe(Arc<str>),
    Authenticate(Token),
    Event(Box<str>),
    Publish,
}

impl Kind {
    fn event(&self) -> &str {
        match self {
            Self::Handshake(_) => "#handshake",
            Self::Subscribe(_) => "#subscribe",
            Self::Authenticate(_) => "#authenticate",
            Self::Event(name) => name,
            Self::Publish => "#publish",
        }
    }
}

/// Where a call is that has a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Where {
    Buffer,
    /// Sent with this cid.
    Sent(u64),
}

/// What an application wants sent, lent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Content<'a> {
    Event(&'a str),
    Publish(&'a str),
    Authenticate(&'a Token),
    Raw(&'a Raw),
}

/// A packet that waits for the connection, or for room in it.
#[derive(Debug)]
pub(super) struct Buffered {
    pub(super) call: CallId,
    deadline: Instant,
    answered: bool,
    content: Owned,
    data: Option<Box<str>>,
}

#[derive(Debug)]
enum Owned {
    Event(Box<str>),
    Publish(Box<str>),
    Authenticate(Token),
    Raw(Raw),
}

/// Packets that are collected.
#[derive(Debug)]
pub(super) struct Batch {
    /// `[p1,p2`
    text: BytesMut,
    pub(super) due: Instant,
    /// It takes every packet, not only those that are marked for it.
    everything: bool,
}

impl ClientCore {
    pub(super) fn submit(
        &mut self,
        now: Instant,
        content: Content<'_>,
        data: Option<&str>,
        answered: bool,
        timeout: Option<Duration>,
    ) -> CallId {
        debug_assert!(data.is_none_or(|data| json::validate(data).is_some()), "data is JSON");
        self.last_call += 1;
        let call = CallId(self.last_call);
        let deadline = now + timeout.unwrap_or(self.config.ack_timeout);
        if matches!(self.phase, Phase::Open(_)) && !self.congested && self.buffer.is_empty() {
            self.send_content(now, call, content, data, answered, deadline);
        } else if self.buffer.len() >= self.config.buffer_max {
            if answered {
                let limit = self.config.buffer_max;
                let text = format!("{limit} packets wait for the connection already");
                self.answer(call, Err(ScError::resource_limit(text)));
            }
        } else {
            let content = match content {
                Content::Event(name) => Owned::Event(name.into()),
                Content::Publish(channel) => Owned::Publish(channel.into()),
                Content::Authenticate(token) => Owned::Authenticate(token.clone()),
                Content::Raw(raw) => Owned::Raw(raw.clone()),
            };
            self.buffer.push_back(Buffered { call, deadline, answered, content, data: data.map(Into::into) });
            self.deadlines.insert((deadline, call.0), Where::Buffer);
            self.on_demand(now);
        }
        self.check_invariants();
        call
    }

    pub(super) fn on_demand(&mut self, now: Instant) {
        if self.config.connect_on_demand {
            self.connect(now);
        }
    }

    /// Sends what waits, as far as there is room.
    pub(super) fn flush_buffer(&mut self, now: Instant) {
        while matches!(self.phase, Phase::Open(_)) && !self.congested {
            let Some(Buffered { call, deadline, answered, content, data }) = self.buffer.pop_front() else { break };
            self.deadlines.remove(&(deadline, call.0));
            let lent = match &content {
                Owned::Event(name) => Content::Event(name),
                Owned::Publish(channel) => Content::Publish(channel),
                Owned::Authenticate(token) => Content::Authenticate(token),
                Owned::Raw(raw) => Content::Raw(raw),
            };
            self.send_content(now, call, lent, data.as_deref(), answered, deadline);
        }
        if self.buffer.is_empty() {
            self.buffer = std::collections::VecDeque::new();
        }
    }

    fn send_content(
        &mut self,
        now: Instant,
        call: CallId,
        content: Content<'_>,
        data: Option<&str>,
        answered: bool,
        deadline: Instant,
    ) {
        let mut cid = None;
        if answered {
            let kind = match content {
                Content::Event(name) => Kind::Event(name.into()),
                Content::Publish(_) | Content::Raw(_) => Kind::Publish,
                Content::Authenticate(token) => Kind::Authenticate(token.clone()),
            };
            let sent = Sent { call: Some(call), deadline: Some(deadline), kind };
            match self.acks.insert(self.config.unanswered_max, sent, None) {
                Ok(number) => cid = Some(number),
                Err(_) => {
                    let text = format!("{} calls wait for their answers already", self.config.unanswered_max);
                    return self.answer(call, Err(ScError::resource_limit(text)));
                }
            }
        }
        if let Some(cid) = cid {
            self.deadlines.insert((deadline, call.0), Where::Sent(cid));
        }
        self.before_packet(now);
        match content {
            Content::Event(name) => self.send_packet(false, |out| write::event(out, name, data, cid)),
            Content::Publish(channel) => self.send_publish(channel, data, cid),
            Content::Authenticate(token) => {
                let mut text = BytesMut::new();
                json::write_string(&mut text, token.as_str());
                let text = String::from_utf8_lossy(&text);
                self.send_packet(false, |out| write::event(out, "#authenticate", Some(&text), cid));
            }
            Content::Raw(raw) => {
                self.flush_batch(now);
                match raw {
                    Raw::Text(text) => self.frame(OpCode::Text, |out| out.extend_from_slice(text.as_bytes())),
                    Raw::Binary(bytes) => self.frame(OpCode::Binary, |out| out.extend_from_slice(bytes)),
                }
            }
        }
    }

    fn send_publish(&mut self, channel: &str, data: Option<&str>, cid: Option<u64>) {
        let mut publish = BytesMut::with_capacity(channel.len() + data.map_or(0, str::len) + 32);
        publish.extend_from_slice(b"{\"channel\":");
        let prefix = &self.config.channel_prefix;
        if prefix.is_empty() {
            json::write_string(&mut publish, channel);
        } else {
            json::write_string(&mut publish, &format!("{prefix}{channel}"));
        }
        if let Some(data) = data {
            publish.extend_from_slice(b",\"data\":");
            publish.extend_from_slice(data.as_bytes());
        }
        publish.extend_from_slice(b"}");
        let publish = String::from_utf8_lossy(&publish);
        self.send_packet(false, |out| write::event(out, "#publish", Some(&publish), cid));
    }

    /// Calls whose time is over get their error; what waits in the buffer leaves it.
    pub(super) fn expire_calls(&mut self, now: Instant) {
        while let Some(entry) = self.deadlines.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((_, number), place) = entry.remove_entry();
            match place {
                Where::Sent(cid) => {
                    let Some(sent) = self.acks.take(cid).map(|call| call.value) else { continue };
                    let error = ScError::timeout(sent.kind.event(), self.rules());
                    self.resolve(sent, Err(error));
                }
                Where::Buffer => {
                    let Ok(place) = self.buffer.binary_search_by_key(&number, |waits| waits.call.0) else { continue };
                    let Some(waits) = self.buffer.remove(place) else { continue };
                    if waits.answered {
                        let event = match &waits.content {
                            Owned::Event(name) => name,
                            Owned::Authenticate(_) => "#authenticate",
                            Owned::Publish(_) | Owned::Raw(_) => "#publish",
                        };
                        let error = ScError::timeout(event, self.rules());
                        self.answer(waits.call, Err(error));
                    }
                }
            }
        }
        if self.deadlines.is_empty() {
            self.deadlines = std::collections::BTreeMap::new();
        }
    }

    /// The connection is gone: whatever waits for an answer gets none.
    pub(super) fn fail_sent(&mut self, kind: &str) {
        for (_, call) in self.acks.drain() {
            let sent = call.value;
            if let (Some(call), Some(deadline)) = (sent.call, sent.deadline) {
                self.deadlines.remove(&(deadline, call.0));
            }
            let error = ScError::bad_connection(sent.kind.event(), kind, self.rules());
            self.resolve(sent, Err(error));
        }
    }

    /// Gives a call of the application's its result, whose deadline is out of the way.
    pub(super) fn resolve(&mut self, sent: Sent, result: Result<Data, ScError>) {
        if let Some(call) = sent.call {
            self.answer(call, result);
        }
    }

    /// Everything is collected from now on, and sent as a batch once per `batch_interval`, until
    /// [`stop_batching`](Self::stop_batching). Servers before SocketCluster 8 know no batches.
    pub fn start_batching(&mut self, _now: Instant) {
        self.batching = true;
    }

    /// Sends what was collected, and collects no more.
    pub fn stop_batching(&mut self, now: Instant) {
        self.batching = false;
        self.flush_batch(now);
    }

    /// Sends what was collected.
    pub fn flush_batch(&mut self, _now: Instant) {
        let Some(batch) = self.batch.take() else { return };
        if batch.text.len() > 1 {
            self.frame(OpCode::Text, |out| {
                out.extend_from_slice(&batch.text);
                out.extend_from_slice(b"]");
            });
        }
    }

    pub(super) fn start_batch_on_handshake(&mut self, now: Instant) {
        if let Some(duration) = self.config.batch_on_handshake {
            self.batch = Some(Box::new(Batch { text: BytesMut::from("["), due: now + duration, everything: true }));
        }
    }

    pub(super) fn batch_due(&mut self, now: Instant) {
        self.flush_batch(now);
    }

    /// While batching is on, a packet begins a batch if there is none.
    fn before_packet(&mut self, now: Instant) {
        if self.batching && self.batch.is_none() {
            let due = now + self.config.batch_interval.max(Duration::from_millis(1));
            self.batch = Some(Box::new(Batch { text: BytesMut::from("["), due, everything: true }));
        }
    }

    /// The same for a packet of a subscription, which may ask for a batch.
    pub(super) fn before_subscription(&mut self, now: Instant, batched: bool) {
        self.before_packet(now);
        if batched && self.batch.is_none() {
            let due = now + self.config.pub_sub_batch_duration.max(Duration::from_millis(1));
            self.batch = Some(Box::new(Batch { text: BytesMut::from("["), due, everything: false }));
        }
    }

    /// Writes a packet: into the batch if there is one that takes it, else as a message. A batch that takes it not goes out
    /// before, so that packets keep their order.
    pub(super) fn send_packet(&mut self, batched: bool, fill: impl FnOnce(&mut BytesMut)) {
        match &mut self.batch {
            Some(batch) if batched || batch.everything => {
                if batch.text.len() > 1 {
                    batch.text.extend_from_slice(b",");
                }
                fill(&mut batch.text);
            }
            Some(batch) => {
                let due = batch.due;
                self.flush_batch(due);
                self.frame(OpCode::Text, fill);
            }
            None => self.frame(OpCode::Text, fill),
        }
    }

    /// Writes a message.
    pub(super) fn frame(&mut self, opcode: OpCode, fill: impl FnOnce(&mut BytesMut)) {
        let mask = Some(self.entropy.next_u32().to_ne_bytes());
        #[cfg(feature = "deflate")]
        if let Some(deflate) = self.deflate.take() {
            let mut payload = BytesMut::new();
            fill(&mut payload);
            deflate.write(self.wire(), opcode, &payload, mask);
            self.deflate = Some(deflate);
            return;
        }
        frame::append(self.wire(), opcode, mask, fill);
    }

    /// Where bytes for the transport go: behind the last ones, unless something else was put out since.
    pub(super) fn wire(&mut self) -> &mut BytesMut {
        if !matches!(self.out.back(), Some(Queued::Wire(_))) {
            self.out.push_back(Queued::Wire(BytesMut::new()));
        }
        match self.out.back_mut() {
            Some(Queued::Wire(bytes)) => bytes,
            _ => unreachable!("invariant: it was pushed above"),
        }
    }
}
