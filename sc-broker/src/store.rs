//! The data that all workers share: SC's exchange as a key-value store, for one broker.

use std::time::{Duration, Instant};

use sc_protocol::json::{self, Kind};
use sc_protocol::sc_error::ScError;

use crate::error::{invalid, over_limit};
use crate::limits::StoreLimits;

mod expiry;
mod key;
mod tree;

use expiry::Expiries;
pub use key::Key;
use tree::{Branch, Change, Found, Node, VALUE_COST, children, index, is_container, is_falsy};

/// What one broker keeps of the shared data.
///
/// Values are JSON text; a [`Key`] leads through objects and lists. The methods do what those of the same names do in
/// sc-broker 5.1 (its map is fleximap 0.9, its ends are those of expirymanager 0.9), oddities included: what is set
/// inside nothing, or inside a scalar, makes objects; an element that is removed leaves a hole, so that the list reads as
/// an object; a key's end outlives its value. Where `undefined` comes out there, here it is `None`.
///
/// All of it lives in this broker's memory: when the process ends, it is lost.
///
/// ```
/// use sc_broker::{Key, Store, StoreLimits};
///
/// let mut store = Store::new(StoreLimits::default());
/// let rooms = Key::from(["chat", "rooms"]);
/// store.set(&rooms, r#"["lobby"]"#)?;
/// assert_eq!(store.add(&rooms, r#""attic""#)?, 1);
/// assert_eq!(store.get(&Key::from("chat")).as_deref(), Some(r#"{"rooms":["lobby","attic"]}"#));
/// assert_eq!(store.pop(&rooms)?, r#"["attic"]"#);
/// assert_eq!(store.count(&rooms)?, 1);
/// # Ok::<(), sc_protocol::ScError>(())
/// ```
#[derive(Debug)]
pub struct Store {
    limits: StoreLimits,
    root: Branch,
    /// [`Branch::size`] of the root.
    bytes: usize,
    expiries: Expiries,
}

impl Store {
    /// A store with nothing in it.
    #[must_use]
    pub fn new(limits: StoreLimits) -> Self {
        Self { limits, root: Branch::object(), bytes: 0, expiries: Expiries::default() }
    }

