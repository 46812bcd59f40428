//! What holds for all claims and all strings.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::LazyLock;

use proptest::prelude::*;
use sc_auth::{AuthEngine, Claims, JwtConfig, JwtEngine, Key, VerifyKey};
use serde_json::Value;
use support::*;

/// A server in the middle of its rotations, so that every kind of key meets every string.
static ENGINE: LazyLock<JwtEngine> = LazyLock::new(|| {
    let mut config = JwtConfig::new(Key::shared(SECRET).unwrap());
    config.more_verify_keys = [RSA_PUB, ES256_PUB, ES384_PUB, ED_PUB].map(|pem| VerifyKey::public(pem).unwrap()).into();
    JwtEngine::new(config).unwrap()
});

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        // Halves come back exactly; serde_json does not promise the last bit of every number.
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 2.0)),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

fn some_claims() -> impl Strategy<Value = Claims> {
    prop::collection::btree_map(any::<String>(), value(), 0..8)
        .prop_map(|map| map.into_iter().filter(|(name, _)| !["iat", "exp", "nbf"].contains(&name.as_str())).collect())
}

/// Strings that come some way: three parts, half of them with a header that means something.
fn almost_a_token() -> impl Strategy<Value = String> {
    let header = prop_oneof![
        "[A-Za-z0-9_-]{0,40}",
        prop::sample::select(vec!["HS256", "RS256", "PS512", "ES256", "ES384", "EdDSA", "none"])
            .prop_map(|alg| unsigned(&format!(r#"{{"alg":"{alg}","typ":"JWT"}}"#), "", "").replace('.', "")),
    ];
    let payload =
        prop_oneof!["[A-Za-z0-9_-]{0,60}", value().prop_map(|v| unsigned("", &v.to_string(), "").replace('.', ""))];
    (header, payload, "[A-Za-z0-9_-]{0,90}").prop_map(|(h, p, s)| format!("{h}.{p}.{s}"))
}

proptest! {
    #[test]
    fn what_was_signed_verifies(claims in some_claims(), secs in 1..1u64 << 40, life in 1..1u64 << 40) {
        let mut signed = claims.clone();
        let token = ENGINE.sign(&mut signed, Some(life), secs).unwrap();
        let back = ENGINE.verify(&token, secs + life - 1).unwrap();
        prop_assert_eq!(&back, &signed);
        prop_assert!(ENGINE.verify(&token, secs + life).is_err());
        let added: Claims = back.into_iter().filter(|(name, _)| name != "iat" && name != "exp").collect();
        prop_assert_eq!(added, claims);
    }

    #[test]
    fn any_string_is_answered(token in any::<String>(), now in any::<u64>()) {
        prop_assert!(ENGINE.verify(&token, now).is_err());
    }

    #[test]
    fn almost_tokens_are_refused(token in almost_a_token(), now in any::<u64>()) {
        prop_assert!(ENGINE.verify(&token, now).is_err());
    }

    #[test]
    fn any_signed_payload_is_answered(payload in any::<String>(), value in value(), now in any::<u64>()) {
        let _ = ENGINE.verify(&hs256(HEADER, &payload), now);
        let payload = format!(r#"{{"exp":{value},"nbf":{value}}}"#);
        let _ = ENGINE.verify(&hs256(HEADER, &payload), now);
    }

    #[test]
    fn one_other_byte_spoils_a_token(
        claims in some_claims(), at in any::<prop::sample::Index>(), byte in 0u8..128, pair in any::<bool>(),
    ) {
        static ED: LazyLock<JwtEngine> =
            LazyLock::new(|| JwtEngine::new(JwtConfig::new(Key::pair(ED_KEY, ED_PUB).unwrap())).unwrap());
        let engine: &JwtEngine = if pair { &ED } else { &ENGINE };
        let token = engine.sign(&mut claims.clone(), None, NOW).unwrap();
        let mut bytes = token.clone().into_bytes();
        bytes[at.index(token.len())] = byte;
        let changed = String::from_utf8(bytes).unwrap();
        prop_assume!(changed != token);
        prop_assert!(engine.verify(&changed, NOW).is_err(), "{}", changed);
    }
}

/// The last characters of a signature hold bits that stand for nothing; they must not be free to choose either.
#[test]
fn every_last_character_but_one_is_wrong() {
    let token = ENGINE.sign(&mut Claims::new(), None, NOW).unwrap();
    let good = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        .chars()
        .filter(|&last| ENGINE.verify(&format!("{}{last}", &token[..token.len() - 1]), NOW).is_ok())
        .count();
    assert_eq!(good, 1);
}
