//! Values inside values.
//!
//! A value is kept as the JSON text that came, and becomes a [`Branch`] when something inside it is changed. So a value that
//! is only set and read is copied, never taken apart.
//!
//! A branch behaves as a map of the reference (fleximap 0.9), which is a JavaScript array with members: whole numbers are
//! indices, come first and raise the length; other names follow in the order of their insertion; what was removed leaves a
//! hole. It reads as a list if it began as one, has no names and no holes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::BytesMut;
use sc_protocol::json::{self, Kind};

/// What a value counts besides its text and its name: about what it takes in memory.
pub(crate) const VALUE_COST: usize = 96;

#[derive(Debug, Clone)]
pub(super) enum Node {
    /// Valid JSON.
    Text(Box<str>),
    Branch(Box<Branch>),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Branch {
    is_list: bool,
    /// JavaScript's `length`: above every index, and not lowered by a removal.
    length: u32,
    list: BTreeMap<u32, Node>,
    names: BTreeMap<Box<str>, Member>,
    /// Counts insertions of names.
    serial: u64,
}

#[derive(Debug, Clone)]
struct Member {
    serial: u64,
    node: Node,
}

/// What was found under a key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Found<'a> {
    Text(&'a str),
    Branch(&'a Branch),
}

/// By how much a change made the data grow and shrink.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Change {
    pub(super) added: usize,
    pub(super) freed: usize,
}

impl Node {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn found(&self) -> Found<'_> {
        match self {
            Self::Text(text) => Found::Text(text),
            Self::Branch(branch) => Found::Branch(branch),
        }
    }
}

impl<'a> Found<'a> {
    pub(super) fn is_container(self) -> bool {
        match self {
            Self::Text(text) => is_container(text),
            Self::Branch(_) => true,
        }
    }

    /// What is in there under that name.
    pub(super) fn get(self, name: &str) -> Option<Self> {
        match self {
            Self::Branch(branch) => branch.get(name).map(Node::found),
            Self::Text(text) => member(text, name).map(Found::Text),
        }
    }

    pub(super) fn size(self) -> usize {
        match self {
            Self::Text(text) => VALUE_COST + text.len(),
            Self::Branch(branch) => VALUE_COST + branch.size(),
        }
    }

    pub(super) fn write(self, out: &mut String) {
        match self {
            Self::Text(text) => out.push_str(text),
            Self::Branch(branch) => branch.write(out),
        }
    }

    /// Values in there; of a scalar 1, or 0 if JavaScript takes it for false.
    pub(super) fn count(self) -> u64 {
        match self {
            Self::Branch(branch) => branch.count() as u64,
            Self::Text(text) => match json::kind(text) {
                Kind::Array => json::array(text).map_or(0, |list| list.count() as u64),
                // Equal keys are one value.
                Kind::Object => Branch::parse(text).map_or(0, |branch| branch.count() as u64),
                _ => u64::from(!is_falsy(text)),
            },
        }
    }
}

/// How many values `text` has inside; of equal names each.
pub(super) fn children(text: &str) -> usize {
    let mut count = 0;
    match json::kind(text) {
        Kind::Array => count = json::array(text).map_or(0, Iterator::count),
        Kind::Object => drop(json::for_each_member(text, |_, _| count += 1)),
        _ => {}
    }
    count
}

pub(super) fn is_container(text: &str) -> bool {
    matches!(json::kind(text), Kind::Array | Kind::Object)
}

/// Whether JavaScript takes a scalar for false.
pub(super) fn is_falsy(text: &str) -> bool {
    match json::kind(text) {
        Kind::Null => true,
        Kind::Bool => text == "false",
        Kind::String => text == "\"\"",
        Kind::Number => json::number(text) == Some(0.0),
        Kind::Array | Kind::Object => false,
    }
}

fn member<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    match json::kind(text) {
        Kind::Array => json::array(text)?.nth(index(name)? as usize),
        Kind::Object => {
            let mut found = None;
            json::for_each_member(text, |key, value| {
                if json::string(key).is_some_and(|key| key == name) {
                    found = Some(value);
                }
            })?;
            found
        }
        _ => None,
    }
}

/// A name that is an array index of JavaScript: a whole number below 2³² − 1, written as JavaScript does.
pub(super) fn index(name: &str) -> Option<u32> {
    let digits = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || (name.len() > 1 && name.starts_with('0')) {
        return None;
    }
    name.parse().ok().filter(|index| *index != u32::MAX)
}

impl Branch {
    pub(super) fn object() -> Self {
        Self::default()
    }

