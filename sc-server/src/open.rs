//! The upgrade: origin, handshake middleware, 101, and the first pings.

use core::net::IpAddr;
use std::borrow::Cow;

use bytes::{Bytes, BytesMut};

use sc_protocol::ScError;
use sc_protocol::ack::AckTable;
use sc_protocol::heartbeat::{Policy, Probe, Speaks};
use sc_protocol::http::{self, RequestHead};
use sc_protocol::packet::Version;
use sc_protocol::ws::{self, handshake};

use crate::actions::{Chain, chain};
use crate::cx::Cx;
use crate::engine::Engine;
use crate::middleware::Handshake;
use crate::origin;
use crate::reply::{Block, Pass, Verdict};
use crate::socket::{Phase, Socket, SocketId};
use crate::tickets::Parked;
use crate::timers::Timer;

/// The headers of a refusal. The text may name the client's origin, so it is not to be read as a page.
const TEXT: [(&str, &str); 2] = [("Connection", "close"), ("Content-Type", "text/plain; charset=utf-8")];

impl<S: Send + 'static, P: Default + Send + 'static> Engine<S, P> {
    /// A request on the WebSocket path. The driver chooses the slot, which has to be free; the answer (101, or an HTTP error
    /// and a [`Close`](crate::Output::Close)) comes as outputs. Bytes behind the head go to [`handle_bytes`](Self::handle_bytes).
    pub fn open(&mut self, at: crate::Time, slot: u32, remote: Option<IpAddr>, head: &RequestHead<'_, '_>) {
        self.core.at = at;
        let id = self.occupy(slot, remote, self.core.config.policy(head.path()));
        let upgrade = match handshake::check(head) {
            Ok(upgrade) => upgrade,
            Err(error) => {
                let mut headers = vec![("Connection", "close"), ("Content-Type", "text/plain")];
                headers.extend_from_slice(error.headers());
                return self.refuse(id, error.status(), &headers, error.message());
            }
        };
        if !self.core.config.origins.admit(head.header("origin")) {
            let error = ScError::origin_refused(origin::shown(head.header("origin")));
            return self.refuse(id, 403, &TEXT, error.message());
        }
        let mut accept = BytesMut::new();
        handshake::write_accept(&mut accept, upgrade.key, upgrade.protocol);
        if let Some(socket) = self.core.socket_mut(id)
            && head.target.contains('?')
        {
            socket.target = Some(head.target.into());
        }
        if self.routes.handshake.is_empty() {
            self.accept(id, accept.freeze());
        } else {
            if let Some(socket) = self.core.socket_mut(id) {
                socket.inbound.get_or_insert_default().accept = accept.freeze();
            }
            let text = |(name, value)| Some((Cow::Borrowed(name), Cow::Borrowed(std::str::from_utf8(value).ok()?)));
            let headers = head.headers().filter_map(text).collect();
            let origin = head.header("origin").map(Cow::Borrowed);
            self.run_upgrade(id, Handshake { target: Cow::Borrowed(head.target), origin, headers, remote }, 0);
        }
        self.settle();
    }

    fn occupy(&mut self, slot: u32, remote: Option<IpAddr>, policy: Policy) -> SocketId {
        let index = slot as usize;
        if self.core.sockets.len() <= index {
            self.core.sockets.resize_with(index + 1, || None);
        }
        debug_assert!(self.core.sockets[index].is_none(), "the driver chose a slot that is taken");
        self.core.generation = self.core.generation.wrapping_add(1);
        let id = SocketId { slot, generation: self.core.generation };
        let name = self.core.new_name();
        let socket = Socket {
            generation: id.generation,
            phase: Phase::Upgrading,
            connected: false,
            pong_timer: false,
            probe: Probe::new(policy),
            last_seen: self.core.ticks(),
            name,
            remote,
            reader: ws::Reader::new(ws::Role::Server),
            timer: None,
            subscriptions: Vec::new(),
            auth: None,
            calls: AckTable::new(),
            inbound: None,
            batch: None,
            target: None,
            session: P::default(),
        };
        self.core.sockets[index] = Some(socket);
        self.core.counters.sockets += 1;
        id
    }

