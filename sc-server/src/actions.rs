//! What the packets of a client do: events, subscriptions, publishes; each through its middleware, which may take its time.

use sc_protocol::ScError;
use sc_protocol::json::{self, Kind};
use sc_protocol::packet::{Cid, Version};
use sc_protocol::ws::CloseCode;

use crate::core::Core;
use crate::cx::Cx;
use crate::data::Data;
use crate::engine::Engine;
use crate::js_text::shown;
use crate::middleware::{Emit, PublishIn, Request, Subscribe};
use crate::reply::{Answer, AnyOutcome, Block, Pass, Reply, Verdict};
use crate::socket::{Phase, Socket, SocketId};
use crate::tickets::Parked;

/// How a middleware chain ended.
pub(crate) enum Chain {
    Passed,
    Parked(crate::output::TicketId, usize),
    Blocked(Block),
}

/// Runs the functions of one stage from the `$from`th on. They are looked up one by one, because counting a reference to all
/// routes costs more than a packet that no function looks at.
macro_rules! chain {
    ($engine:expr, $stage:ident, $socket:expr, $request:expr, $from:expr) => {{
        let mut end = Chain::Passed;
        for at in $from..$engine.routes.$stage.len() {
            let verdict: Option<Verdict> = $engine.guard($socket, stringify!($stage), |routes, state, core| {
                routes.$stage[at](state, &mut Cx::new(core), $request)
            });
            match verdict {
                Some(Ok(Pass::Now)) => {}
                Some(Ok(Pass::Later(ticket))) => {
                    end = Chain::Parked(ticket.id, at + 1);
                    break;
                }
                Some(Err(block)) => {
                    end = Chain::Blocked(block);
                    break;
                }
                None => {
                    end = Chain::Blocked(Block::Error(ScError::internal()));
                    break;
                }
            }
        }
        end
    }};
}
pub(crate) use chain;

impl<S: Send + 'static, P: Default + Send + 'static> Engine<S, P> {
    /// Middleware, then the handler.
    pub(crate) fn run_emit(&mut self, mut request: Emit<'_>, cid: Option<Cid<'_>>, from: usize) {
        let id = request.socket;
        match chain!(self, emit, Some(id), &mut request, from) {
            Chain::Passed => {}
            Chain::Blocked(block) => return self.blocked_by("emit", id, cid.as_ref(), block),
            Chain::Parked(ticket, next) => {
                let request = Box::new(Emit {
                    socket: id,
                    event: request.event.into_owned().into(),
                    data: request.data.into_owned(),
                    auth: request.auth,
                    expired: request.expired,
                });
                self.wait(id, None);
                return self.park(ticket, Parked::Emit { request, want: cid.map(Cid::into_owned), next });
            }
        }
        let Emit { socket, event, data, auth, expired } = request;
        let name = event.clone();
        let request = Request { socket, event, data, wants_ack: cid.is_some(), auth, expired };
        let answer = self.guard(Some(id), "event handler", |routes, state, core| {
            let handler = routes.events.get(request.event.as_ref()).or(routes.other_events.as_ref())?;
            Some(handler(state, &mut Cx::new(core), request))
        });
        match answer {
            Some(Some(answer)) => self.answer(id, cid, &name, answer),
            // Nobody handles it.
            Some(None) => {}
            // It panicked.
            None => self.answer(id, cid, &name, Ok(Reply::Never)),
        }
    }

    /// Sends an answer, or keeps its place until it comes.
    pub(crate) fn answer(&mut self, id: SocketId, want: Option<Cid<'_>>, event: &str, answer: Answer) {
        match answer {
            Ok(Reply::Empty) => self.core.respond(id, want.as_ref(), Ok(None)),
            Ok(Reply::Json(json)) => self.core.respond(id, want.as_ref(), Ok(Some(&json))),
            Ok(Reply::Never) => {}
            Ok(Reply::Refused(refusal)) => {
                let (error, data) = *refusal;
                self.core.report_cause(event, &error);
                let version = self.core.socket(id).map_or(Version::V2, Socket::version);
                let data = data.json().filter(|_| version == Version::V1);
                if let Some(cid) = &want {
                    self.core.respond_both(id, cid, Some(&error), data);
                }
            }
            Ok(Reply::Later(ticket)) => {
                let want = want.map(Cid::into_owned);
                self.park(ticket.id, Parked::Answer { socket: id, want, event: event.into() });
            }
            Err(error) => {
                self.core.report_cause(event, &error);
                self.core.respond(id, want.as_ref(), Err(&error));
            }
        }
        self.apply_after();
    }

    pub(crate) fn blocked_by(&mut self, stage: &str, id: SocketId, want: Option<&Cid<'_>>, block: Block) {
        let error = self.core.block_error(stage, id, block);
        self.core.respond(id, want, Err(&error));
        self.apply_after();
    }

