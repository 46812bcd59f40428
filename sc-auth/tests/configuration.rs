//! Keys and configurations that are refused at the start, rather than by the first user or by no one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use sc_auth::{Algorithm, JwtConfig, JwtEngine, Key, KeyError, VERIFY_KEYS_MAX, VerifyKey};
use support::*;

const ES512_KEY: &str = include_str!("keys/es512.pem");
const ES512_PUB: &str = include_str!("keys/es512-pub.pem");
const ES256_SEC1: &str = include_str!("keys/es256-sec1.pem");
const ES256_ODD: &str = include_str!("keys/es256-pub-odd.pem");
const ES256_CERT: &str = include_str!("keys/es256-cert.pem");
const RSA_SMALL: &str = include_str!("keys/rsa1024.pem");
const RSA_SMALL_PUB: &str = include_str!("keys/rsa1024-pub.pem");
const RSA_OTHER_PUB: &str = include_str!("keys/rsa-other-pub.pem");
const RSA_ENCRYPTED: &str = include_str!("keys/rsa-encrypted.pem");

fn engine(key: Key) -> Result<JwtEngine, KeyError> {
    JwtEngine::new(JwtConfig::new(key))
}

fn pair(private: &str, public: &str) -> Option<KeyError> {
    Key::pair(private, public).and_then(engine).err()
}

#[test]
fn secrets_that_are_none() {
    assert_eq!(Key::shared("").err(), Some(KeyError::EmptySecret));
    assert_eq!(VerifyKey::shared("").err(), Some(KeyError::EmptySecret));
    // The way to forged tokens in SC 4: a public key in a wrapping that it did not know became an HMAC secret.
    for pem in [ES256_ODD, RSA_PUB, RSA] {
        assert_eq!(Key::shared(pem).err(), Some(KeyError::PemAsSecret));
    }
}

#[test]
fn every_usual_wrapping_is_read() {
    for (private, public) in [
        (RSA, RSA_PUB),
        (RSA_PKCS1, RSA_PUB_PKCS1),
        (RSA, RSA_CERT),
        (ES256_KEY, ES256_CERT),
        (ES384_KEY, ES384_PUB),
        (ED_KEY, ED_PUB),
    ] {
        assert_eq!(pair(private, public), None, "{public}");
    }
}

#[test]
fn pairs_that_would_not_work() {
    for (private, public, error) in [
        (RSA, RSA_OTHER_PUB, KeyError::Pair),
        (RSA, ES256_PUB, KeyError::Pair),
        (RSA_PUB, RSA_PUB, KeyError::PrivateKey),
        (RSA_PUB_PKCS1, RSA_PUB, KeyError::PrivateKey),
        (RSA, RSA, KeyError::PublicKey),
        (RSA_PKCS1, RSA_PKCS1, KeyError::PublicKey),
        (RSA_ENCRYPTED, RSA_PUB, KeyError::PrivateKey),
        (RSA_SMALL, RSA_SMALL_PUB, KeyError::CannotSign),
        (ES256_SEC1, ES256_PUB, KeyError::PrivateKey),
        (ES256_KEY, ES256_ODD, KeyError::PublicKey),
        (ES384_KEY, ES256_PUB, KeyError::CannotSign),
        (ES512_KEY, ES512_PUB, KeyError::PublicKey),
        ("", "", KeyError::PrivateKey),
        ("secret", RSA_PUB, KeyError::PrivateKey),
        (RSA, "-----BEGIN PUBLIC KEY-----", KeyError::PublicKey),
    ] {
        assert_eq!(pair(private, public), Some(error), "{private}{public}");
    }
}

#[test]
fn algorithms_that_do_not_fit() {
    let with = |key: &str, algorithm: Option<Algorithm>, accepted: Option<Vec<Algorithm>>| {
        let mut config = JwtConfig::new(Key::shared(key).unwrap());
        config.algorithm = algorithm;
        config.verify_algorithms = accepted;
        JwtEngine::new(config).err()
    };
    use Algorithm::*;
    assert_eq!(with(SECRET, Some(RS256), None), Some(KeyError::AlgorithmMismatch(RS256)));
    assert_eq!(with(SECRET, None, Some(vec![RS256])), Some(KeyError::NoAlgorithm));
    assert_eq!(with(SECRET, None, Some(vec![])), Some(KeyError::NoAlgorithm));
    assert_eq!(with(SECRET, Some(HS256), Some(vec![HS512])), Some(KeyError::NotAccepted(HS256)));
    assert_eq!(with(SECRET, Some(HS512), Some(vec![RS256, HS512])), None);
    assert_eq!("none".parse::<Algorithm>(), Err(KeyError::UnknownAlgorithm("none".to_owned())));
}

#[test]
fn the_number_of_keys_has_a_limit() {
    let with = |more: usize| {
        let mut config = JwtConfig::new(Key::shared(SECRET).unwrap());
        config.more_verify_keys = vec![VerifyKey::shared("old").unwrap(); more];
        JwtEngine::new(config).err()
    };
    assert_eq!(with(VERIFY_KEYS_MAX - 1), None);
    assert_eq!(with(VERIFY_KEYS_MAX), Some(KeyError::TooManyKeys));
}

#[test]
fn the_three_options_of_sc() {
    let key = |a, b, c| Key::from_options(a, b, c).map(|key| key.map(|key| key.algorithms()[0]));
    use Algorithm::*;
    assert_eq!(key(None, None, None), Ok(None));
    assert_eq!(key(Some(SECRET), None, None), Ok(Some(HS256)));
    assert_eq!(key(Some(SECRET), Some(RSA), Some(RSA_PUB)), Ok(Some(RS256)));
    assert_eq!(key(Some(""), None, None), Err(KeyError::EmptySecret));
    let text = |answer: Result<_, KeyError>| answer.unwrap_err().to_string();
    assert_eq!(
        text(key(None, None, Some(RSA_PUB))),
        "The authPrivateKey option must be specified if authPublicKey is specified"
    );
    assert_eq!(
        text(key(Some(SECRET), Some(RSA), None)),
        "The authPublicKey option must be specified if authPrivateKey is specified"
    );
}

#[test]
fn keys_are_not_printed() {
    let shown = format!("{:?}", engine(Key::shared(SECRET).unwrap()).unwrap());
    assert!(shown.contains("HS256") && !shown.contains(SECRET), "{shown}");
}
