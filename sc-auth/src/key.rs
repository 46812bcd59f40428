//! Keys, each with the algorithms that it may be used with.
//!
//! The family of algorithms comes from what the key *is*, never from what a token says: a token that names HS256 is
//! not even tried against a public key. SC 4 guessed the family from the text of the key and took a public key in an
//! unknown wrapping for an HMAC secret; that is the way in which anyone could sign.

use std::fmt;

use jsonwebtoken::{DecodingKey, DecodingKeyKind, EncodingKey};
use thiserror::Error;

use crate::Algorithm;
use crate::algorithm::{ED25519, HMAC, P256, P384, RSA};

/// Lengths of an uncompressed point on P-256 and on P-384 (SEC 1, section 2.3.3).
const POINT_P256: usize = 65;
const POINT_P384: usize = 97;

/// What a server signs with: one shared secret, or a pair of keys.
///
/// `Debug` shows no key material.
#[derive(Clone)]
pub struct Key {
    pub(crate) signing: EncodingKey,
    pub(crate) verifying: VerifyKey,
}

impl Key {
    /// A shared secret, for HS256, HS384 and HS512: the option `authKey`. SC uses the bytes of the text as they are.
    ///
    /// # Errors
    /// [`KeyError::EmptySecret`], and [`KeyError::PemAsSecret`] for a text that is a PEM key.
    pub fn shared(secret: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let secret = secret.as_ref();
        Ok(Self { verifying: VerifyKey::shared(secret)?, signing: EncodingKey::from_secret(secret) })
    }

    /// A pair of keys in PEM: the options `authPrivateKey` and `authPublicKey`.
    ///
    /// Private: `PRIVATE KEY` (PKCS#8: RSA of 2048 to 8192 bits, P-256, P-384, Ed25519) or `RSA PRIVATE KEY`
    /// (PKCS#1). Encrypted keys and `EC PRIVATE KEY` are not read; `openssl pkcs8 -topk8 -nocrypt` makes what is
    /// wanted of them. Public: see [`VerifyKey::public`].
    ///
    /// # Errors
    /// [`KeyError::PrivateKey`], [`KeyError::PublicKey`], [`KeyError::Pair`] if the two are of different kinds.
    /// Whether they belong together is seen by [`JwtEngine::new`](crate::JwtEngine::new), which tries them.
    pub fn pair(private_pem: &str, public_pem: &str) -> Result<Self, KeyError> {
        if !has_label(private_pem, &["PRIVATE KEY", "RSA PRIVATE KEY"]) {
            return Err(KeyError::PrivateKey);
        }
        let verifying = VerifyKey::public(public_pem)?;
        let pem = private_pem.as_bytes();
        let signing = EncodingKey::from_rsa_pem(pem)
            .or_else(|_| EncodingKey::from_ec_pem(pem))
            .or_else(|_| EncodingKey::from_ed_pem(pem))
            .map_err(|_| KeyError::PrivateKey)?;
        if signing.family() != verifying.decoding.family() {
            return Err(KeyError::Pair);
        }
        Ok(Self { signing, verifying })
    }

    /// From SC's three options. `None` if no option is set: SC then makes a random `authKey` for this run.
    ///
    /// As in SC, a pair goes before `authKey`, and half a pair is an error.
    ///
    /// # Errors
    /// See [`shared`](Self::shared) and [`pair`](Self::pair); [`KeyError::PrivateMissing`] and
    /// [`KeyError::PublicMissing`], which have the texts of SC's `InvalidOptionsError`.
    pub fn from_options(
        auth_key: Option<&str>,
        auth_private_key: Option<&str>,
        auth_public_key: Option<&str>,
    ) -> Result<Option<Self>, KeyError> {
        match (auth_private_key, auth_public_key) {
            (Some(private), Some(public)) => Self::pair(private, public).map(Some),
            (None, Some(_)) => Err(KeyError::PrivateMissing),
            (Some(_), None) => Err(KeyError::PublicMissing),
            (None, None) => auth_key.map(Self::shared).transpose(),
        }
    }

    /// The algorithms that fit this key; the first of them is the default for signing (HS256, RS256, ES256 or ES384,
    /// EdDSA).
    pub const fn algorithms(&self) -> &'static [Algorithm] {
        self.verifying.family
    }

    /// The half of the key that verifies. To rotate keys, this is what the old key leaves behind.
    pub fn verify_key(&self) -> VerifyKey {
        self.verifying.clone()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("algorithms", &self.algorithms()).finish_non_exhaustive()
    }
}

/// A key that tokens are verified with, and the algorithms that it may be used with.
///
/// `Debug` shows no key material.
#[derive(Clone)]
pub struct VerifyKey {
    pub(crate) decoding: DecodingKey,
    /// All that fits the key; fixed by what the key is.
    pub(crate) family: &'static [Algorithm],
    /// What of it is accepted.
    pub(crate) accepted: Vec<Algorithm>,
}

