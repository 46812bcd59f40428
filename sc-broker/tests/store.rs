//! The store against a naive model: values taken apart at once, ends in a list. And what its limits promise.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use sc_broker::{Key, Store, StoreLimits};
use serde_json::{Value, json};

/// A value as JavaScript would hold it, in the plainest way.
#[derive(Debug, Clone)]
enum Model {
    Scalar(Value),
    Map { is_list: bool, length: u64, entries: Vec<(String, Self)> },
}

impl Model {
    fn of(value: &Value) -> Self {
        let (is_list, entries): (bool, Vec<(String, Self)>) = match value {
            Value::Array(list) => {
                (true, list.iter().enumerate().map(|(n, value)| (n.to_string(), Self::of(value))).collect())
            }
            Value::Object(map) => (false, map.iter().map(|(name, value)| (name.clone(), Self::of(value))).collect()),
            scalar => return Self::Scalar(scalar.clone()),
        };
        let length = entries.iter().filter_map(|(name, _)| name.parse().ok()).max().map_or(0, |last: u64| last + 1);
        Self::Map { is_list, length, entries }
    }

    fn value(&self) -> Value {
        let Self::Map { is_list, entries, .. } = self else {
            let Self::Scalar(value) = self else { unreachable!() };
            return value.clone();
        };
        let mut list: Vec<(u64, &Self)> = Vec::new();
        for (name, entry) in entries {
            list.extend(name.parse().ok().map(|index: u64| (index, entry)));
        }
        list.sort_by_key(|(index, _)| *index);
        let is_dense = list.iter().enumerate().all(|(n, (index, _))| n as u64 == *index);
        if *is_list && is_dense && list.len() == entries.len() {
            return list.into_iter().map(|(_, entry)| entry.value()).collect();
        }
        Value::Object(entries.iter().map(|(name, entry)| (name.clone(), entry.value())).collect())
    }

    fn find(&self, path: &[String]) -> Option<&Self> {
        let Some((name, rest)) = path.split_first() else { return Some(self) };
        let Self::Map { entries, .. } = self else { return None };
        entries.iter().find(|(other, _)| other == name)?.1.find(rest)
    }

    fn set(&mut self, path: &[String], value: Self) {
        if let Self::Scalar(_) = self {
            *self = Self::Map { is_list: false, length: 0, entries: Vec::new() };
        }
        let (Some((name, rest)), Self::Map { length, entries, .. }) = (path.split_first(), &mut *self) else {
            *self = value;
            return;
        };
        if let Ok(index) = name.parse::<u64>() {
            *length = (*length).max(index + 1);
        }
        let place = entries.iter().position(|(other, _)| other == name).unwrap_or_else(|| {
            entries.push((name.clone(), Self::Scalar(Value::Null)));
            entries.len() - 1
        });
        match rest {
            [] => entries[place].1 = value,
            rest => entries[place].1.set(rest, value),
        }
    }

    fn add(&mut self, path: &[String], value: Value) -> u64 {
        match self.find(path) {
            None | Some(Self::Scalar(Value::Null)) => {
                self.set(path, Self::of(&json!([value])));
                0
            }
            Some(Self::Scalar(scalar)) => {
                let both = Self::of(&json!([scalar, value]));
                self.set(path, both);
                1
            }
            Some(Self::Map { length, .. }) => {
                let index = *length;
                let path: Vec<String> = path.iter().cloned().chain([index.to_string()]).collect();
                self.set(&path, Self::of(&value));
                index
            }
        }
    }

    fn remove(&mut self, path: &[String]) -> Option<Value> {
        let (name, rest) = path.split_first()?;
        let Self::Map { entries, .. } = self else { return None };
        let place = entries.iter().position(|(other, _)| other == name)?;
        match rest {
            [] => Some(entries.remove(place).1.value()),
            rest => entries[place].1.remove(rest),
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Set(Value),
    Add(Value),
    Remove,
    Get,
    Count,
    Expire(u64),
    Unexpire,
    Wait(u64),
}

fn values() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0i64..3).prop_map(Value::from),
        "[a-b\"é]{0,3}".prop_map(Value::from),
    ];
    scalar.prop_recursive(2, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[ab0-2]", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn ops() -> impl Strategy<Value = Vec<(Vec<String>, Op)>> {
    let op = prop_oneof![
        4 => values().prop_map(Op::Set),
        3 => values().prop_map(Op::Add),
        2 => Just(Op::Remove),
        2 => Just(Op::Get),
        1 => Just(Op::Count),
        2 => (0u64..5000).prop_map(Op::Expire),
        1 => Just(Op::Unexpire),
        2 => (0u64..3000).prop_map(Op::Wait),
    ];
    prop::collection::vec((prop::collection::vec("[ab0-2]", 1..4), op), 1..60)
}

