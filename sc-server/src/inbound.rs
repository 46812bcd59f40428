//! From a frame to the handler: the path of everything that comes in.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use sc_protocol::heartbeat::Speaks;
use sc_protocol::packet::{self, Cid, Packet, Version};
use sc_protocol::ws::{self, CloseCode, OpCode, frame};
use sc_protocol::{ScError, json};

use crate::core::Core;
use crate::cx::Cx;
use crate::data::Data;
use crate::engine::Engine;
use crate::middleware::Emit;
use crate::socket::{Phase, Socket, SocketId, Want};
use crate::worker::RawMessage;

/// What a socket holds back: bytes that came before its upgrade was decided, and packets behind one whose verdict is
/// pending. Most sockets have none.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    /// Bytes behind an upgrade whose verdict is pending.
    pub(crate) raw: Vec<u8>,
    /// The 101 that goes out when the upgrade is allowed.
    pub(crate) accept: Bytes,
    /// Everything waits: the handshake is under way, or protocol 2 waits for a verdict.
    pub(crate) blocked: u32,
    /// Protocol 1: only what concerns these channels waits.
    busy: Vec<Box<str>>,
    /// Protocol 1: verdicts that nothing waits for.
    loose: u32,
    waiting: VecDeque<Box<str>>,
    bytes: usize,
    paused: bool,
    /// A `#handshake` that waits for the first pong.
    pub(crate) handshake: Option<Box<(Option<String>, Want)>>,
}

/// Events that SC 14 emits locally on a socket; a client of protocol 1 cannot send them.
const LOCAL_EVENTS: [&str; 18] = [
    "subscribe",
    "unsubscribe",
    "connect",
    "_connect",
    "disconnect",
    "_disconnect",
    "connectAbort",
    "_connectAbort",
    "close",
    "_close",
    "message",
    "error",
    "authStateChange",
    "authTokenSigned",
    "authenticate",
    "deauthenticate",
    "badAuthToken",
    "raw",
];

impl<S, P> Core<S, P> {
    /// Whether an application may emit an event of this name: protocol 1 keeps some for the sockets themselves, and a
    /// client would take it for its own.
    pub(crate) fn may_emit(&self, id: SocketId, event: &str) -> Result<(), ScError> {
        let version = self.socket(id).map_or(Version::V2, Socket::version);
        match version == Version::V1 && LOCAL_EVENTS.contains(&event) {
            true => Err(ScError::reserved_event(event)),
            false => Ok(()),
        }
    }
}

impl<S: Send + 'static, P: Default + Send + 'static> Engine<S, P> {
    /// Bytes from the transport of a slot, behind the upgrade's head. They are unmasked in place.
    pub fn handle_bytes(&mut self, at: crate::Time, slot: u32, data: &mut [u8]) {
        self.core.at = at;
        let Some(id) = self.core.id_of(slot) else { return };
        let ticks = self.core.ticks();
        let Some(socket) = self.core.socket_mut(id) else { return };
        socket.last_seen = ticks;
        match socket.phase {
            Phase::Upgrading => self.hold_raw(id, data),
            Phase::Closed => {}
            _ => self.read_frames(id, data),
        }
        self.settle();
    }

    /// A client may send behind its upgrade request without waiting for the answer, but not much.
    fn hold_raw(&mut self, id: SocketId, data: &[u8]) {
        let max = self.core.config.pending_inbound_max;
        let Some(socket) = self.core.socket_mut(id) else { return };
        let inbound = socket.inbound.get_or_insert_default();
        if inbound.raw.len() + data.len() > max {
            self.core.abort(id);
        } else {
            inbound.raw.extend_from_slice(data);
        }
    }

    pub(crate) fn read_frames(&mut self, id: SocketId, data: &mut [u8]) {
        let mut reader = self.core.reader(id);
        let max_payload = self.core.config.max_payload;
        let result = reader.handle_bytes(max_payload, data, |event| {
            self.frame_event(id, event);
            match self.core.socket(id) {
                Some(socket) if socket.phase != Phase::Closed => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        });
        if let Some(socket) = self.core.socket_mut(id) {
            socket.reader = reader;
        }
        if let Err(error) = result {
            self.protocol_error(id, error.close_code());
        }
    }

    /// RFC 6455 §7.1.7: the close frame says why, and nothing more is read.
    fn protocol_error(&mut self, id: SocketId, code: CloseCode) {
        self.core.counters.protocol_errors_total += 1;
        self.core.close(id, code, "", false);
        self.core.finish(id);
    }

    fn frame_event(&mut self, id: SocketId, event: ws::Event<'_>) {
        match event {
            ws::Event::Text(text) if self.core.codec.is_some() => self.uncoded_message(id, text),
            ws::Event::Binary(bytes) if self.core.codec.is_some() => self.coded_message(id, bytes),
            ws::Event::Text(text) => self.message(id, text, RawMessage::Text(text)),
            // SC takes JSON in binary frames too; what is no UTF-8 is raw.
            ws::Event::Binary(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) if !text.is_empty() => self.message(id, text, RawMessage::Binary(bytes)),
                _ => self.raw(id, RawMessage::Binary(bytes)),
            },
            ws::Event::Ping(payload) => {
                if self.core.socket(id).is_some_and(Socket::is_live) {
                    let mut out = BytesMut::new();
                    frame::write(&mut out, OpCode::Pong, payload, None);
                    self.core.transmit(id.slot, out.freeze());
                }
            }
            ws::Event::Pong(_) => {}
            ws::Event::Close(close) => self.peer_close(id, close),
        }
    }

