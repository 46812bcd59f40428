//! The signature algorithms (RFC 7518, section 3; RFC 8037 for EdDSA).

use std::fmt;
use std::str::FromStr;

use crate::KeyError;

/// A signature algorithm, by its name in RFC 7518.
///
/// `none` is not one of them, and never will be. ES512 is missing because the library beneath has no P-521.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names are the documentation: RFC 7518, table 1")]
pub enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

use Algorithm::*;

pub(crate) const HMAC: &[Algorithm] = &[HS256, HS384, HS512];
pub(crate) const RSA: &[Algorithm] = &[RS256, RS384, RS512, PS256, PS384, PS512];
pub(crate) const P256: &[Algorithm] = &[ES256];
pub(crate) const P384: &[Algorithm] = &[ES384];
pub(crate) const ED25519: &[Algorithm] = &[EdDSA];

const ALL: [&[Algorithm]; 5] = [HMAC, RSA, P256, P384, ED25519];

impl Algorithm {
    /// The name as it stands in the header of a token and in the option `authAlgorithm`.
    pub const fn name(self) -> &'static str {
        match self {
            HS256 => "HS256",
            HS384 => "HS384",
            HS512 => "HS512",
            RS256 => "RS256",
            RS384 => "RS384",
            RS512 => "RS512",
            PS256 => "PS256",
            PS384 => "PS384",
            PS512 => "PS512",
            ES256 => "ES256",
            ES384 => "ES384",
            EdDSA => "EdDSA",
        }
    }

    pub(crate) fn by_name(name: &str) -> Option<Self> {
        ALL.iter().copied().flatten().copied().find(|a| a.name() == name)
    }

    pub(crate) const fn backend(self) -> jsonwebtoken::Algorithm {
        match self {
            HS256 => jsonwebtoken::Algorithm::HS256,
            HS384 => jsonwebtoken::Algorithm::HS384,
            HS512 => jsonwebtoken::Algorithm::HS512,
            RS256 => jsonwebtoken::Algorithm::RS256,
            RS384 => jsonwebtoken::Algorithm::RS384,
            RS512 => jsonwebtoken::Algorithm::RS512,
            PS256 => jsonwebtoken::Algorithm::PS256,
            PS384 => jsonwebtoken::Algorithm::PS384,
            PS512 => jsonwebtoken::Algorithm::PS512,
            ES256 => jsonwebtoken::Algorithm::ES256,
            ES384 => jsonwebtoken::Algorithm::ES384,
            EdDSA => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = KeyError;

    /// Reads the option `authAlgorithm`. The case matters, as in RFC 7515, section 4.1.1.
    fn from_str(name: &str) -> Result<Self, KeyError> {
        Self::by_name(name).ok_or_else(|| KeyError::UnknownAlgorithm(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_algorithm_is_found_by_its_own_name() {
        for algorithm in ALL.iter().copied().flatten() {
            assert_eq!(algorithm.name().parse::<Algorithm>().unwrap(), *algorithm);
        }
        for name in ["none", "None", "hs256", "ES512", "", "HS256 "] {
            assert!(name.parse::<Algorithm>().is_err(), "{name}");
        }
    }
}
