//! Tokens, and whether the server takes the client for somebody.

use std::time::Instant;

use sc_protocol::packet::write;
use sc_protocol::{ScError, json};

use super::outbound::Content;
use super::{ClientCore, Phase};
use crate::data::Token;
use crate::output::{CallId, Output};

impl ClientCore {
    /// The token for the next handshake, as a store has kept it: to be said before [`connect`](Self::connect), or whenever
    /// the driver opens a transport. It changes nothing on an open connection.
    pub fn set_stored_token(&mut self, token: Option<Token>) {
        if matches!(self.phase, Phase::Closed | Phase::Waiting(_) | Phase::Opening(_)) {
            self.token = token;
        }
    }

    /// The token that the next handshake will carry.
    #[must_use]
    pub const fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    /// Whether the server has taken a token. It stays so while a connection is made anew, until the server says otherwise.
    #[must_use]
    pub const fn is_authenticated(&self) -> bool {
        self.authenticated
    }

    /// Asks the server to take a token. The answer's data is `{"isAuthenticated":…,"authError":…}`; servers refuse a token
    /// either with an error or with that.
    pub fn authenticate(&mut self, now: Instant, token: &Token) -> CallId {
        self.submit(now, Content::Authenticate(token), None, true, None)
    }

    /// Gives the token up, here and at the server.
    pub fn deauthenticate(&mut self, now: Instant) {
        self.lose_token();
        match self.phase {
            Phase::Open(_) => self.send_packet(false, |out| write::event(out, "#removeAuthToken", None, None)),
            // The handshake is under way with the token.
            Phase::Handshaking(_) => self.transmit(now, "#removeAuthToken", None),
            // The next handshake has none.
            Phase::Closed | Phase::Waiting(_) | Phase::Opening(_) => {}
        }
    }

    pub(super) fn authenticated_at_handshake(&mut self, authenticated: bool, sent: Option<Token>) {
        match sent {
            // The application may have given the token up, or the server sent another one, while the handshake was under way.
            Some(token) if authenticated && self.token.as_ref() == Some(&token) => {
                self.become_authenticated(token, false)
            }
            _ if !authenticated => self.become_unauthenticated(),
            _ => {}
        }
    }

    pub(super) fn authenticate_answered(
        &mut self,
        now: Instant,
        token: Token,
        data: Option<&str>,
        error: Option<&ScError>,
    ) {
        let [authenticated] = data.and_then(|data| json::object(data, ["isAuthenticated"])).unwrap_or_default();
        if error.is_none() && authenticated == Some("true") {
            self.become_authenticated(token, true);
            self.subscribe_pending(now);
        } else {
            self.become_unauthenticated();
        }
    }

    pub(super) fn handle_set_token(&mut self, now: Instant, data: Option<&str>) -> Result<(), ScError> {
        let [token] = data.and_then(|data| json::object(data, ["token"])).unwrap_or_default();
        let token = token.and_then(json::string).ok_or_else(ScError::no_token_data)?;
        self.become_authenticated(Token::from(&*token), true);
        self.subscribe_pending(now);
        Ok(())
    }

    pub(super) fn handle_remove_token(&mut self) {
        self.lose_token();
    }

    fn lose_token(&mut self) {
        if self.token.take().is_some() {
            self.push(Output::SaveToken(None));
        }
        self.become_unauthenticated();
    }

    fn become_authenticated(&mut self, token: Token, save: bool) {
        let changed = !self.authenticated || self.token.as_ref() != Some(&token);
        if save && self.token.as_ref() != Some(&token) {
            self.push(Output::SaveToken(Some(token.clone())));
        }
        self.authenticated = true;
        self.token = Some(token.clone());
        if changed {
            self.push(Output::AuthState(Some(token)));
        }
    }

    fn become_unauthenticated(&mut self) {
        if std::mem::take(&mut self.authenticated) {
            self.push(Output::AuthState(None));
        }
    }
}