    /// The peer closes, or answers our close (RFC 6455 §5.5.1).
    fn peer_close(&mut self, id: SocketId, close: Option<(u16, &str)>) {
        let Some(socket) = self.core.socket(id) else { return };
        if socket.is_live() {
            self.core.flush_batch(id);
            self.core.send_close(id, close.map(|(code, _)| CloseCode(code)), close.map_or("", |(_, reason)| reason));
            let (code, reason) = close.unwrap_or((CloseCode::NO_STATUS.0, ""));
            self.core.end_session(id, code, reason);
        }
        self.core.finish(id);
    }

    pub(crate) fn message(&mut self, id: SocketId, text: &str, raw: RawMessage<'_>) {
        let Some(socket) = self.core.socket(id) else { return };
        if !socket.is_live() {
            return;
        }
        self.core.counters.messages_in_total += 1;
        if let Some(Packet::Pong(pong)) = packet::parse_control(text)
            && self.pong(id, pong)
        {
            return;
        }
        let Some(version) = self.core.socket(id).filter(|socket| socket.is_live()).map(Socket::version) else { return };
        match packet::parse(text, version) {
            Packet::Response(response) => self.response(id, &response),
            packet if self.blocked(id) => {
                drop(packet);
                self.hold(id, text);
            }
            Packet::Batch(elements) => self.batch(id, text, version, elements),
            packet => self.packet(id, packet, text, raw),
        }
    }

    /// Each packet of a batch, in order, as if it had come alone (SC 8).
    fn batch(&mut self, id: SocketId, text: &str, version: Version, elements: json::Elements<'_>) {
        let socket = self.core.socket(id);
        // Only SC 20 takes a handshake out of a batch.
        let v1 = socket.is_some_and(|socket| socket.probe.speaks() == Speaks::Known(Version::V1));
        if v1 && self.refuse_early(id) {
            return;
        }
        for (count, element) in elements.enumerate() {
            if count == self.core.config.batch_max {
                self.core.close(id, CloseCode::TOO_BIG, "", false);
            }
            if !self.core.socket(id).is_some_and(Socket::is_live) {
                return;
            }
            match packet::parse_element(element, version) {
                Packet::Response(response) => self.response(id, &response),
                _ if self.blocked(id) => self.hold(id, element),
                packet => self.packet(id, packet, element, RawMessage::Text(text)),
            }
        }
    }

    fn blocked(&self, id: SocketId) -> bool {
        self.core.socket(id).and_then(|socket| socket.inbound.as_deref()).is_some_and(|inbound| inbound.blocked > 0)
    }

    /// Keeps a packet until what it waits for has been decided; beyond the limit, the socket is not read any more.
    fn hold(&mut self, id: SocketId, text: &str) {
        let max = self.core.config.pending_inbound_max;
        let Some(socket) = self.core.socket_mut(id) else { return };
        let inbound = socket.inbound.get_or_insert_default();
        inbound.bytes += text.len();
        inbound.waiting.push_back(text.into());
        if inbound.bytes > max && !std::mem::replace(&mut inbound.paused, true) {
            self.core.out.push(crate::Output::Read(id.slot, false));
        }
    }

    /// Something was decided: what waited goes on, as far as it can.
    pub(crate) fn release(&mut self, id: SocketId) {
        let Some(inbound) = self.core.socket_mut(id).and_then(|socket| socket.inbound.as_deref_mut()) else { return };
        let mut waiting = std::mem::take(&mut inbound.waiting);
        inbound.bytes = 0;
        while let Some(text) = waiting.pop_front() {
            let Some(socket) = self.core.socket(id).filter(|socket| socket.is_live()) else { return };
            let version = socket.version();
            if self.blocked(id) {
                self.hold(id, &text);
            } else {
                match packet::parse(&text, version) {
                    Packet::Batch(elements) => self.batch(id, &text, version, elements),
                    packet => self.packet(id, packet, &text, RawMessage::Text(&text)),
                }
            }
        }
        let Some(socket) = self.core.socket_mut(id) else { return };
        let Some(inbound) = socket.inbound.as_deref_mut() else { return };
        let resume = inbound.paused && inbound.waiting.is_empty();
        inbound.paused &= !resume;
        let verdicts = inbound.blocked + inbound.loose;
        if verdicts == 0 && inbound.busy.is_empty() && inbound.waiting.is_empty() && inbound.handshake.is_none() {
            socket.inbound = None;
        }
        if resume {
            self.core.out.push(crate::Output::Read(id.slot, true));
        }
    }