    fn run_upgrade(&mut self, id: SocketId, mut request: Handshake<'_>, from: usize) {
        match chain!(self, handshake, Some(id), &mut request, from) {
            Chain::Passed => {
                let inbound = self.core.socket_mut(id).and_then(|socket| socket.inbound.as_deref_mut());
                let accept = inbound.map(|inbound| std::mem::take(&mut inbound.accept)).unwrap_or_default();
                self.accept(id, accept);
            }
            Chain::Blocked(block) => self.upgrade_blocked(id, block),
            Chain::Parked(ticket, next) => {
                let request = Box::new(request.into_owned());
                self.park(ticket, Parked::Upgrade { socket: id, request, next });
            }
        }
    }

    pub(crate) fn upgrade_decided(
        &mut self,
        id: SocketId,
        request: Handshake<'static>,
        next: usize,
        block: Option<Block>,
    ) {
        if self.core.socket(id).is_none_or(|socket| socket.phase != Phase::Upgrading) {
            return;
        }
        match block {
            None => self.run_upgrade(id, request, next),
            Some(block) => self.upgrade_blocked(id, block),
        }
    }

    /// SC 14: 401 with the error's message, or the string, as the body.
    fn upgrade_blocked(&mut self, id: SocketId, block: Block) {
        let error = self.core.block_error("handshakeWS", id, block);
        self.refuse(id, 401, &TEXT, error.message());
    }

    fn refuse(&mut self, id: SocketId, status: u16, headers: &[(&str, &str)], text: &str) {
        let mut out = BytesMut::new();
        http::write_response(&mut out, status, headers, text.as_bytes());
        self.core.transmit(id.slot, out.freeze());
        self.core.finish(id);
        self.settle();
    }

    /// The connection is a WebSocket now: 101 goes out and, with it, the pings that tell which protocol the client speaks.
    fn accept(&mut self, id: SocketId, accept: Bytes) {
        let timer = self.core.later(self.core.config.handshake_timeout, Timer::Handshake(id));
        self.core.set_phase(id, Phase::Connecting, Some(timer));
        let Some(socket) = self.core.socket_mut(id) else { return };
        let raw = socket.inbound.take().map(|inbound| inbound.raw).unwrap_or_default();
        let probe = match socket.probe.speaks() {
            Speaks::Unknown => socket.probe.pings_to_send(),
            Speaks::Known(_) => &[],
        };
        self.core.transmit(id.slot, accept);
        if !probe.is_empty() {
            self.core.transmit(id.slot, Bytes::from_static(probe));
        }
        self.watch_silence(id);
        if !self.core.config.ping_timeout_disabled
            && let Some(mut ring) = self.core.ring.take()
        {
            ring.insert(self.core.at.now, id);
            self.core.ring = Some(ring);
        }
        if !raw.is_empty() {
            let mut raw = raw;
            self.read_frames(id, &mut raw);
        }
    }

    /// The transport of a slot is gone. The slot may be taken again once the outputs have been drained.
    pub fn closed(&mut self, at: crate::Time, slot: u32) {
        self.core.at = at;
        let Some(id) = self.core.id_of(slot) else { return };
        self.core.end_session(id, 1006, "");
        self.core.set_phase(id, Phase::Closed, None);
        self.settle();
        if self.core.socket(id).is_some() {
            self.core.sockets[slot as usize] = None;
            self.core.counters.sockets -= 1;
        }
    }

    /// The protocol version of a slot's socket, as far as it is known; for drivers and tests.
    #[must_use]
    pub fn version(&self, slot: u32) -> Option<Version> {
        let id = self.core.id_of(slot)?;
        self.core.socket(id).map(Socket::version)
    }
}
