//! The handle that applications hold.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sc_protocol::ScError;

use super::Driver;
use super::builder::ClientBuilder;
use super::feed::{Capacity, feed};
use super::link::Op;
use super::pending::{Pending, Resolver, pending};
use super::streams::{Events, Listener, Responder, Subscription};
use super::target::ConnectError;
use crate::core::SubscribeOptions;
use crate::data::{Data, FromData, Payload, Token};
use crate::output::{Raw, ReplyId, State};
use crate::{CloseCode, Version};

/// A client of a SocketCluster server. Clones share one connection; the last one to be dropped ends it, after what was to be
/// sent is sent and answered.
///
/// ```no_run
/// use sc_client::Client;
///
/// let client = Client::connect("ws://localhost:8000/socketcluster/")?;
/// let sum: u64 = client.emit("sum", [1, 2]).wait()?; // or .await
/// for message in client.subscribe::<String>("chat") {
///     println!("{} {sum}", message?);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

/// What clones, subscriptions and awaited answers share.
pub(super) struct Handle {
    pub(super) id: u64,
    pub(super) driver: Driver,
    pub(super) view: Arc<View>,
}

/// What is known of a connection, for whoever asks.
#[derive(Debug, Default)]
pub(super) struct View(Mutex<Known>);

#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) open: bool,
    pub(super) connecting: bool,
    pub(super) authenticated: bool,
    pub(super) id: Box<str>,
    pub(super) token: Option<Token>,
    pub(super) version: Option<Version>,
}

impl View {
    pub(super) fn get(&self) -> Known {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.driver.control(self.id, Op::Gone);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("id", &self.id).finish_non_exhaustive()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("state", &self.state()).finish_non_exhaustive()
    }
}

fn nothing(_: Data) -> Result<(), ScError> {
    Ok(())
}

impl Client {
    pub(super) const fn new(handle: Arc<Handle>) -> Self {
        Self { handle }
    }

    /// Connects to a server: `ws://`, `wss://`, or `ws+unix:///path/of/socket:/path/of/request`. A URL without a path has
    /// SocketCluster's, `/socketcluster/`.
    ///
    /// It returns at once and connects in the background, again and again until it succeeds; what is called or subscribed in
    /// the meantime waits. [`connected`](Self::connected) waits for the connection.
    ///
    /// # Errors
    /// The URL, or the system's certificates, cannot be used.
    pub fn connect(url: &str) -> Result<Self, ConnectError> {
        Self::builder(url).connect()
    }

    /// The same with options.
    pub fn builder(url: &str) -> ClientBuilder {
        ClientBuilder::new(url)
    }

