//! What the native client does with each server.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sc_client::{
    Backoff, Capacity, ChannelChange, Client, ClientBuilder, Data, Disconnected, Event, Events, Listener, MemoryStore,
    Pending, ProxyChoice, Raw, ScError, SubscribeOptions, Subscription, Version,
};
use serde_json::{Value, json};

use crate::relay::Relay;

/// How long anything may take before it counts as not happening.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) type Step = Result<(), String>;

/// A relay to a server, and which protocol that speaks.
#[derive(Debug)]
pub(crate) struct Story {
    pub(crate) relay: Relay,
    pub(crate) version: Version,
}

/// One client and what happens to it.
struct Teller {
    client: Client,
    events: Events,
}

fn shown(error: impl Debug) -> String {
    format!("{error:?}")
}

fn done<T>(pending: Pending<T>) -> Result<T, ScError> {
    match pending.wait_timeout(PATIENCE) {
        Ok(result) => result,
        Err(error) => Err(ScError::text(error.to_string())),
    }
}

fn same<T: PartialEq + Debug>(what: &str, got: T, expected: T) -> Step {
    if got == expected { Ok(()) } else { Err(format!("{what}: {got:?} and not {expected:?}")) }
}

fn refused<T: Debug>(what: &str, result: Result<T, ScError>, name: &str) -> Result<ScError, String> {
    match result {
        Err(error) if error.name() == Some(name) => Ok(error),
        other => Err(format!("{what}: {other:?} and not {name}")),
    }
}

impl Teller {
    fn new(builder: ClientBuilder) -> Result<Self, String> {
        let client = builder.connect().map_err(shown)?;
        let events = client.events();
        Ok(Self { client, events })
    }

    fn connected(builder: ClientBuilder) -> Result<Self, String> {
        let teller = Self::new(builder)?;
        done(teller.client.connected()).map_err(shown)?;
        Ok(teller)
    }

    fn call(&self, event: &str, data: Value) -> Result<Value, ScError> {
        done(self.client.emit::<_, Value>(event, data))
    }

    /// The first event that is wanted; what comes before it is dropped.
    fn until<T>(&mut self, what: &str, wanted: impl Fn(Event) -> Option<T>) -> Result<T, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.next_timeout(left) {
                Ok(Some(Ok(event))) => {
                    if let Some(found) = wanted(event) {
                        return Ok(found);
                    }
                }
                other => return Err(format!("{what} did not happen: {other:?}")),
            }
        }
    }

    fn ended(&mut self) -> Result<Disconnected, String> {
        self.until("the end of the connection", |event| match event {
            Event::Disconnected(end) if end.was_open => Some(end),
            _ => None,
        })
    }

    fn subscribed_again(&mut self, channel: &str) -> Step {
        self.until("the subscription", |event| match event {
            Event::Channel { channel: name, change: ChannelChange::Subscribed } if *name == *channel => Some(()),
            _ => None,
        })
    }
}

fn next<T: sc_client::FromData + Debug>(subscription: &mut Subscription<T>) -> Result<T, String> {
    match subscription.next_timeout(PATIENCE) {
        Ok(Some(Ok(message))) => Ok(message),
        other => Err(format!("no message on {}: {other:?}", subscription.channel())),
    }
}

fn heard(listener: &mut Listener) -> Result<sc_client::Incoming, String> {
    match listener.next_timeout(PATIENCE) {
        Ok(Some(Ok(event))) => Ok(event),
        other => Err(format!("no event: {other:?}")),
    }
}

impl Story {
    fn builder(&self) -> ClientBuilder {
        let delay = Duration::from_millis(50);
        let backoff = Backoff { initial_delay: delay, randomness: delay, multiplier: 1.5, max_delay: delay * 10 };
        let url = format!("ws://127.0.0.1:{}/socketcluster/", self.relay.port);
        Client::builder(&url).reconnect(Some(backoff)).proxy(ProxyChoice::Direct).ack_timeout(PATIENCE)
    }

