//! Packets that go out together, as one JSON array.
//!
//! Protocol 1 (SC 8 to 14) puts the acks of subscriptions that ask for it (`batch: true`) into one message. Protocol 2 has
//! a mode in which everything is batched: [`Cx::start_batching`] or, for the first moments, `batchOnHandshake`.

use bytes::{BufMut, BytesMut};

use sc_protocol::packet::Version;

use crate::core::Core;
use crate::cx::Cx;
use crate::socket::{Socket, SocketId};
use crate::timers::Timer;

/// What of a socket waits to be sent together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The array so far, without its closing bracket.
    packets: BytesMut,
    /// Everything is batched, not only what asks for it.
    all: bool,
    /// Something will send it: a timer, or the end of this turn.
    armed: bool,
}

impl<P> Socket<P> {
    pub(crate) fn batches_all(&self) -> bool {
        self.batch.as_ref().is_some_and(|batch| batch.all)
    }
}

impl<S, P> Core<S, P> {
    /// Puts a packet, which `f` writes, into the socket's batch.
    pub(crate) fn add_to_batch(&mut self, id: SocketId, f: impl FnOnce(&mut BytesMut)) {
        let Some(socket) = self.socket_mut(id).filter(|socket| socket.is_live()) else { return };
        let batch = socket.batch.get_or_insert_default();
        batch.packets.put_u8(if batch.packets.is_empty() { b'[' } else { b',' });
        f(&mut batch.packets);
        if std::mem::replace(&mut batch.armed, true) {
            return;
        }
        let delay = if batch.all { self.config.batch_interval } else { self.config.pub_sub_batch_duration };
        if delay.is_zero() {
            self.batched.push(id);
        } else {
            self.later(delay, Timer::Batch(id));
        }
    }

    /// Sends what has been collected; nothing if nothing has.
    pub(crate) fn flush_batch(&mut self, id: SocketId) {
        let Some(batch) = self.socket_mut(id).and_then(|socket| socket.batch.as_deref_mut()) else { return };
        batch.armed = false;
        let mut packets = std::mem::take(&mut batch.packets);
        if !batch.all
            && let Some(socket) = self.socket_mut(id)
        {
            socket.batch = None;
        }
        if !packets.is_empty() {
            packets.put_u8(b']');
            self.send_now(id, |out| out.extend_from_slice(&packets));
        }
    }

    /// Sends the batches that wait for nothing but the end of this turn.
    pub(crate) fn flush_turn(&mut self) {
        while let Some(id) = self.batched.pop() {
            self.flush_batch(id);
        }
    }

    /// From now on everything for this socket goes out in batches. Protocol 1 does not know it.
    pub(crate) fn start_batching(&mut self, id: SocketId) {
        let Some(socket) = self.socket_mut(id) else { return };
        if !socket.is_live() || socket.version() == Version::V1 {
            return;
        }
        if !std::mem::replace(&mut socket.batch.get_or_insert_default().all, true) {
            self.batching += 1;
        }
    }

    /// What was collected goes out, and from now on each packet goes out by itself.
    pub(crate) fn stop_batching(&mut self, id: SocketId) {
        self.flush_batch(id);
        self.end_batching(id);
    }

    /// Forgets what was collected.
    pub(crate) fn end_batching(&mut self, id: SocketId) {
        if let Some(batch) = self.socket_mut(id).and_then(|socket| socket.batch.take())
            && batch.all
        {
            self.batching -= 1;
        }
    }
}

impl<S, P> Cx<'_, S, P> {
    /// Sends everything for this socket in batches from now on, one every `batchInterval` (SC 20's `startBatching`). It
    /// does nothing to a socket that speaks protocol 1.
    pub fn start_batching(&mut self, socket: SocketId) {
        self.core.start_batching(socket);
    }

    /// Sends what was collected and ends [`start_batching`](Self::start_batching). What the handler that calls it answers
    /// still belongs to the batch.
    pub fn stop_batching(&mut self, socket: SocketId) {
        self.core.after.push(crate::core::After::StopBatching { socket });
    }
}
