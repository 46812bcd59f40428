//! What every codec has to do, with the codec as a parameter: a new one is added to the list below.

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;
use sc_protocol::codec::{Codec, JsonCodec, MinBin};
use serde_json::{Value, json};

const CODECS: [&dyn Codec; 2] = [&JsonCodec, &MinBin];

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 20, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            vec(("\\PC{0,5}", inner), 0..5).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

fn packet() -> impl Strategy<Value = Value> {
    prop_oneof![
        (any::<String>(), value(), 1..99_u32)
            .prop_map(|(event, data, cid)| json!({ "event": event, "data": data, "cid": cid })),
        (any::<String>(), value())
            .prop_map(|(channel, data)| json!({ "event": "#publish", "data": { "channel": channel, "data": data } })),
        (any::<u32>(), value(), value())
            .prop_map(|(rid, error, data)| json!({ "rid": rid, "error": error, "data": data })),
    ]
}

fn there_and_back(codec: &dyn Codec, packet: &Value) -> Value {
    let mut message = BytesMut::new();
    codec.encode(&packet.to_string(), &mut message).expect("a packet can be written");
    let text = codec.decode(&message).expect("what was written can be read");
    serde_json::from_str(&text).expect("it is JSON")
}

/// JavaScript has one kind of number.
fn numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.into_iter().map(numbers).collect(),
        Value::Object(members) => members.into_iter().map(|(key, value)| (key, numbers(value))).collect(),
        other => other,
    }
}

proptest! {
    #[test]
    fn packets_survive(packet in packet()) {
        for codec in CODECS {
            prop_assert_eq!(numbers(there_and_back(codec, &packet)), numbers(packet.clone()), "{:?}", codec);
        }
    }

    #[test]
    fn batches_survive(packets in vec(packet(), 0..4)) {
        let batch = Value::from(packets);
        for codec in CODECS {
            prop_assert_eq!(numbers(there_and_back(codec, &batch)), numbers(batch.clone()), "{:?}", codec);
        }
    }

    #[test]
    fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..200)) {
        for codec in CODECS {
            if let Ok(text) = codec.decode(&bytes)
                && !codec.is_json()
            {
                prop_assert!(sc_protocol::json::validate(&text).is_some(), "{:?}: {}", codec, text);
            }
        }
    }
}

#[test]
fn what_min_bin_cannot_tell_apart() {
    let back = |packet| there_and_back(&MinBin, &packet);
    assert_eq!(back(json!({ "rid": 2 })), json!({ "rid": 2, "error": null, "data": null }));
    assert_eq!(back(json!({ "event": "a" })), json!({ "event": "a", "data": null }));
    // A publish without data is an event like any other there, and comes without its channel's name lost.
    let bare = json!({ "event": "#publish", "data": { "channel": "foo" } });
    assert_eq!(back(bare), json!({ "event": "#publish", "data": { "channel": "foo", "data": null } }));
}

#[test]
fn lengths_that_are_not_there_and_depths_that_have_no_end() {
    for bytes in
        [&b"\xdd\xff\xff\xff\xff"[..], b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xffx", b"\xc6\xff\xff\xff\xff", b""]
    {
        assert!(MinBin.decode(bytes).is_err());
    }
    let mut deep = vec![0x91; 100_000];
    deep.push(0xc0);
    assert!(MinBin.decode(&deep).is_err());
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    assert!(MinBin.encode(&deep, &mut BytesMut::new()).is_err());
}
