//! The scanner against serde_json, and against the rules of `JSON.parse` where the two differ.

use std::borrow::Cow;

use bytes::BytesMut;
use proptest::prelude::*;
use sc_protocol::json::{self, Kind};
use serde::de::IgnoredAny;
use serde_json::Value;

/// JSON text with white space, equal keys and escapes, and of little depth.
fn json_text() -> impl Strategy<Value = String> {
    let blank = prop::sample::select(vec!["", "", "", " ", "\n\t", "\r "]);
    let token = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,4})?([eE][+-]?[0-9]{1,2})?",
        key_token(),
        any::<String>().prop_map(|text| Value::from(text).to_string()),
    ];
    token.prop_recursive(5, 40, 5, move |inner| {
        let spaced = (blank.clone(), inner, blank.clone()).prop_map(|(a, value, b)| format!("{a}{value}{b}"));
        let member = (blank.clone(), key_token(), blank.clone(), spaced.clone())
            .prop_map(|(a, key, b, value)| format!("{a}{key}{b}:{value}"));
        prop_oneof![
            prop::collection::vec(spaced, 0..5).prop_map(|list| format!("[{}]", list.join(","))),
            prop::collection::vec(member, 0..5).prop_map(|list| format!("{{{}}}", list.join(","))),
        ]
    })
}

/// Few keys, so that equal ones meet; some of them escaped.
fn key_token() -> impl Strategy<Value = String> {
    let keys = [
        r#""event""#,
        r#""data""#,
        r#""cid""#,
        r#""""#,
        r#""d\u0061ta""#,
        r#""\u0065vent""#,
        r#""ci\u0064""#,
        r#""ev""#,
        r#""a\/b""#,
        r#""\ud83d\ude00""#,
        r#""\"\\\b\f\n\r\t""#,
        r#""é😀""#,
    ];
    prop::sample::select(keys.map(str::to_owned).to_vec())
}

fn kind_of(value: &Value) -> Kind {
    match value {
        Value::Null => Kind::Null,
        Value::Bool(_) => Kind::Bool,
        Value::Number(_) => Kind::Number,
        Value::String(_) => Kind::String,
        Value::Array(_) => Kind::Array,
        Value::Object(_) => Kind::Object,
    }
}

fn same(raw: Option<&str>, expected: Option<&Value>) -> bool {
    raw.map(|raw| serde_json::from_str::<Value>(raw).expect("raw text is JSON")).as_ref() == expected
}