    pub(crate) fn subscribe_packet(
        &mut self,
        id: SocketId,
        data: Option<&str>,
        cid: Option<Cid<'_>>,
        expired: Option<ScError>,
        text: &str,
    ) {
        let Some(version) = self.core.socket(id).map(Socket::version) else { return };
        let members = data.and_then(|data| json::object(data, ["channel", "waitForAuth", "data", "batch"]));
        let [channel, wait_for_auth, options, batch] = members.unwrap_or_else(|| {
            // SC 4.1.3 to 14 take the bare name as well; it is made an object before middleware sees it.
            let bare = data.filter(|data| version == Version::V1 && json::kind(data) == Kind::String);
            [bare, None, None, None]
        });
        let name = channel.and_then(json::string).filter(|name| name.len() <= self.core.config.channel_name_max);
        let Some(channel) = name else {
            let error = ScError::subscribe_invalid_channel(&self.core.name(id), &shown(channel), version);
            return self.core.respond(id, cid.as_ref(), Err(&error));
        };
        if self.core.socket(id).is_some_and(|socket| socket.phase == Phase::Connecting) {
            return self.core.respond(id, cid.as_ref(), Err(&ScError::subscribe_before_handshake()));
        }
        if self.held(id, &channel, text) {
            return;
        }
        let wait_for_auth = wait_for_auth == Some("true");
        if let Some(error) = expired.as_ref().filter(|_| wait_for_auth && version == Version::V1) {
            return self.core.respond(id, cid.as_ref(), Err(error));
        }
        let auth = self.core.token(id);
        let (data, batch) = (Data::from_raw(options), batch == Some("true") && version == Version::V1);
        let request = Subscribe { socket: id, channel, wait_for_auth, data, batch, auth, expired };
        self.run_subscribe(request, cid, 0);
    }

    pub(crate) fn run_subscribe(&mut self, mut request: Subscribe<'_>, cid: Option<Cid<'_>>, from: usize) {
        let id = request.socket;
        match chain!(self, subscribe, Some(id), &mut request, from) {
            Chain::Passed => {}
            Chain::Blocked(block) => return self.blocked_by("subscribe", id, cid.as_ref(), block),
            Chain::Parked(ticket, next) => {
                self.wait(id, Some(&request.channel));
                let request = Box::new(Subscribe {
                    socket: id,
                    channel: request.channel.into_owned().into(),
                    wait_for_auth: request.wait_for_auth,
                    data: request.data.into_owned(),
                    batch: request.batch,
                    auth: request.auth,
                    expired: request.expired,
                });
                return self.park(ticket, Parked::Subscribe { request, want: cid.map(Cid::into_owned), next });
            }
        }
        let want = cid.clone().map(Cid::into_owned);
        if let Err(error) = self.core.join(id, &request.channel, want, request.batch) {
            self.core.respond(id, cid.as_ref(), Err(&error));
        }
        self.apply_after();
    }

    pub(crate) fn unsubscribe_packet(&mut self, id: SocketId, data: Option<&str>, cid: Option<Cid<'_>>, text: &str) {
        let Some(version) = self.core.socket(id).map(Socket::version) else { return };
        let Some(channel) = data.and_then(json::string) else {
            let error = ScError::unsubscribe_invalid_channel(&self.core.name(id), &shown(data), version);
            return self.core.respond(id, cid.as_ref(), Err(&error));
        };
        if self.held(id, &channel, text) {
            return;
        }
        let was = self.core.part(id, &channel);
        // A 4.x client would trip over an error here; protocol 1 acks as SC 4 does.
        if was || version == Version::V1 {
            return self.core.respond(id, cid.as_ref(), Ok(None));
        }
        let error = ScError::not_subscribed(&self.core.name(id), &channel, version);
        self.core.respond(id, cid.as_ref(), Err(&error));
    }

    pub(crate) fn publish_packet(
        &mut self,
        id: SocketId,
        data: Option<&str>,
        cid: Option<Cid<'_>>,
        expired: Option<ScError>,
        text: &str,
    ) {
        if !self.core.config.allow_client_publish {
            let error = ScError::client_publish_disabled();
            self.core.report(crate::Level::Warning, "InvalidActionError", error.message().to_owned());
            return self.core.respond(id, cid.as_ref(), Err(&error));
        }
        let [channel, data] = data.and_then(|data| json::object(data, ["channel", "data"])).unwrap_or_default();
        let name = channel.and_then(json::string).filter(|name| name.len() <= self.core.config.channel_name_max);
        let Some(name) = name else {
            let version = self.core.socket(id).map_or(Version::V1, Socket::version);
            let error = ScError::publish_invalid_channel(&self.core.name(id), &shown(channel), version);
            return self.core.respond(id, cid.as_ref(), Err(&error));
        };
        if self.held(id, &name, text) {
            return;
        }
        let auth = self.core.token(id);
        let request =
            PublishIn { socket: id, channel: name, data: Data::from_raw(data), ack: Data::absent(), auth, expired };
        self.run_publish_in(request, cid, 0);
    }

