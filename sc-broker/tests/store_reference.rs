//! The store does what the map of SocketCluster's brokers does: random operations on fleximap 0.9.10, recorded by
//! `tests/data/fleximap.js`, are done again.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use sc_broker::{Key, Store, StoreLimits};
use serde_json::Value;

fn key(path: &Value) -> Key {
    Key::parse(&path.to_string()).expect("a path of the recording")
}

fn edge(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// Does one recorded operation; answers its result, or nothing where the recording has none.
fn replay(store: &mut Store, op: &str, args: &[Value]) -> Value {
    let key = key(&args[0]);
    let text = |at: usize| args[at].to_string();
    let parsed = |text: String| serde_json::from_str(&text).expect("a store answers JSON");
    match op {
        "set" => store.set(&key, &text(1)).map(|()| Value::Null).unwrap(),
        "concat" => store.concat(&key, &text(1)).map(|()| Value::Null).unwrap(),
        "add" => store.add(&key, &text(1)).unwrap().into(),
        "get" => store.get(&key).map_or(Value::Null, parsed),
        "count" => store.count(&key).unwrap().into(),
        "hasKey" => store.has_key(&key).into(),
        "remove" => store.remove(&key).unwrap().map_or(Value::Null, parsed),
        "pop" => parsed(store.pop(&key).unwrap()),
        "getRange" => parsed(store.get_range(&key, &edge(&args[1]).unwrap(), edge(&args[2]).as_deref()).unwrap()),
        "removeRange" => parsed(store.remove_range(&key, &edge(&args[1]).unwrap(), edge(&args[2]).as_deref()).unwrap()),
        "splice" => {
            let items: Vec<String> = args[3..].iter().map(Value::to_string).collect();
            let items: Vec<&str> = items.iter().map(String::as_str).collect();
            parsed(store.splice(&key, args[1].as_i64(), args[2].as_i64(), &items).unwrap())
        }
        other => panic!("{other} is not recorded"),
    }
}

#[test]
fn what_the_reference_answers_and_keeps_is_answered_and_kept() {
    let recording: Vec<Vec<Value>> = serde_json::from_str(include_str!("data/fleximap.json")).unwrap();
    assert!(recording.len() > 1000);
    let mut store = Store::new(StoreLimits::default());
    for (line, step) in recording.iter().enumerate() {
        let (op, args) = (step[0].as_str().unwrap(), step[1].as_array().unwrap());
        if op == "new" {
            store = Store::new(StoreLimits::default());
            continue;
        }
        let context = format!("line {}: {op} {args:?}", line + 2);
        assert_eq!(replay(&mut store, op, args), step[2], "{context}");
        assert_eq!(serde_json::from_str::<Value>(&store.get_all()).unwrap(), step[3], "after {context}");
        assert!(store.is_counted_right(), "after {context}");
    }
}
