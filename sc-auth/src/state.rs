//! Who a socket is.

use std::fmt;

use serde_json::Value;

use crate::{AuthError, Claims, Expiry};

/// Milliseconds beyond which a deadline is as good as none: where JavaScript's numbers stop being exact.
const NEVER_MS: f64 = 9_007_199_254_740_992.0;

/// The auth state of one socket: nobody, or the claims of its token and the token itself.
///
/// One pointer in size, null while nobody is logged in: most sockets of most servers stay that way. It knows nothing
/// of packets: what to send when it changes is the server's business.
///
/// ```
/// # use sc_auth::{AuthState, Claims};
/// let mut auth = AuthState::default();
/// assert!(!auth.is_authenticated());
///
/// let claims: Claims = serde_json::from_str(r#"{"username":"bob","exp":1795443062}"#)?;
/// auth.authenticate(claims, "the signed token".to_owned());
/// assert_eq!(auth.claims().unwrap()["username"], "bob");
///
/// assert!(!auth.expired_at(1_795_443_062_000)); // at runtime the last millisecond still counts
/// assert!(auth.expired_at(1_795_443_062_001));
/// assert_eq!(auth.deadline_ms(), Some(1_795_443_062_001));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct AuthState(Option<Box<Session>>);

#[derive(Clone)]
struct Session {
    claims: Claims,
    token: Box<str>,
}

impl AuthState {
    /// Logs in, or changes the token. Answers the claims that there were before.
    ///
    /// `claims` are those that [`AuthEngine::verify`](crate::AuthEngine::verify) answered or that
    /// [`AuthEngine::sign`](crate::AuthEngine::sign) completed; `token` is the signed token that holds them.
    pub fn authenticate(&mut self, claims: Claims, token: impl Into<Box<str>>) -> Option<Claims> {
        let session = Box::new(Session { claims, token: token.into() });
        self.0.replace(session).map(|old| old.claims)
    }

    /// Logs out. Answers the claims that there were.
    pub fn deauthenticate(&mut self) -> Option<Claims> {
        self.0.take().map(|old| old.claims)
    }

    /// `socket.authState === socket.AUTHENTICATED`
    pub const fn is_authenticated(&self) -> bool {
        self.0.is_some()
    }

    /// `socket.authToken`
    pub fn claims(&self) -> Option<&Claims> {
        self.0.as_deref().map(|session| &session.claims)
    }

    /// `socket.signedAuthToken`
    pub fn signed_token(&self) -> Option<&str> {
        self.0.as_deref().map(|session| &*session.token)
    }

    /// Has the token run out? `unix_ms` is the time now in milliseconds since 1970.
    ///
    /// SC's rule at runtime is `now > exp * 1000`, in milliseconds; when a token is verified it is `now >= exp`, in
    /// whole seconds. A token without an `exp`, or with one that is not a number, does not run out.
    pub fn expired_at(&self, unix_ms: u64) -> bool {
        self.exp_ms().is_some_and(|exp| unix_ms as f64 > exp)
    }

    /// The first millisecond since 1970 in which [`expired_at`](Self::expired_at) holds: for a timer, so that expiry
    /// is noticed on an idle socket too. `None`: never.
    pub fn deadline_ms(&self) -> Option<u64> {
        // Negative times become 0, which is in the past just as well.
        self.exp_ms().filter(|exp| *exp < NEVER_MS).map(|exp| (exp.floor() + 1.0) as u64)
    }

    /// What middleware is told, and a client, when the token has run out on its socket: `The socket auth token has
    /// expired`, with the claim `exp` as a number and not as a date. `None` if the claims have no numeric `exp`.
    pub fn expired_error(&self) -> Option<AuthError> {
        match self.claims()?.get("exp") {
            Some(Value::Number(exp)) => Some(AuthError::Expired {
                message: "The socket auth token has expired",
                expiry: Expiry::Claim(exp.clone()),
            }),
            _ => None,
        }
    }

    fn exp_ms(&self) -> Option<f64> {
        self.claims()?.get("exp")?.as_f64().map(|exp| exp * 1000.0)
    }
}

/// Without the signed token: whoever has it is that user.
impl fmt::Debug for AuthState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AuthState").field(&self.claims()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(exp: Value) -> AuthState {
        let mut state = AuthState::default();
        state.authenticate([("exp".to_owned(), exp)].into_iter().collect(), "a.b.c");
        state
    }

    #[test]
    fn a_socket_without_a_user_costs_one_pointer() {
        assert_eq!(size_of::<AuthState>(), size_of::<usize>());
        assert_eq!(AuthState::default().deadline_ms(), None);
        assert!(!AuthState::default().expired_at(u64::MAX));
        assert_eq!(AuthState::default().expired_error(), None);
    }

    #[test]
    fn the_deadline_is_the_first_expired_millisecond() {
        for (exp, deadline) in
            [(Value::from(100), 100_001), (Value::from(0), 1), (Value::from(1.5), 1501), (Value::from(1.2345), 1235)]
        {
            let state = state(exp);
            assert_eq!(state.deadline_ms(), Some(deadline));
            assert!(state.expired_at(deadline));
            assert!(!state.expired_at(deadline - 1));
        }
        assert_eq!(state(Value::from(-5)).deadline_ms(), Some(0));
        assert!(state(Value::from(-5)).expired_at(0));
    }

    #[test]
    fn what_is_no_time_never_comes() {
        for exp in [Value::Null, Value::from("100"), Value::from(true)] {
            let state = state(exp);
            assert_eq!((state.deadline_ms(), state.expired_at(u64::MAX)), (None, false));
            assert_eq!(state.expired_error(), None);
        }
        assert_eq!(state(Value::from(1e300)).deadline_ms(), None);
    }

    #[test]
    fn logging_in_and_out_hands_back_what_was_there() {
        let mut auth = state(Value::from(1));
        assert_eq!(auth.signed_token(), Some("a.b.c"));
        assert_eq!(auth.authenticate(Claims::new(), "d.e.f").unwrap()["exp"], 1);
        assert_eq!(auth.deauthenticate(), Some(Claims::new()));
        assert_eq!((auth.deauthenticate(), auth.is_authenticated()), (None, false));
    }

    #[test]
    fn the_signed_token_is_not_printed() {
        let shown = format!("{:?}", state(Value::from(1)));
        assert!(shown.contains("exp") && !shown.contains("a.b.c"), "{shown}");
    }
}