    /// Emits an event and gets the server's answer: SC's `emit` with a callback, or `invoke`. `Res` may be [`Data`], which
    /// takes any answer as it is.
    ///
    /// ```no_run
    /// # let client = sc_client::Client::connect("ws://localhost:8000/")?;
    /// #[derive(serde::Serialize)]
    /// struct Login<'a> { username: &'a str }
    ///
    /// let answer: sc_client::Data = client.emit("login", Login { username: "ann" }).wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn emit<Req: Payload, Res: FromData>(&self, event: &str, data: Req) -> Pending<Res> {
        self.call(event, &data, None)
    }

    /// The same with its own timeout in place of the ack timeout.
    pub fn emit_within<Req: Payload, Res: FromData>(&self, timeout: Duration, event: &str, data: Req) -> Pending<Res> {
        self.call(event, &data, Some(timeout))
    }

    fn call<Res: FromData>(&self, event: &str, data: &impl Payload, timeout: Option<Duration>) -> Pending<Res> {
        let (resolver, answer) = pending(Res::from_data, Some(self.handle.clone()));
        match data.to_json() {
            Ok(data) => {
                let event = event.into();
                self.handle.driver.ask(self.handle.id, resolver, |resolver| Op::Call {
                    event,
                    data,
                    timeout,
                    resolver,
                });
            }
            Err(error) => resolver.resolve(Err(error)),
        }
        answer
    }

    /// Emits an event to which no answer is wanted.
    ///
    /// # Errors
    /// The data cannot be JSON, or too much waits for the driver already. That it reaches the server is not known.
    pub fn transmit(&self, event: &str, data: impl Payload) -> Result<(), ScError> {
        let op = Op::Transmit { event: event.into(), data: data.to_json()? };
        self.handle.driver.send(self.handle.id, op)
    }

    /// Publishes to a channel; the answer says that the server took it.
    pub fn publish(&self, channel: &str, data: impl Payload) -> Pending<()> {
        let (resolver, answer) = pending(nothing, Some(self.handle.clone()));
        match data.to_json() {
            Ok(data) => {
                let channel = channel.into();
                self.handle.driver.ask(self.handle.id, resolver, |resolver| Op::Publish { channel, data, resolver });
            }
            Err(error) => resolver.resolve(Err(error)),
        }
        answer
    }

    /// Subscribes to a channel and gets what is published there, over any number of connections: an iterator that blocks,
    /// and a stream. Dropping the last subscription to a channel unsubscribes from it.
    pub fn subscribe<T: FromData>(&self, channel: &str) -> Subscription<T> {
        self.subscribe_with(channel, SubscribeOptions::default(), Capacity::default())
    }

    /// The same with options. Those of the protocol count for the first subscription to a channel only.
    pub fn subscribe_with<T: FromData>(
        &self,
        channel: &str,
        options: SubscribeOptions,
        capacity: Capacity,
    ) -> Subscription<T> {
        let (sender, receiver) = feed(capacity);
        let number = self.handle.driver.number();
        let channel: Arc<str> = channel.into();
        let op = Op::Subscribe { channel: channel.clone(), options: Box::new(options), number, sender };
        self.handle.driver.control(self.handle.id, op);
        Subscription::new(receiver, channel, number, self.handle.clone())
    }

    /// Takes everybody of this client off a channel: their subscriptions end.
    pub fn unsubscribe(&self, channel: &str) {
        self.handle.driver.control(self.handle.id, Op::Unsubscribe { channel: channel.into(), number: None });
    }

    /// The events with this name that the server emits.
    pub fn listen<T: FromData>(&self, event: &str) -> Listener<T> {
        self.listen_with(Some(event), Capacity::default())
    }

    /// The events with this name (or all) that the server emits, through a queue of the given capacity.
    pub fn listen_with<T: FromData>(&self, event: Option<&str>, capacity: Capacity) -> Listener<T> {
        let (sender, receiver) = feed(capacity);
        self.handle.driver.control(self.handle.id, Op::Listen { event: event.map(Into::into), sender });
        Listener::new(receiver, self.handle.clone())
    }

    /// What happens to the connection, the authentication and the channels, and raw messages.
    pub fn events(&self) -> Events {
        let (sender, receiver) = feed(Capacity::default());
        self.handle.driver.control(self.handle.id, Op::Events(sender));
        Events::new(receiver, self.handle.clone())
    }

    /// Waits until the connection is open. It fails when the client has given up: after a code that brings no other try, or
    /// at the first failure of a client that does not reconnect.
    pub fn connected(&self) -> Pending<()> {
        self.control(Op::Connected)
    }

    /// Logs in with a signed token. Refused, the answer is the server's error.
    pub fn authenticate(&self, token: impl Into<Token>) -> Pending<()> {
        let (resolver, answer) = pending(accepted, Some(self.handle.clone()));
        let token = token.into();
        self.handle.driver.ask(self.handle.id, resolver, |resolver| Op::Authenticate { token, resolver });
        answer
    }

    /// Gives the token up, here, in the store and at the server.
    pub fn deauthenticate(&self) {
        self.handle.driver.control(self.handle.id, Op::Deauthenticate);
    }

    /// Sends a message that is no packet.
    ///
    /// # Errors
    /// As [`transmit`](Self::transmit).
    pub fn send_raw(&self, message: Raw) -> Result<(), ScError> {
        self.handle.driver.send(self.handle.id, Op::Raw(message))
    }

    /// Ends the connection. The client stays: it connects again with [`reconnect_now`](Self::reconnect_now), or with the next
    /// thing to send.
    pub fn disconnect(&self, code: CloseCode, reason: &str) {
        self.handle.driver.control(self.handle.id, Op::Disconnect { code, reason: reason.into() });
    }

    /// Connects at once if the client is closed; else nothing happens.
    pub fn reconnect_now(&self) {
        self.handle.driver.control(self.handle.id, Op::Connect);
    }

    /// Collects packets into batches from now on (see [`Config::batch_interval`](crate::Config::batch_interval)), or stops.
    pub fn set_batching(&self, on: bool) {
        self.handle.driver.control(self.handle.id, Op::Batching(on));
    }

    /// Ends the client for good: what was to be sent is sent and answered, then the connection ends. The answer comes when
    /// that is done. Other clones, and subscriptions, end as well.
    pub fn close(self) -> Pending<()> {
        let (resolver, answer) = pending(nothing, None);
        self.handle.driver.control(self.handle.id, Op::Close(resolver));
        answer
    }

    /// Closed, connecting or open.
    #[must_use]
    pub fn state(&self) -> State {
        let known = self.handle.view.get();
        match (known.open, known.connecting) {
            (true, _) => State::Open,
            (false, true) => State::Connecting,
            (false, false) => State::Closed,
        }
    }

    /// The server's name for the connection; empty before there is one.
    #[must_use]
    pub fn id(&self) -> Box<str> {
        self.handle.view.get().id
    }

    /// Whether the server has taken a token.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        self.handle.view.get().authenticated
    }

    /// The token that the client has.
    #[must_use]
    pub fn token(&self) -> Option<Token> {
        self.handle.view.get().token
    }

    /// The server's protocol, as far as it is known.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.handle.view.get().version
    }

    fn control(&self, op: impl FnOnce(Resolver) -> Op) -> Pending<()> {
        let (resolver, answer) = pending(nothing, Some(self.handle.clone()));
        self.handle.driver.control(self.handle.id, op(resolver));
        answer
    }
}

/// A server refuses a token with an error, or says so in the data.
fn accepted(data: Data) -> Result<(), ScError> {
    let json = data.json().unwrap_or("{}");
    let fields = sc_protocol::json::object(json, ["isAuthenticated", "authError"]);
    match fields {
        Some([Some("true"), _]) => Ok(()),
        Some([_, Some(error)]) if error != "null" => Err(ScError::parse(error)),
        _ => Err(ScError::new("AuthTokenError", "The server did not accept the token")),
    }
}

impl Handle {
    pub(super) fn respond(&self, reply: ReplyId, result: Result<Option<String>, ScError>) {
        self.driver.control(self.id, Op::Respond { reply, result });
    }
}

impl Responder {
    pub(super) fn send(self, result: Result<Option<String>, ScError>) {
        let (handle, reply) = self.into_parts();
        handle.respond(reply, result);
    }
}
