//! Which token gets which answer: name, message and property of each error.
//!
//! The first table is that of the recorded conversations with SC 14.7.2 (handshake-token-*, authenticate-token-*), the
//! second what jsonwebtoken 8.5.1 answers to odder tokens at the second 1700000000.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use jsonwebtoken::Algorithm;
use sc_auth::{AuthEngine, AuthError};
use serde_json::{Value, json};
use support::*;

/// Name, message and property of the error, or the claims.
fn answer(token: &str, now: u64) -> Value {
    match shared().verify(token, now) {
        Ok(claims) => Value::Object(claims),
        Err(error) => shown(&error),
    }
}

fn shown(error: &AuthError) -> Value {
    match error.property() {
        None => json!([error.name(), error.to_string()]),
        Some((name, value)) => json!([error.name(), error.to_string(), name, value]),
    }
}

fn invalid(message: &str) -> Value {
    json!(["AuthTokenInvalidError", message])
}

#[test]
fn the_recorded_conversations() {
    let good = json!({"username": "bob", "iat": NOW, "exp": NOW + 86_400});
    let payload = good.to_string();
    let bob = r#"{"username":"bob"}"#;
    let admin = r#"{"username":"admin"}"#;
    let none = r#"{"alg":"none","typ":"JWT"}"#;
    let no_exp = json!({"username": "bob", "iat": NOW});
    let expired = r#"{"username":"bob","iat":1451606400,"exp":1451610000}"#;
    let future = format!(r#"{{"username":"bob","iat":{NOW},"nbf":4102444800,"exp":4102448400}}"#);
    let hs512 = r#"{"alg":"HS512","typ":"JWT"}"#;
    let not_json = "Unexpected token 'o', \"not json\" is not valid JSON";
    let expired_error = json!(["AuthTokenExpiredError", "jwt expired", "expiry", "2016-01-01T01:00:00.000Z"]);
    let future_error = json!(["AuthTokenNotBeforeError", "jwt not active", "date", "2100-01-01T00:00:00.000Z"]);
    let rs256 = r#"{"alg":"RS256","typ":"JWT"}"#;
    for (name, token, expected) in [
        ("valid", hs256(HEADER, &payload), good.clone()),
        ("validNoExp", hs256(HEADER, &no_exp.to_string()), no_exp),
        ("hs512", forge(hs512, &payload, Algorithm::HS512, SECRET), good),
        ("expired", hs256(HEADER, expired), expired_error),
        ("nbfFuture", hs256(HEADER, &future), future_error),
        ("wrongSig", forge(HEADER, &payload, Algorithm::HS256, "another-key"), invalid("invalid signature")),
        ("algNone", unsigned(none, admin, ""), invalid("jwt signature is required")),
        ("algNoneSig", unsigned(none, admin, "xx"), invalid("invalid algorithm")),
        ("rs256hdr", hs256(rs256, bob), invalid("invalid algorithm")),
        ("badHeader", "abc.def.ghi".to_owned(), invalid("invalid token")),
        ("twoPart", "abc.def".to_owned(), invalid("jwt malformed")),
        ("onePart", "garbage".to_owned(), invalid("jwt malformed")),
        ("fourPart", "a.b.c.d".to_owned(), invalid("jwt malformed")),
        ("noSig", unsigned(HEADER, bob, ""), invalid("jwt signature is required")),
        ("badPayload", hs256(HEADER, "not json"), json!(["AuthTokenError", not_json])),
        ("expString", hs256(HEADER, r#"{"username":"bob","exp":"tomorrow"}"#), invalid("invalid exp value")),
        ("nonstring-empty", String::new(), invalid("jwt must be provided")),
    ] {
        assert_eq!(answer(&token, NOW), expected, "{name}");
    }
    assert_eq!(shown(&AuthError::missing()), invalid("jwt must be provided"));
    let not_a_string = "Invalid token format - Token must be a string";
    assert_eq!(shown(&AuthError::not_a_string()), json!(["AuthTokenError", not_a_string]));
}

/// Tokens of the conversations as they went over the wire.
#[test]
fn recorded_tokens_are_the_same_bytes() {
    let bob = format!(r#"{{"username":"bob","iat":{NOW},"exp":{}}}"#, NOW + 86_400);
    let hs512 = r#"{"alg":"HS512","typ":"JWT"}"#;
    for (made, recorded) in [
        (
            hs256(HEADER, r#"{"username":"bob","iat":1451606400,"exp":1451610000}"#),
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.\
             eyJ1c2VybmFtZSI6ImJvYiIsImlhdCI6MTQ1MTYwNjQwMCwiZXhwIjoxNDUxNjEwMDAwfQ.\
             xd6A2xqpS4tDRmi6cyQz3LeCw8aVb4PDgpIHWy7HiVs",
        ),
        (
            forge(hs512, &bob, Algorithm::HS512, SECRET),
            "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9.\
             eyJ1c2VybmFtZSI6ImJvYiIsImlhdCI6MTc5NTM1NjY2MiwiZXhwIjoxNzk1NDQzMDYyfQ.\
             XHbItJJRDWqm6i_YFcgjmGHzb6Paiz4svL_ldA_U_orUExTGLVOu-9R7CUH-bhXRrdSjAwEJGC7vOobekSUCvA",
        ),
    ] {
        assert_eq!(made, recorded);
    }
}

#[test]
fn odder_tokens_get_the_answer_of_jsonwebtoken() {
    let signed = |payload| hs256(HEADER, payload);
    let other = |header, payload| forge(header, payload, Algorithm::HS256, "another-key");
    let expired = |date: &str| json!(["AuthTokenExpiredError", "jwt expired", "expiry", date]);
    let not_json = json!(["AuthTokenError", "Unexpected token 'o', \"not json\" is not valid JSON"]);
    let early = |date: Value| json!(["AuthTokenNotBeforeError", "jwt not active", "date", date]);
    let rs256 = r#"{"alg":"RS256","typ":"JWT"}"#;
    for (token, expected) in [
        ("..".to_owned(), invalid("invalid token")),
        ("a..b".to_owned(), invalid("invalid token")),
        (".a.b".to_owned(), invalid("invalid token")),
        ("e30.e30.e30=".to_owned(), invalid("invalid token")),
        ("e30.e30.e30\n".to_owned(), invalid("invalid token")),
        ("e30.e30. ".to_owned(), invalid("invalid token")),
        ("e30.e30.!".to_owned(), invalid("invalid token")),
        ("\u{e9}.\u{e9}.\u{e9}".to_owned(), invalid("invalid token")),
        ("e30.e30.".to_owned(), invalid("jwt signature is required")),
        ("e30.e30.e30".to_owned(), invalid("invalid algorithm")),
        (hs256("null", "{}"), invalid("invalid token")),
        (hs256("5", "{}"), invalid("invalid algorithm")),
        (signed(""), invalid("invalid token")),
        // Several faults: the first in the order of jsonwebtoken is named.
        (other(HEADER, "not json"), not_json.clone()),
        (hs256(rs256, "not json"), not_json.clone()),
        (unsigned(HEADER, "not json", ""), not_json),
        (other(r#"{"alg":"HS256"}"#, "not json"), invalid("invalid signature")),
        (signed(r#"{"nbf":"x","exp":1}"#), invalid("invalid nbf value")),
        (signed(r#"{"nbf":4102444800,"exp":1}"#), early(json!("2100-01-01T00:00:00.000Z"))),
        // Times: null is a value, fractions count, no leeway.
        (signed(r#"{"nbf":null}"#), invalid("invalid nbf value")),
        (signed(r#"{"exp":null}"#), invalid("invalid exp value")),
        (signed(r#"{"exp":1.5}"#), expired("1970-01-01T00:00:01.500Z")),
        (signed(r#"{"exp":-1}"#), expired("1969-12-31T23:59:59.000Z")),
        (signed(r#"{"exp":1700000000}"#), expired("2023-11-14T22:13:20.000Z")),
        (signed(r#"{"exp":1700000000.5}"#), json!({"exp": 1_700_000_000.5})),
        (signed(r#"{"exp":1e18}"#), json!({"exp": 1e18})),
        (signed(r#"{"nbf":1700000000}"#), json!({"nbf": 1_700_000_000})),
        (signed(r#"{"nbf":1700000000.5}"#), early(json!("2023-11-14T22:13:20.500Z"))),
        (signed(r#"{"nbf":1e18}"#), early(Value::Null)),
    ] {
        assert_eq!(answer(&token, 1_700_000_000), expected, "{token:?}");
    }
}

/// Upstream takes these for good. They are signed by someone who has the key; still, they are no claims.
#[test]
fn claims_are_an_object() {
    for payload in ["null", "5", "\"x\"", "[]", "true"] {
        assert_eq!(answer(&hs256(HEADER, payload), NOW), invalid("invalid token"), "{payload}");
    }
    assert_eq!(answer(&hs256(r#"{"alg":"HS256"}"#, "not json"), NOW), invalid("invalid token"));
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(answer(&hs256(HEADER, &deep), NOW), invalid("invalid token"));
    assert_eq!(answer(&unsigned(&deep, "{}", "xx"), NOW), invalid("invalid algorithm"));
}

#[test]
fn a_token_that_is_only_too_early_is_not_bad() {
    let refused = |payload| shared().verify(&hs256(HEADER, payload), NOW).unwrap_err();
    assert!(refused(r#"{"exp":1}"#).is_bad_token());
    assert!(refused(r#"{"exp":"x"}"#).is_bad_token());
    assert!(refused("not json").is_bad_token());
    assert!(AuthError::missing().is_bad_token() && AuthError::not_a_string().is_bad_token());
    assert!(!refused(r#"{"nbf":4102444800}"#).is_bad_token());
}
