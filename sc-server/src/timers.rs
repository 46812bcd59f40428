//! What happens when time passes: pings, silence, handshakes that do not come, acks that do not come.

use std::time::{Duration, Instant};

use bytes::Bytes;

use sc_protocol::heartbeat::{self, Ring, Speaks};
use sc_protocol::packet::Version;
use sc_protocol::ws::CloseCode;

use crate::core::Core;
use crate::engine::Engine;
use crate::output::{Output, TicketId};
use crate::socket::{Phase, SocketId};

/// The resolution of `last_seen` and of all fine timers.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// What a fine timer is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Timer {
    /// `#handshake` has to have come.
    Handshake(SocketId),
    /// The first pong has to have come, else the handshake is answered without it.
    Probe(SocketId),
    /// The socket may have been silent for `pingTimeout`.
    Pong(SocketId),
    /// The peer's close frame has to have come.
    Close(SocketId),
    /// A batch is to be sent.
    Batch(SocketId),
    /// The time of `batchOnHandshake` is over.
    BatchEnd(SocketId),
    /// The time of a socket's token is over.
    Token(SocketId),
    /// A ticket's deadline.
    Ticket(TicketId),
    /// A period of [`Cx::every`](crate::Cx::every) is over.
    Every(u32),
}

impl<S, P> Core<S, P> {
    /// Ticks since the engine began. They wrap after 497 days, so only differences count.
    pub(crate) fn ticks(&self) -> u32 {
        let ticks = self.at.now.saturating_duration_since(self.began).as_millis() / TICK.as_millis();
        (ticks & u128::from(u32::MAX)) as u32
    }

    pub(crate) fn ping_timeout(&self, version: Version) -> Duration {
        self.config.ping_timeout.unwrap_or(match version {
            Version::V1 => Duration::from_secs(20),
            Version::V2 => Duration::from_secs(30),
        })
    }

    /// How long a socket may still be silent; zero when its time is over.
    fn silence_left(&self, id: SocketId) -> Option<Duration> {
        let socket = self.socket(id)?;
        if !socket.is_live() || self.config.ping_timeout_disabled {
            return None;
        }
        let silent = TICK * self.ticks().wrapping_sub(socket.last_seen);
        Some(self.ping_timeout(socket.version()).saturating_sub(silent))
    }
}

impl<S: Send + 'static, P: Default + Send + 'static> Engine<S, P> {
    /// Time has passed. To be called when [`poll_timeout`](Self::poll_timeout) is reached; early calls do no harm.
    pub fn handle_timeout(&mut self, at: crate::Time) {
        self.core.at = at;
        self.pings();
        let mut due = std::mem::take(&mut self.core.due);
        self.core.wheel.advance(at.now, &mut due);
        for timer in due.drain(..) {
            self.timer_due(timer);
            self.settle();
        }
        self.core.due = due;
        self.drain_due();
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let ring = self.core.ring.as_ref().and_then(Ring::poll_timeout);
        [ring, self.core.wheel.poll_timeout(), self.core.drain_at()].into_iter().flatten().min()
    }

    fn timer_due(&mut self, timer: Timer) {
        match timer {
            Timer::Handshake(id) => {
                if self.core.socket(id).is_some_and(|socket| socket.phase == Phase::Connecting) {
                    self.core.close(id, CloseCode::HANDSHAKE_TIMEOUT, "", true);
                }
            }
            Timer::Probe(id) => self.probe_over(id),
            Timer::Pong(id) => self.pong_due(id),
            Timer::Close(id) => {
                if let Some(socket) = self.core.socket_mut(id)
                    && socket.phase == Phase::Closing
                {
                    socket.phase = Phase::Closed;
                    self.core.out.push(Output::Close(id.slot));
                }
            }
            Timer::Batch(id) => self.core.flush_batch(id),
            Timer::BatchEnd(id) => self.core.stop_batching(id),
            Timer::Token(id) => self.core.token_due(id),
            Timer::Ticket(id) => self.ticket_due(id),
            Timer::Every(key) => self.every_due(key),
        }
    }

    /// Pings each socket whose turn it is: one shared frame for all that speak one version.
    fn pings(&mut self) {
        let Some(mut ring) = self.core.ring.take() else { return };
        let mut turn = Vec::new();
        let core = &self.core;
        ring.advance(core.at.now, |id: SocketId| {
            let kept = core.socket(id).is_some_and(|socket| socket.phase < Phase::Closing);
            if kept {
                turn.push(id);
            }
            kept
        });
        self.core.ring = Some(ring);
        let (mut v1, mut v2, mut both) = (self.core.recipients(), self.core.recipients(), self.core.recipients());
        for id in turn {
            self.check_silence(id);
            let Some(socket) = self.core.socket_mut(id).filter(|socket| socket.is_live()) else { continue };
            socket.probe.on_interval();
            match socket.probe.speaks() {
                Speaks::Known(Version::V1) => v1.push(id.slot),
                Speaks::Known(Version::V2) => v2.push(id.slot),
                Speaks::Unknown => both.push(id.slot),
            }
        }
        self.core.fanout(self.core.ping_v1.clone(), v1);
        for (frame, slots) in [(heartbeat::PING_V2, v2), (heartbeat::PING_BOTH, both)] {
            self.core.fanout(Bytes::from_static(frame), slots);
        }
        self.settle();
    }

    /// At a socket's ping: its silence may be over the limit, or get there before the next ping, which then takes a fine
    /// timer. So a socket that answers costs no timer at all.
    fn check_silence(&mut self, id: SocketId) {
        let Some(left) = self.core.silence_left(id) else { return };
        if left.is_zero() {
            self.ping_timeout_over(id);
        } else if left <= self.core.config.ping_interval {
            self.arm_pong(id, left);
        }
    }

    /// From the upgrade on: where `pingTimeout` is not above `pingInterval`, the silence may be too long before the first ping.
    pub(crate) fn watch_silence(&mut self, id: SocketId) {
        let Some(left) = self.core.silence_left(id) else { return };
        if left <= self.core.config.ping_interval {
            self.arm_pong(id, left);
        }
    }

    fn arm_pong(&mut self, id: SocketId, left: Duration) {
        let deadline = self.core.at.now + left;
        if let Some(socket) = self.core.socket_mut(id)
            && !std::mem::replace(&mut socket.pong_timer, true)
        {
            self.core.wheel.insert(deadline, Timer::Pong(id));
        }
    }

    fn pong_due(&mut self, id: SocketId) {
        if let Some(socket) = self.core.socket_mut(id) {
            socket.pong_timer = false;
        }
        self.check_silence(id);
    }

    fn ping_timeout_over(&mut self, id: SocketId) {
        self.core.counters.ping_timeouts_total += 1;
        self.core.close(id, CloseCode::PONG_TIMEOUT, "", false);
    }
}