    /// Bytes of all names and values, and 96 for each value that has been taken apart or set on its own: what
    /// [`StoreLimits::store_bytes_max`] bounds.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes + self.expiries.bytes()
    }

    /// The value, as JSON text.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<String> {
        self.find(key).map(text_of)
    }

    /// Everything, as one object.
    #[must_use]
    pub fn get_all(&self) -> String {
        text_of(Found::Branch(&self.root))
    }

    /// Whether there is a value; `null` is one.
    #[must_use]
    pub fn has_key(&self, key: &Key) -> bool {
        self.find(key).is_some()
    }

    /// How many values a list or an object has; 1 for another value, but 0 for what JavaScript takes for false, and where
    /// there is none.
    ///
    /// # Errors
    /// The value cannot be looked into within [`StoreLimits::store_bytes_max`].
    pub fn count(&self, key: &Key) -> Result<u64, ScError> {
        let Some(found) = self.find(key) else { return Ok(0) };
        self.look_into(found)?;
        Ok(found.count())
    }

    /// The elements of a list from one index up to, without, another; or the members of an object from one name up to,
    /// without, another. `to` may be left out. Everything else has none: `{}`.
    ///
    /// # Errors
    /// As [`count`](Self::count).
    pub fn get_range(&self, key: &Key, from: &str, to: Option<&str>) -> Result<String, ScError> {
        let mut out = String::new();
        let Some(found) = self.find(key).filter(|found| found.is_container()) else { return Ok("{}".to_owned()) };
        self.look_into(found)?;
        let parsed;
        let branch = match found {
            Found::Branch(branch) => branch,
            Found::Text(text) => {
                parsed = Branch::parse(text).unwrap_or_default();
                &parsed
            }
        };
        if branch.is_list() {
            let (start, count) = list_range(branch, from, to);
            tree::write_list(&mut out, branch.elements(start, count));
        } else {
            let entries = branch.entries().skip_while(|(name, _)| name != from);
            tree::write_object(&mut out, entries.take_while(|(name, _)| to.is_none_or(|to| name != to)));
        }
        Ok(out)
    }

    /// Puts a value in its place.
    ///
    /// # Errors
    /// An `InvalidArgumentsError` if the value is no JSON, a `BrokerError` if there is no room for it.
    pub fn set(&mut self, key: &Key, value: &str) -> Result<(), ScError> {
        let value = checked(value)?;
        key.check()?;
        let path = key.bytes() + key.names().len() * VALUE_COST;
        let room = self.reserve(path + value.len(), self.find(key).map_or(0, Found::size))?;
        let Some((last, steps)) = key.names().split_last() else { return Ok(()) };
        if let Some(branch) = branch_at(&mut self.root, &mut self.bytes, room, steps, true)? {
            let change = branch.set(last, Node::text(value));
            self.apply(&change);
        }
        Ok(())
    }

    /// Puts a value behind a list, and answers its index. What is no list becomes the first element of one; in an object
    /// the value gets the next free index.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn add(&mut self, key: &Key, value: &str) -> Result<u64, ScError> {
        let value = checked(value)?;
        match self.find(key) {
            None | Some(Found::Text("null")) => self.set(key, &format!("[{value}]")).map(|()| 0),
            Some(Found::Text(scalar)) if !is_container(scalar) => {
                let list = format!("[{scalar},{value}]");
                self.set(key, &list).map(|()| 1)
            }
            Some(_) => {
                let room = self.reserve(VALUE_COST + value.len(), 0)?;
                let branch = branch_at(&mut self.root, &mut self.bytes, room, key.names(), false)?;
                let Some(branch) = branch else { return Ok(0) };
                let index = branch.length();
                let change = branch.set(&index.to_string(), Node::text(value));
                self.apply(&change);
                Ok(u64::from(index))
            }
        }
    }

    /// Puts the elements of a list behind a list, or the members of an object among those of an object. Another value counts
    /// as a list of one, and nothing (or what JavaScript takes for nothing) as an empty list.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn concat(&mut self, key: &Key, value: &str) -> Result<(), ScError> {
        let value = checked(value)?;
        let wrapped;
        let more = if is_container(value) {
            value
        } else {
            wrapped = format!("[{value}]");
            &wrapped
        };
        match self.find(key) {
            None => return self.set(key, more),
            Some(Found::Text(scalar)) if !is_container(scalar) => {
                if is_falsy(scalar) {
                    return self.set(key, more);
                }
                let list = match json::kind(more) {
                    Kind::Array if children(more) == 0 => format!("[{scalar}]"),
                    Kind::Array => format!("[{scalar},{}", &more[1..]),
                    _ => format!("[{scalar},{more}]"),
                };
                return self.set(key, &list);
            }
            Some(_) => {}
        }
        let room = self.reserve(more.len() + children(more) * VALUE_COST, 0)?;
        let Some(branch) = branch_at(&mut self.root, &mut self.bytes, room, key.names(), false)? else { return Ok(()) };
        let mut total = Change::default();
        let mut put = |branch: &mut Branch, name: &str, value: &str| {
            let change = branch.set(name, Node::text(value));
            total.added += change.added;
            total.freed += change.freed;
        };
        if let Some(list) = json::array(more) {
            for (index, value) in (u64::from(branch.length())..).zip(list) {
                put(branch, &index.to_string(), value);
            }
        } else {
            json::for_each_member(more, |name, value| put(branch, &json::string(name).unwrap_or_default(), value));
        }
        self.apply(&total);
        Ok(())
    }

    /// Takes a value out, and answers it. In a list it leaves a hole.
    ///
    /// # Errors
    /// Its parent cannot be looked into, or the answer would be too large: then nothing has been removed.
    pub fn remove(&mut self, key: &Key) -> Result<Option<String>, ScError> {
        let Some(text) = self.get(key) else { return Ok(None) };
        self.answerable(text.len())?;
        self.forget(key)?;
        Ok(Some(text))
    }

    /// Takes out what [`get_range`](Self::get_range) answers, and answers it.
    ///
    /// # Errors
    /// As [`remove`](Self::remove).
    pub fn remove_range(&mut self, key: &Key, from: &str, to: Option<&str>) -> Result<String, ScError> {
        let text = self.get_range(key, from, to)?;
        self.answerable(text.len())?;
        let room = self.reserve(0, 0)?;
        let Some(branch) = branch_at(&mut self.root, &mut self.bytes, room, key.names(), false)? else {
            return Ok(text);
        };
        let mut total = Change::default();
        let is_list = branch.is_list();
        if is_list {
            let (start, count) = list_range(branch, from, to);
            total = branch.splice(start, count, Vec::new());
        } else {
            for name in range_names(branch, from, to) {
                total.freed += branch.remove(&name).freed;
            }
        }
        branch.rebuild(is_list);
        self.apply(&total);
        Ok(text)
    }

    /// Takes everything out. Ends stay: they are for keys, not for values.
    pub fn remove_all(&mut self) {
        self.root = Branch::object();
        self.bytes = 0;
    }

    /// `Array.prototype.splice` on a list, or on the elements of an object: `count` elements from `index` on (from the end, if
    /// it is negative) give way to `items`. Answers a list of what was removed; of what is no list, an empty one.
    ///
    /// Without `count`, all that follow `index` are removed if there are no `items`, and none if there are.
    ///
    /// # Errors
    /// As [`set`](Self::set) and [`remove`](Self::remove).
    pub fn splice(
        &mut self,
        key: &Key,
        index: Option<i64>,
        count: Option<i64>,
        items: &[&str],
    ) -> Result<String, ScError> {
        let items = items.iter().map(|item| checked(item)).collect::<Result<Vec<_>, _>>()?;
        let room = self.reserve(items.iter().map(|item| VALUE_COST + item.len()).sum(), 0)?;
        let answer_max = self.limits.store_answer_max;
        let Some(branch) = branch_at(&mut self.root, &mut self.bytes, room, key.names(), false)? else {
            return Ok("[]".to_owned());
        };
        let length = i64::from(branch.length());
        let start = match index.unwrap_or(0) {
            back if back < 0 => length.saturating_add(back).max(0),
            start => start.min(length),
        };
        let rest = length - start;
        let delete = match (index, count) {
            (_, Some(count)) => count.clamp(0, rest),
            (Some(_), None) if items.is_empty() => rest,
            _ => 0,
        };
        if length - delete + items.len() as i64 >= i64::from(u32::MAX) {
            return Err(invalid("Invalid array length"));
        }
        let (start, delete) = (start as u32, delete as u32);
        let holes = delete as usize - branch.present(start, delete);
        if holes.saturating_mul("null,".len()) > answer_max {
            return Err(too_large(answer_max));
        }
        let mut text = String::new();
        tree::write_list(&mut text, branch.elements(start, delete));
        if text.len() > answer_max {
            return Err(too_large(answer_max));
        }
        let change = branch.splice(start, delete, items.into_iter().map(Node::text).collect());
        self.apply(&change);
        Ok(text)
    }

    /// Takes the last element out of a list, and answers a list of it.
    ///
    /// # Errors
    /// As [`remove`](Self::remove).
    pub fn pop(&mut self, key: &Key) -> Result<String, ScError> {
        self.splice(key, Some(-1), Some(1), &[])
    }

    /// Lets the value under a key go after a while, whatever value that is by then. An earlier end of the key is forgotten.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn expire(&mut self, now: Instant, key: &Key, after: Duration) -> Result<(), ScError> {
        key.check()?;
        if !self.expiries.contains(key) {
            self.reserve(Expiries::cost(key), 0)?;
        }
        self.expiries.set(now, key, after);
        Ok(())
    }

    /// Lets the value under a key stay.
    pub fn unexpire(&mut self, key: &Key) {
        self.expiries.cancel(key);
    }

    /// How long the value under a key has left; `None` without an end.
    #[must_use]
    pub fn get_expiry(&self, now: Instant, key: &Key) -> Option<Duration> {
        self.expiries.left(now, key)
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.expiries.poll_timeout()
    }

    /// Takes out the values whose time is over.
    pub fn handle_timeout(&mut self, now: Instant) {
        for key in self.expiries.take_due(now) {
            // A value inside one that is too large to be taken apart stays. It was small enough when it came.
            let _ = self.forget(&key);
        }
    }

    /// Whether an answer of that length may be given.
    pub(crate) const fn answer_max(&self) -> usize {
        self.limits.store_answer_max
    }

    fn forget(&mut self, key: &Key) -> Result<(), ScError> {
        let Some((last, steps)) = key.names().split_last() else { return Ok(()) };
        if !self.has_key(key) {
            return Ok(());
        }
        let room = self.reserve(0, 0)?;
        if let Some(branch) = branch_at(&mut self.root, &mut self.bytes, room, steps, false)? {
            let change = branch.remove(last);
            self.apply(&change);
        }
        Ok(())
    }

    fn find(&self, key: &Key) -> Option<Found<'_>> {
        key.names().iter().try_fold(Found::Branch(&self.root), |found, name| found.get(name))
    }

    /// Makes sure of room for what is to be added, when something else goes: answers how large the tree may get by being taken
    /// apart on the way, so that there is room still.
    fn reserve(&self, need: usize, freed: usize) -> Result<Room, ScError> {
        let max = self.limits.store_bytes_max;
        match (max + freed).checked_sub(self.expiries.bytes() + need) {
            Some(room) if self.bytes <= room => Ok(Room { room, max }),
            _ => Err(no_room(max)),
        }
    }

    /// Looking into a text takes it apart for a moment, so it must be as small as if it were to stay so.
    fn look_into(&self, found: Found<'_>) -> Result<(), ScError> {
        match found {
            Found::Text(text) if is_container(text) => {
                let max = self.limits.store_bytes_max;
                if text.len() + children(text) * VALUE_COST > max { Err(no_room(max)) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    fn answerable(&self, len: usize) -> Result<(), ScError> {
        let max = self.limits.store_answer_max;
        if len > max { Err(too_large(max)) } else { Ok(()) }
    }

    fn apply(&mut self, change: &Change) {
        self.bytes = self.bytes + change.added - change.freed;
        debug_assert!(self.bytes <= self.limits.store_bytes_max, "room is made sure of before");
    }

    /// Recounts everything, for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn is_counted_right(&self) -> bool {
        self.bytes == self.root.size()
    }
}

/// How large the tree may get by being taken apart, and the limit behind it.
#[derive(Debug, Clone, Copy)]
struct Room {
    room: usize,
    max: usize,
}

/// The branch under these names. Texts on the way, and there, are taken apart. `create`: what is missing, or is a scalar,
/// becomes an object.
fn branch_at<'a>(
    root: &'a mut Branch,
    bytes: &mut usize,
    room: Room,
    steps: &[Box<str>],
    create: bool,
) -> Result<Option<&'a mut Branch>, ScError> {
    let mut branch = root;
    for step in steps {
        let is_there = branch.get(step).is_some_and(|node| node.found().is_container());
        if !is_there {
            if !create {
                return Ok(None);
            }
            let change = branch.set(step, Node::Branch(Box::new(Branch::object())));
            *bytes = *bytes + change.added - change.freed;
        }
        let Some(node) = branch.get_mut(step) else { return Ok(None) };
        if let Node::Text(text) = node {
            let before = text.len();
            let after = before + children(text) * VALUE_COST;
            if *bytes - before + after > room.room {
                return Err(no_room(room.max));
            }
            let Some(parsed) = Branch::parse(text) else { return Ok(None) };
            *bytes = *bytes - before + parsed.size();
            *node = Node::Branch(Box::new(parsed));
        }
        let Node::Branch(next) = node else { return Ok(None) };
        branch = next;
    }
    Ok(Some(branch))
}