fn key(path: &[String]) -> Key {
    let names: Vec<&str> = path.iter().map(String::as_str).collect();
    Key::from(names.as_slice())
}

#[expect(clippy::disallowed_methods, reason = "a test is a driver")]
fn now() -> Instant {
    Instant::now()
}

proptest! {
    #[test]
    fn it_does_what_the_naive_model_does(ops in ops()) {
        let start = now();
        let mut at = Duration::ZERO;
        let (mut store, mut model) = (Store::new(StoreLimits::default()), Model::of(&json!({})));
        let mut ends: Vec<(Vec<String>, Duration)> = Vec::new();
        for (path, op) in ops {
            let k = key(&path);
            match op {
                Op::Set(value) => {
                    store.set(&k, &value.to_string()).unwrap();
                    model.set(&path, Model::of(&value));
                }
                Op::Add(value) => prop_assert_eq!(store.add(&k, &value.to_string()).unwrap(), model.add(&path, value)),
                Op::Remove => {
                    let removed = store.remove(&k).unwrap().map(|text| serde_json::from_str::<Value>(&text).unwrap());
                    prop_assert_eq!(removed, model.remove(&path));
                }
                Op::Get => {
                    let got = store.get(&k).map(|text| serde_json::from_str::<Value>(&text).unwrap());
                    prop_assert_eq!(got.is_some(), store.has_key(&k));
                    prop_assert_eq!(got, model.find(&path).map(Model::value));
                }
                Op::Count => {
                    let count = match model.find(&path) {
                        None | Some(Model::Scalar(Value::Null | Value::Bool(false))) => 0,
                        Some(Model::Scalar(value)) => u64::from(*value != json!(0) && *value != json!("")),
                        Some(Model::Map { entries, .. }) => entries.len() as u64,
                    };
                    prop_assert_eq!(store.count(&k).unwrap(), count);
                }
                Op::Expire(ms) => {
                    store.expire(start + at, &k, Duration::from_millis(ms)).unwrap();
                    ends.retain(|(other, _)| *other != path);
                    ends.push((path, at + Duration::from_millis(ms)));
                }
                Op::Unexpire => {
                    store.unexpire(&k);
                    ends.retain(|(other, _)| *other != path);
                }
                Op::Wait(ms) => {
                    // The wheel may be a tick late with each end, so its own word counts, and its bounds are checked.
                    at += Duration::from_millis(ms);
                    store.handle_timeout(start + at);
                    prop_assert!(store.poll_timeout().is_none_or(|next| next > start + at));
                    let is_over = |end: &(Vec<String>, Duration)| store.get_expiry(start + at, &key(&end.0)).is_none();
                    let (mut over, left): (Vec<_>, Vec<_>) = ends.into_iter().partition(is_over);
                    prop_assert!(over.iter().all(|(_, end)| *end <= at), "never early");
                    prop_assert!(left.iter().all(|(_, end)| *end + Duration::from_millis(100) > at), "a tick late at most");
                    over.sort_by_key(|(_, end)| *end);
                    for (path, _) in over {
                        model.remove(&path);
                    }
                    ends = left;
                }
            }
            prop_assert!(store.is_counted_right());
            prop_assert_eq!(serde_json::from_str::<Value>(&store.get_all()).unwrap(), model.value());
        }
    }

    #[test]
    fn it_stays_within_its_limits_and_what_is_refused_changes_nothing(ops in ops()) {
        let limits = StoreLimits { store_bytes_max: 1500, store_answer_max: 40 };
        let mut store = Store::new(limits);
        let start = now();
        for (path, op) in ops {
            let (k, before) = (key(&path), store.get_all());
            let done = match op {
                Op::Set(value) => store.set(&k, &value.to_string()),
                Op::Add(value) => store.add(&k, &value.to_string()).map(drop),
                Op::Remove => store.remove(&k).map(drop),
                Op::Expire(ms) => store.expire(start, &k, Duration::from_millis(ms)),
                Op::Unexpire => store.pop(&k).map(drop),
                Op::Wait(n) => store.splice(&k, Some(n as i64 % 5), Some(1), &["[1,2]", "3"]).map(drop),
                Op::Get => store.remove_range(&k, "0", Some("b")).map(drop),
                Op::Count => store.concat(&k, "[1,[2]]"),
            };
            if let Err(error) = done {
                let named = ["brokerDataLimit", "store_answer_max"].iter().any(|name| error.message().contains(name));
                prop_assert!(named, "{}", error);
                prop_assert_eq!(before, store.get_all());
            }
            prop_assert!(store.bytes() <= 1500 && store.is_counted_right());
        }
    }
}

