//! The handshake of a session and the token of a socket: `#handshake`, `#authenticate`, `#removeAuthToken`, expiry.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use sc_auth::{AuthError, Claims};
use sc_protocol::heartbeat::{self, Speaks};
use sc_protocol::packet::{Version, write};
use sc_protocol::wheel::TimerId;
use sc_protocol::ws::CloseCode;
use sc_protocol::{ScError, json};

use crate::actions::{Chain, chain};
use crate::core::Core;
use crate::cx::Cx;
use crate::engine::Engine;
use crate::middleware::{Authenticate, HandshakeSc, Token};
use crate::reply::{Block, Pass, Verdict};
use crate::socket::{Phase, Socket, SocketId, Want};
use crate::tickets::Parked;
use crate::timers::Timer;

/// The token of an authenticated socket.
#[derive(Debug)]
pub(crate) struct Auth {
    pub(crate) claims: Token,
    /// The `exp` claim, in seconds since 1970.
    exp: Option<f64>,
    /// It ran out and the client was told so, but no packet has come since that could be told.
    over: bool,
    /// Notices the end of its time.
    pub(crate) deadline: Option<TimerId>,
}

impl Auth {
    pub(crate) fn new(claims: Claims) -> Self {
        let exp = claims.get("exp").and_then(serde_json::Value::as_f64);
        Self { exp, claims: Arc::new(claims), over: false, deadline: None }
    }

    /// SC's rule at run time: `Date.now() > exp * 1000`.
    fn expired(&self, unix_ms: u64) -> bool {
        self.exp.is_some_and(|exp| unix_ms as f64 > exp * 1000.0)
    }

    /// The time until then. A token for more than a year gets no timer; its end is noticed when something comes in.
    fn time_left(&self, unix_ms: u64) -> Option<Duration> {
        const LONG_MS: f64 = 366.0 * 86_400_000.0;
        let left = self.exp? * 1000.0 - unix_ms as f64;
        (0.0..LONG_MS).contains(&left).then(|| Duration::from_millis(left as u64 + 1))
    }
}

/// What became of a token that a client sent.
#[derive(Debug)]
enum Checked {
    None,
    Good(Claims, String),
    Bad(ScError, /* the client is to throw it away */ bool),
}

/// A `#handshake` on its way through the middleware.
#[derive(Debug)]
pub(crate) struct Handshaking {
    want: Want,
    token: Checked,
}

/// A token on its way through the `authenticate` middleware, and where it came from.
#[derive(Debug)]
pub(crate) struct Authenticating {
    want: Want,
    handshake: bool,
}

impl<S, P> Core<S, P> {
    pub(crate) fn token(&self, id: SocketId) -> Option<Token> {
        let auth = self.socket(id)?.auth.as_ref().filter(|auth| !auth.over)?;
        Some(Arc::clone(&auth.claims))
    }

    /// A socket has logged in, or got another token.
    pub(crate) fn take_token(&mut self, id: SocketId, claims: Claims) {
        self.drop_token(id);
        let mut auth = Auth::new(claims);
        if self.socket(id).is_some_and(Socket::is_live) {
            auth.deadline = auth.time_left(self.at.unix_ms).map(|left| self.later(left, Timer::Token(id)));
        }
        if let Some(socket) = self.socket_mut(id) {
            socket.auth = Some(Box::new(auth));
        }
    }

    /// A client gave its token back, or an application took it.
    pub(crate) fn drop_token(&mut self, id: SocketId) {
        let auth = self.socket_mut(id).and_then(|socket| socket.auth.take());
        if let Some(deadline) = auth.and_then(|auth| auth.deadline) {
            self.wheel.cancel(deadline);
        }
    }

    /// The session is over; what handlers still read of its token stays.
    pub(crate) fn forget_deadline(&mut self, id: SocketId) {
        let auth = self.socket_mut(id).and_then(|socket| socket.auth.as_deref_mut());
        if let Some(deadline) = auth.and_then(|auth| auth.deadline.take()) {
            self.wheel.cancel(deadline);
        }
    }

    /// The time of a token is over: the client is told at once. The next packet still comes with the error that says so,
    /// as it would had nobody noticed before.
    pub(crate) fn token_due(&mut self, id: SocketId) {
        let unix_ms = self.at.unix_ms;
        let Some(auth) = self.socket_mut(id).and_then(|socket| socket.auth.as_deref_mut()) else { return };
        auth.deadline = None;
        if auth.over {
            return;
        }
        if auth.expired(unix_ms) {
            auth.over = true;
            self.send_remove_token(id);
        } else {
            // The clock of the day went back in the meantime.
            let left = auth.time_left(unix_ms);
            let deadline = left.map(|left| self.later(left, Timer::Token(id)));
            if let Some(auth) = self.socket_mut(id).and_then(|socket| socket.auth.as_deref_mut()) {
                auth.deadline = deadline;
            }
        }
    }

