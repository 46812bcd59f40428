//! What an application is: a state and the routes to its handlers.

use hashbrown::HashMap;

use sc_auth::AuthEngine;
use sc_protocol::ScError;
use sc_protocol::codec::Codec;

use crate::config::Config;
use crate::cx::Cx;
use crate::data::Data;
use crate::middleware::{
    Authenticate, Disconnect, Emit, Handshake, HandshakeSc, PublishIn, PublishOut, Request, Subscribe,
};
use crate::reply::{Answer, Block, Verdict};
use crate::socket::SocketId;
use crate::watch::Published;

type Stage<S, P, R> = Vec<Box<dyn Fn(&mut S, &mut Cx<'_, S, P>, &mut R) -> Verdict + Send + Sync>>;
/// Stages whose request borrows from the packet.
macro_rules! stage {
    ($request:ident) => {
        Vec<Box<dyn Fn(&mut S, &mut Cx<'_, S, P>, &mut $request<'_>) -> Verdict + Send + Sync>>
    };
}
type Filter<S, P> = Vec<Box<dyn Fn(&mut S, &mut Cx<'_, S, P>, &mut PublishOut<'_>) -> Result<(), Block> + Send + Sync>>;
type Handler<S, P> = Box<dyn Fn(&mut S, &mut Cx<'_, S, P>, Request<'_>) -> Answer + Send + Sync>;
type Connection<S, P> = Vec<Box<dyn Fn(&mut S, &mut Cx<'_, S, P>, SocketId) + Send + Sync>>;
type Disconnection<S, P> = Vec<Box<dyn Fn(&mut S, &mut Cx<'_, S, P>, SocketId, &Disconnect) + Send + Sync>>;
type Raw<S, P> = Vec<Box<dyn Fn(&mut S, &mut Cx<'_, S, P>, SocketId, RawMessage<'_>) + Send + Sync>>;
type Watcher<S, P> = Box<dyn Fn(&mut S, &mut Cx<'_, S, P>, Published<'_>) + Send + Sync>;
type FromMaster<S, P> = Box<dyn Fn(&mut S, &mut Cx<'_, S, P>, Data<'_>) -> Answer + Send + Sync>;
type Start<S, P> = Vec<Box<dyn Fn(&mut S, &mut Cx<'_, S, P>) + Send + Sync>>;

/// A message that is no packet: SC's `raw` event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawMessage<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
}

pub(crate) struct Routes<S, P> {
    pub(crate) start: Start<S, P>,
    /// For messages of the master.
    pub(crate) master: Option<FromMaster<S, P>>,
    pub(crate) handshake: stage!(Handshake),
    pub(crate) handshake_sc: Stage<S, P, HandshakeSc>,
    pub(crate) authenticate: stage!(Authenticate),
    pub(crate) emit: stage!(Emit),
    pub(crate) subscribe: stage!(Subscribe),
    pub(crate) publish_in: stage!(PublishIn),
    pub(crate) publish_out: Filter<S, P>,
    pub(crate) connection: Connection<S, P>,
    pub(crate) disconnection: Disconnection<S, P>,
    pub(crate) raw: Raw<S, P>,
    /// Channels that are watched from the start, each with its handler.
    pub(crate) watched: Vec<(Box<str>, Watcher<S, P>)>,
    pub(crate) publish: Vec<Watcher<S, P>>,
    pub(crate) events: HashMap<Box<str>, Handler<S, P>, foldhash::fast::FixedState>,
    pub(crate) other_events: Option<Handler<S, P>>,
}

/// An application: its state `S`, the same for all sockets of the worker, and what it does with what clients send. `P` is
/// the state of each socket, made by `Default` ([`Cx::session`]).
///
/// Handlers are registered once for the worker, so that a connection costs no allocation for them. Each takes the state,
/// a [`Cx`] through which it acts, and its request; what it does through the `Cx` is queued and goes out in order, with
/// the ack behind it.
///
/// ```
/// use sc_server::{Reply, Worker};
///
/// struct State { count: u64 }
///
/// let worker = Worker::new(State { count: 0 })
///     .on("sampleClientEvent", |state, cx, _request| {
///         state.count += 1;
///         cx.publish("sample", &state.count)?;
///         Ok(Reply::Empty)
///     })
///     .on("echo", |_state, _cx, request| Reply::data(request.data::<String>()?));
/// # let _ = worker;
/// ```
pub struct Worker<S, P = ()> {
    pub(crate) state: S,
    pub(crate) routes: Routes<S, P>,
    pub(crate) auth: Option<Box<dyn AuthEngine>>,
    pub(crate) codec: Option<Box<dyn Codec>>,
}

impl<S: std::fmt::Debug, P> std::fmt::Debug for Worker<S, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("state", &self.state)
            .field("events", &self.routes.events.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl<S: Send + 'static> Worker<S> {
    /// An application with this state and no routes.
    pub fn new(state: S) -> Self {
        Self::with_sessions(state)
    }

    /// An application whose sockets each have a state of their own, a `P`, reached with [`Cx::session`].
    ///
    /// ```
    /// use sc_server::{Reply, Worker};
    ///
    /// let worker = Worker::with_sessions::<u32>(()).on("count", |(), cx, request| {
    ///     let count = cx.session(request.socket);
    ///     *count += 1;
    ///     Reply::data(*count)
    /// });
    /// # let _ = worker;
    /// ```
    pub fn with_sessions<P: Default + Send + 'static>(state: S) -> Worker<S, P> {
        let routes = Routes {
            start: Vec::new(),
            master: None,
            handshake: Vec::new(),
            handshake_sc: Vec::new(),
            authenticate: Vec::new(),
            emit: Vec::new(),
            subscribe: Vec::new(),
            publish_in: Vec::new(),
            publish_out: Vec::new(),
            connection: Vec::new(),
            disconnection: Vec::new(),
            raw: Vec::new(),
            watched: Vec::new(),
            publish: Vec::new(),
            events: HashMap::default(),
            other_events: None,
        };
        Worker { state, routes, auth: None, codec: None }
    }
}

impl<S: Send + 'static, P: Default + Send + 'static> Worker<S, P> {
    /// Runs once, when the worker begins: the place for what happens without a client.
    pub fn on_start(mut self, f: impl Fn(&mut S, &mut Cx<'_, S, P>) + Send + Sync + 'static) -> Self {
        self.routes.start.push(Box::new(f));
        self
    }

    /// Takes the messages of the application's code in the master, SC's `masterMessage` event; what it answers goes back there. A
    /// second one takes the first one's place.
    pub fn on_master_message(
        mut self,
        f: impl Fn(&mut S, &mut Cx<'_, S, P>, Data<'_>) -> Answer + Send + Sync + 'static,
    ) -> Self {
        self.routes.master = Some(Box::new(f));
        self
    }

    /// Middleware at the HTTP upgrade. Blocked: HTTP 401 with the error's message as its body.
    pub fn handshake(
        mut self,
        f: impl Fn(&mut S, &mut Cx<'_, S, P>, &mut Handshake<'_>) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        self.routes.handshake.push(Box::new(f));
        self
    }

    /// Middleware at `#handshake`. Blocked: an error ack, then a close with [`HandshakeSc::close_code`].
    pub fn handshake_sc(
        mut self,
        f: impl Fn(&mut S, &mut Cx<'_, S, P>, &mut HandshakeSc) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        self.routes.handshake_sc.push(Box::new(f));
        self
    }

    /// Middleware where a token that verified is about to be accepted.
    pub fn authenticate(
        mut self,
        f: impl Fn(&mut S, &mut Cx<'_, S, P>, &mut Authenticate<'_>) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        self.routes.authenticate.push(Box::new(f));
        self
    }

    /// Middleware for the events of clients.
    pub fn emit(
        mut self,
        f: impl Fn(&mut S, &mut Cx<'_, S, P>, &mut Emit<'_>) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        self.routes.emit.push(Box::new(f));
        self
    }

    /// Middleware for subscriptions of clients.
    pub fn subscribe(
        mut self,
        f: impl Fn(&mut S, &mut Cx<'_, S, P>, &mut Subscribe<'_>) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        self.routes.subscribe.push(Box::new(f));
        self
    }

    /// Middleware for publishes of clients, before the broker.
    pub fn publish_in(
        mut self,
        f: impl Fn(&mut S, &mut Cx<'_, S, P>, &mut PublishIn<'_>) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        self.routes.publish_in.push(Box::new(f));
        self
    }

    /// Middleware for each receiver of a publish. It answers at once; blocked means that this receiver is skipped.
    pub fn publish_out(
        mut self,
        f: impl Fn(&mut S, &mut Cx<'_, S, P>, &mut PublishOut<'_>) -> Result<(), Block> + Send + Sync + 'static,
    ) -> Self {
        self.routes.publish_out.push(Box::new(f));
        self
    }

    /// Runs when a socket has completed its `#handshake`: SC's `connection` event.
    pub fn on_connection(mut self, f: impl Fn(&mut S, &mut Cx<'_, S, P>, SocketId) + Send + Sync + 'static) -> Self {
        self.routes.connection.push(Box::new(f));
        self
    }

    /// Runs when a socket that had completed its `#handshake` ends, exactly once for each.
    pub fn on_disconnection(
        mut self,
        f: impl Fn(&mut S, &mut Cx<'_, S, P>, SocketId, &Disconnect) + Send + Sync + 'static,
    ) -> Self {
        self.routes.disconnection.push(Box::new(f));
        self
    }

    /// Runs for each message that is no packet: SC's `raw` event.
    pub fn on_raw(
        mut self,
        f: impl Fn(&mut S, &mut Cx<'_, S, P>, SocketId, RawMessage<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.routes.raw.push(Box::new(f));
        self
    }

    /// Watches a channel from the start: SC's `exchange.subscribe(channel).watch(f)`. Each worker gets each publish once.
    ///
    /// ```
    /// use sc_server::Worker;
    ///
    /// let worker = Worker::new(0_u32).watch("orders", |count, cx, published| {
    ///     *count += 1;
    ///     for socket in cx.sockets() {
    ///         cx.emit(socket, "order", &published.data);
    ///     }
    /// });
    /// # let _ = worker;
    /// ```
    pub fn watch(
        mut self,
        channel: &str,
        f: impl Fn(&mut S, &mut Cx<'_, S, P>, Published<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.routes.watched.push((channel.into(), Box::new(f)));
        self
    }

    /// Runs for each publish on any channel that the worker watches, also those of [`Cx::watch`].
    pub fn on_publish(mut self, f: impl Fn(&mut S, &mut Cx<'_, S, P>, Published<'_>) + Send + Sync + 'static) -> Self {
        self.routes.publish.push(Box::new(f));
        self
    }

    /// The handler of an event. A second one for the same event takes the first one's place. An event without a
    /// handler is never acked, as in SC.
    pub fn on(
        mut self,
        event: &str,
        f: impl Fn(&mut S, &mut Cx<'_, S, P>, Request<'_>) -> Answer + Send + Sync + 'static,
    ) -> Self {
        self.routes.events.insert(event.into(), Box::new(f));
        self
    }

    /// The handler of every event that has none of its own.
    pub fn on_other(
        mut self,
        f: impl Fn(&mut S, &mut Cx<'_, S, P>, Request<'_>) -> Answer + Send + Sync + 'static,
    ) -> Self {
        self.routes.other_events = Some(Box::new(f));
        self
    }

    /// Sends and takes packets in another form than JSON text: SC's `codecEngine`. All clients have to use it, and the
    /// configuration has to say which protocol version they speak.
    pub fn codec(mut self, codec: impl Codec + 'static) -> Self {
        self.codec = Some(Box::new(codec));
        self
    }

    /// Whether this application can run with this configuration. Error: an `InvalidOptionsError`, as for a
    /// [`codec`](Self::codec) whose clients would have to be asked for their protocol version.
    pub fn check(&self, config: &Config) -> Result<(), ScError> {
        let paths = config.protocol_paths.iter().map(|(_, policy)| *policy);
        std::iter::once(config.protocol_version)
            .chain(paths)
            .try_for_each(|policy| crate::coded::check(self.codec.as_deref(), policy))
    }

    /// Signs and verifies tokens with an engine of the application's own, in place of the one that the options describe:
    /// SC's `setAuthEngine`.
    pub fn auth_engine(mut self, engine: impl AuthEngine + 'static) -> Self {
        self.auth = Some(Box::new(engine));
        self
    }
}