    pub(crate) fn calls_and_errors(&self) -> Step {
        let teller = Teller::connected(self.builder())?;
        for value in [json!(null), json!("x"), json!([1, {"a": null}]), json!({"ü": "\u{1f600}"})] {
            same("echo", teller.call("echo", value.clone()).map_err(shown)?, value)?;
        }
        same("add", teller.call("add", json!({"a": 1, "b": 2})).map_err(shown)?, json!(3))?;
        let error = refused("add", teller.call("add", json!({"a": "1"})), "ArgumentError")?;
        same("its code", error.get("code"), Some(&json!("EARG")))?;
        same("its detail", error.get("detail"), Some(&json!({"got": ["string", "undefined"]})))?;
        let props = json!({"name": "OwnError", "message": "why", "props": {"n": 1.5, "deep": [{"x": null}]}});
        let error = refused("reject", teller.call("reject", props), "OwnError")?;
        same("message", error.message(), "why")?;
        same("a member", error.get("deep"), Some(&json!([{"x": null}])))?;
        same("another", error.get("n"), Some(&json!(1.5)))?;
        let error = teller.call("rejectString", json!("only text")).err().ok_or("rejectString did not fail")?;
        same("a string as an error", error.message(), "only text")?;
        let short = teller.client.emit_within::<_, Data>(Duration::from_millis(50), "noAck", 0);
        refused("noAck", done(short), "TimeoutError").map(drop)
    }

    pub(crate) fn publish_and_subscribe(&self) -> Step {
        let (ann, bob) = (Teller::connected(self.builder())?, Teller::connected(self.builder())?);
        let mut theirs: Vec<Subscription<u32>> = Vec::new();
        for teller in [&ann, &bob] {
            let news = teller.client.subscribe("news");
            done(news.subscribed()).map_err(shown)?;
            theirs.push(news);
        }
        for number in 0..20 {
            done(ann.client.publish("news", number)).map_err(shown)?;
        }
        for news in &mut theirs {
            for number in 0..20 {
                same("a message", next(news)?, number)?;
            }
        }
        ann.call("serverPublish", json!({"channel": "news", "data": 99})).map_err(shown)?;
        same("the server's message", next(&mut theirs[1])?, 99)?;
        // Unsubscribed, nothing comes any more; the other one is not touched.
        let mut bobs = theirs.pop().ok_or("two subscriptions")?;
        theirs.clear();
        done(bob.client.publish("news", 100)).map_err(shown)?;
        same("the last message", next(&mut bobs)?, 100)
    }

    pub(crate) fn middleware_blocks(&self) -> Step {
        let teller = Teller::connected(self.builder())?;
        let error = refused("blocked", teller.call("blocked.x", json!(1)), "ForbiddenError")?;
        same("its event", error.get("event"), Some(&json!("blocked.x")))?;
        refused("silent", teller.call("silent.x", json!(1)), "SilentMiddlewareBlockedError")?;
        let error = refused("publish", done(teller.client.publish("readonly.x", 1)), "ForbiddenError")?;
        same("its code", error.get("code"), Some(&json!("EREADONLY")))?;
        let mut forbidden = teller.client.subscribe::<Data>("forbidden.x");
        match forbidden.next_timeout(PATIENCE) {
            Ok(Some(Err(error))) => same("its channel", error.get("channel"), Some(&json!("forbidden.x")))?,
            other => return Err(format!("forbidden.x: {other:?}")),
        }
        let denied = Teller::new(self.builder().query("deny", "1").reconnect(None))?.ended_at_upgrade()?;
        same("the status", denied.status, Some(401))
    }

    pub(crate) fn subscription_data(&self) -> Step {
        // The option came with server 4.1.11; all that are tested have it.
        let teller = Teller::connected(self.builder())?;
        let options =
            SubscribeOptions { data: Some(json!({"pass": "open"}).to_string()), ..SubscribeOptions::default() };
        let member = teller.client.subscribe_with::<Data>("member.x", options, Capacity::default());
        done(member.subscribed()).map_err(shown)?;
        let other = Teller::connected(self.builder())?;
        refused("no pass", done(other.client.subscribe::<Data>("member.x").subscribed()), "ForbiddenError").map(drop)
    }