    pub(crate) fn run_publish_in(&mut self, mut request: PublishIn<'_>, cid: Option<Cid<'_>>, from: usize) {
        let id = request.socket;
        match chain!(self, publish_in, Some(id), &mut request, from) {
            Chain::Passed => {}
            Chain::Blocked(block) => return self.blocked_by("publishIn", id, cid.as_ref(), block),
            Chain::Parked(ticket, next) => {
                self.wait(id, Some(&request.channel));
                let request = Box::new(PublishIn {
                    socket: id,
                    channel: request.channel.into_owned().into(),
                    data: request.data.into_owned(),
                    ack: request.ack.into_owned(),
                    auth: request.auth,
                    expired: request.expired,
                });
                return self.park(ticket, Parked::PublishIn { request, want: cid.map(Cid::into_owned), next });
            }
        }
        self.accept_publish(request, cid.map(Cid::into_owned));
        self.apply_after();
    }

    /// A client of protocol 1 ends its session. Its own close frame comes right behind; if it does not, ours goes out.
    pub(crate) fn client_disconnect(&mut self, id: SocketId, data: Option<&str>) {
        let [code, reason] = data.and_then(|data| json::object(data, ["code", "data"])).unwrap_or_default();
        let code = code.map_or(CloseCode::NO_STATUS, |code| {
            let number = json::number(code).filter(|code| code.fract() == 0.0 && (1000.0..5000.0).contains(code));
            let code = CloseCode(number.map_or(CloseCode::NORMAL.0, |code| code as u16));
            if code.is_sendable() { code } else { CloseCode::NORMAL }
        });
        let reason = reason.and_then(json::string).unwrap_or_default();
        self.core.close(id, code, &reason, false);
    }

    /// What waited for a ticket goes on with its outcome.
    pub(crate) fn resume(&mut self, parked: Parked, outcome: AnyOutcome) {
        match parked {
            Parked::Answer { socket, want, event } => {
                let answer = match outcome {
                    AnyOutcome::Answer(answer) => answer,
                    AnyOutcome::Verdict(Err(Block::Error(error))) => Err(error),
                    _ => Ok(Reply::Empty),
                };
                self.answer(socket, want, &event, answer);
            }
            Parked::Master { id } => {
                let answer = match outcome {
                    AnyOutcome::Answer(answer) => answer,
                    AnyOutcome::Verdict(Err(Block::Error(error))) => Err(error),
                    _ => Ok(Reply::Empty),
                };
                self.answer_master(id, answer);
            }
            parked => {
                let verdict = match outcome {
                    AnyOutcome::Verdict(verdict) => verdict,
                    AnyOutcome::Answer(Err(error)) => Err(Block::Error(error)),
                    _ => Ok(Pass::Now),
                };
                if let Ok(Pass::Later(ticket)) = verdict {
                    return self.park(ticket.id, parked);
                }
                self.decided(parked, verdict.err());
            }
        }
    }

    fn decided(&mut self, parked: Parked, block: Option<Block>) {
        match parked {
            Parked::Answer { .. } | Parked::Master { .. } => {}
            Parked::Emit { request, want, next } => {
                let id = request.socket;
                match block {
                    None => self.run_emit(*request, want, next),
                    Some(block) => self.blocked_by("emit", id, want.as_ref(), block),
                }
                self.unwait(id, None);
            }
            Parked::Subscribe { request, want, next } => {
                let (id, channel) = (request.socket, request.channel.clone());
                match block {
                    None => self.run_subscribe(*request, want, next),
                    Some(block) => self.blocked_by("subscribe", id, want.as_ref(), block),
                }
                self.unwait(id, Some(&channel));
            }
            Parked::PublishIn { request, want, next } => {
                let (id, channel) = (request.socket, request.channel.clone());
                match block {
                    None => self.run_publish_in(*request, want, next),
                    Some(block) => self.blocked_by("publishIn", id, want.as_ref(), block),
                }
                self.unwait(id, Some(&channel));
            }
            Parked::Upgrade { socket, request, next } => self.upgrade_decided(socket, *request, next, block),
            Parked::HandshakeSc { request, op, next } => self.handshake_sc_decided(*request, *op, next, block),
            Parked::Authenticate { request, op, next } => self.authenticate_decided(*request, *op, next, block),
        }
    }
}

impl<S, P> Core<S, P> {
    /// The error that a blocked client gets, and the warning that goes with it.
    pub(crate) fn block_error(&mut self, stage: &str, id: SocketId, block: Block) -> ScError {
        self.counters.blocked_total += 1;
        let version = self.socket(id).map_or(Version::V1, Socket::version);
        match block {
            Block::Silent => ScError::silent(stage, version),
            Block::Error(error) => {
                self.report_cause(stage, &error);
                if self.config.middleware_emit_warnings {
                    let name = error.name().unwrap_or("Error").to_owned();
                    self.report(
                        crate::Level::Warning,
                        &name,
                        format!("blocked by {stage} middleware: {}", error.message()),
                    );
                }
                error
            }
        }
    }
}

impl<S, P> Core<S, P> {
    /// What a client is not told about an `InternalError`.
    fn report_cause(&mut self, place: &str, error: &ScError) {
        if let Some(cause) = error.cause() {
            let message = format!("{place}: {cause}");
            self.report(crate::Level::Error, "InternalError", message);
        }
    }
}