    /// Tells the client to throw its token away.
    pub(crate) fn send_remove_token(&mut self, id: SocketId) {
        let Some(version) = self.socket(id).map(Socket::version) else { return };
        let data = (version == Version::V1).then_some("null");
        self.send(id, |out| write::event(out, "#removeAuthToken", data, None));
    }

    /// What becomes of a token that middleware does not let through.
    fn token_blocked(&mut self, id: SocketId, block: Block, bad: bool) -> (ScError, bool) {
        let error = self.block_error("authenticate", id, block);
        match self.socket(id).map(Socket::version) {
            Some(Version::V2) if bad => (error.with("isBadToken", true), true),
            _ => (error, bad),
        }
    }

    fn check_token(&self, raw: Option<&str>, version: Version) -> Checked {
        let raw = match raw {
            None | Some("null" | "\"\"") => return Checked::None,
            Some(raw) => raw,
        };
        let Some(token) = json::string(raw) else {
            return Checked::Bad(AuthError::not_a_string().to_sc_error(version), true);
        };
        match self.auth.verify(&token, self.at.unix_ms / 1000) {
            Ok(claims) => Checked::Good(claims, token.into_owned()),
            Err(error) => {
                let bad = error.is_bad_token();
                Checked::Bad(error.to_sc_error(version), bad)
            }
        }
    }
}

impl<S: Send + 'static, P: Default + Send + 'static> Engine<S, P> {
    /// A pong, or the text of one. Answers false where it is an ordinary message to this socket.
    pub(crate) fn pong(&mut self, id: SocketId, pong: Version) -> bool {
        let Some(socket) = self.core.socket_mut(id) else { return true };
        match socket.probe.on_pong(pong) {
            heartbeat::Verdict::Raw => return false,
            heartbeat::Verdict::Ignored => return true,
            heartbeat::Verdict::Decided(_) => self.probe_over(id),
            heartbeat::Verdict::Pong => {}
        }
        // What the deadline has noticed stays for the next packet to be told.
        if self.core.token(id).is_some() {
            self.expire_token(id);
        }
        true
    }

    /// The client's version is known, or will not be waited for any longer: a `#handshake` that waited for it goes on.
    pub(crate) fn probe_over(&mut self, id: SocketId) {
        let Some(socket) = self.core.socket_mut(id) else { return };
        let handshake = socket.inbound.as_deref_mut().and_then(|inbound| inbound.handshake.take());
        if let Some(handshake) = handshake {
            let (token, want) = *handshake;
            self.start_handshake(id, token.as_deref(), want);
        }
    }

    pub(crate) fn handshake_packet(&mut self, id: SocketId, data: Option<&str>, want: Want) {
        let timeout = self.core.config.version_probe_timeout;
        let Some(socket) = self.core.socket_mut(id) else { return };
        // SC 20 runs a second one again, with trouble (it counts the client twice); SC 14 ignores it, and so is it here.
        if socket.phase != Phase::Connecting || socket.timer.is_none() {
            return;
        }
        let timer = socket.timer.take();
        let token = data.and_then(|data| json::object(data, ["authToken"])).and_then(|[token]| token);
        let unknown = socket.probe.speaks() == Speaks::Unknown;
        let inbound = socket.inbound.get_or_insert_default();
        inbound.blocked += 1;
        if unknown {
            inbound.handshake = Some(Box::new((token.map(str::to_owned), want.clone())));
        }
        if let Some(timer) = timer {
            self.core.wheel.cancel(timer);
        }
        if unknown {
            self.core.later(timeout, Timer::Probe(id));
        } else {
            self.start_handshake(id, token, want);
        }
    }

    fn start_handshake(&mut self, id: SocketId, token: Option<&str>, want: Want) {
        let Some(socket) = self.core.socket(id) else { return };
        let version = socket.version();
        if version == Version::V2 && want.is_none() {
            return self.core.close(id, CloseCode::HANDSHAKE_REJECTED, "", true);
        }
        let token = self.core.check_token(token, version);
        let auth = match &token {
            Checked::Good(claims, _) => Some(Arc::new(claims.clone())),
            _ => None,
        };
        let request = HandshakeSc { socket: id, auth, close_code: CloseCode::HANDSHAKE_REJECTED.0 };
        self.run_handshake_sc(request, Handshaking { want, token }, 0);
    }

