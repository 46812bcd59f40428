//! What a handler asks of the brokers besides channels: the data that all workers share, and the application's own code in
//! the brokers.

use std::collections::BTreeMap;
use std::ops::{Range, RangeFrom};
use std::time::Duration;

use sc_broker::{Key, Mapper};
use sc_protocol::ipc::CallKind;
use sc_protocol::{ScError, json};

use crate::core::{Core, Task};
use crate::cx::Cx;
use crate::data::{Data, Payload};
use crate::output::TicketId;
use crate::reply::{Outcome, Ticket};
use crate::tickets::{Awaits, erase};
use crate::timers::Timer;

impl<S, P> Cx<'_, S, P> {
    /// The brokers as SC's exchange: data that all workers share, and messages to the application's code there.
    ///
    /// ```
    /// use sc_server::{Reply, Worker};
    ///
    /// let worker = Worker::new(()).on("visit", |_state, cx, request| {
    ///     let name: String = request.data()?;
    ///     cx.exchange()
    ///         .add("visitors", &name)
    ///         .then(|_state, _cx, number| Reply::data(number? + 1))
    ///         .into()
    /// });
    /// # let _ = worker;
    /// ```
    pub fn exchange(&mut self) -> Shared<'_, S, P> {
        Shared { core: self.core }
    }
}

/// The brokers, from [`Cx::exchange`]. The methods for data are those of SC's exchange (sc-broker 5.1). Each makes a [`Call`], which
/// goes out when it is said what to do with the answer.
///
/// A [`Key`] is a name, or several that lead into a value: `"a"`, `["a", "b"]`, `Key::from("list").at(3)`. Which broker keeps it
/// depends on its first name. What a handler asks of one broker is done in the order in which it asks, and in order with
/// what it publishes on that broker's channels.
///
/// **The data is in the memory of the brokers**: what a broker keeps is lost when its process ends. A call that was on its way then
/// fails with a `BrokerError`; later ones wait for the next broker, for `ackTimeout` at most, then the answer is a
/// `TimeoutError`. In both cases the call may have been carried out, or may be yet.
pub struct Shared<'c, S, P> {
    core: &'c mut Core<S, P>,
}

impl<S, P> std::fmt::Debug for Shared<'_, S, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("brokers", &self.brokers()).finish_non_exhaustive()
    }
}

impl<'c, S, P> Shared<'c, S, P> {
    /// How many brokers there are.
    pub fn brokers(&self) -> u32 {
        self.core.exchange.brokers()
    }

    /// The broker that carries a channel.
    pub fn broker_of(&self, channel: &str) -> u32 {
        self.core.exchange.shard_of(channel)
    }

    /// Says which broker carries which channel and keeps which key: SC's `setMapper`. Call it in
    /// [`on_start`](crate::Worker::on_start), the same in every worker. Error: the exchange is in use already.
    pub fn set_mapper(&mut self, mapper: Mapper) -> Result<(), ScError> {
        self.core.exchange.set_mapper(mapper)
    }

    /// The value under a key; absent if there is none.
    pub fn get(self, key: impl Into<Key>) -> Call<'c, S, P, Data<'static>> {
        self.on_key(CallKind::Get, key, Ok(None), same)
    }

    /// The elements of a list (`1..3`, `1..`), or the members of an object from one name up to another (`"a".."c"`).
    pub fn get_range(self, key: impl Into<Key>, span: impl Into<Span>) -> Call<'c, S, P, Data<'static>> {
        let data = Ok(Some(span.into().to_json()));
        self.on_key(CallKind::GetRange, key, data, same)
    }

    /// Everything that all brokers keep, as one object.
    pub fn get_all(self) -> Call<'c, S, P, Data<'static>> {
        self.on_all(CallKind::GetAll, Ok(None), same)
    }

