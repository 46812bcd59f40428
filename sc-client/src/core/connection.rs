//! From no connection to an open one, and back.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use sc_protocol::ScError;
use sc_protocol::http::{HeadError, HeadReader, ResponseHead};
use sc_protocol::json;
use sc_protocol::limits::INTERVAL_MS_MAX;
use sc_protocol::packet::{Response, Version, write};
use sc_protocol::ws::handshake::{ClientHandshake, HandshakeError};
use sc_protocol::ws::{CloseCode, Reader, Role, frame};

use super::outbound::{Kind, Sent};
use super::{ClientCore, Phase, Pings, Queued};
use crate::config::Retry;
use crate::data::Token;
use crate::output::{Connected, Disconnected, Output};

/// The body of a refusal is shown up to that many bytes.
const REFUSAL_TEXT_MAX: usize = 512;

/// The HTTP before a WebSocket.
#[derive(Debug)]
pub(super) struct Upgrade {
    handshake: ClientHandshake,
    head: HeadReader,
}

/// How a connection, or an attempt, ends.
struct End<'a> {
    code: CloseCode,
    reason: &'a str,
    status: Option<u16>,
    error: Option<ScError>,
    retry: Retry,
    /// The transport is gone already.
    gone: bool,
}

impl<'a> End<'a> {
    const fn new(code: CloseCode, reason: &'a str) -> Self {
        Self { code, reason, status: None, error: None, retry: Retry::after(code), gone: false }
    }
}