    fn run_handshake_sc(&mut self, mut request: HandshakeSc, op: Handshaking, from: usize) {
        let id = request.socket;
        match chain!(self, handshake_sc, Some(id), &mut request, from) {
            Chain::Passed => {}
            Chain::Blocked(block) => return self.handshake_refused(&request, op.want, block),
            Chain::Parked(ticket, next) => {
                let parked = Parked::HandshakeSc { request: Box::new(request), op: Box::new(op), next };
                return self.park(ticket, parked);
            }
        }
        let Handshaking { want, token } = op;
        if self.core.socket(id).map(Socket::version) == Some(Version::V2) {
            // Without the strict handshake a socket may have logged in before it.
            self.core.drop_token(id);
        }
        match token {
            Checked::None => self.finish_handshake(id, want, None),
            Checked::Bad(error, bad) => self.finish_handshake(id, want, Some((error, bad))),
            Checked::Good(claims, signed) => {
                let request =
                    Authenticate { socket: id, auth: Arc::new(claims), signed: signed.into(), is_bad_token: false };
                self.run_authenticate(request, Authenticating { want, handshake: true }, 0);
            }
        }
    }

    pub(crate) fn handshake_sc_decided(
        &mut self,
        request: HandshakeSc,
        op: Handshaking,
        next: usize,
        block: Option<Block>,
    ) {
        match block {
            None => self.run_handshake_sc(request, op, next),
            Some(block) => self.handshake_refused(&request, op.want, block),
        }
    }

    /// SC 14: an error ack whose data has the code, then the close. SC 20: the code is the error's `statusCode`.
    fn handshake_refused(&mut self, request: &HandshakeSc, want: Want, block: Block) {
        let (id, mut code) = (request.socket, CloseCode(request.close_code));
        let mut error = self.core.block_error("handshakeSC", id, block);
        let version = self.core.socket(id).map_or(Version::V1, Socket::version);
        if version == Version::V2 {
            match error.get("statusCode").and_then(serde_json::Value::as_u64).and_then(|own| u16::try_from(own).ok()) {
                Some(own) => code = CloseCode(own),
                None => error = error.with("statusCode", code.0),
            }
        }
        let data = (version == Version::V1).then(|| format!("{{\"code\":{}}}", code.0));
        if let Some(cid) = want {
            self.core.respond_both(id, &cid, Some(&error), data.as_deref());
        }
        let code = if code.is_sendable() { code } else { CloseCode::HANDSHAKE_REJECTED };
        self.core.close(id, code, "", true);
    }

    fn run_authenticate(&mut self, mut request: Authenticate<'_>, op: Authenticating, from: usize) {
        let id = request.socket;
        match chain!(self, authenticate, Some(id), &mut request, from) {
            Chain::Passed => {
                self.core.take_token(id, Claims::clone(&request.auth));
                self.token_outcome(id, op, None);
            }
            Chain::Blocked(block) => {
                let refused = self.core.token_blocked(id, block, request.is_bad_token);
                self.token_outcome(id, op, Some(refused));
            }
            Chain::Parked(ticket, next) => {
                let request = Box::new(Authenticate {
                    socket: id,
                    auth: request.auth,
                    signed: request.signed.into_owned().into(),
                    is_bad_token: request.is_bad_token,
                });
                if !op.handshake {
                    self.wait(id, None);
                }
                self.park(ticket, Parked::Authenticate { request, op: Box::new(op), next });
            }
        }
    }

    pub(crate) fn authenticate_decided(
        &mut self,
        request: Authenticate<'static>,
        op: Authenticating,
        next: usize,
        block: Option<Block>,
    ) {
        let (id, handshake) = (request.socket, op.handshake);
        match block {
            None => self.run_authenticate(request, op, next),
            Some(block) => {
                let refused = self.core.token_blocked(id, block, request.is_bad_token);
                self.token_outcome(id, op, Some(refused));
            }
        }
        if !handshake {
            self.unwait(id, None);
        }
    }

    fn token_outcome(&mut self, id: SocketId, op: Authenticating, refused: Option<(ScError, bool)>) {
        if op.handshake {
            self.finish_handshake(id, op.want, refused);
        } else {
            self.finish_authenticate(id, op.want, refused);
        }
    }