impl VerifyKey {
    /// A shared secret. It accepts HS256, HS384 and HS512, as SC does.
    ///
    /// # Errors
    /// [`KeyError::EmptySecret`], and [`KeyError::PemAsSecret`] for a text that is a PEM key.
    pub fn shared(secret: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let secret = secret.as_ref();
        if secret.is_empty() {
            return Err(KeyError::EmptySecret);
        }
        if secret.windows(PEM_BEGIN.len()).any(|w| w == PEM_BEGIN.as_bytes()) {
            return Err(KeyError::PemAsSecret);
        }
        Ok(Self::new(DecodingKey::from_secret(secret), HMAC))
    }

    /// A public key in PEM: `PUBLIC KEY` (RSA, P-256, P-384, Ed25519), `RSA PUBLIC KEY` or `CERTIFICATE`. Of a
    /// certificate only the key is taken; neither its dates nor its issuer are looked at, as in SC.
    ///
    /// It accepts the RS and PS algorithms, or ES256, or ES384, or EdDSA.
    ///
    /// # Errors
    /// [`KeyError::PublicKey`].
    pub fn public(pem: &str) -> Result<Self, KeyError> {
        if !has_label(pem, &["PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE"]) {
            return Err(KeyError::PublicKey);
        }
        let pem = pem.as_bytes();
        if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
            return Ok(Self::new(key, RSA));
        }
        if let Ok(key) = DecodingKey::from_ed_pem(pem) {
            return Ok(Self::new(key, ED25519));
        }
        let key = DecodingKey::from_ec_pem(pem).map_err(|_| KeyError::PublicKey)?;
        let curve = match key.kind() {
            DecodingKeyKind::SecretOrDer(point) if point.len() == POINT_P256 => P256,
            DecodingKeyKind::SecretOrDer(point) if point.len() == POINT_P384 => P384,
            _ => return Err(KeyError::PublicKey),
        };
        Ok(Self::new(key, curve))
    }

    /// The same key, for these algorithms only. Those that do not fit the key are left out: a list may name algorithms
    /// for several keys, as `authVerifyAlgorithms` may.
    ///
    /// # Errors
    /// [`KeyError::NoAlgorithm`] if none of them fits.
    pub fn only(mut self, algorithms: &[Algorithm]) -> Result<Self, KeyError> {
        self.accepted = self.family.iter().copied().filter(|a| algorithms.contains(a)).collect();
        if self.accepted.is_empty() { Err(KeyError::NoAlgorithm) } else { Ok(self) }
    }

    fn new(decoding: DecodingKey, family: &'static [Algorithm]) -> Self {
        Self { decoding, family, accepted: family.to_vec() }
    }
}

impl fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyKey").field("accepted", &self.accepted).finish_non_exhaustive()
    }
}

/// Why a key, or the configuration of a [`JwtEngine`](crate::JwtEngine), was refused. No text holds key material.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Anyone could sign with it.
    #[error("The authKey option must not be empty")]
    EmptySecret,
    /// A PEM text as a shared secret: a public key would let anyone sign.
    #[error("The authKey option is a PEM key: give it as authPrivateKey and authPublicKey")]
    PemAsSecret,
    /// SC's text.
    #[error("The authPrivateKey option must be specified if authPublicKey is specified")]
    PrivateMissing,
    /// SC's text.
    #[error("The authPublicKey option must be specified if authPrivateKey is specified")]
    PublicMissing,
    /// See [`Key::pair`] for what is read.
    #[error("The private key is no unencrypted PKCS#8 or PKCS#1 key in PEM of RSA, P-256, P-384 or Ed25519")]
    PrivateKey,
    /// See [`VerifyKey::public`] for what is read.
    #[error("The public key is no public key or certificate in PEM of RSA, P-256, P-384 or Ed25519")]
    PublicKey,
    /// The two do not belong together: what one signs, the other does not verify.
    #[error("The private and the public key are not a pair")]
    Pair,
    /// The key loads but cannot sign: an RSA key of less than 2048 bits, say.
    #[error("The key cannot sign: an RSA key has 2048 to 8192 bits")]
    CannotSign,
    /// Neither a name of RFC 7518 that is supported here, nor ever `none`.
    #[error("Unknown algorithm {0:?}")]
    UnknownAlgorithm(String),
    /// The algorithm is not one for this kind of key.
    #[error("The algorithm {0} does not fit the key")]
    AlgorithmMismatch(Algorithm),
    /// Tokens of this server would be refused by it.
    #[error("The algorithm {0} that tokens are signed with is not among those that are accepted")]
    NotAccepted(Algorithm),
    /// A list of algorithms of which none fits the key.
    #[error("None of the algorithms fits the key")]
    NoAlgorithm,
    /// More than [`VERIFY_KEYS_MAX`](crate::VERIFY_KEYS_MAX): each costs an attacker's token one more verification.
    #[error("Too many keys to verify with")]
    TooManyKeys,
}

const PEM_BEGIN: &str = "-----BEGIN ";

/// The library takes a private key where a public one belongs, and the other way round, and then no token ever
/// verifies.
fn has_label(pem: &str, labels: &[&str]) -> bool {
    pem.split_once(PEM_BEGIN)
        .and_then(|(_, rest)| rest.split_once("-----"))
        .is_some_and(|(label, _)| labels.contains(&label))
}