#[test]
fn an_end_is_of_the_key_and_outlives_the_value() {
    let (mut store, start, k) = (Store::new(StoreLimits::default()), now(), Key::from("k"));
    assert_eq!(store.poll_timeout(), None);
    store.set(&k, "1").unwrap();
    store.expire(start, &k, Duration::from_secs(2)).unwrap();
    assert_eq!(store.get_expiry(start + Duration::from_secs(1), &k), Some(Duration::from_secs(1)));
    store.remove(&k).unwrap();
    store.set(&k, "2").unwrap();
    store.expire(start, &k, Duration::from_secs(5)).unwrap();
    store.handle_timeout(start + Duration::from_secs(4));
    assert_eq!(store.get(&k).as_deref(), Some("2"), "the later word counts");
    store.handle_timeout(start + Duration::from_secs(6));
    assert_eq!((store.get(&k), store.bytes(), store.poll_timeout()), (None, 0, None));
}

#[test]
fn a_value_is_kept_as_it_came() {
    let (mut store, k) = (Store::new(StoreLimits::default()), Key::from("k"));
    let text = r#"{"n":1.0e400,"lone":"\ud800","twice":1,"twice":[ 2 ]}"#;
    store.set(&k, text).unwrap();
    assert_eq!(store.get(&k).as_deref(), Some(text));
    assert_eq!(store.get(&k.clone().at("lone")).as_deref(), Some(r#""\ud800""#));
    assert_eq!(store.get(&k.clone().at("twice").at(0)).as_deref(), Some("2"), "the last of equal names counts");
    assert_eq!(store.count(&k).unwrap(), 3);
    store.set(&k.at("new"), "null").unwrap();
    assert_eq!(store.get_all(), r#"{"k":{"n":1.0e400,"lone":"\ud800","twice":[ 2 ],"new":null}}"#);
}

#[test]
fn what_is_no_value_or_key_is_refused() {
    let (mut store, k) = (Store::new(StoreLimits::default()), Key::from("k"));
    for wrong in ["", "{", "undefined", "1 2"] {
        assert_eq!(store.set(&k, wrong).unwrap_err().name(), Some("InvalidArgumentsError"), "{wrong}");
    }
    for wrong in ["[]", "[1]", "\"k\"", "[[\"k\"]]", ""] {
        assert_eq!(Key::parse(wrong).unwrap_err().name(), Some("InvalidArgumentsError"), "{wrong}");
    }
    let deep = (0..64).fold(Key::from("a"), Key::at);
    assert!(store.set(&deep, "1").unwrap_err().message().contains("KEY_DEPTH_MAX"));
    assert!(store.set(&Key::from("x".repeat(9000)), "1").unwrap_err().message().contains("KEY_BYTES_MAX"));
    assert_eq!(store.bytes(), 0);
}

#[test]
fn a_small_text_cannot_unfold_into_a_lot_of_memory() {
    let limits = StoreLimits { store_bytes_max: 100_000, ..StoreLimits::default() };
    let (mut store, k) = (Store::new(limits), Key::from("k"));
    let text = format!("[{}1]", "1,".repeat(20_000));
    store.set(&k, &text).unwrap();
    assert_eq!(store.get(&k).map(|got| got.len()), Some(text.len()));
    for refused in [store.add(&k, "1").map(drop), store.count(&k).map(drop), store.get_range(&k, "0", None).map(drop)] {
        assert!(refused.unwrap_err().message().contains("brokerDataLimit"));
    }
    store.set(&Key::from(["holes", "4294967294"]), "1").unwrap();
    let holes = store.splice(&Key::from("holes"), Some(0), None, &[]).unwrap_err();
    assert!(holes.message().contains("store_answer_max"), "four billion holes are not written out: {holes}");
}
