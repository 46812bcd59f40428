//! JSON Web Tokens as SocketCluster 14 signs and verifies them.

use std::borrow::Cow;
use std::cmp::Ordering;

use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use serde_json::{Number, Value};

use crate::compact::{self, Header, Parts};
use crate::{Algorithm, AuthEngine, AuthError, Claims, Expiry, Key, KeyError, VerifyKey, js};

/// SC's `authDefaultExpiry`: a day, in seconds.
pub const DEFAULT_EXPIRY_SECS: u64 = 86_400;

/// Keys that tokens are verified with, the current one included. Each may cost a token that nobody signed one more
/// verification.
pub const VERIFY_KEYS_MAX: usize = 16;

/// What a [`JwtEngine`] is made of. [`JwtConfig::new`] gives SC's defaults.
#[derive(Clone, Debug)]
pub struct JwtConfig {
    /// Signs, and verifies: `authKey`, or `authPrivateKey` and `authPublicKey`.
    pub key: Key,
    /// `authAlgorithm`. Default: `None`, the first that fits the key, and then all that fit the key are accepted. If
    /// it is set and `verify_algorithms` is not, only it is accepted, as in SC.
    pub algorithm: Option<Algorithm>,
    /// `authVerifyAlgorithms`: what [`key`](Self::key) accepts. Those that do not fit the key are left out.
    pub verify_algorithms: Option<Vec<Algorithm>>,
    /// More keys to verify with, for rotation: tokens that the last key signed stay good until they expire. Each key
    /// has its own algorithms, so that one may also move from a shared key to a pair.
    pub more_verify_keys: Vec<VerifyKey>,
    /// `authDefaultExpiry`: the lifetime in seconds of a token for which none is asked. Default
    /// [`DEFAULT_EXPIRY_SECS`].
    pub default_expiry_secs: u64,
}

impl JwtConfig {
    /// SC's defaults for this key.
    pub const fn new(key: Key) -> Self {
        Self {
            key,
            algorithm: None,
            verify_algorithms: None,
            more_verify_keys: Vec::new(),
            default_expiry_secs: DEFAULT_EXPIRY_SECS,
        }
    }
}

/// SocketCluster's own [`AuthEngine`]: signed JSON Web Tokens (RFC 7519) in compact form, compatible with
/// tokens of `jsonwebtoken` on npm, which SC servers use.
///
/// The cryptography is named outright and not taken from the process-wide default of the crate `jsonwebtoken`; none
/// is installed either.
#[derive(Debug)]
pub struct JwtEngine {
    key: Key,
    algorithm: Algorithm,
    /// The header part of every token of this engine, which saves reading it when one comes back.
    header: String,
    /// The current key first.
    verify_keys: Vec<VerifyKey>,
    default_expiry_secs: u64,
}

impl JwtEngine {
    /// Checks the configuration, and signs and verifies once: a key that does not work is found here and not by the
    /// first user.
    ///
    /// # Errors
    /// [`KeyError`], of everything that would let no token, or every token, through.
    pub fn new(config: JwtConfig) -> Result<Self, KeyError> {
        let JwtConfig { key, algorithm, verify_algorithms, more_verify_keys, default_expiry_secs } = config;
        let family = key.algorithms();
        let chosen = algorithm.unwrap_or(family[0]);
        if !family.contains(&chosen) {
            return Err(KeyError::AlgorithmMismatch(chosen));
        }
        let current = match (verify_algorithms, algorithm) {
            (Some(list), _) => key.verify_key().only(&list)?,
            (None, Some(only)) => key.verify_key().only(&[only])?,
            (None, None) => key.verify_key(),
        };
        if !current.accepted.contains(&chosen) {
            return Err(KeyError::NotAccepted(chosen));
        }
        let mut verify_keys = vec![current];
        verify_keys.extend(more_verify_keys);
        if verify_keys.len() > VERIFY_KEYS_MAX {
            return Err(KeyError::TooManyKeys);
        }
        let header = compact::encode_header(chosen);
        let engine = Self { key, algorithm: chosen, header, verify_keys, default_expiry_secs };
        engine.try_out()?;
        Ok(engine)
    }

    /// The algorithm that tokens are signed with.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    fn try_out(&self) -> Result<(), KeyError> {
        let mut token = compact::encode(&self.header, "{}");
        let signature = self.raw_sign(token.as_bytes()).ok_or(KeyError::CannotSign)?;
        compact::append_signature(&mut token, &signature);
        let works = Parts::split(&token).is_ok_and(|parts| verifies(&self.verify_keys[0], self.algorithm, &parts));
        if works { Ok(()) } else { Err(KeyError::Pair) }
    }

    fn raw_sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let signer = (DEFAULT_PROVIDER.signer_factory)(&self.algorithm.backend(), &self.key.signing).ok()?;
        signer.try_sign(message).ok()
    }

    fn check_signature(&self, parts: &Parts<'_>, header: Header) -> Result<(), AuthError> {
        if parts.signature.is_empty() {
            return Err(AuthError::invalid("jwt signature is required"));
        }
        let mut candidates = header
            .algorithm
            .into_iter()
            .flat_map(|a| self.verify_keys.iter().filter(move |key| key.accepted.contains(&a)).map(move |key| (key, a)))
            .peekable();
        if candidates.peek().is_none() {
            return Err(AuthError::invalid("invalid algorithm"));
        }
        if candidates.any(|(key, algorithm)| verifies(key, algorithm, parts)) {
            Ok(())
        } else {
            Err(AuthError::invalid("invalid signature"))
        }
    }
}