/// All that must hold for any text, JSON or not.
fn check(text: &str) -> Result<(), TestCaseError> {
    let kind = json::validate(text);
    // Skipping a value, serde_json has our grammar (IgnoredAny is not limited in depth for what we generate, and lone
    // surrogates pass there as they do here).
    prop_assert_eq!(kind.is_some(), serde_json::from_str::<IgnoredAny>(text).is_ok(), "{}", text);
    let names = ["event", "data", "cid", "\u{1f600}", "a/b", ""];
    let members = json::object(text, names);
    let elements = json::array(text).map(|elements| elements.collect::<Vec<_>>());
    prop_assert_eq!(members.is_some(), kind == Some(Kind::Object));
    prop_assert_eq!(elements.is_some(), kind == Some(Kind::Array));
    let Some(kind) = kind else { return Ok(()) };
    prop_assert_eq!(json::kind(text), kind);

    let Ok(value) = serde_json::from_str::<Value>(text) else { return Ok(()) };
    prop_assert_eq!(kind, kind_of(&value));
    for (name, raw) in names.iter().zip(members.into_iter().flatten()) {
        prop_assert!(same(raw, value.get(name)), "{} of {}", name, text);
        prop_assert!(raw.is_none_or(|raw| raw.trim_ascii() == raw));
    }
    if let Some(elements) = elements {
        let expected = value.as_array().expect("of the same kind");
        prop_assert_eq!(elements.len(), expected.len());
        for (raw, value) in elements.iter().zip(expected) {
            prop_assert!(same(Some(raw), Some(value)), "{} in {}", raw, text);
        }
    }
    let token = text.trim_ascii();
    prop_assert_eq!(json::string(token).map(Cow::into_owned), value.as_str().map(str::to_owned));
    // serde_json's own numbers may be a bit off; ours are JavaScript's.
    let close = |(a, b): (f64, f64)| (a - b).abs() <= b.abs() * 1e-12;
    prop_assert_eq!(json::number(token).is_some(), value.is_number());
    prop_assert!(json::number(token).zip(value.as_f64()).is_none_or(close), "{}", text);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn json_is_read_as_serde_json_does(text in json_text()) {
        prop_assert!(json::validate(&text).is_some());
        check(&text)?;
    }

    #[test]
    fn json_with_an_error_is_refused_where_serde_json_does(
        text in json_text(), at in any::<prop::sample::Index>(), insert in r#"[\[\]{}:,"\\a0-9eE. +\-\x00-\x21é]{0,2}"#, cut in 0usize..3,
    ) {
        let mut chars: Vec<char> = text.chars().collect();
        let at = at.index(chars.len());
        let end = (at + cut).min(chars.len());
        chars.splice(at..end, insert.chars());
        check(&chars.into_iter().collect::<String>())?;
    }

    #[test]
    fn any_text_is_judged_as_serde_json_does(text in any::<String>(), json in r#"[\[\]{}:," \\a0-9eE.truefalsn+\-]{0,24}"#) {
        check(&text)?;
        check(&json)?;
    }

    #[test]
    fn any_string_is_written_and_read_back(text in any::<String>(), mark in prop::sample::select(vec!['"', '\\', '\n', '\u{0}', '\u{1f}', '\u{7f}', '\u{2028}'])) {
        for text in [text.clone(), format!("{text}{mark}{text}")] {
            let mut out = BytesMut::new();
            json::write_string(&mut out, &text);
            let token = str::from_utf8(&out).expect("text");
            prop_assert_eq!(token.to_owned(), serde_json::to_string(&text).expect("a string"));
            prop_assert_eq!(json::string(token), Some(Cow::Owned(text)));
        }
    }

    #[test]
    fn a_special_byte_is_found_at_any_place(before in "[a-zé\u{7f}\u{80}]{0,150}", after in "[a-zé]{0,60}") {
        for (special, valid) in [("\"", false), ("\\q", false), ("\u{1f}", false), ("\u{0}", false), ("\\\"", true), ("!", true)] {
            let text = format!("\"{before}{special}{after}\"");
            prop_assert_eq!(json::validate(&text).is_some(), valid, "{}", text);
        }
    }
}

