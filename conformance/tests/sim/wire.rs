//! The stream between a worker and a broker: what is kept until it can be written, and where faults strike.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::BytesMut;
use sc_protocol::ipc::{LinkMsg, LinkReader};
use sc_protocol::json;

use crate::env::Env;
use crate::fault::Fault;
use crate::net::{End, Read, StreamId};

/// One end of a link.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) stream: StreamId,
    end: End,
    out: VecDeque<u8>,
    tap: LinkReader,
    /// Written messages are looked at for faults, which happen only to a link that is not the first.
    again: bool,
}

impl Wire {
    pub(crate) fn new(stream: StreamId, end: End, again: bool) -> Self {
        Self { stream, end, out: VecDeque::new(), tap: LinkReader::new(), again }
    }

    pub(crate) fn queued(&self) -> usize {
        self.out.len()
    }

    pub(crate) fn wants_at(&self, env: &Env, now: Instant) -> Option<Instant> {
        let write = (!self.out.is_empty() && env.net.room(self.stream, self.end) > 0).then_some(now);
        write.or_else(|| env.net.readable_at(self.stream, self.end, now))
    }

    /// Queues and writes. Answers false if nobody reads any more.
    pub(crate) fn send(&mut self, env: &mut Env, bytes: &[u8]) -> bool {
        if env.fault == Some(Fault::LoseResubscription) && self.again {
            let bytes = self.rewrite(env, bytes);
            self.out.extend(bytes);
        } else {
            self.out.extend(bytes);
        }
        self.flush(env)
    }

    pub(crate) fn flush(&mut self, env: &mut Env) -> bool {
        let bytes = self.out.make_contiguous();
        let now = env.clock.now();
        let Some(n) = env.net.write(self.stream, self.end, bytes, now, &mut env.rng) else { return false };
        env.digest = env.digest.rotate_left(7) ^ n as u64;
        self.out.drain(..n);
        true
    }

    pub(crate) fn read(&mut self, env: &mut Env) -> Read {
        let size = env.read_size();
        let read = env.net.read(self.stream, self.end, size, env.clock.now());
        self.tapped(env, read)
    }

    /// What the kernel still has for this end when the other is gone.
    pub(crate) fn rest(&mut self, env: &mut Env) -> Vec<u8> {
        let far = env.clock.now() + std::time::Duration::from_secs(3600);
        let read = env.net.read(self.stream, self.end, usize::MAX, far);
        match self.tapped(env, read) {
            Read::Data(data) => data,
            _ => Vec::new(),
        }
    }

    fn tapped(&mut self, env: &mut Env, read: Read) -> Read {
        let strikes = matches!(env.fault, Some(Fault::SwapDeliveries | Fault::LoseDelivery));
        match read {
            Read::Data(data) if strikes && self.end == End::Near => Read::Data(self.rewrite(env, &data)),
            read => read,
        }
    }

    /// Writes the messages anew, with a fault in them.
    fn rewrite(&mut self, env: &mut Env, data: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        let mut held: Option<(String, Option<String>)> = None;
        let read = self.tap.handle_bytes(data, |msg| match msg {
            LinkMsg::Subscribe { cid, .. } if env.faulty(Fault::LoseResubscription) => {
                LinkMsg::Subscribe { cid, channel: "elsewhere" }.write(&mut out);
            }
            LinkMsg::Deliver { .. } if env.faulty(Fault::LoseDelivery) => {}
            LinkMsg::Deliver { channel, data } => {
                let swap = held.as_ref().is_some_and(|(held, _)| held == channel);
                if let Some((channel, data)) = held.take_if(|_| !swap) {
                    LinkMsg::Deliver { channel: &channel, data: data.as_deref() }.write(&mut out);
                }
                if !swap && env.fault == Some(Fault::SwapDeliveries) && env.faults_left > 0 {
                    held = Some((channel.to_owned(), data.map(str::to_owned)));
                    return;
                }
                LinkMsg::Deliver { channel, data }.write(&mut out);
                if let Some((channel, data)) = held.take() {
                    env.faults_left -= 1;
                    LinkMsg::Deliver { channel: &channel, data: data.as_deref() }.write(&mut out);
                }
            }
            other => other.write(&mut out),
        });
        if let Some((channel, data)) = held {
            LinkMsg::Deliver { channel: &channel, data: data.as_deref() }.write(&mut out);
        }
        if read.is_err() {
            env.model.fail("a link carries no messages");
        }
        out.to_vec()
    }
}

/// The number of a publish stands in its data.
pub(crate) fn publish_id(data: Option<&str>) -> Option<u64> {
    let [id] = json::object(data?, ["id"])?;
    json::number(id?).map(|id| id as u64)
}