    /// How many elements or members a value has; 1 for a scalar, 0 for what JavaScript takes for false, and for nothing.
    pub fn count(self, key: impl Into<Key>) -> Call<'c, S, P, u64> {
        self.on_key(CallKind::Count, key, Ok(None), |data, _| data.get())
    }

    /// Whether there is a value under a key.
    pub fn has_key(self, key: impl Into<Key>) -> Call<'c, S, P, bool> {
        self.on_key(CallKind::HasKey, key, Ok(None), |data, _| data.get())
    }

    /// Puts a value in its place.
    pub fn set(self, key: impl Into<Key>, value: &(impl Payload + ?Sized)) -> Call<'c, S, P, ()> {
        self.on_key(CallKind::Set, key, text(value), nothing)
    }

    /// Puts a value behind a list, and answers its index.
    pub fn add(self, key: impl Into<Key>, value: &(impl Payload + ?Sized)) -> Call<'c, S, P, u64> {
        self.on_key(CallKind::Add, key, text(value), |data, _| data.get())
    }

    /// Puts the elements of a list behind a list, or the members of an object among those of an object.
    pub fn concat(self, key: impl Into<Key>, values: &(impl Payload + ?Sized)) -> Call<'c, S, P, ()> {
        self.on_key(CallKind::Concat, key, text(values), nothing)
    }

    /// Takes a value out, and answers it.
    pub fn remove(self, key: impl Into<Key>) -> Call<'c, S, P, Data<'static>> {
        self.on_key(CallKind::Remove, key, Ok(None), same)
    }

    /// Takes out what [`get_range`](Self::get_range) answers, and answers it.
    pub fn remove_range(self, key: impl Into<Key>, span: impl Into<Span>) -> Call<'c, S, P, Data<'static>> {
        let data = Ok(Some(span.into().to_json()));
        self.on_key(CallKind::RemoveRange, key, data, same)
    }

    /// Takes everything out of all brokers.
    pub fn remove_all(self) -> Call<'c, S, P, ()> {
        self.on_all(CallKind::RemoveAll, Ok(None), nothing)
    }

    /// JavaScript's `splice` on a list: `count` elements from `index` on (from the end, if it is negative) give way to `items`, a
    /// list, maybe an empty one. Answers a list of what was removed.
    pub fn splice(
        self,
        key: impl Into<Key>,
        index: i64,
        count: u32,
        items: &(impl Payload + ?Sized),
    ) -> Call<'c, S, P, Data<'static>> {
        let data = text(items).map(|items| {
            let items = items.unwrap_or_default();
            let inner = items.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or_default();
            let comma = if inner.trim().is_empty() { "" } else { "," };
            Some(format!("[{index},{count}{comma}{inner}]"))
        });
        self.on_key(CallKind::Splice, key, data, same)
    }

    /// Takes the last element out of a list, and answers a list of it.
    pub fn pop(self, key: impl Into<Key>) -> Call<'c, S, P, Data<'static>> {
        self.on_key(CallKind::Pop, key, Ok(None), same)
    }

    /// Lets the value under a key go after a while. It is for the key: a value that is put there meanwhile goes as well.
    pub fn expire(self, key: impl Into<Key>, after: Duration) -> Call<'c, S, P, ()> {
        let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        self.on_key(CallKind::Expire, key, Ok(Some(ms.to_string())), nothing)
    }

    /// Lets the value under a key stay after all.
    pub fn unexpire(self, key: impl Into<Key>) -> Call<'c, S, P, ()> {
        self.on_key(CallKind::Unexpire, key, Ok(None), nothing)
    }

    /// When the value under a key goes: in seconds since 1970, rounded, as SC answers it. `None`: it stays.
    pub fn get_expiry(self, key: impl Into<Key>) -> Call<'c, S, P, Option<u64>> {
        self.on_key(CallKind::GetExpiry, key, Ok(None), |data, unix_ms| {
            let left: Option<u64> = data.get()?;
            Ok(left.map(|left| unix_ms.saturating_add(left).saturating_add(500) / 1000))
        })
    }

    /// Runs a query that the application has in its broker controller, at the broker that keeps `key`. SC's `run` ships the
    /// JavaScript of the query; here it is named.
    pub fn run(
        self,
        query: &str,
        key: impl Into<Key>,
        data: &(impl Payload + ?Sized),
    ) -> Call<'c, S, P, Data<'static>> {
        let to = To::One(self.core.exchange.shard_of_key(&key.into()));
        self.call(to, CallKind::Run, Ok(query.to_owned()), text(data), same)
    }

    /// Has a query run when this worker ends, however that comes, at the broker that keeps `key`. The last one per broker counts.
    /// It is to be said again when the broker has been replaced.
    pub fn register_death_query(
        self,
        query: &str,
        key: impl Into<Key>,
        data: &(impl Payload + ?Sized),
    ) -> Call<'c, S, P, ()> {
        let to = To::One(self.core.exchange.shard_of_key(&key.into()));
        self.call(to, CallKind::OnDeath, Ok(query.to_owned()), text(data), nothing)
    }

    /// Sends a message to the application's code in one broker, and answers what that says: SC's `sendToBroker`.
    pub fn send_to_broker(self, broker: u32, data: &(impl Payload + ?Sized)) -> Call<'c, S, P, Data<'static>> {
        self.call(To::One(broker), CallKind::Send, Ok(String::new()), text(data), same)
    }

    /// Sends a message to the application's code in all brokers, and answers a list of what they say, in their order.
    pub fn send(self, data: &(impl Payload + ?Sized)) -> Call<'c, S, P, Data<'static>> {
        self.on_all(CallKind::Send, text(data), same)
    }

    fn on_key<T>(self, what: CallKind, key: impl Into<Key>, data: Text, read: Read<T>) -> Call<'c, S, P, T> {
        let key = key.into();
        let to = To::One(self.core.exchange.shard_of_key(&key));
        let key = key.check().map(|()| key.to_json());
        self.call(to, what, key, data, read)
    }

    fn on_all<T>(self, what: CallKind, data: Text, read: Read<T>) -> Call<'c, S, P, T> {
        self.call(To::All, what, Ok(String::new()), data, read)
    }

    fn call<T>(
        self,
        to: To,
        what: CallKind,
        key: Result<String, ScError>,
        data: Text,
        read: Read<T>,
    ) -> Call<'c, S, P, T> {
        Call { core: self.core, to, what, key, data, read }
    }
}

