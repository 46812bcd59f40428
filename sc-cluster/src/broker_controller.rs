//! The application's code in a broker: SC's `brokerController`.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use sc_broker::{Broker, BrokerCall, BrokerEvent, Key, Store};
use sc_protocol::ScError;
use sc_protocol::ipc::Control;
use sc_server::{Data, Level, Payload, Report, Time};
use serde::de::DeserializeOwned;

use crate::options::Options;

/// What a broker's closure is told of the process it runs in.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct BrokerStart {
    /// The broker's number, from 0. The one that replaces a broker has its number.
    pub id: u32,
    /// Its process id.
    pub pid: u32,
    /// Whether it replaces one that ended, whose data is lost.
    pub respawn: bool,
    /// How many workers the cluster has.
    pub workers: u32,
    /// How many brokers the cluster has.
    pub brokers: u32,
    /// The options in effect.
    pub options: Options,
}

type Start<S> = Box<dyn Fn(&mut S, &mut BrokerCx<'_>)>;
type Channel<S> = Box<dyn Fn(&mut S, &mut BrokerCx<'_>, &str)>;
type Published<S> = Box<dyn Fn(&mut S, &mut BrokerCx<'_>, &str, &Data<'_>)>;
type Query<S> = Box<dyn Fn(&mut S, &mut BrokerCx<'_>, &Data<'_>) -> Result<Data<'static>, ScError>>;

/// What an application does in a broker: it hears of channels and publishes, publishes itself, answers messages and runs
/// queries on the shared data. It is the place for a bridge to another message system.
///
/// Handlers run in the broker's loop: every publish of the broker's channels waits for them. Queries stand in place of the
/// JavaScript that SC's `exchange.run` ships, and are run one at a time, so that each sees and leaves the data whole.
///
/// A handler that panics is reported, its caller gets an `InternalError`, and the broker goes on: its end would cost all data.
///
/// ```
/// use sc_cluster::{BrokerController, server::{Data, Key}};
///
/// let controller = BrokerController::new(())
///     .query("take", |_state, cx, data| {
///         let wanted: u64 = data.get()?;
///         let stock = Key::from("stock");
///         let left = cx.get::<u64>(&stock)?.unwrap_or(0);
///         let taken = wanted.min(left);
///         cx.set(&stock, &(left - taken))?;
///         Data::of(&taken)
///     })
///     .on_publish(|_state, cx, channel, data| {
///         if channel == "orders" {
///             let _ = cx.publish("audit", data);
///         }
///     });
/// # let _ = controller;
/// ```
pub struct BrokerController<S> {
    state: S,
    start: Vec<Start<S>>,
    subscribe: Vec<Channel<S>>,
    unsubscribe: Vec<Channel<S>>,
    publish: Vec<Published<S>>,
    message: Option<Query<S>>,
    master_message: Option<Query<S>>,
    queries: BTreeMap<Box<str>, Query<S>>,
}

impl<S: fmt::Debug> fmt::Debug for BrokerController<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerController")
            .field("state", &self.state)
            .field("queries", &self.queries.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl<S> BrokerController<S> {
    /// A controller with this state, the broker's own, that does nothing yet.
    pub const fn new(state: S) -> Self {
        Self {
            state,
            start: Vec::new(),
            subscribe: Vec::new(),
            unsubscribe: Vec::new(),
            publish: Vec::new(),
            message: None,
            master_message: None,
            queries: BTreeMap::new(),
        }
    }

    /// Runs once, before the broker takes anything from workers: the place to fill the shared data.
    #[must_use]
    pub fn on_start(mut self, f: impl Fn(&mut S, &mut BrokerCx<'_>) + 'static) -> Self {
        self.start.push(Box::new(f));
        self
    }

    /// Runs when a channel has its first interested worker.
    #[must_use]
    pub fn on_subscribe(mut self, f: impl Fn(&mut S, &mut BrokerCx<'_>, &str) + 'static) -> Self {
        self.subscribe.push(Box::new(f));
        self
    }

    /// Runs when a channel has no interested worker any more.
    #[must_use]
    pub fn on_unsubscribe(mut self, f: impl Fn(&mut S, &mut BrokerCx<'_>, &str) + 'static) -> Self {
        self.unsubscribe.push(Box::new(f));
        self
    }

    /// Runs for each publish of a worker, when it has been routed. What the controller publishes does not count.
    #[must_use]
    pub fn on_publish(mut self, f: impl Fn(&mut S, &mut BrokerCx<'_>, &str, &Data<'_>) + 'static) -> Self {
        self.publish.push(Box::new(f));
        self
    }

    /// Answers what workers send with `cx.exchange().send` and `send_to_broker`: SC's `message` event.
    #[must_use]
    pub fn on_message(
        mut self,
        f: impl Fn(&mut S, &mut BrokerCx<'_>, &Data<'_>) -> Result<Data<'static>, ScError> + 'static,
    ) -> Self {
        self.message = Some(Box::new(f));
        self
    }

    /// Answers what the master sends: SC's `masterMessage` event.
    #[must_use]
    pub fn on_master_message(
        mut self,
        f: impl Fn(&mut S, &mut BrokerCx<'_>, &Data<'_>) -> Result<Data<'static>, ScError> + 'static,
    ) -> Self {
        self.master_message = Some(Box::new(f));
        self
    }

    /// Answers `cx.exchange().run(name, …)`, and what a worker left with `register_death_query(name, …)`. A second one of the
    /// same name takes the first one's place.
    #[must_use]
    pub fn query(
        mut self,
        name: &str,
        f: impl Fn(&mut S, &mut BrokerCx<'_>, &Data<'_>) -> Result<Data<'static>, ScError> + 'static,
    ) -> Self {
        self.queries.insert(name.into(), Box::new(f));
        self
    }
}

/// What a broker's closure may return: a [`BrokerController`], or a `Result` of one. An error is logged, and ends the broker
/// with exit code 1; the master starts it anew, later and later.
pub trait IntoBroker {
    /// The state of the controller.
    type State: 'static;

    /// The controller, or why there is none.
    ///
    /// # Errors
    /// The text for the log.
    fn into_broker(self) -> Result<BrokerController<Self::State>, String>;
}

impl<S: 'static> IntoBroker for BrokerController<S> {
    type State = S;

    fn into_broker(self) -> Result<Self, String> {
        Ok(self)
    }
}

impl<S: 'static, E: fmt::Display> IntoBroker for Result<BrokerController<S>, E> {
    type State = S;

    fn into_broker(self) -> Result<BrokerController<S>, String> {
        self.map_err(|error| error.to_string())
    }
}

/// What a handler in a broker acts through.
#[derive(Debug)]
pub struct BrokerCx<'a> {
    broker: &'a mut Broker,
    outside: &'a mut Outside,
}

/// What a broker's application sees of its process, and has for it.
#[derive(Debug)]
pub(crate) struct Outside {
    pub(crate) id: u32,
    pub(crate) at: Time,
    /// For the log.
    pub(crate) reports: Vec<Report>,
    /// For the master, as JSON.
    pub(crate) messages: Vec<String>,
}

impl BrokerCx<'_> {
    /// The broker's number, from 0.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.outside.id
    }

    /// The time in milliseconds since 1970 (UTC), as of this loop turn.
    #[must_use]
    pub const fn unix_ms(&self) -> u64 {
        self.outside.at.unix_ms
    }

    /// Publishes to everybody who is subscribed to the channel on this broker, which is all if the channel lives here and
    /// nobody if it does not. While a broker that takes the place of another waits for its workers (`on_start` is before that),
    /// it reaches those that are there.
    ///
    /// # Errors
    /// A `BrokerError`: a subscribed worker has fallen behind, or the message is too large. Then nobody gets it.
    pub fn publish(&mut self, channel: &str, data: &(impl Payload + ?Sized)) -> Result<(), ScError> {
        self.broker.publish(channel, Data::of(data)?.json())
    }

    /// Whether a worker is interested in the channel.
    #[must_use]
    pub fn is_subscribed(&self, channel: &str) -> bool {
        !self.broker.topics().subscribers(channel).is_empty()
    }

    /// How many channels workers are interested in, on this broker.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.broker.topics().channels()
    }

    /// The value under a key of this broker's data.
    ///
    /// # Errors
    /// An `InvalidArgumentsError`: it is no `T`.
    pub fn get<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<T>, ScError> {
        self.broker.store().get(key).map(|json| Data::from_json(&json).get()).transpose()
    }

    /// Puts a value in its place.
    ///
    /// # Errors
    /// The value cannot be written as JSON, or there is no room for it.
    pub fn set(&mut self, key: &Key, value: &(impl Payload + ?Sized)) -> Result<(), ScError> {
        self.broker.store_mut().set(key, Data::of(value)?.json().unwrap_or("null"))
    }

    /// Lets the value under a key go after a while.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn expire(&mut self, key: &Key, after: Duration) -> Result<(), ScError> {
        self.broker.store_mut().expire(self.outside.at.now, key, after)
    }

    /// This broker's data: its methods take and give JSON text.
    #[must_use]
    pub const fn store(&mut self) -> &mut Store {
        self.broker.store_mut()
    }

    /// Sends a message to the master: SC's `brokerMessage` event there.
    ///
    /// # Errors
    /// The data cannot be written as JSON, or is too large (128 KiB).
    pub fn send_to_master(&mut self, data: &(impl Payload + ?Sized)) -> Result<(), ScError> {
        let data = Data::of(data)?;
        let json = data.json().unwrap_or("null");
        if !(Control::Message { id: 0, json }).fits() {
            return Err(ScError::new("BrokerError", "The message is too large for the master"));
        }
        self.outside.messages.push(json.to_owned());
        Ok(())
    }

    /// Writes a line to the cluster's log.
    pub fn log(&mut self, level: Level, name: &str, message: &str) {
        self.outside.reports.push(Report { level, name: name.to_owned(), message: message.to_owned() });
    }
}