/// Index and number of the elements that a range names.
fn list_range(branch: &Branch, from: &str, to: Option<&str>) -> (u32, u32) {
    let length = branch.length().min(branch.count() as u32);
    let Some(from) = index(from).filter(|from| *from < length) else { return (0, 0) };
    let to = match to {
        Some(to) => index(to).unwrap_or(0).min(length),
        None => length,
    };
    (from, to.saturating_sub(from))
}

/// The names that a range names.
fn range_names(branch: &Branch, from: &str, to: Option<&str>) -> Vec<String> {
    let names = branch.entries().map(|(name, _)| name.into_owned()).skip_while(|name| name != from);
    names.take_while(|name| to.is_none_or(|to| name != to)).collect()
}

fn text_of(found: Found<'_>) -> String {
    let mut out = String::new();
    found.write(&mut out);
    out
}

/// The value without white space around it, which must be JSON.
fn checked(value: &str) -> Result<&str, ScError> {
    json::validate(value).ok_or_else(|| invalid("The value is no JSON"))?;
    Ok(value.trim_matches([' ', '\t', '\n', '\r']))
}

fn no_room(max: usize) -> ScError {
    over_limit("The broker's shared data is too large", "brokerDataLimit", max)
}

fn too_large(max: usize) -> ScError {
    over_limit("The answer is too large", "store_answer_max", max)
}