/// JSON text, none, or why it could not be written.
type Text = Result<Option<String>, ScError>;

/// Makes an answer of data, and the time in milliseconds since 1970.
type Read<T> = fn(Data<'static>, u64) -> Result<T, ScError>;

#[derive(Debug, Clone, Copy)]
enum To {
    One(u32),
    All,
}

const fn same(data: Data<'static>, _: u64) -> Result<Data<'static>, ScError> {
    Ok(data)
}

fn nothing(_: Data<'static>, _: u64) -> Result<(), ScError> {
    Ok(())
}

fn text(value: &(impl Payload + ?Sized)) -> Text {
    Ok(Data::of(value)?.json().map(str::to_owned))
}

/// Part of a list or an object: from a first index or name up to another, which is left out, or to the end.
///
/// ```
/// use sc_server::Span;
///
/// let _: [Span; 3] = [(1..3).into(), (1..).into(), ("a".."c").into()];
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    from: String,
    to: Option<String>,
}

impl Span {
    fn to_json(&self) -> String {
        serde_json::json!([self.from, self.to]).to_string()
    }
}

impl<T: ToString> From<Range<T>> for Span {
    fn from(range: Range<T>) -> Self {
        Self { from: range.start.to_string(), to: Some(range.end.to_string()) }
    }
}

impl<T: ToString> From<RangeFrom<T>> for Span {
    fn from(range: RangeFrom<T>) -> Self {
        Self { from: range.start.to_string(), to: None }
    }
}

/// Something to be asked of the brokers. It goes out with [`then`](Self::then) or [`forget`](Self::forget).
#[must_use = "nothing is asked before `then` or `forget`"]
pub struct Call<'c, S, P, T> {
    core: &'c mut Core<S, P>,
    to: To,
    what: CallKind,
    key: Result<String, ScError>,
    data: Text,
    read: Read<T>,
}

impl<S, P, T> std::fmt::Debug for Call<'_, S, P, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("what", &self.what).field("key", &self.key).finish_non_exhaustive()
    }
}