impl AuthEngine for JwtEngine {
    /// As SC 14: an `exp` in the claims goes before `expires_in`, an `iat` in the claims is kept and `exp` is
    /// reckoned from it; what is added stands behind the other claims, `iat` first.
    fn sign(&self, claims: &mut Claims, expires_in: Option<u64>, unix_secs: u64) -> Result<String, AuthError> {
        let iat = match numeric(claims, "iat")? {
            Some(iat) if iat.as_f64() != Some(0.0) => iat.clone(),
            _ => Number::from(unix_secs),
        };
        numeric(claims, "nbf")?;
        let exp = match numeric(claims, "exp")? {
            Some(_) => None,
            None => Some(add_secs(&iat, expires_in.unwrap_or(self.default_expiry_secs))?),
        };
        // An `iat` of 0 counts as none, but keeps its place.
        let own_iat = claims.get_mut("iat").map(|own| *own = Value::Number(iat.clone())).is_some();
        let payload = payload(claims, [("iat", (!own_iat).then_some(&iat)), ("exp", exp.as_ref())])?;
        let mut token = compact::encode(&self.header, &payload);
        let signature = self.raw_sign(token.as_bytes()).ok_or_else(|| sign_error("the key cannot sign"))?;
        compact::append_signature(&mut token, &signature);
        claims.insert("iat".to_owned(), Value::Number(iat));
        if let Some(exp) = exp {
            claims.insert("exp".to_owned(), Value::Number(exp));
        }
        Ok(token)
    }

    /// The order of the checks is that of jsonwebtoken 8.5.1, so that a token with several faults gets the same answer.
    fn verify(&self, token: &str, unix_secs: u64) -> Result<Claims, AuthError> {
        let parts = Parts::split(token)?;
        let header = if parts.header == self.header {
            Header { algorithm: Some(self.algorithm), says_jwt: true }
        } else {
            Header::decode(parts.header)?
        };
        let payload = parts.payload();
        if let Err(error) = self.check_signature(&parts, header) {
            // Upstream reads the payload before it looks at the signature. The claims of a stranger are not worth
            // building.
            compact::syntax(&payload, header)?;
            return Err(error);
        }
        let claims = compact::claims(&payload, header)?;
        check_times(&claims, unix_secs)?;
        Ok(claims)
    }
}

fn verifies(key: &VerifyKey, algorithm: Algorithm, parts: &Parts<'_>) -> bool {
    let Some(signature) = parts.signature() else {
        return false;
    };
    // Made anew for each token, since the library's verifiers are not `Send`; for HMAC that is two blocks of the hash.
    (DEFAULT_PROVIDER.verifier_factory)(&algorithm.backend(), &key.decoding)
        .is_ok_and(|verifier| verifier.verify(parts.signed, &signature).is_ok())
}

/// `nbf`, then `exp`, both without leeway.
fn check_times(claims: &Claims, now: u64) -> Result<(), AuthError> {
    if let Some(nbf) = claims.get("nbf") {
        let Value::Number(nbf) = nbf else {
            return Err(AuthError::invalid("invalid nbf value"));
        };
        if compare(nbf, now) == Ordering::Greater {
            return Err(AuthError::NotBefore { date: date(nbf) });
        }
    }
    if let Some(exp) = claims.get("exp") {
        let Value::Number(exp) = exp else {
            return Err(AuthError::invalid("invalid exp value"));
        };
        if compare(exp, now) != Ordering::Greater {
            return Err(AuthError::Expired { message: "jwt expired", expiry: Expiry::Date(date(exp)) });
        }
    }
    Ok(())
}

/// Times of a claim may be negative or have a fraction (`NumericDate`, RFC 7519, section 2); now is whole.
fn compare(claim: &Number, now: u64) -> Ordering {
    match (claim.as_u64(), claim.as_i64(), claim.as_f64()) {
        (Some(secs), _, _) => secs.cmp(&now),
        (None, Some(_), _) => Ordering::Less,
        (None, None, Some(secs)) => secs.total_cmp(&(now as f64)),
        (None, None, None) => Ordering::Less,
    }
}

fn date(claim: &Number) -> Option<String> {
    claim.as_f64().and_then(js::iso_date)
}

fn numeric<'a>(claims: &'a Claims, name: &str) -> Result<Option<&'a Number>, AuthError> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => Ok(Some(number)),
        Some(_) => Err(AuthError::Sign { message: Cow::Owned(format!("\"{name}\" should be a number of seconds")) }),
    }
}

fn add_secs(iat: &Number, secs: u64) -> Result<Number, AuthError> {
    let sum = match (iat.as_u64(), iat.as_i64(), iat.as_f64()) {
        (Some(iat), _, _) => iat.checked_add(secs).map(Number::from),
        (None, Some(iat), _) => iat.checked_add_unsigned(secs).map(Number::from),
        (None, None, Some(iat)) => Number::from_f64(iat + secs as f64),
        (None, None, None) => None,
    };
    sum.ok_or_else(|| sign_error("the expiry is too far away"))
}

/// The claims as JSON, with what is added behind them: the text of an SC server, whatever order serde_json's map has.
fn payload(claims: &Claims, added: [(&str, Option<&Number>); 2]) -> Result<String, AuthError> {
    let mut text =
        serde_json::to_string(claims).map_err(|error| AuthError::Sign { message: Cow::Owned(error.to_string()) })?;
    for (name, value) in added {
        let Some(value) = value else { continue };
        text.pop();
        let comma = if text.len() > 1 { "," } else { "" };
        text.push_str(&format!("{comma}\"{name}\":{value}}}"));
    }
    Ok(text)
}

const fn sign_error(message: &'static str) -> AuthError {
    AuthError::Sign { message: Cow::Borrowed(message) }
}