    /// What is inside a list or an object. `None`: it is neither.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut branch = Self::default();
        match json::kind(text) {
            Kind::Array => {
                branch.is_list = true;
                for element in json::array(text)? {
                    branch.list.insert(branch.length, Node::text(element));
                    branch.length = branch.length.checked_add(1)?;
                }
            }
            Kind::Object => json::for_each_member(text, |key, value| {
                let key = json::string(key).unwrap_or_default();
                let _ = branch.set(&key, Node::text(value));
            })?,
            _ => return None,
        }
        Some(branch)
    }

    pub(super) const fn length(&self) -> u32 {
        self.length
    }

    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        match index(name) {
            Some(index) => self.list.get(&index),
            None => self.names.get(name).map(|member| &member.node),
        }
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Node> {
        match index(name) {
            Some(index) => self.list.get_mut(&index),
            None => self.names.get_mut(name).map(|member| &mut member.node),
        }
    }

    pub(super) fn set(&mut self, name: &str, node: Node) -> Change {
        let size = node.found().size();
        if let Some(index) = index(name) {
            self.length = self.length.max(index + 1);
            let freed = self.list.insert(index, node).map_or(0, |old| old.found().size());
            return Change { added: size, freed };
        }
        if let Some(member) = self.names.get_mut(name) {
            let old = std::mem::replace(&mut member.node, node);
            return Change { added: size, freed: old.found().size() };
        }
        self.serial += 1;
        self.names.insert(name.into(), Member { serial: self.serial, node });
        Change { added: name.len() + size, freed: 0 }
    }

    /// Takes a value out; the length stays.
    pub(super) fn remove(&mut self, name: &str) -> Change {
        let freed = match index(name) {
            Some(index) => self.list.remove(&index).map_or(0, |node| node.found().size()),
            None => self.names.remove(name).map_or(0, |member| name.len() + member.node.found().size()),
        };
        Change { added: 0, freed }
    }

    /// `Array.prototype.splice`, with arguments that are within the length.
    pub(super) fn splice(&mut self, start: u32, delete: u32, items: Vec<Node>) -> Change {
        let count = items.len() as u32;
        let mut removed = self.list.split_off(&start);
        let rest = start.checked_add(delete).map(|end| removed.split_off(&end)).unwrap_or_default();
        let freed = removed.values().map(|node| node.found().size()).sum();
        let added = items.iter().map(|node| node.found().size()).sum();
        self.list.extend((start..).zip(items));
        self.list.extend(rest.into_iter().map(|(index, node)| (index - delete + count, node)));
        self.length = self.length - delete + count;
        Change { added, freed }
    }

    /// Forgets the length and where holes were, as the reference does when it writes a value back.
    pub(super) fn rebuild(&mut self, was_list: bool) {
        self.is_list = was_list;
        self.length = self.list.last_key_value().map_or(0, |(last, _)| last + 1);
    }

    pub(super) fn count(&self) -> usize {
        self.list.len() + self.names.len()
    }

    /// Whether it reads as a list.
    pub(super) fn is_list(&self) -> bool {
        let dense = self.list.last_key_value().is_none_or(|(last, _)| *last as usize + 1 == self.list.len());
        self.is_list && dense && self.names.is_empty()
    }

    /// Everything in order: indices, then names as they were inserted.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Cow<'_, str>, &Node)> {
        let mut names: Vec<_> = self.names.iter().collect();
        names.sort_unstable_by_key(|(_, member)| member.serial);
        let names = names.into_iter().map(|(name, member)| (Cow::Borrowed(&**name), &member.node));
        self.list.iter().map(|(index, node)| (Cow::Owned(index.to_string()), node)).chain(names)
    }

    /// The elements with these indices; a hole is `None`.
    pub(super) fn elements(&self, start: u32, count: u32) -> impl Iterator<Item = Option<&Node>> {
        (start..start.saturating_add(count)).map(|index| self.list.get(&index))
    }

    /// How many elements with these indices there are, holes left out.
    pub(super) fn present(&self, start: u32, count: u32) -> usize {
        self.list.range(start..start.saturating_add(count)).count()
    }

    pub(super) fn size(&self) -> usize {
        let names = self.names.iter().map(|(name, member)| name.len() + member.node.found().size());
        self.list.values().map(|node| node.found().size()).chain(names).sum()
    }

    pub(super) fn write(&self, out: &mut String) {
        if self.is_list() {
            write_list(out, self.list.values().map(Some));
        } else {
            write_object(out, self.entries());
        }
    }
}

pub(super) fn write_list<'a>(out: &mut String, nodes: impl Iterator<Item = Option<&'a Node>>) {
    out.push('[');
    for (place, node) in nodes.enumerate() {
        if place > 0 {
            out.push(',');
        }
        match node {
            Some(node) => node.found().write(out),
            None => out.push_str("null"),
        }
    }
    out.push(']');
}

pub(super) fn write_object<'a>(out: &mut String, entries: impl Iterator<Item = (Cow<'a, str>, &'a Node)>) {
    let mut token = BytesMut::new();
    out.push('{');
    for (place, (name, node)) in entries.enumerate() {
        if place > 0 {
            out.push(',');
        }
        token.clear();
        json::write_string(&mut token, &name);
        out.push_str(std::str::from_utf8(&token).unwrap_or("\"\""));
        out.push(':');
        node.found().write(out);
    }
    out.push('}');
}