impl<S, P, T: 'static> Call<'_, S, P, T> {
    /// Asks, and runs `then` with the answer: a value, the error of the broker or of the application's code there, a
    /// `BrokerError` if it could not be asked or its link broke, or a `TimeoutError` after `ackTimeout`. Return the ticket from
    /// the handler, and the answer or verdict is what `then` gives.
    pub fn then<R: Outcome>(
        self,
        then: impl FnOnce(&mut S, &mut Cx<'_, S, P>, Result<T, ScError>) -> R + Send + 'static,
    ) -> Ticket<R>
    where
        S: 'static,
        P: 'static,
    {
        let Self { core, to, what, key, data, read } = self;
        let id = core.tickets.reserve();
        let timer = core.later(core.config.ack_timeout, Timer::Ticket(id));
        let resume = move |state: &mut S, cx: &mut Cx<'_, S, P>, answer: Result<Data<'static>, ScError>| {
            let unix_ms = cx.unix_ms();
            then(state, cx, answer.and_then(|data| read(data, unix_ms)))
        };
        core.tickets.insert(id, Awaits::Broker, Some(timer), erase(resume));
        if let Err(error) = core.ask_brokers(to, what, key, data, Some(id)) {
            core.tasks.push_back(Task::Answered(id, Err(error)));
        }
        Ticket::new(id)
    }

    /// Asks, and does not wait for the answer. Error: it could not be asked.
    pub fn forget(self) -> Result<(), ScError> {
        let Self { core, to, what, key, data, .. } = self;
        core.ask_brokers(to, what, key, data, None)
    }
}

/// Answers of all brokers to one call, which come one by one.
#[derive(Debug, Default)]
pub(crate) struct Gathers {
    /// The call that a part belongs to, and the part's place.
    parts: BTreeMap<u64, (TicketId, usize)>,
    calls: BTreeMap<TicketId, Gather>,
}

#[derive(Debug)]
struct Gather {
    what: CallKind,
    left: usize,
    answers: Vec<Option<String>>,
    error: Option<ScError>,
}

impl Gathers {
    /// What the answer with that number leads to: an answer for a ticket, or nothing yet.
    fn take(&mut self, number: u64, answer: Answered) -> Option<(TicketId, Answered)> {
        let Some((ticket, place)) = self.parts.remove(&number) else { return Some((TicketId(number), answer)) };
        let gather = self.calls.get_mut(&ticket)?;
        gather.left -= 1;
        match answer {
            Ok(data) => gather.answers[place] = data.json().map(str::to_owned),
            Err(error) => gather.error = Some(error),
        }
        if gather.left > 0 {
            return None;
        }
        let Gather { what, answers, error, .. } = self.calls.remove(&ticket)?;
        Some((ticket, error.map_or_else(|| Ok(joined(what, &answers)), Err)))
    }
}

type Answered = Result<Data<'static>, ScError>;

/// The answers of all brokers as one.
fn joined(what: CallKind, answers: &[Option<String>]) -> Data<'static> {
    let joined = match what {
        CallKind::GetAll => {
            let mut members = Vec::new();
            for answer in answers.iter().flatten() {
                json::for_each_member(answer, |name, value| members.push(format!("{name}:{value}")));
            }
            format!("{{{}}}", members.join(","))
        }
        CallKind::Send => {
            let answers: Vec<&str> = answers.iter().map(|answer| answer.as_deref().unwrap_or("null")).collect();
            format!("[{}]", answers.join(","))
        }
        _ => return Data::absent(),
    };
    Data::from_json(&joined).into_owned()
}

impl<S, P> Core<S, P> {
    fn ask_brokers(
        &mut self,
        to: To,
        what: CallKind,
        key: Result<String, ScError>,
        data: Text,
        ticket: Option<TicketId>,
    ) -> Result<(), ScError> {
        let (key, data) = (key?, data?);
        let brokers = match to {
            To::One(broker) => {
                // No ticket has the number 0.
                let number = ticket.map_or(0, |ticket| ticket.0);
                return self.exchange.call(broker, what, &key, data.as_deref(), number);
            }
            To::All => self.exchange.brokers(),
        };
        let mut gather = Gather { what, left: 0, answers: vec![None; brokers as usize], error: None };
        for broker in 0..brokers {
            let number = if ticket.is_some() { self.tickets.reserve().0 } else { 0 };
            match self.exchange.call(broker, what, &key, data.as_deref(), number) {
                Ok(()) => {
                    gather.left += 1;
                    if let Some(ticket) = ticket {
                        self.gathers.parts.insert(number, (ticket, broker as usize));
                    }
                }
                Err(error) => gather.error = Some(error),
            }
        }
        match (ticket, gather.left) {
            (None, _) | (_, 0) => gather.error.map_or(Ok(()), Err),
            (Some(ticket), _) => {
                self.gathers.calls.insert(ticket, gather);
                Ok(())
            }
        }
    }

    /// A broker has answered a call, or will not.
    pub(crate) fn broker_answered(&mut self, number: u64, answer: Answered) {
        if let Some((ticket, answer)) = self.gathers.take(number, answer) {
            self.tasks.push_back(Task::Answered(ticket, answer));
        }
    }
}
