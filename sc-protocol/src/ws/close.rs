//! Close codes: RFC 6455's and SocketCluster's own.

use std::fmt;

/// Why a WebSocket was closed.
///
/// Any number can come from an application, hence no enum. Codes 4000 to 4009 are SocketCluster's own, 4500 to 4999
/// are left to applications.
///
/// ```
/// use sc_protocol::ws::CloseCode;
///
/// assert_eq!(CloseCode::PONG_TIMEOUT.text(), Some("Client pong timed out"));
/// assert!(!CloseCode::ABNORMAL.is_sendable()); // 1006 is only ever said locally
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// 1000: the purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the end goes away, a server that stops or a page that is left.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer violated RFC 6455.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: the peer sent a kind of data this end does not take.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// 1005, local only: a close frame without a code came.
    pub const NO_STATUS: Self = Self(1005);
    /// 1006, local only: the connection ended without a close frame.
    pub const ABNORMAL: Self = Self(1006);
    /// 1007: text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: the peer broke a rule of this end.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: a message over the limit.
    pub const TOO_BIG: Self = Self(1009);
    /// 1010: a client missed an extension in the answer of the server.
    pub const MISSING_EXTENSION: Self = Self(1010);
    /// 1011: the server met a condition it did not expect.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 4000: a client got no ping for too long.
    pub const PING_TIMEOUT: Self = Self(4000);
    /// 4001: a server got no pong for too long.
    pub const PONG_TIMEOUT: Self = Self(4001);
    /// 4002: the server could not sign an auth token.
    pub const SIGN_FAILED: Self = Self(4002);
    /// 4003: the client could not complete `#handshake`.
    pub const HANDSHAKE_FAILED: Self = Self(4003);
    /// 4004: the client could not save its auth token. No known server or client sends it.
    pub const SAVE_TOKEN_FAILED: Self = Self(4004);
    /// 4005: no `#handshake` came in time.
    pub const HANDSHAKE_TIMEOUT: Self = Self(4005);
    /// 4006: the socket could not be bound to the message broker. No current server sends it.
    pub const BROKER_BIND_FAILED: Self = Self(4006);
    /// 4007: a client gave up connecting.
    pub const CONNECT_TIMEOUT: Self = Self(4007);
    /// 4008: the server refused `#handshake`.
    pub const HANDSHAKE_REJECTED: Self = Self(4008);
    /// 4009: a message came before `#handshake`.
    pub const PACKET_BEFORE_HANDSHAKE: Self = Self(4009);

    /// SocketCluster's text for the code, `None` for a code it has none for.
    ///
    /// 1001 is called `Socket hung up` in a second table of the JavaScript packages, the one of codes that raise no
    /// error (see [`is_ignored`](Self::is_ignored)); here it has the text of the error table, `Socket was
    /// disconnected`.
    pub const fn text(self) -> Option<&'static str> {
        Some(match self.0 {
            1000 => "Socket closed normally",
            1001 => "Socket was disconnected",
            1002 => "A WebSocket protocol error was encountered",
            1003 => "Server terminated socket because it received invalid data",
            1005 => "Socket closed without status code",
            1006 => "Socket hung up",
            1007 => "Message format was incorrect",
            1008 => "Encountered a policy violation",
            1009 => "Message was too big to process",
            1010 => "Client ended the connection because the server did not comply with extension requirements",
            1011 => "Server encountered an unexpected fatal condition",
            4000 => "Server ping timed out",
            4001 => "Client pong timed out",
            4002 => "Server failed to sign auth token",
            4003 => "Failed to complete handshake",
            4004 => "Client failed to save auth token",
            4005 => "Did not receive #handshake from client before timeout",
            4006 => "Failed to bind socket to message broker",
            4007 => "Client connection establishment timed out",
            4008 => "Server rejected handshake from client",
            4009 => "Server received a message before the client handshake",
            _ => return None,
        })
    }

    /// Whether the code may stand in a close frame, sent or received (RFC 6455 section 7.4 and the registry it set up):
    /// 1000 to 1003, 1007 to 1014 and 3000 to 4999.
    pub const fn is_sendable(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }

    /// Whether SocketCluster raises no error event for the code: 1000 and 1001 only.
    pub const fn is_ignored(self) -> bool {
        matches!(self.0, 1000 | 1001)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl From<u16> for CloseCode {
    fn from(code: u16) -> Self {
        Self(code)
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_that_are_only_said_locally_may_not_be_sent() {
        let refused = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535];
        assert!(refused.iter().all(|&code| !CloseCode(code).is_sendable()));
        let allowed = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999];
        assert!(allowed.iter().all(|&code| CloseCode(code).is_sendable()));
    }

    #[test]
    fn every_code_of_socketcluster_has_a_text() {
        assert!((4000..=4009).all(|code| CloseCode(code).text().is_some()));
        assert_eq!(CloseCode(4010).text(), None);
        assert_eq!(CloseCode::PING_TIMEOUT.text(), Some("Server ping timed out"));
        assert_eq!(CloseCode::PACKET_BEFORE_HANDSHAKE.to_string(), "4009");
    }
}