#[test]
fn the_last_of_equal_keys_wins() {
    let text = r#"{"data":1,"d\u0061ta":2, "data" : {"data":3} }"#;
    assert_eq!(json::object(text, ["data"]), Some([Some(r#"{"data":3}"#)]));
    assert_eq!(json::object(r#"{"data":1,"d\u0061t\u0061":2}"#, ["data"]), Some([Some("2")]));
}

#[test]
fn a_key_is_compared_after_unescaping() {
    assert_eq!(json::object(r#"{"a\\nb":1}"#, ["a\\nb", "a\nb"]), Some([Some("1"), None]));
    assert_eq!(json::object(r#"{"a\nb":1}"#, ["a\\nb", "a\nb"]), Some([None, Some("1")]));
    assert_eq!(json::object(r#"{"\ud800":1,"\ufffd":2}"#, ["\u{fffd}"]), Some([Some("2")]));
    assert_eq!(
        json::object(r#"{"\ufffd":2,"\ud800":1}"#, ["\u{fffd}"]),
        Some([Some("2")]),
        "a lone surrogate is itself"
    );
}

#[test]
fn absent_is_not_null() {
    assert_eq!(json::object(r#"{"data":null}"#, ["data", "cid"]), Some([Some("null"), None]));
    assert_eq!(json::object(" {} ", ["data"]), Some([None]));
}

#[test]
fn lone_surrogates_pass_and_are_replaced_only_when_read() {
    let text = r#"{"data":"\ud800"}"#;
    assert_eq!(json::object(text, ["data"]), Some([Some(r#""\ud800""#)]));
    for (token, read) in [
        (r#""\ud800""#, "\u{fffd}"),
        (r#""\udc00x""#, "\u{fffd}x"),
        (r#""\ud800\ud83d\ude00""#, "\u{fffd}\u{1f600}"),
        (r#""\ud800\n""#, "\u{fffd}\n"),
        (r#""\uD83D\uDE00!""#, "\u{1f600}!"),
    ] {
        assert_eq!(json::string(token).as_deref(), Some(read), "{token}");
    }
}

#[test]
fn any_depth_is_read() {
    for depth in [1, 63, 64, 65, 127, 128, 129, 1000, 200_000] {
        let arrays = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(json::validate(&arrays), Some(Kind::Array), "{depth}");
        assert_eq!(json::validate(&arrays[..arrays.len() - 1]), None);
        assert_eq!(json::validate(&format!("{arrays}]")), None);
        let objects = format!("{}1{}", r#"{"a":["#.repeat(depth), "]}".repeat(depth));
        assert_eq!(json::validate(&objects), Some(Kind::Object), "{depth}");
        assert_eq!(json::validate(&objects.replacen("]}", "}]", 1)), None, "{depth}");
        let packet = format!(r#"{{"data":{objects}}}"#);
        let [data] = json::object(&packet, ["data"]).unwrap();
        assert_eq!(data.map(json::kind), Some(Kind::Object));
    }
}

#[test]
fn what_json_parse_refuses_is_refused() {
    for text in [
        "",
        " ",
        "\u{feff}{}",
        "nul",
        "nulls",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "+1",
        "0x1",
        "'a'",
        "[1,]",
        "[,1]",
        "{,}",
        r#"{"a":1,}"#,
        r#"{"a"}"#,
        r#"{a:1}"#,
        r#"{"a":1 "b":2}"#,
        "[1 2]",
        "[",
        "{",
        "]",
        r#"""#,
        r#""\x""#,
        r#""\u12g4""#,
        r#""\u+123""#,
        "\"\n\"",
        "\u{a0}1",
        "1\u{c}",
        "{} {}",
        "#1",
        "#2",
        "NaN",
        "undefined",
    ] {
        assert_eq!(json::validate(text), None, "{text:?}");
        assert_eq!(json::object(text, ["a"]), None, "{text:?}");
        assert!(json::array(text).is_none(), "{text:?}");
    }
}

#[test]
fn tokens_are_tokens_only() {
    assert_eq!(json::string(r#" "a""#), None);
    assert_eq!(json::string(r#""a" "#), None);
    assert_eq!(json::string("a"), None);
    assert_eq!(json::number(" 1"), None);
    assert_eq!(json::number("1 "), None);
    assert_eq!(json::number("\"1\""), None);
    assert_eq!(json::number("1e999"), Some(f64::INFINITY));
    assert!(json::number("-0").is_some_and(|zero| zero == 0.0 && zero.is_sign_negative()));
    assert!(matches!(json::string(r#""plain é""#), Some(Cow::Borrowed("plain é"))));
}

#[test]
fn an_empty_array_has_no_elements() {
    let mut elements = json::array(" [ ] ").unwrap();
    assert_eq!(elements.next(), None);
    assert_eq!(elements.next(), None);
    assert_eq!(json::array("[ [1, 2] ,\"]\"]").unwrap().collect::<Vec<_>>(), ["[1, 2]", "\"]\""]);
}

#[test]
fn members_come_in_order_with_their_tokens() {
    let mut seen = Vec::new();
    json::for_each_member(r#"{ "a" : 1,"a":[2] }"#, |key, value| seen.push((key, value))).unwrap();
    assert_eq!(seen, [("\"a\"", "1"), ("\"a\"", "[2]")]);
}