impl ClientCore {
    /// Connects, unless the client is open or about to be. A try that was planned is made now.
    pub fn connect(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Closed | Phase::Waiting(_)) {
            self.open_transport(now);
        }
    }

    /// Ends the connection with a code (1000 if it may not stand in a close frame), or the attempt, or the wait for the
    /// next one. Calls that wait for answers fail; the client stays closed until it is connected again.
    pub fn disconnect(&mut self, now: Instant, code: CloseCode, reason: &str) {
        let code = if code.is_sendable() { code } else { CloseCode::NORMAL };
        match self.phase {
            Phase::Closed => {}
            Phase::Waiting(_) => self.phase = Phase::Closed,
            Phase::Opening(_) | Phase::Handshaking(_) | Phase::Open(_) => {
                if self.pings.version == Some(Version::V1) && matches!(self.phase, Phase::Open(_)) {
                    let data = serde_json::json!({ "code": code.0, "data": reason }).to_string();
                    self.send_packet(false, |out| write::event(out, "#disconnect", Some(&data), None));
                }
                self.finish(now, End { retry: Retry::Never, ..End::new(code, reason) });
            }
        }
        self.check_invariants();
    }

    /// Ends the connection and opens another one at once.
    pub fn reconnect(&mut self, now: Instant, code: CloseCode, reason: &str) {
        self.disconnect(now, code, reason);
        self.connect(now);
    }

    pub(super) fn open_transport(&mut self, now: Instant) {
        debug_assert!(matches!(self.phase, Phase::Closed | Phase::Waiting(_)));
        self.phase = Phase::Opening(now + self.config.connect_timeout);
        self.connection = self.connection.wrapping_add(1);
        self.reader = Reader::new(Role::Client);
        self.pings = Pings::new(&self.config);
        self.congested = false;
        self.push(Output::Connecting);
        self.push(Output::Connect);
    }

    /// The transport is open: TCP, and whatever lies above it (TLS, a proxy).
    pub fn handle_connected(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Opening(_)) || self.upgrade.is_some() {
            return;
        }
        let handshake = ClientHandshake::new(&mut *self.entropy);
        #[cfg(feature = "deflate")]
        let handshake = if self.config.deflate { handshake.offer_deflate() } else { handshake };
        let headers: Vec<(&str, &str)> =
            self.config.headers.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut out = BytesMut::new();
        match handshake.write_request(&mut out, &self.config.host, &self.config.target, &headers) {
            Ok(()) => {
                self.out.push_back(Queued::Wire(out));
                self.upgrade = Some(Box::new(Upgrade { handshake, head: HeadReader::new() }));
            }
            Err(error) => {
                let reason = error.to_string();
                self.finish(now, End { retry: Retry::Never, ..End::new(CloseCode::ABNORMAL, &reason) });
            }
        }
        self.check_invariants();
    }

    /// Bytes came over the transport. They are unmasked where they are.
    pub fn handle_bytes(&mut self, now: Instant, data: &mut [u8]) {
        let mut used = 0;
        if matches!(self.phase, Phase::Opening(_)) {
            match self.read_upgrade(now, data) {
                Some(head) => used = head,
                None => return self.check_invariants(),
            }
        }
        if matches!(self.phase, Phase::Handshaking(_) | Phase::Open(_)) {
            self.read_frames(now, &mut data[used..]);
        }
        self.check_invariants();
    }

    /// The transport is gone, or could not be opened; `why` is for people. Not to be said after [`Output::Close`].
    pub fn handle_closed(&mut self, now: Instant, why: &str) {
        if !matches!(self.phase, Phase::Closed | Phase::Waiting(_)) {
            self.finish(now, End { gone: true, ..End::new(CloseCode::ABNORMAL, why) });
        }
        self.check_invariants();
    }

    /// The bytes used if the WebSocket is there; `None` if more is needed or nothing is left to do.
    fn read_upgrade(&mut self, now: Instant, data: &[u8]) -> Option<usize> {
        let Upgrade { handshake, head } = &mut **self.upgrade.as_mut()?;
        let checked = head.response(data, |head| {
            let refusal = (head.status != 101).then(|| (head.status, format!("{} {}", head.status, head.reason)));
            (agreement(handshake, head), refusal)
        });
        let (refused, used) = match checked {
            Ok(None) => return None,
            Ok(Some(((Ok(agreed), _), used))) => {
                self.agree(agreed);
                self.upgrade = None;
                self.send_handshake(now);
                return Some(used);
            }
            Ok(Some(((Err(error), refusal), used))) => (refusal.ok_or_else(|| error.to_string()), used),
            Err(error) => (Err(head_error(error)), 0),
        };
        let (status, mut reason) = match refused {
            Ok((status, reason)) => (Some(status), reason),
            Err(reason) => (None, reason),
        };
        // Servers from 5 on say why in the body, earlier ones in the reason phrase.
        let body = &data[used.min(data.len())..data.len().min(used.saturating_add(REFUSAL_TEXT_MAX))];
        if let (Some(_), Ok(text)) = (status, std::str::from_utf8(body))
            && !text.trim().is_empty()
        {
            reason = format!("{reason}: {}", text.trim());
        }
        self.finish(now, End { status, ..End::new(CloseCode::ABNORMAL, &reason) });
        None
    }

    #[cfg(feature = "deflate")]
    fn agree(&mut self, agreed: Agreed) {
        if let Some(params) = agreed {
            self.reader.allow_compressed();
            self.deflate = Some(Box::new(params.start(Role::Client)));
        }
    }

    #[cfg(not(feature = "deflate"))]
    #[expect(clippy::unused_self, reason = "with the feature there is something to agree on")]
    const fn agree(&self, (): Agreed) {}

    fn send_handshake(&mut self, now: Instant) {
        let token = self.token.clone();
        let mut data = BytesMut::from(&br#"{"authToken":"#[..]);
        match &token {
            Some(token) => json::write_string(&mut data, token.as_str()),
            None => data.extend_from_slice(b"null"),
        }
        data.extend_from_slice(b"}");
        // What was written is UTF-8.
        let data = String::from_utf8_lossy(&data).into_owned();
        self.phase = Phase::Handshaking(now + self.config.ack_timeout);
        let sent = Sent { call: None, deadline: None, kind: Kind::Handshake(token) };
        let Ok(cid) = self.acks.insert(usize::MAX, sent, None) else { return };
        self.send_packet(false, |out| write::event(out, "#handshake", Some(&data), Some(cid)));
    }

    pub(super) fn handshake_answered(&mut self, now: Instant, sent: Option<Token>, response: &Response<'_>) {
        if !matches!(self.phase, Phase::Handshaking(_)) {
            return;
        }
        if let Some(raw) = response.error {
            let error = ScError::parse(raw);
            let code = response.data.and_then(|data| json::object(data, ["code"])).and_then(|[code]| code);
            let code = code.and_then(json::number).or_else(|| error.get("statusCode").and_then(|code| code.as_f64()));
            let code = code.map_or(CloseCode::HANDSHAKE_FAILED, |code| CloseCode(code as u16));
            let reason = error.message().to_owned();
            return self.finish(now, End { error: Some(error), ..End::new(code, &reason) });
        }
        let [id, authenticated, auth_error, timeout] = response
            .data
            .and_then(|data| json::object(data, ["id", "isAuthenticated", "authError", "pingTimeout"]))
            .unwrap_or_default();
        let millis = timeout.and_then(json::number).filter(|ms| *ms > 0.0 && *ms <= INTERVAL_MS_MAX as f64);
        if let Some(millis) = millis {
            self.pings.timeout = Duration::from_secs_f64(millis / 1000.0);
        }
        let connected = Connected {
            id: id.and_then(json::string).unwrap_or_default().into(),
            authenticated: authenticated == Some("true"),
            auth_error: auth_error.filter(|raw| *raw != "null").map(ScError::parse),
            ping_timeout: self.pings.timeout,
        };
        self.attempts = 0;
        self.id.clone_from(&connected.id);
        self.phase = Phase::Open(self.ping_deadline(now));
        self.answer_held_pings();
        self.start_batch_on_handshake(now);
        let authenticated = connected.authenticated;
        self.push(Output::Connected(connected));
        self.authenticated_at_handshake(authenticated, sent);
        self.subscribe_pending(now);
        self.flush_buffer(now);
    }

    pub(super) fn ping_deadline(&self, now: Instant) -> Option<Instant> {
        (!self.config.ping_timeout_disabled).then(|| now + self.pings.timeout)
    }

    /// Ends a connection for a reason of this end's, or because the peer ended it.
    pub(super) fn end(&mut self, now: Instant, code: CloseCode, reason: &str) {
        self.finish(now, End::new(code, reason));
    }

    fn finish(&mut self, now: Instant, end: End<'_>) {
        let End { code, reason, status, error, retry, gone } = end;
        let was_open = matches!(self.phase, Phase::Open(_));
        if !gone && (was_open || matches!(self.phase, Phase::Handshaking(_))) {
            self.flush_batch(now);
            let mask = self.entropy.next_u32().to_ne_bytes();
            let reason = if self.rules() == Version::V2 { reason } else { "" };
            frame::write_close(self.wire(), Some(code.0), reason, Some(mask));
        }
        if !gone {
            self.push(Output::Close);
        }
        self.phase = Phase::Closed;
        #[cfg(feature = "deflate")]
        {
            self.deflate = None;
        }
        self.upgrade = None;
        self.batch = None;
        self.congested = false;
        self.fail_sent(if was_open { "disconnect" } else { "connectAbort" });
        self.channels_lost();
        let delay = self.retry_delay(retry);
        self.push(Output::Disconnected(Disconnected {
            code,
            reason: reason.into(),
            was_open,
            status,
            error,
            retry_in: delay,
        }));
        match delay {
            Some(Duration::ZERO) => self.open_transport(now),
            Some(delay) => self.phase = Phase::Waiting(now + delay),
            None => {}
        }
    }

    fn retry_delay(&mut self, retry: Retry) -> Option<Duration> {
        let backoff = self.config.reconnect.filter(|_| retry != Retry::Never)?;
        let n = self.attempts;
        self.attempts = self.attempts.saturating_add(1);
        if retry == Retry::Immediately && n == 0 {
            return Some(Duration::ZERO);
        }
        let random = f64::from(self.entropy.next_u32()) / (f64::from(u32::MAX) + 1.0);
        // A delay of nothing would be a busy loop against a server that is down.
        Some(backoff.delay(n, random).max(Duration::from_millis(1)))
    }

    fn read_frames(&mut self, now: Instant, data: &mut [u8]) {
        let connection = self.connection;
        let mut reader = std::mem::replace(&mut self.reader, Reader::new(Role::Client));
        let result = reader.handle_compressed(self.config.max_payload, data, |event, compressed| {
            match compressed {
                None => self.handle_message(now, event),
                Some(opcode) => self.handle_compressed(now, opcode, event),
            }
            let live = self.connection == connection && matches!(self.phase, Phase::Handshaking(_) | Phase::Open(_));
            if live { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        if self.connection == connection && matches!(self.phase, Phase::Handshaking(_) | Phase::Open(_)) {
            self.reader = reader;
            if let Err(error) = result {
                self.end(now, error.close_code(), &error.to_string());
            }
        }
    }
}

#[cfg(feature = "deflate")]
type Agreed = Option<sc_protocol::ws::deflate::Params>;
#[cfg(not(feature = "deflate"))]
type Agreed = ();

#[cfg(feature = "deflate")]
fn agreement(handshake: &ClientHandshake, head: &ResponseHead<'_, '_>) -> Result<Agreed, HandshakeError> {
    handshake.check_deflate(head)
}

#[cfg(not(feature = "deflate"))]
fn agreement(handshake: &ClientHandshake, head: &ResponseHead<'_, '_>) -> Result<Agreed, HandshakeError> {
    handshake.check(head)
}

fn head_error(error: HeadError) -> String {
    format!("the server's answer is no HTTP: {error}")
}