/// A controller without its type, as the loop drives it.
pub(crate) trait Application {
    /// The broker begins.
    fn start(&mut self, broker: &mut Broker, outside: &mut Outside);
    /// Something came from a worker.
    fn call(&mut self, broker: &mut Broker, outside: &mut Outside, call: BrokerCall<'_>);
    /// Something happened.
    fn event(&mut self, broker: &mut Broker, outside: &mut Outside, event: &BrokerEvent);
    /// The master has sent a message.
    fn master_message(
        &mut self,
        broker: &mut Broker,
        outside: &mut Outside,
        json: &str,
    ) -> Result<Data<'static>, ScError>;
}

impl<S> BrokerController<S> {
    /// Runs a handler, whose panic is reported.
    fn guard<R>(
        &mut self,
        broker: &mut Broker,
        outside: &mut Outside,
        place: &str,
        f: impl FnOnce(&mut Self, &mut BrokerCx<'_>) -> R,
    ) -> Option<R> {
        let run = AssertUnwindSafe(|| f(self, &mut BrokerCx { broker, outside: &mut *outside }));
        catch_unwind(run)
            .map_err(|panic| {
                let message = format!("{place} of the broker controller panicked: {}", text_of(&*panic));
                outside.reports.push(Report { level: Level::Error, name: "PanicError".to_owned(), message });
            })
            .ok()
    }

    fn run(
        &mut self,
        broker: &mut Broker,
        outside: &mut Outside,
        name: &str,
        data: Option<&str>,
    ) -> Result<Data<'static>, ScError> {
        let data = data.map_or_else(Data::absent, Data::from_json);
        let ran = self.guard(broker, outside, "a query", |controller, cx| {
            let query = controller.queries.get(name)?;
            Some(query(&mut controller.state, cx, &data))
        });
        match ran {
            None => Err(ScError::internal()),
            Some(None) => Err(ScError::new("BrokerError", format!("The broker has no query named {name:?}"))),
            Some(Some(answer)) => answer,
        }
    }
}

impl<S> Application for BrokerController<S> {
    fn start(&mut self, broker: &mut Broker, outside: &mut Outside) {
        self.guard(broker, outside, "on_start", |controller, cx| {
            controller.start.iter().for_each(|f| f(&mut controller.state, cx));
        });
    }

