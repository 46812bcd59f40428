//! Why a token was refused, in the names and words that SocketCluster clients know.

use std::borrow::Cow;

use sc_protocol::{ScError, Version};
use serde_json::{Number, Value};
use thiserror::Error;

/// Why a token was not accepted, or could not be made.
///
/// `Display` is the message alone, [`name`](Self::name) the name of the error class of `sc-errors`. The texts are those
/// of SC 14.7.2 (jsonwebtoken 8.5.1).
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum AuthError {
    /// `AuthTokenExpiredError`: the token was genuine, its time is over.
    #[error("{message}")]
    Expired {
        /// `jwt expired` when a token was verified, `The socket auth token has expired` when it ran out on a socket.
        message: &'static str,
        /// What goes out as `expiry`.
        expiry: Expiry,
    },
    /// `AuthTokenInvalidError`: no token, or not one of ours.
    #[error("{message}")]
    Invalid {
        /// The text of jsonwebtoken, as `invalid signature`.
        message: Cow<'static, str>,
    },
    /// `AuthTokenNotBeforeError`: genuine, but its time is still to come.
    #[error("{NOT_ACTIVE}")]
    NotBefore {
        /// The claim `nbf` as JavaScript prints a date; `None` if it is beyond what a JavaScript `Date` can say.
        date: Option<String>,
    },
    /// `AuthTokenError`: any other reason.
    #[error("{message}")]
    Other {
        /// The reason in words; a client sees it.
        message: Cow<'static, str>,
    },
    /// No token could be made; SC has no error class for it, it is a plain `Error` there.
    #[error("{message}")]
    Sign {
        /// The reason in words; for the log, a client sees close code 4002 only.
        message: Cow<'static, str>,
    },
}

/// The property `expiry` of an `AuthTokenExpiredError`: SC has two kinds of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Expiry {
    /// From verifying: the claim `exp` as JavaScript prints a date (`2016-01-01T01:00:00.000Z`); `None`, which goes out
    /// as `null`, if it is beyond what a JavaScript `Date` can say.
    Date(Option<String>),
    /// From a socket whose token ran out: the claim `exp` as it is, in seconds since 1970.
    Claim(Number),
}

impl AuthError {
    /// `jwt must be provided`: the answer to `#authenticate` with `null`, with `""` or with nothing.
    pub const fn missing() -> Self {
        Self::invalid("jwt must be provided")
    }

    /// `Invalid token format - Token must be a string`: the answer to a number, an object, an array or `true` in the
    /// place of a token (SC 14; SC 4 said nothing at all).
    pub const fn not_a_string() -> Self {
        Self::Other { message: Cow::Borrowed("Invalid token format - Token must be a string") }
    }

    pub(crate) const fn invalid(message: &'static str) -> Self {
        Self::Invalid { message: Cow::Borrowed(message) }
    }

    /// The name of the class in `sc-errors`. `Error`, which is never written on the wire, for [`AuthError::Sign`].
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Expired { .. } => "AuthTokenExpiredError",
            Self::Invalid { .. } => "AuthTokenInvalidError",
            Self::NotBefore { .. } => "AuthTokenNotBeforeError",
            Self::Other { .. } => "AuthTokenError",
            Self::Sign { .. } => "Error",
        }
    }

    /// Should the client throw its token away? Then the server sends `#removeAuthToken`, and answers `#authenticate`
    /// with an error. Not so if the token is good, but its time is still to come (SC 14 and later).
    pub const fn is_bad_token(&self) -> bool {
        match self {
            Self::Expired { .. } | Self::Invalid { .. } | Self::Other { .. } => true,
            Self::NotBefore { .. } | Self::Sign { .. } => false,
        }
    }

    /// The one property that the class has besides `name` and `message`, with its name.
    pub fn property(&self) -> Option<(&'static str, Value)> {
        match self {
            Self::Expired { expiry: Expiry::Date(date), .. } => Some(("expiry", Value::from(date.clone()))),
            Self::Expired { expiry: Expiry::Claim(exp), .. } => Some(("expiry", Value::Number(exp.clone()))),
            Self::NotBefore { date } => Some(("date", Value::from(date.clone()))),
            Self::Invalid { .. } | Self::Other { .. } | Self::Sign { .. } => None,
        }
    }

    /// The error as it goes over the wire.
    ///
    /// In protocol 2 (SC 15 and later) a refused token has the property `isBadToken` besides; protocol 1 does not send
    /// it.
    pub fn to_sc_error(&self, version: Version) -> ScError {
        let message = match self {
            Self::Expired { message, .. } => Cow::Borrowed(*message),
            Self::NotBefore { .. } => Cow::Borrowed(NOT_ACTIVE),
            Self::Invalid { message } | Self::Other { message } => message.clone(),
            Self::Sign { message } => return ScError::message_only(message.clone()),
        };
        let mut error = ScError::new(self.name(), message);
        if let Some((key, value)) = self.property() {
            error = error.with(key, value);
        }
        let of_verify = !matches!(self, Self::Expired { expiry: Expiry::Claim(_), .. });
        match version {
            Version::V2 if of_verify => error.with("isBadToken", self.is_bad_token()),
            Version::V1 | Version::V2 => error,
        }
    }
}

/// As in protocol 1; for protocol 2 see [`AuthError::to_sc_error`].
impl From<AuthError> for ScError {
    fn from(error: AuthError) -> Self {
        error.to_sc_error(Version::V1)
    }
}

const NOT_ACTIVE: &str = "jwt not active";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_the_wire_as_recorded() {
        let date = || Some("2016-01-01T01:00:00.000Z".to_owned());
        let expired = |expiry| AuthError::Expired { message: "jwt expired", expiry };
        for (error, v1, v2) in [
            (
                AuthError::invalid("jwt malformed"),
                r#"{"message":"jwt malformed","name":"AuthTokenInvalidError"}"#,
                r#"{"message":"jwt malformed","name":"AuthTokenInvalidError","isBadToken":true}"#,
            ),
            (
                expired(Expiry::Date(date())),
                r#"{"message":"jwt expired","name":"AuthTokenExpiredError","expiry":"2016-01-01T01:00:00.000Z"}"#,
                r#"{"message":"jwt expired","name":"AuthTokenExpiredError","expiry":"2016-01-01T01:00:00.000Z","isBadToken":true}"#,
            ),
            (
                AuthError::NotBefore { date: None },
                r#"{"message":"jwt not active","name":"AuthTokenNotBeforeError","date":null}"#,
                r#"{"message":"jwt not active","name":"AuthTokenNotBeforeError","date":null,"isBadToken":false}"#,
            ),
            (
                AuthError::not_a_string(),
                r#"{"message":"Invalid token format - Token must be a string","name":"AuthTokenError"}"#,
                r#"{"message":"Invalid token format - Token must be a string","name":"AuthTokenError","isBadToken":true}"#,
            ),
            (AuthError::Sign { message: "no".into() }, r#"{"message":"no"}"#, r#"{"message":"no"}"#),
        ] {
            assert_eq!(error.to_sc_error(Version::V1).to_json(), v1);
            assert_eq!(error.to_sc_error(Version::V2).to_json(), v2);
            assert_eq!(ScError::from(error).to_json(), v1);
        }
        let run_out = expired(Expiry::Claim(1_795_356_720.into()));
        let shown = r#"{"message":"jwt expired","name":"AuthTokenExpiredError","expiry":1795356720}"#;
        assert_eq!(run_out.to_sc_error(Version::V1).to_json(), shown);
        assert_eq!(run_out.to_sc_error(Version::V2).to_json(), shown);
    }
}