    /// The answer to `#handshake`; the socket is open. `#removeAuthToken` comes before the ack in protocol 1 and behind it in
    /// protocol 2.
    fn finish_handshake(&mut self, id: SocketId, want: Want, refused: Option<(ScError, bool)>) {
        let Some(socket) = self.core.socket_mut(id) else { return };
        if socket.phase != Phase::Connecting {
            return;
        }
        socket.phase = Phase::Open;
        socket.connected = true;
        let (version, name) = (socket.version(), socket.id());
        let authenticated = self.core.token(id).is_some();
        let remove = refused.as_ref().is_some_and(|(_, bad)| *bad);
        self.core.counters.clients += 1;
        if remove && version == Version::V1 {
            self.core.send_remove_token(id);
        }
        let mut data = BytesMut::new();
        let timeout = self.core.ping_timeout(version).as_millis();
        data.extend_from_slice(format!("{{\"id\":\"{name}\",\"pingTimeout\":{timeout}").as_bytes());
        if let Some((error, _)) = refused {
            data.extend_from_slice(b",\"authError\":");
            error.write(&mut data);
        }
        data.extend_from_slice(format!(",\"isAuthenticated\":{authenticated}}}").as_bytes());
        self.core.respond(id, want.as_ref(), Ok(std::str::from_utf8(&data).ok()));
        if self.core.config.batch_on_handshake {
            self.core.start_batching(id);
            self.core.later(self.core.config.batch_on_handshake_duration, Timer::BatchEnd(id));
        }
        if remove && version == Version::V2 {
            self.core.send_remove_token(id);
        }
        let routes = Arc::clone(&self.routes);
        for handler in &routes.connection {
            self.guard(Some(id), "on_connection", |_, state, core| handler(state, &mut Cx::new(core), id));
        }
        self.apply_after();
        if let Some(inbound) = self.core.socket_mut(id).and_then(|socket| socket.inbound.as_deref_mut()) {
            inbound.blocked = inbound.blocked.saturating_sub(1);
        }
        self.release(id);
    }

    pub(crate) fn authenticate_packet(&mut self, id: SocketId, data: Option<&str>, want: Want) {
        let Some(version) = self.core.socket(id).map(Socket::version) else { return };
        if version == Version::V2 && want.is_none() {
            return self.core.close(id, CloseCode::HANDSHAKE_REJECTED, "", true);
        }
        // Whatever comes of it, the token that the socket had is gone.
        match self.core.check_token(data, version) {
            Checked::None => {
                self.finish_authenticate(id, want, Some((AuthError::missing().to_sc_error(version), true)));
            }
            Checked::Bad(error, bad) => self.finish_authenticate(id, want, Some((error, bad))),
            Checked::Good(claims, signed) => {
                let request =
                    Authenticate { socket: id, auth: Arc::new(claims), signed: signed.into(), is_bad_token: false };
                self.run_authenticate(request, Authenticating { want, handshake: false }, 0);
            }
        }
    }

    fn finish_authenticate(&mut self, id: SocketId, want: Want, refused: Option<(ScError, bool)>) {
        let Some(version) = self.core.socket(id).map(Socket::version) else { return };
        let Some((error, bad)) = refused else {
            let data = "{\"isAuthenticated\":true,\"authError\":null}";
            return self.core.respond(id, want.as_ref(), Ok(Some(data)));
        };
        self.core.drop_token(id);
        if bad && version == Version::V1 {
            self.core.send_remove_token(id);
        }
        if let Some(cid) = &want {
            let mut data = BytesMut::from(&b"{\"isAuthenticated\":false,\"authError\":"[..]);
            error.write(&mut data);
            data.extend_from_slice(b"}");
            let data = std::str::from_utf8(&data).ok();
            match (version, bad) {
                (Version::V1, true) => self.core.respond_both(id, cid, Some(&error), data),
                (Version::V2, true) => self.core.respond(id, Some(cid), Err(&error)),
                (_, false) => self.core.respond(id, Some(cid), Ok(data)),
            }
        }
        if bad && version == Version::V2 {
            self.core.send_remove_token(id);
        }
    }

    /// Finds an expired token: it is taken away first, and what came in goes on with the error that says so.
    pub(crate) fn expire_token(&mut self, id: SocketId) -> Option<ScError> {
        let unix_ms = self.core.at.unix_ms;
        let auth = self.core.socket(id)?.auth.as_ref()?;
        if !auth.over && !auth.expired(unix_ms) {
            return None;
        }
        let (told, expiry) = (auth.over, auth.claims.get("exp").cloned().unwrap_or_default());
        self.core.drop_token(id);
        if !told {
            self.core.send_remove_token(id);
        }
        Some(ScError::auth_token_expired(expiry))
    }
}