    /// Closes a socket that sends before its handshake, unless that is allowed.
    fn refuse_early(&mut self, id: SocketId) -> bool {
        let early = self.core.socket(id).is_some_and(|socket| socket.phase == Phase::Connecting);
        let refused = early && self.core.config.strict_handshake;
        if refused {
            self.core.close(id, CloseCode::PACKET_BEFORE_HANDSHAKE, "", false);
        }
        refused
    }

    fn packet(&mut self, id: SocketId, packet: Packet<'_>, text: &str, raw: RawMessage<'_>) {
        let Some(phase) = self.core.socket(id).map(|socket| socket.phase) else { return };
        let handshake = matches!(&packet, Packet::Event(event) if event.name == "#handshake");
        if phase == Phase::Connecting && !handshake && self.refuse_early(id) {
            return;
        }
        match packet {
            Packet::Event(event) => self.event(id, event, text),
            _ => self.raw(id, raw),
        }
    }

    pub(crate) fn raw(&mut self, id: SocketId, message: RawMessage<'_>) {
        if !self.core.socket(id).is_some_and(Socket::is_live) || self.refuse_early(id) {
            return;
        }
        let routes = Arc::clone(&self.routes);
        for handler in &routes.raw {
            self.guard(Some(id), "raw", |_, state, core| handler(state, &mut Cx::new(core), id, message));
        }
        self.apply_after();
    }

    fn response(&mut self, id: SocketId, response: &packet::Response<'_>) {
        if self.refuse_early(id) {
            return;
        }
        let Cid::Int(cid) = response.rid else { return };
        let Some(call) = self.core.socket_mut(id).and_then(|socket| socket.calls.take(cid)) else { return };
        let result = match response.error {
            Some(error) if error != "null" => Err(ScError::parse(error)),
            _ => Ok(Data::from_raw(response.data).into_owned()),
        };
        self.resolve(call.value, Box::new(result));
    }

    fn event(&mut self, id: SocketId, event: packet::Event<'_>, text: &str) {
        let Some(version) = self.core.socket(id).map(Socket::version) else { return };
        let packet::Event { name, data, cid } = event;
        match name.as_ref() {
            "#handshake" => return self.handshake_packet(id, data, cid.map(Cid::into_owned)),
            "#authenticate" => return self.authenticate_packet(id, data, cid.map(Cid::into_owned)),
            "#removeAuthToken" => return self.core.drop_token(id),
            "#disconnect" if version == Version::V1 => return self.client_disconnect(id, data),
            local if version == Version::V1 && LOCAL_EVENTS.contains(&local) => return,
            _ => {}
        }
        let expired = self.expire_token(id);
        match name.as_ref() {
            "#subscribe" => self.subscribe_packet(id, data, cid, expired, text),
            "#unsubscribe" => self.unsubscribe_packet(id, data, cid, text),
            "#publish" => self.publish_packet(id, data, cid, expired, text),
            reserved if version == Version::V1 && reserved.starts_with('#') => {}
            _ => {
                let auth = self.core.token(id);
                let request = Emit { socket: id, event: name, data: Data::from_raw(data), auth, expired };
                self.run_emit(request, cid, 0);
            }
        }
    }

    /// Holds back what has to wait for a verdict: everything in protocol 2, the same channel in protocol 1.
    pub(crate) fn wait(&mut self, id: SocketId, channel: Option<&str>) {
        let Some(socket) = self.core.socket_mut(id) else { return };
        let version = socket.version();
        let inbound = socket.inbound.get_or_insert_default();
        match (version, channel) {
            (Version::V2, _) => inbound.blocked += 1,
            (Version::V1, Some(channel)) => inbound.busy.push(channel.into()),
            (Version::V1, None) => inbound.loose += 1,
        }
    }

    /// Ends a [`wait`](Self::wait). The version may have been found out in between, so what counts is how it was begun.
    pub(crate) fn unwait(&mut self, id: SocketId, channel: Option<&str>) {
        let Some(inbound) = self.core.socket_mut(id).and_then(|socket| socket.inbound.as_deref_mut()) else { return };
        let busy = channel.and_then(|channel| inbound.busy.iter().position(|busy| **busy == *channel));
        match busy {
            Some(at) => _ = inbound.busy.swap_remove(at),
            None if channel.is_none() && inbound.loose > 0 => inbound.loose -= 1,
            None => inbound.blocked = inbound.blocked.saturating_sub(1),
        }
        self.release(id);
    }

    /// Whether this channel's operations have to wait; then the packet is kept.
    pub(crate) fn held(&mut self, id: SocketId, channel: &str, text: &str) -> bool {
        let inbound = self.core.socket(id).and_then(|socket| socket.inbound.as_deref());
        let held = inbound.is_some_and(|inbound| inbound.busy.iter().any(|busy| **busy == *channel));
        if held {
            self.hold(id, text);
        }
        held
    }
}