    pub(crate) fn login_and_token(&self) -> Step {
        let store = Arc::new(MemoryStore::default());
        let mut teller = Teller::connected(self.builder().token_store(store.clone()))?;
        let waits = SubscribeOptions { wait_for_auth: true, ..SubscribeOptions::default() };
        let mut private = teller.client.subscribe_with::<u8>("private.x", waits, Capacity::default());
        refused("a wrong password", teller.call("login", json!({"username": "ann", "password": "no"})), "LoginError")?;
        teller.call("login", json!({"username": "ann", "password": "pw-ann"})).map_err(shown)?;
        teller.until("the token", |event| if let Event::AuthState(Some(_)) = event { Some(()) } else { None })?;
        done(private.subscribed()).map_err(shown)?;
        done(teller.client.publish("private.x", 1)).map_err(shown)?;
        same("the private message", next(&mut private)?, 1)?;
        same("user.echo", teller.call("user.echo", json!("me")).map_err(shown)?, json!("me"))?;

        let again = Teller::connected(self.builder().token_store(store.clone()))?;
        same("authenticated with the stored token", again.client.is_authenticated(), true)?;
        let token = again.client.token().ok_or("no token")?;
        let third = Teller::connected(self.builder())?;
        done(third.client.authenticate(token)).map_err(shown)?;
        same("user.echo of the third", third.call("user.echo", json!(3)).map_err(shown)?, json!(3))?;
        third.client.deauthenticate();
        refused("after deauthenticate", third.call("user.echo", json!(3)), "AuthRequiredError")?;
        teller.call("logout", json!(null)).map_err(shown)?;
        teller.until("the end of the token", |event| if event == Event::AuthState(None) { Some(()) } else { None })?;
        same("the token", teller.client.token(), None)
    }

    pub(crate) fn wrong_token(&self) -> Step {
        let mut teller = Teller::new(self.builder().token("no.token.atall"))?;
        let connected = teller.until("the connection", |event| match event {
            Event::Connected(connected) => Some(connected),
            _ => None,
        })?;
        same("authenticated", connected.authenticated, false)?;
        let name = connected.auth_error.as_ref().and_then(|error| error.name().map(str::to_owned));
        same("the error", name.as_deref(), Some("AuthTokenInvalidError"))?;
        refused("authenticate", done(teller.client.authenticate("a.b.c")), "AuthTokenInvalidError").map(drop)
    }

    pub(crate) fn token_expires(&self) -> Step {
        let mut teller = Teller::connected(self.builder())?;
        let login = json!({"username": "bob", "password": "pw-bob", "expiresIn": 1});
        teller.call("login", login).map_err(shown)?;
        teller.until("the token", |event| if let Event::AuthState(Some(_)) = event { Some(()) } else { None })?;
        // Servers look when something comes in.
        let deadline = Instant::now() + PATIENCE;
        while teller.client.token().is_some() {
            same("the token's end has come in time", Instant::now() < deadline, true)?;
            if teller.events.next_timeout(Duration::from_millis(200)).is_err() {
                teller.call("echo", json!(1)).map_err(shown)?;
            }
        }
        // Ours notices the end when it comes; its middleware learns of it with the next packet.
        let error = teller.call("user.echo", json!(1)).err().ok_or("user.echo passed without a token")?;
        let known = matches!(error.name(), Some("AuthRequiredError" | "AuthTokenExpiredError"));
        if known { Ok(()) } else { Err(format!("user.echo: {error:?}")) }
    }

    pub(crate) fn the_server_asks(&self) -> Step {
        let teller = Teller::connected(self.builder())?;
        let mut questions = teller.client.listen("question");
        let asked = teller.client.emit::<_, Value>("ask", json!({"event": "question", "data": [7]}));
        let question = heard(&mut questions)?;
        same("the question", question.data.json(), Some("[7]"))?;
        question.responder.ok_or("it wants no answer")?.ok(json!({"a": 8})).map_err(shown)?;
        same("the answer", done(asked).map_err(shown)?, json!({"ok": true, "reply": {"a": 8}}))?;

        let mut raw = teller.client.listen("rawReceived");
        teller.client.send_raw(Raw::Text("not a packet".into())).map_err(shown)?;
        let data: Value = heard(&mut raw)?.data.parse().map_err(shown)?;
        same("the raw message", data, json!({"message": "not a packet"}))
    }

