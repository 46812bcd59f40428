//! What signs and verifies tokens: the place where an engine of the application's own goes in.

use crate::AuthError;

/// The claims of a token: a JSON object.
///
/// The order of the keys is serde_json's (sorted, unless its feature `preserve_order` is on); it means nothing in a JWT
/// (RFC 7519, section 3).
pub type Claims = serde_json::Map<String, serde_json::Value>;

/// Signs and verifies the tokens of sockets. [`JwtEngine`](crate::JwtEngine) is the one that SocketCluster has always
/// had; another one can stand in its place (opaque session ids, PASETO, keys in a hardware module).
///
/// An engine is shared by all sockets of a worker and may be called on a thread of the pool, therefore `Send + Sync`.
/// It reads no clock: `unix_secs` is the time now, in whole seconds since 1970.
pub trait AuthEngine: Send + Sync {
    /// Makes a token of `claims`.
    ///
    /// `expires_in` is the lifetime in seconds that the caller wants; `None` is the engine's default. On success
    /// `claims` holds what the token holds, that is, with the claims that the engine added (`iat`, `exp`): a server
    /// keeps them as the state of the socket, and without `exp` it would never notice that the token has run out. On
    /// failure it may hold some of them.
    ///
    /// # Errors
    /// [`AuthError::Sign`]; a server closes the socket with 4002 then.
    fn sign(&self, claims: &mut Claims, expires_in: Option<u64>, unix_secs: u64) -> Result<String, AuthError>;

    /// Answers the claims of a token that is genuine and in its time.
    ///
    /// `token` came from the network: any string must be answered, none may panic.
    ///
    /// # Errors
    /// Every variant of [`AuthError`] but `Sign`.
    fn verify(&self, token: &str, unix_secs: u64) -> Result<Claims, AuthError>;
}
