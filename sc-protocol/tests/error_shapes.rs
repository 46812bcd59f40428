//! Errors on the wire: PROTOCOL's table of acks, and nothing lost on the way back.

use bytes::BytesMut;
use proptest::prelude::*;
use sc_protocol::limits::ERROR_MEMBERS_MAX;
use sc_protocol::{ScError, Version};
use serde_json::{Value, json};

#[test]
fn each_kind_has_its_shape() {
    for (error, wire) in [
        (ScError::text("text"), r#""text""#),
        (ScError::message_only("m"), r#"{"message":"m"}"#),
        (ScError::new("TypeError", "m").with("extra", [1, 2]), r#"{"message":"m","name":"TypeError","extra":[1,2]}"#),
        (ScError::json(json!({ "foo": 1 })), r#"{"foo":1}"#),
        (ScError::json(json!({})), "{}"),
        (ScError::json(json!(42)), "42"),
        (ScError::json(json!(true)), "true"),
        (ScError::json(json!("text")), r#""text""#),
        (ScError::json(json!({ "name": "N", "message": "m", "a": null })), r#"{"message":"m","name":"N","a":null}"#),
        (ScError::json(json!({ "name": 5, "message": "m" })), r#"{"message":"m","name":5}"#),
        (ScError::text("was text").with("code", 7), r#"{"message":"was text","code":7}"#),
        (ScError::json(json!(42)).with("name", "N"), r#"{"name":"N"}"#),
        (ScError::new("N", "m").with("message", "other").with("name", 1), r#"{"message":"other","name":1}"#),
        (ScError::new("N", "m").with("a", 1).with("b", 2).with("a", 3), r#"{"message":"m","name":"N","a":3,"b":2}"#),
        (ScError::new("A\"", "\n"), r#"{"message":"\n","name":"A\""}"#),
    ] {
        assert_eq!(error.to_json(), wire);
        assert_eq!(ScError::parse(wire), error, "{wire}");
    }
}

#[test]
fn members_are_found() {
    let error = ScError::parse(r#"{"name":"BadConnectionError","type":"disconnect","message":"gone","code":4001}"#);
    assert_eq!((error.name(), error.message()), (Some("BadConnectionError"), "gone"));
    assert_eq!(error.get("code"), Some(&json!(4001)));
    assert_eq!(error.get("name"), None);
    assert_eq!(error.props().map(|(key, _)| key).collect::<Vec<_>>(), ["type", "code"], "in their order");
    assert_eq!(error.to_string(), "BadConnectionError: gone");
    assert_eq!(ScError::text("t").to_string(), "t");
    assert_eq!(ScError::json(json!([1])).to_string(), "[1]");
    assert_eq!(size_of::<Option<ScError>>(), size_of::<usize>());
}

#[test]
fn of_equal_members_the_last_counts() {
    let error = ScError::parse(r#"{"message":"a","x":1,"message":"b","x":2,"name":"N","name":5}"#);
    assert_eq!(error.to_json(), r#"{"message":"b","x":2,"name":5}"#);
}

#[test]
fn what_no_value_holds_is_kept_as_it_came() {
    let deep = format!(r#"{{"name":"N","message":"m","deep":{}1{}}}"#, "[".repeat(5000), "]".repeat(5000));
    let many: Vec<String> = (0..=ERROR_MEMBERS_MAX).map(|i| format!(r#""k{i}":{i}"#)).collect();
    let many = format!(r#"{{"name":"N","message":"m",{}}}"#, many.join(","));
    for raw in [&deep, r#"{"name":"N","message":"m","x":"\ud800"}"#, r#"{"name":"N","message":"m","\ud800":1}"#, &many]
    {
        let error = ScError::parse(raw);
        assert_eq!((error.name(), error.message()), (Some("N"), "m"));
        assert_eq!(error.to_json(), raw);
        assert_eq!(error.props().count(), 0);
        assert_eq!(error.clone().with("a", 1).to_json(), r#"{"message":"m","name":"N","a":1}"#);
    }
    assert_eq!(ScError::parse(r#""\ud800!""#).message(), "\u{fffd}!");
    assert_eq!(ScError::parse(r#""\ud800!""#).to_json(), r#""\ud800!""#);
    assert_eq!(ScError::parse("no json"), ScError::text("no json"));
    assert_eq!(ScError::parse("{\"a\":"), ScError::text("{\"a\":"));
}

#[test]
fn the_texts_of_both_versions() {
    let (v1, v2) = (Version::V1, Version::V2);
    for (error, wire) in [
        (ScError::internal(), r#"{"message":"Internal server error","name":"InternalError"}"#),
        (ScError::timeout("e", v1), r#"{"message":"Event response for 'e' timed out","name":"TimeoutError"}"#),
        (ScError::timeout("e", v2), r#"{"message":"Event response for e event timed out","name":"TimeoutError"}"#),
        (
            ScError::silent("publishIn", v1),
            r#"{"message":"Action was silently blocked by publishIn middleware","name":"SilentMiddlewareBlockedError","type":"publishIn"}"#,
        ),
        (
            ScError::silent("publishIn", v2),
            r#"{"message":"The publishIn AGAction was blocked by inbound middleware","name":"SilentMiddlewareBlockedError","type":"inbound"}"#,
        ),
        (
            ScError::channel_limit("id", "c", 3, v1),
            r#"{"message":"Failed to subscribe socket to the c channel - Socket id tried to exceed the channel subscription limit of 3","name":"BrokerError"}"#,
        ),
        (
            ScError::channel_limit("id", "c", 3, v2),
            r#"{"message":"Failed to subscribe socket to the c channel - InvalidActionError: Socket id tried to exceed the channel subscription limit of 3","name":"BrokerError"}"#,
        ),
        (
            ScError::subscribe_invalid_channel("id", "undefined", v1),
            r#"{"message":"Failed to subscribe socket to the undefined channel - Socket id provided an invalid channel name","name":"BrokerError"}"#,
        ),
        (
            ScError::subscribe_invalid_channel("id", "undefined", v2),
            r#"{"message":"Subscribe channel name was malformatted","name":"InvalidActionError"}"#,
        ),
        (
            ScError::auth_token_expired(1_795_356_720u64),
            r#"{"message":"The socket auth token has expired","name":"AuthTokenExpiredError","expiry":1795356720}"#,
        ),
    ] {
        assert_eq!(error.to_json(), wire);
    }
    assert_eq!(ScError::silent("handshakeWS", v2).get("type"), Some(&json!("handshake")));
    assert!(ScError::silent("emit", v2).message().starts_with("The invoke AGAction"));
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let key = prop_oneof![Just("name".to_owned()), Just("message".to_owned()), any::<String>()];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn any_value_comes_back(value in value()) {
        let error = ScError::parse(&value.to_string());
        prop_assert_eq!(&error, &ScError::json(value.clone()));
        let mut out = BytesMut::new();
        error.write(&mut out);
        prop_assert_eq!(serde_json::from_slice::<Value>(&out).expect("JSON"), value);
    }

    #[test]
    fn any_text_is_an_error(text in any::<String>()) {
        let error = ScError::parse(&text);
        let json = error.to_json();
        prop_assert!(serde_json::from_str::<Value>(&json).is_ok());
        prop_assert_eq!(ScError::parse(&json), error);
    }
}