    fn call(&mut self, broker: &mut Broker, outside: &mut Outside, call: BrokerCall<'_>) {
        match call {
            BrokerCall::Published { channel, data } => {
                if self.publish.is_empty() {
                    return;
                }
                let data = data.map_or_else(Data::absent, Data::from_json);
                self.guard(broker, outside, "on_publish", |controller, cx| {
                    controller.publish.iter().for_each(|f| f(&mut controller.state, cx, channel, &data));
                });
            }
            BrokerCall::Run { call, query, data } => {
                let answer = self.run(broker, outside, query, data);
                broker.answer(call, answer.as_ref().map(Data::json));
            }
            BrokerCall::Send { call, data } => {
                let data = data.map_or_else(Data::absent, Data::from_json);
                let answer = self.guard(broker, outside, "on_message", |controller, cx| match &controller.message {
                    Some(f) => f(&mut controller.state, cx, &data),
                    None => Err(ScError::new("BrokerError", "The broker controller takes no messages")),
                });
                let answer = answer.unwrap_or_else(|| Err(ScError::internal()));
                broker.answer(call, answer.as_ref().map(Data::json));
            }
            _ => {}
        }
    }

    fn event(&mut self, broker: &mut Broker, outside: &mut Outside, event: &BrokerEvent) {
        match event {
            BrokerEvent::Subscribe { channel } => {
                self.guard(broker, outside, "on_subscribe", |controller, cx| {
                    controller.subscribe.iter().for_each(|f| f(&mut controller.state, cx, channel));
                });
            }
            BrokerEvent::Unsubscribe { channel } => {
                self.guard(broker, outside, "on_unsubscribe", |controller, cx| {
                    controller.unsubscribe.iter().for_each(|f| f(&mut controller.state, cx, channel));
                });
            }
            BrokerEvent::Death { worker, query, data } => {
                if let Err(error) = self.run(broker, outside, query, data.as_deref()) {
                    let message = format!("the query {query:?} that worker {worker} left for its end: {error}");
                    let name = error.name().unwrap_or("Error").to_owned();
                    outside.reports.push(Report { level: Level::Warning, name, message });
                }
            }
            _ => {}
        }
    }

    fn master_message(
        &mut self,
        broker: &mut Broker,
        outside: &mut Outside,
        json: &str,
    ) -> Result<Data<'static>, ScError> {
        let data = Data::from_json(json);
        let answer = self.guard(broker, outside, "on_master_message", |controller, cx| {
            let f = controller.master_message.as_ref()?;
            Some(f(&mut controller.state, cx, &data))
        });
        match answer {
            None => Err(ScError::internal()),
            Some(None) => Err(ScError::new("BrokerError", "The broker controller takes no messages of the master")),
            Some(Some(answer)) => answer,
        }
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("unknown panic")
}
