//! Keys, and tokens that no server would make.
#![allow(dead_code, reason = "each test file uses some of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use jsonwebtoken::{Algorithm, EncodingKey};
use sc_auth::{Claims, JwtConfig, JwtEngine, Key};

/// The key of the recorded conversations.
pub(crate) const SECRET: &str = "test-secret-key";
/// When they were recorded, in seconds since 1970.
pub(crate) const NOW: u64 = 1_795_356_662;
pub(crate) const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

pub(crate) const RSA: &str = include_str!("../keys/rsa-pkcs8.pem");
pub(crate) const RSA_PKCS1: &str = include_str!("../keys/rsa-pkcs1.pem");
pub(crate) const RSA_PUB: &str = include_str!("../keys/rsa-pub.pem");
pub(crate) const RSA_PUB_PKCS1: &str = include_str!("../keys/rsa-pub1.pem");
pub(crate) const RSA_CERT: &str = include_str!("../keys/rsa-cert.pem");
pub(crate) const ES256_KEY: &str = include_str!("../keys/es256.pem");
pub(crate) const ES256_PUB: &str = include_str!("../keys/es256-pub.pem");
pub(crate) const ES384_KEY: &str = include_str!("../keys/es384.pem");
pub(crate) const ES384_PUB: &str = include_str!("../keys/es384-pub.pem");
pub(crate) const ED_KEY: &str = include_str!("../keys/ed.pem");
pub(crate) const ED_PUB: &str = include_str!("../keys/ed-pub.pem");

pub(crate) fn shared() -> JwtEngine {
    JwtEngine::new(JwtConfig::new(Key::shared(SECRET).unwrap())).unwrap()
}

pub(crate) fn claims(json: &str) -> Claims {
    serde_json::from_str(json).unwrap()
}

/// `header.payload.signature` of any two texts; HMAC whatever the header says.
pub(crate) fn forge(header: &str, payload: &str, algorithm: Algorithm, secret: &str) -> String {
    let mut token = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = (DEFAULT_PROVIDER.signer_factory)(&algorithm, &key).unwrap().try_sign(token.as_bytes()).unwrap();
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    token
}

pub(crate) fn hs256(header: &str, payload: &str) -> String {
    forge(header, payload, Algorithm::HS256, SECRET)
}

pub(crate) fn unsigned(header: &str, payload: &str, signature: &str) -> String {
    format!("{}.{}.{signature}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
}
