//! What comes in: messages, and the packets in them.

use std::time::Instant;

use sc_protocol::limits::BATCH_PACKETS_MAX;
use sc_protocol::packet::{self, Cid, Event, Packet, Response, Version, write};
use sc_protocol::ws::{self, CloseCode, OpCode, frame};
use sc_protocol::{ScError, json};

use super::outbound::Kind;
use super::{ClientCore, Phase};
use crate::data::Data;
use crate::output::{ChannelChange, Output, Raw, ReplyId};

impl ClientCore {
    pub(super) fn handle_message(&mut self, now: Instant, event: ws::Event<'_>) {
        match event {
            ws::Event::Text(text) => self.handle_text(now, text),
            ws::Event::Binary(bytes) => {
                self.push(Output::Raw(Raw::Binary(bytes::Bytes::copy_from_slice(bytes))));
            }
            ws::Event::Ping(payload) => {
                let mask = Some(self.entropy.next_u32().to_ne_bytes());
                frame::write(self.wire(), OpCode::Pong, payload, mask);
            }
            ws::Event::Pong(_) => {}
            ws::Event::Close(close) => {
                let (code, reason) = close.unwrap_or((CloseCode::NO_STATUS.0, ""));
                self.end(now, CloseCode(code), reason);
            }
        }
    }

    /// A compressed message; without the feature there is none.
    #[cfg(not(feature = "deflate"))]
    #[expect(clippy::unused_self, reason = "as with the feature")]
    pub(super) fn handle_compressed(&self, _: Instant, _: OpCode, _: ws::Event<'_>) {
        debug_assert!(false, "nothing was agreed on");
    }

    /// A compressed message.
    #[cfg(feature = "deflate")]
    pub(super) fn handle_compressed(&mut self, now: Instant, opcode: OpCode, event: ws::Event<'_>) {
        let (ws::Event::Binary(payload), Some(deflate)) = (event, self.deflate.as_mut()) else { return };
        let inflated = deflate.inflate(payload, self.config.max_payload).and_then(|message| match opcode {
            OpCode::Binary => Ok(Raw::Binary(message.into())),
            _ => String::from_utf8(message)
                .map(|text| Raw::Text(text.into()))
                .map_err(|_| ws::ProtocolError::InvalidUtf8),
        });
        match inflated {
            Ok(Raw::Text(text)) => self.handle_text(now, &text),
            Ok(binary) => self.push(Output::Raw(binary)),
            Err(error) => self.end(now, error.close_code(), &error.to_string()),
        }
    }

    fn handle_text(&mut self, now: Instant, text: &str) {
        if let Some(control) = packet::parse_control(text)
            && self.handle_control(now, &control)
        {
            return;
        }
        match packet::parse(text, self.rules()) {
            Packet::Event(event) => self.handle_event(now, &event),
            Packet::Response(response) => self.handle_response(now, &response),
            Packet::Batch(elements) => {
                let connection = self.connection;
                for element in elements.take(BATCH_PACKETS_MAX) {
                    match packet::parse_element(element, self.rules()) {
                        Packet::Event(event) => self.handle_event(now, &event),
                        Packet::Response(response) => self.handle_response(now, &response),
                        _ => self.push(Output::Raw(Raw::Text(element.into()))),
                    }
                    if self.connection != connection || !matches!(self.phase, Phase::Handshaking(_) | Phase::Open(_)) {
                        return;
                    }
                }
            }
            _ => self.push(Output::Raw(Raw::Text(text.into()))),
        }
    }

    /// Whether the message is a ping (or one of a kind that this server has stopped sending).
    fn handle_control(&mut self, now: Instant, control: &Packet<'_>) -> bool {
        let kind = match control {
            Packet::Ping(Version::V1) => Version::V1,
            Packet::Pong(Version::V2) => Version::V2,
            _ => return false,
        };
        self.pings.seen[kind as usize] = true;
        let handshaking = matches!(self.phase, Phase::Handshaking(_));
        if let Some(known) = self.pings.version
            && known != kind
        {
            return handshaking || self.pings.both();
        }
        if matches!(self.phase, Phase::Open(_)) {
            self.phase = Phase::Open(self.ping_deadline(now));
            self.pings.version = Some(kind);
            self.pong(kind);
        } else if self.pings.version.is_some() {
            self.pong(kind);
        } else if self.pings.both() {
            // This server waits for a pong before it answers the handshake. Of two protocols the newer one is taken.
            self.pings.version = Some(Version::V2);
            self.pong(Version::V2);
        }
        // Else the pong waits: a server that is strict takes nothing but the handshake before its answer.
        true
    }

