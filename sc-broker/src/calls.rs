//! What a broker does besides channels: the shared data, and what its application has to say.

use std::time::{Duration, Instant};

use sc_protocol::ipc::{CallKind, LinkMsg};
use sc_protocol::json::{self, Kind};
use sc_protocol::limits::LINK_MESSAGE_MAX;
use sc_protocol::sc_error::ScError;

use crate::broker::{Broker, CallId};
use crate::error::{invalid, over_limit};
use crate::limits::FRAMING;
use crate::store::{Key, Store};

impl Broker {
    /// Answers a [`BrokerCall`](crate::BrokerCall) with raw JSON text, with nothing (JavaScript's `undefined`), or with an
    /// error. An answer to a link that has ended meanwhile goes nowhere.
    pub fn answer(&mut self, call: CallId, result: Result<Option<&str>, &ScError>) {
        let CallId { link, cid } = call;
        if !self.links.contains(link as usize) {
            return;
        }
        match result {
            Ok(data)
                if data.is_some_and(|data| data.len() > self.store.answer_max().min(LINK_MESSAGE_MAX - FRAMING)) =>
            {
                let max = self.store.answer_max();
                self.refuse(link, cid, &over_limit("The answer is too large", "store_answer_max", max));
            }
            Ok(data) => self.reply(link, &LinkMsg::Answer { cid, data }),
            Err(error) => self.refuse(link, cid, error),
        }
    }

    /// The shared data of this broker.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The shared data of this broker, to be changed.
    #[must_use]
    pub const fn store_mut(&mut self) -> &mut Store {
        &mut self.store
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.store.poll_timeout()
    }

    /// Lets shared data go whose time is over.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.store.handle_timeout(now);
    }

    /// A call that the broker serves itself. One that comes while its answers have no room is refused, and not done.
    pub(crate) fn data_call(&mut self, now: Instant, call: CallId, what: CallKind, key: &str, data: Option<&str>) {
        let max = self.limits.link_bytes_max;
        if self.links[call.link as usize].outbox.len() > max {
            let error = over_limit("The answers are not read", "brokerLinkLimit", max);
            return self.refuse(call.link, call.cid, &error);
        }
        if what == CallKind::OnDeath {
            let (length, most) = (key.len() + data.map_or(0, str::len), self.limits.death_bytes_max);
            if length > most {
                let error = over_limit("The query for the end is too large", "death_bytes_max", most);
                return self.refuse(call.link, call.cid, &error);
            }
            self.links[call.link as usize].death = Some((key.into(), data.map(Box::from)));
            return self.answer(call, Ok(None));
        }
        match serve(&mut self.store, now, what, key, data) {
            Ok(answer) => self.answer(call, Ok(answer.as_deref())),
            Err(error) => self.answer(call, Err(&error)),
        }
    }
}

/// Carries out a call on the shared data.
fn serve(
    store: &mut Store,
    now: Instant,
    what: CallKind,
    key: &str,
    data: Option<&str>,
) -> Result<Option<String>, ScError> {
    match what {
        CallKind::GetAll => return Ok(Some(store.get_all())),
        CallKind::RemoveAll => {
            store.remove_all();
            return Ok(None);
        }
        _ => {}
    }
    let key = Key::parse(key)?;
    let value = || data.ok_or_else(|| invalid("There is no value"));
    Ok(match what {
        CallKind::Get => store.get(&key),
        CallKind::Count => Some(store.count(&key)?.to_string()),
        CallKind::HasKey => Some(store.has_key(&key).to_string()),
        CallKind::GetRange => {
            let (from, to) = range(data)?;
            Some(store.get_range(&key, &from, to.as_deref())?)
        }
        CallKind::GetExpiry => store.get_expiry(now, &key).map(|left| left.as_millis().to_string()),
        CallKind::Set => none(store.set(&key, value()?)?),
        CallKind::Add => Some(store.add(&key, value()?)?.to_string()),
        CallKind::Concat => none(store.concat(&key, value()?)?),
        CallKind::Remove => store.remove(&key)?,
        CallKind::RemoveRange => {
            let (from, to) = range(data)?;
            Some(store.remove_range(&key, &from, to.as_deref())?)
        }
        CallKind::Splice => Some(splice(store, &key, data)?),
        CallKind::Pop => Some(store.pop(&key)?),
        CallKind::Expire => none(store.expire(now, &key, duration(value()?)?)?),
        CallKind::Unexpire => {
            store.unexpire(&key);
            None
        }
        CallKind::GetAll | CallKind::RemoveAll | CallKind::Run | CallKind::OnDeath | CallKind::Send => None,
    })
}

const fn none((): ()) -> Option<String> {
    None
}

/// `[from,to]`; an edge is a string or a number.
fn range(data: Option<&str>) -> Result<(String, Option<String>), ScError> {
    let wrong = || invalid("A range has one or two edges, numbers or strings");
    let mut edges = data.and_then(json::array).ok_or_else(wrong)?;
    let from = edges.next().and_then(edge).ok_or_else(wrong)?;
    let to = match edges.next() {
        None | Some("null") => None,
        Some(to) => Some(edge(to).ok_or_else(wrong)?),
    };
    Ok((from, to))
}

fn edge(token: &str) -> Option<String> {
    match json::kind(token) {
        Kind::String => json::string(token).map(Into::into),
        Kind::Number => Some(token.to_owned()),
        _ => None,
    }
}

/// `[index,count,items…]`.
fn splice(store: &mut Store, key: &Key, data: Option<&str>) -> Result<String, ScError> {
    let mut parts = data.and_then(json::array).ok_or_else(|| invalid("Splice takes an index, a count and items"))?;
    let mut number = || match parts.next() {
        None | Some("null") => Ok(None),
        Some(token) => token.parse().map(Some).map_err(|_| invalid("Splice takes whole numbers")),
    };
    let (index, count) = (number()?, number()?);
    let items: Vec<&str> = parts.collect();
    store.splice(key, index, count, &items)
}

fn duration(token: &str) -> Result<Duration, ScError> {
    token.parse().map(Duration::from_millis).map_err(|_| invalid("A time to live is a whole number of milliseconds"))
}

impl Broker {
    /// Sends a message of the application's code in the broker to everybody subscribed to the channel here. It takes its
    /// place in the channel's order, and is nobody's [`Published`](crate::BrokerCall::Published).
    ///
    /// A channel that lives on another broker has no subscribers here.
    ///
    /// # Errors
    /// A `BrokerError`: a subscribed worker has fallen behind, or the message is too large. Then nobody gets it.
    pub fn publish(&mut self, channel: &str, data: Option<&str>) -> Result<(), ScError> {
        let need = FRAMING + channel.len() + data.map_or(0, str::len);
        if need > self.limits.link_bytes_max.min(LINK_MESSAGE_MAX) {
            return Err(over_limit("The message is too large", "brokerLinkLimit", self.limits.link_bytes_max));
        }
        let receivers = self.topics().subscribers(channel).to_vec();
        let max = self.limits.link_bytes_max;
        if receivers.iter().any(|&receiver| self.links[receiver as usize].outbox.len() + need > max) {
            return Err(over_limit("A subscribed worker has fallen behind", "brokerLinkLimit", max));
        }
        for receiver in receivers {
            self.reply(receiver, &LinkMsg::Deliver { channel, data });
        }
        Ok(())
    }
}
