//! What is in a token that is made here.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sc_auth::{Algorithm, AuthEngine, AuthError, JwtConfig, JwtEngine, Key};
use support::*;

fn part(token: &str, index: usize) -> String {
    let part = token.split('.').nth(index).unwrap();
    String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn payload_of(json: &str, expires_in: Option<u64>) -> Result<String, AuthError> {
    let mut claims = claims(json);
    let token = shared().sign(&mut claims, expires_in, 1000)?;
    let payload = part(&token, 1);
    assert_eq!(support::claims(&payload), claims, "the caller is given the claims of the token");
    Ok(payload)
}

#[test]
fn the_bytes_are_those_of_sc_14() {
    // Recorded: socket.setAuthToken({username: 'carol'}) at that second.
    let mut claims = claims(r#"{"username":"carol"}"#);
    let token = shared().sign(&mut claims, None, 1_795_356_681).unwrap();
    assert_eq!(
        token,
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.\
         eyJ1c2VybmFtZSI6ImNhcm9sIiwiaWF0IjoxNzk1MzU2NjgxLCJleHAiOjE3OTU0NDMwODF9.\
         LAY4q8fA5ByOHNd_hrFx3X8BZnD9OV5RsAmZGqQ2TcQ"
    );
}

#[test]
fn lifetime_default_and_own_expiry() {
    for (json, expires_in, payload) in [
        ("{}", None, r#"{"iat":1000,"exp":87400}"#),
        ("{}", Some(5), r#"{"iat":1000,"exp":1005}"#),
        ("{}", Some(0), r#"{"iat":1000,"exp":1000}"#),
        (r#"{"z":1}"#, Some(5), r#"{"z":1,"iat":1000,"exp":1005}"#),
        // The application's own exp wins; iat keeps the place and value it has, and exp is reckoned from it.
        (r#"{"exp":4102444800}"#, Some(5), r#"{"exp":4102444800,"iat":1000}"#),
        (r#"{"exp":1,"iat":7}"#, None, r#"{"exp":1,"iat":7}"#),
        (r#"{"iat":7,"z":1}"#, Some(5), r#"{"iat":7,"z":1,"exp":12}"#),
        (r#"{"iat":-7}"#, Some(5), r#"{"iat":-7,"exp":-2}"#),
        (r#"{"iat":7.5}"#, Some(5), r#"{"iat":7.5,"exp":12.5}"#),
        (r#"{"iat":0,"z":1}"#, Some(5), r#"{"iat":1000,"z":1,"exp":1005}"#),
        (r#"{"nbf":2000}"#, Some(5), r#"{"nbf":2000,"iat":1000,"exp":1005}"#),
    ] {
        assert_eq!(payload_of(json, expires_in).unwrap(), payload, "{json} {expires_in:?}");
    }
}

#[test]
fn times_that_are_none_are_not_signed() {
    for (json, message) in [
        (r#"{"exp":"tomorrow"}"#, "\"exp\" should be a number of seconds"),
        (r#"{"exp":null}"#, "\"exp\" should be a number of seconds"),
        (r#"{"iat":true}"#, "\"iat\" should be a number of seconds"),
        (r#"{"nbf":[]}"#, "\"nbf\" should be a number of seconds"),
    ] {
        let error = payload_of(json, None).unwrap_err();
        assert_eq!((error.name(), error.to_string().as_str(), error.is_bad_token()), ("Error", message, false));
    }
    assert!(matches!(payload_of("{}", Some(u64::MAX)), Err(AuthError::Sign { .. })));
}

#[test]
fn the_default_lifetime_is_an_option() {
    let mut config = JwtConfig::new(Key::shared(SECRET).unwrap());
    config.default_expiry_secs = 10;
    let mut claims = claims("{}");
    JwtEngine::new(config).unwrap().sign(&mut claims, None, NOW).unwrap();
    assert_eq!(claims["exp"], NOW + 10);
}

#[test]
fn every_algorithm_signs_what_it_verifies() {
    use Algorithm::*;
    for (key, algorithms) in [
        (Key::shared(SECRET).unwrap(), &[HS256, HS384, HS512][..]),
        (Key::pair(RSA, RSA_PUB).unwrap(), &[RS256, RS384, RS512, PS256, PS384, PS512]),
        (Key::pair(ES256_KEY, ES256_PUB).unwrap(), &[ES256]),
        (Key::pair(ES384_KEY, ES384_PUB).unwrap(), &[ES384]),
        (Key::pair(ED_KEY, ED_PUB).unwrap(), &[EdDSA]),
    ] {
        assert_eq!(key.algorithms(), algorithms);
        let default = JwtEngine::new(JwtConfig::new(key.clone())).unwrap();
        assert_eq!(default.algorithm(), algorithms[0]);
        for &algorithm in algorithms {
            let mut config = JwtConfig::new(key.clone());
            config.algorithm = Some(algorithm);
            let engine = JwtEngine::new(config).unwrap();
            let mut claims = claims(r#"{"username":"bob"}"#);
            let token = engine.sign(&mut claims, None, NOW).unwrap();
            assert_eq!(part(&token, 0), format!(r#"{{"alg":"{algorithm}","typ":"JWT"}}"#));
            assert_eq!(engine.verify(&token, NOW).as_ref(), Ok(&claims));
            assert_eq!(default.verify(&token, NOW), Ok(claims), "all that fit the key are accepted by default");
        }
    }
}

/// SC: with `authAlgorithm` set and `authVerifyAlgorithms` not, only that one is accepted.
#[test]
fn a_chosen_algorithm_is_the_only_one() {
    let engine = |algorithm, accepted: Option<&[Algorithm]>| {
        let mut config = JwtConfig::new(Key::shared(SECRET).unwrap());
        config.algorithm = algorithm;
        config.verify_algorithms = accepted.map(<[_]>::to_vec);
        JwtEngine::new(config).unwrap()
    };
    let token = shared().sign(&mut claims("{}"), None, NOW).unwrap();
    let refused = engine(Some(Algorithm::HS512), None).verify(&token, NOW).unwrap_err();
    assert_eq!(refused.to_string(), "invalid algorithm");
    let both = [Algorithm::RS256, Algorithm::HS256, Algorithm::HS512];
    assert!(engine(Some(Algorithm::HS512), Some(&both)).verify(&token, NOW).is_ok());
}