    /// The handshake has been answered: so are the pings that came before.
    pub(super) fn answer_held_pings(&mut self) {
        if self.pings.version.is_none() {
            for kind in [Version::V1, Version::V2] {
                if self.pings.seen[kind as usize] {
                    self.pings.version = Some(kind);
                    self.pong(kind);
                }
            }
        }
    }

    fn pong(&mut self, version: Version) {
        let mask = Some(self.entropy.next_u32().to_ne_bytes());
        let text: &[u8] = if version == Version::V1 { b"#2" } else { b"" };
        frame::write(self.wire(), OpCode::Text, text, mask);
    }

    fn handle_event(&mut self, now: Instant, event: &Event<'_>) {
        match &*event.name {
            "#publish" => self.handle_publish(event.data),
            "#kickOut" => self.handle_kick_out(event.data),
            "#setAuthToken" => {
                let result = self.handle_set_token(now, event.data);
                self.acknowledge(event.cid.as_ref(), result.as_ref().err());
            }
            "#removeAuthToken" => {
                self.handle_remove_token();
                self.acknowledge(event.cid.as_ref(), None);
            }
            "#disconnect" if self.pings.version != Some(Version::V2) => {
                let [code, reason] =
                    event.data.and_then(|data| json::object(data, ["code", "data"])).unwrap_or_default();
                let code = code.and_then(json::number).map_or(CloseCode::NORMAL, |code| CloseCode(code as u16));
                let reason =
                    reason.filter(|raw| *raw != "null").map(|raw| json::string(raw).unwrap_or_else(|| raw.into()));
                self.end(now, code, &reason.unwrap_or_default());
            }
            name => {
                let connection = self.connection;
                let reply = event.cid.clone().map(|cid| ReplyId { connection, cid: cid.into_owned() });
                self.push(Output::Event { name: name.into(), data: Data::lent(event.data), reply });
            }
        }
    }

    fn acknowledge(&mut self, cid: Option<&Cid<'_>>, error: Option<&ScError>) {
        if let Some(cid) = cid {
            self.send_packet(false, |out| write::response(out, cid, error, None));
        }
    }

    fn handle_response(&mut self, now: Instant, response: &Response<'_>) {
        // An answer to a call that has timed out, or that nobody made.
        let Some(call) = response.rid.int().and_then(|cid| self.acks.take(cid)) else { return };
        let sent = call.value;
        if let (Some(call), Some(deadline)) = (sent.call, sent.deadline) {
            self.deadlines.remove(&(deadline, call.0));
        }
        let error = response.error.map(ScError::parse);
        match &sent.kind {
            Kind::Handshake(token) => {
                let token = token.clone();
                self.handshake_answered(now, token, response);
            }
            Kind::Subscribe(channel) => {
                let channel = channel.clone();
                self.subscribe_answered(&channel, error);
            }
            Kind::Authenticate(token) => {
                let token = token.clone();
                self.authenticate_answered(now, token, response.data, error.as_ref());
                self.resolve(sent, error.map_or_else(|| Ok(Data::lent(response.data)), Err));
            }
            Kind::Event(_) | Kind::Publish => {
                self.resolve(sent, error.map_or_else(|| Ok(Data::lent(response.data)), Err));
            }
        }
    }

    fn handle_publish(&mut self, data: Option<&str>) {
        let Some([Some(channel), data]) = data.and_then(|data| json::object(data, ["channel", "data"])) else { return };
        let Some(name) = json::string(channel) else { return };
        let Some(name) = name.strip_prefix(&*self.config.channel_prefix) else { return };
        if let Some(channel) = self.channels.get(name) {
            let channel = channel.name.clone();
            self.push(Output::Message { channel, data: Data::lent(data) });
        }
    }

    fn handle_kick_out(&mut self, data: Option<&str>) {
        let Some([Some(channel), message]) = data.and_then(|data| json::object(data, ["channel", "message"])) else {
            return;
        };
        let Some(name) = json::string(channel) else { return };
        let Some(name) = name.strip_prefix(&*self.config.channel_prefix) else { return };
        if let Some(channel) = self.channels.remove(name) {
            self.forget_subscribe(&channel);
            let change = ChannelChange::Kicked(Data::lent(message));
            self.push(Output::Channel { channel: channel.name, change });
        }
    }
}
