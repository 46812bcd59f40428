//! Tokens whose arrival the client confirms.

use sc_protocol::ScError;
use sc_protocol::packet::Version;

use crate::cx::Cx;
use crate::data::{Data, Payload};
use crate::reply::{Outcome, Ticket};
use crate::socket::SocketId;

impl<S: 'static, P: 'static> Cx<'_, S, P> {
    /// As [`set_auth_token`](Self::set_auth_token), and runs `then` when the client has stored the token or has not: its
    /// error, a `TimeoutError` after `ackTimeout`, or a `BadConnectionError`. Protocol 2 has these as an `AuthError`
    /// (`rejectOnFailedDelivery`).
    pub fn set_auth_token_then<R: Outcome>(
        &mut self,
        socket: SocketId,
        claims: &(impl Payload + ?Sized),
        expires_in: Option<u64>,
        then: impl FnOnce(&mut S, &mut Cx<'_, S, P>, Result<(), ScError>) -> R + Send + 'static,
    ) -> Result<Ticket<R>, ScError> {
        let data = self.sign_in(socket, claims, expires_in)?;
        let version = self.version(socket).unwrap_or(Version::V1);
        Ok(self.call(socket, "#setAuthToken", &Data::from_json(&data), move |state, cx, result| {
            let result = match result {
                Ok(_) => Ok(()),
                Err(error) if version == Version::V2 => Err(match error.message() {
                    "" => ScError::auth_token_not_confirmed(),
                    reason => ScError::auth_token_not_delivered(reason),
                }),
                Err(error) => Err(error),
            };
            then(state, cx, result)
        }))
    }

    /// As [`deauthenticate`](Self::deauthenticate), and runs `then` when the client has thrown its token away, or with the
    /// error that says why not.
    pub fn deauthenticate_then<R: Outcome>(
        &mut self,
        socket: SocketId,
        then: impl FnOnce(&mut S, &mut Cx<'_, S, P>, Result<(), ScError>) -> R + Send + 'static,
    ) -> Ticket<R> {
        self.core.drop_token(socket);
        let data = match self.version(socket) {
            Some(Version::V2) => Data::absent(),
            _ => Data::from_json("null"),
        };
        self.call(socket, "#removeAuthToken", &data, |state, cx, result| then(state, cx, result.map(|_| ())))
    }
}