    pub(crate) fn kicked_out_and_closed(&self) -> Step {
        let mut teller = Teller::connected(self.builder())?;
        let mut chat = teller.client.subscribe::<Data>("chat");
        done(chat.subscribed()).map_err(shown)?;
        teller.call("kick", json!({"channel": "chat", "message": "out"})).map_err(shown)?;
        match chat.next_timeout(PATIENCE) {
            Ok(Some(Err(error))) => {
                same("the kick", (error.name(), error.message()), (Some("KickedOutError"), "out"))?;
            }
            other => return Err(format!("the kick: {other:?}")),
        }
        for (code, expected) in [(4001, Some(0)), (3333, None), (4600, None)] {
            done(teller.client.connected()).map_err(shown)?;
            teller.call("closeMe", json!({"code": code, "reason": "enough"})).map_err(shown)?;
            let end = teller.ended()?;
            same("the code", end.code.0, code)?;
            match code {
                4600 => same("another try", end.retry_in, None)?,
                3333 => same("a delay", end.retry_in.is_some_and(|delay| !delay.is_zero()), true)?,
                _ => same("the delay", end.retry_in.map(|delay| delay.as_millis()), expected)?,
            }
        }
        let error = refused("connected", done(teller.client.connected()), "SocketProtocolError")?;
        same("its code", error.get("code"), Some(&json!(4600)))
    }

    /// With servers that have permessage-deflate. What they write is compressed beyond a size of theirs.
    pub(crate) fn messages_are_compressed(&self) -> Step {
        let teller = Teller::connected(self.builder().deflate(true))?;
        let before = self.relay.carried();
        let text = "compress me ".repeat(50_000);
        same("echo", teller.call("echo", json!(text)).map_err(shown)?, json!(text))?;
        same("echo of little", teller.call("echo", json!(1)).map_err(shown)?, json!(1))?;
        let carried = self.relay.carried() - before;
        if carried < 100_000 { Ok(()) } else { Err(format!("{carried} bytes went over the network")) }
    }

    /// `restart` takes the server away and gives the port of a new one.
    pub(crate) fn the_server_is_gone(&self, mut restart: impl FnMut() -> Result<u16, String>) -> Step {
        let (mut ann, mut bob) = (Teller::connected(self.builder())?, Teller::connected(self.builder())?);
        let (mut news, mut other) = (ann.client.subscribe::<u32>("news"), ann.client.subscribe::<u32>("other"));
        for subscription in [&news, &other] {
            done(subscription.subscribed()).map_err(shown)?;
        }
        // A server that ends in good order takes its time, and gives what is under way some.
        let under_way = ann.client.emit_within::<_, Data>(PATIENCE * 2, "noAck", 0);
        // With the answer to a later one it has been sent, and is not one that could wait for the next server.
        ann.call("echo", json!(0)).map_err(shown)?;
        self.relay.set_target(0);
        let port = restart()?;
        let end = ann.ended()?;
        bob.ended()?;
        same("another try is made", end.retry_in.is_some(), true)?;
        refused("what was under way", done(under_way), "BadConnectionError")?;
        // What is asked while there is no server waits for it.
        let waits = bob.client.emit_within::<_, u8>(PATIENCE, "echo", 5);
        self.relay.set_target(port);
        same("what waited", done(waits).map_err(shown)?, 5)?;
        for channel in ["news", "other"] {
            ann.subscribed_again(channel)?;
        }
        for number in 0..10 {
            done(bob.client.publish("news", number)).map_err(shown)?;
            done(bob.client.publish("other", number)).map_err(shown)?;
        }
        for number in 0..10 {
            same("a message after it", next(&mut news)?, number)?;
            same("another one", next(&mut other)?, number)?;
        }
        // A second delivery would come before this one.
        done(bob.client.publish("news", 1000)).map_err(shown)?;
        same("the last message", next(&mut news)?, 1000)
    }

    /// Last, since by then pings have come.
    pub(crate) fn the_network_goes_silent(&self) -> Step {
        let mut teller = Teller::connected(self.builder())?;
        let news = teller.client.subscribe::<u8>("silence");
        done(news.subscribed()).map_err(shown)?;
        self.relay.set_silent(true);
        let end = teller.ended()?;
        self.relay.set_silent(false);
        same("the code", end.code.0, 4000)?;
        same("the delay", end.retry_in, Some(Duration::ZERO))?;
        teller.subscribed_again("silence")?;
        same("echo", teller.call("echo", json!(1)).map_err(shown)?, json!(1))?;
        // A server of one protocol tells which with its first ping.
        let version = teller.client.version();
        same("the protocol", version.unwrap_or(self.version), self.version)
    }
}

impl Teller {
    fn ended_at_upgrade(mut self) -> Result<Disconnected, String> {
        self.until("the refusal", |event| if let Event::Disconnected(end) = event { Some(end) } else { None })
    }
}
