//! Which message is which packet, per version, and that written packets are read back.

use bytes::BytesMut;
use proptest::prelude::*;
use sc_protocol::packet::{self, Cid, Event, Packet, Response, parse, parse_control, parse_element, write};
use sc_protocol::{ScError, Version};

const BOTH: [Version; 2] = [Version::V1, Version::V2];

fn text(write: impl FnOnce(&mut BytesMut)) -> String {
    let mut out = BytesMut::new();
    write(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// A short form, for tables.
fn show(packet: &Packet<'_>) -> String {
    let cid = |cid: &Cid<'_>| text(|out| cid.write(out));
    match packet {
        Packet::Event(Event { name, data, cid: id }) => {
            format!("event {name} {} {}", data.unwrap_or("-"), id.as_ref().map_or_else(|| "-".to_owned(), cid))
        }
        Packet::Response(Response { rid, error, data }) => {
            format!("response {} {} {}", cid(rid), error.unwrap_or("-"), data.unwrap_or("-"))
        }
        Packet::Batch(elements) => format!("batch {}", elements.clone().count()),
        Packet::Raw => "raw".to_owned(),
        other => format!("{other:?}"),
    }
}

/// Text that must be the packet `v1`, `v2`.
fn check(text: &str, v1: &str, v2: &str) {
    assert_eq!(show(&parse(text, Version::V1)), v1, "V1 of {text}");
    assert_eq!(show(&parse(text, Version::V2)), v2, "V2 of {text}");
    if !v1.starts_with("batch") {
        assert_eq!(show(&parse_element(text, Version::V1)), v1, "V1 of [{text}]");
        assert_eq!(show(&parse_element(text, Version::V2)), v2, "V2 of [{text}]");
    }
}

#[test]
fn what_is_no_packet_is_raw() {
    for text in [
        "",
        "#1",
        "#2",
        "hello",
        "null",
        "true",
        "5",
        "\"text\"",
        "{}",
        "{\"foo\":1}",
        "{\"event\":null}",
        "{\"data\":1}",
        "{\"cid\":1}",
        "\u{feff}{\"event\":\"a\"}",
        "{\"event\":\"a\"",
        "{\"event\":\"a\"}x",
        "[1,",
        "{\"rid\":null}",
        "{\"rid\":true}",
        "{\"rid\":[1]}",
        "{\"rid\":{}}",
        "{\"event\":5}",
        "{\"event\":{}}",
        "{\"event\":true}",
        "{\"event\":[\"#publish\"]}",
    ] {
        check(text, "raw", "raw");
    }
}

#[test]
fn events() {
    check(r#"{"event":"a"}"#, "event a - -", "event a - -");
    check(r#"{"event":""}"#, "event  - -", "event  - -");
    check("\n {\"event\" : \"a\" , \"data\" : null } ", "event a null -", "event a null -");
    let published = r#"event #publish {"a":[1, 2]} -"#;
    check(r##"{"event":"x","event":"#publish","data":{"a":[1, 2]}}"##, published, published);
    check(r#"{"event":"a","rid":1}"#, "event a - -", "event a - -");
    check(r#"{"\u0065vent":"\u0061\ud83d\ude00"}"#, "event a\u{1f600} - -", "event a\u{1f600} - -");
    check(r#"{"event":"a","data":"\ud800"}"#, r#"event a "\ud800" -"#, r#"event a "\ud800" -"#);
}

#[test]
fn cids_of_every_type() {
    for (cid, v1, v2) in [
        ("1", "1", "1"),
        ("0", "-", "0"),
        ("0.0", "-", "0"),
        ("-0", "-", "0"),
        ("1.0", "1", "1"),
        ("1e2", "100", "100"),
        ("-1", "-1", "-1"),
        ("1.5", "1.5", "1.5"),
        ("18446744073709551615", "18446744073709551615", "18446744073709551615"),
        ("18446744073709551616", "18446744073709551616", "18446744073709551616"),
        ("\"\"", "-", "-"),
        ("\"abc\"", "\"abc\"", "-"),
        ("\"a\\n\"", "\"a\\n\"", "-"),
        ("null", "-", "-"),
        ("false", "-", "-"),
        ("true", "-", "-"),
        ("[1]", "-", "-"),
        ("{}", "-", "-"),
    ] {
        check(&format!(r#"{{"event":"a","cid":{cid}}}"#), &format!("event a - {v1}"), &format!("event a - {v2}"));
    }
}

#[test]
fn responses() {
    check(r#"{"rid":1}"#, "response 1 - -", "response 1 - -");
    check(r#"{"rid":0,"data":null}"#, "response 0 - null", "response 0 - null");
    check(r#"{"rid":7,"error":"x","data":[]}"#, "response 7 \"x\" []", "response 7 \"x\" []");
    check(r#"{"rid":"constructor"}"#, "response \"constructor\" - -", "raw");
    check(r#"{"event":null,"rid":1}"#, "response 1 - -", "response 1 - -");
    check(r#"{"event":5,"rid":1}"#, "raw", "response 1 - -");
    for falsy in ["null", "false", "0", "-0.0", "\"\""] {
        check(&format!(r#"{{"rid":1,"error":{falsy}}}"#), "response 1 - -", "response 1 - -");
    }
    for truthy in ["true", "1", "{}", "[]", "\"0\""] {
        let expected = format!("response 1 {truthy} -");
        check(&format!(r#"{{"rid":1,"error":{truthy}}}"#), &expected, &expected);
    }
    assert_eq!(Cid::Token("\"1\"".into()).int(), None, "a string is the number of no call of ours");
}

#[test]
fn batches_are_flat() {
    check("[]", "batch 0", "batch 0");
    check(" [ 1 , {} ] ", "batch 2", "batch 2");
    for version in BOTH {
        let Packet::Batch(elements) = parse(r#"[{"event":"a"}, [{"event":"b"}], null, {"rid":2}]"#, version) else {
            panic!()
        };
        let shown: Vec<_> = elements.map(|raw| show(&parse_element(raw, version))).collect();
        assert_eq!(shown, ["event a - -", "raw", "raw", "response 2 - -"]);
    }
}

#[test]
fn pings_and_pongs_are_whole_messages() {
    let shown = |text| parse_control(text).map(|packet| show(&packet));
    assert_eq!(shown("#1").as_deref(), Some("Ping(V1)"));
    assert_eq!(shown("#2").as_deref(), Some("Pong(V1)"));
    assert_eq!(shown("").as_deref(), Some("Pong(V2)"));
    for text in ["#", "#3", "#11", " #1", "1", "2", "{}"] {
        assert_eq!(shown(text), None, "{text}");
    }
}

#[test]
fn members_are_written_in_the_order_of_server_14() {
    assert_eq!(text(|out| write::event(out, "a\"b", None, None)), r#"{"event":"a\"b"}"#);
    assert_eq!(text(|out| write::event(out, "a", Some("{}"), Some(10))), r#"{"event":"a","data":{},"cid":10}"#);
    assert_eq!(text(|out| write::response(out, &Cid::Int(5), None, None)), r#"{"rid":5}"#);
    assert_eq!(
        text(|out| write::response(out, &Cid::Token("\"x\"".into()), None, Some("null"))),
        r#"{"rid":"x","data":null}"#
    );
    let error = ScError::message_only("m");
    assert_eq!(
        text(|out| write::response(out, &Cid::Int(u64::MAX), Some(&error), Some("1"))),
        r#"{"rid":18446744073709551615,"error":{"message":"m"},"data":1}"#
    );
}

#[test]
fn the_data_of_a_publish_is_found_again() {
    let mut out = BytesMut::from("before");
    let data = write::publish(&mut out, "a\nb", Some("[true]")).unwrap();
    assert_eq!(&out[data], b"[true]");
    assert_eq!(out, "before{\"event\":\"#publish\",\"data\":{\"channel\":\"a\\nb\",\"data\":[true]}}");
    let mut out = BytesMut::new();
    assert_eq!(write::publish(&mut out, "c", None), None);
    assert_eq!(out, r##"{"event":"#publish","data":{"channel":"c"}}"##);
}

#[test]
fn a_cid_outlives_its_message() {
    let message = String::from(r#"{"event":"a","cid":"k"}"#);
    let kept = match parse(&message, Version::V1) {
        Packet::Event(event) => event.cid.map(Cid::into_owned),
        other => panic!("{other:?}"),
    };
    drop(message);
    assert_eq!(kept, Some(Cid::Token("\"k\"".into())));
}

fn data() -> impl Strategy<Value = Option<String>> {
    prop::option::of(prop_oneof![
        Just("null".to_owned()),
        any::<i32>().prop_map(|number| number.to_string()),
        any::<String>().prop_map(|text| serde_json::json!({ "text": text, "list": [text, null] }).to_string()),
    ])
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(name in any::<String>(), data in data(), cid in prop::option::of(1u64..), error in prop::option::of("[a-z]{1,9}")) {
        for version in BOTH {
            let written = text(|out| write::event(out, &name, data.as_deref(), cid));
            match parse(&written, version) {
                Packet::Event(event) => {
                    prop_assert_eq!(&event.name, &name);
                    prop_assert_eq!(event.data, data.as_deref());
                    prop_assert_eq!(event.cid, cid.map(Cid::Int));
                }
                other => prop_assert!(false, "{:?}", other),
            }
            let (rid, error) = (Cid::Int(cid.unwrap_or_default()), error.as_ref().map(ScError::text));
            let written = text(|out| write::response(out, &rid, error.as_ref(), data.as_deref()));
            match parse(&written, version) {
                Packet::Response(response) => {
                    prop_assert_eq!(response.rid, rid);
                    prop_assert_eq!(response.data, data.as_deref());
                    prop_assert_eq!(response.error.map(ScError::parse), error);
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    #[test]
    fn a_publish_is_read_back(channel in any::<String>(), data in data()) {
        let mut range = None;
        let written = text(|out| range = write::publish(out, &channel, data.as_deref()));
        let inner = match parse(&written, Version::V2) {
            Packet::Event(event) => event.data,
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        };
        let [found, raw] = sc_protocol::json::object(inner.expect("data"), ["channel", "data"]).expect("an object");
        prop_assert_eq!(found.and_then(sc_protocol::json::string), Some(channel.into()));
        prop_assert_eq!(raw, data.as_deref());
        prop_assert_eq!(range.map(|range| &written[range]), data.as_deref());
    }

    #[test]
    fn nothing_panics(text in any::<String>(), json in r#"[\[{]["eventcidr:0-9,\[\]{} \\]{0,30}"#) {
        for version in BOTH {
            for text in [&text, &json] {
                if let Packet::Batch(elements) = parse(text, version) {
                    elements.for_each(|raw| drop(parse_element(raw, version)));
                }
                drop(packet::parse_control(text));
                drop(ScError::parse(text).to_json());
            }
        }
    }
}
