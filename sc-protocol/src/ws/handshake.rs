//! The opening handshake (RFC 6455 section 4), both roles, over the heads of [`crate::http`].

use std::{fmt, str};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::BytesMut;
use sha1::{Digest, Sha1};

use crate::Entropy;
use crate::http::{RequestHead, ResponseHead, elements, is_token};

/// The only version of the protocol there is; older drafts are refused.
const VERSION: &str = "13";

/// What RFC 6455 appends to a key before it is hashed (section 1.3).
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The length of 16 bytes in base64.
const KEY_LEN: usize = 24;

/// The length of a SHA-1 digest in base64.
const ACCEPT_LEN: usize = 28;

/// The value of `Sec-WebSocket-Accept` for a key (RFC 6455 section 4.2.2).
///
/// ```
/// use sc_protocol::ws::handshake::accept_key;
///
/// assert_eq!(&accept_key("dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// ```
pub fn accept_key(key: &str) -> [u8; ACCEPT_LEN] {
    let digest = Sha1::new().chain_update(key).chain_update(ACCEPT_GUID).finalize();
    let mut accept = [0; ACCEPT_LEN];
    let written = STANDARD.encode_slice(digest, &mut accept);
    debug_assert_eq!(written, Ok(ACCEPT_LEN), "20 bytes are 28 characters");
    accept
}

/// What a server needs of a valid upgrade request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upgrade<'a> {
    /// The client's key, for [`write_accept`].
    pub key: &'a str,
    /// The first sub-protocol the client offers. A browser fails the connection if it offered any and the answer names
    /// none.
    pub protocol: Option<&'a str>,
    /// The (first) line of extensions the client offers.
    pub extensions: Option<&'a str>,
}

/// Why an upgrade request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpgradeError {
    /// The request asks for no upgrade at all: it is plain HTTP. See [`is_upgrade`].
    NotUpgrade,
    /// The method is not GET.
    Method,
    /// HTTP/1.0 knows no upgrade.
    HttpVersion,
    /// An upgrade to something else.
    Upgrade,
    /// `Connection` does not name `Upgrade`.
    Connection,
    /// The version is missing or not 13.
    Version,
    /// The key is missing, there twice, or not 16 bytes in base64.
    Key,
    /// A sub-protocol that is not a token.
    Protocol,
}

impl UpgradeError {
    /// The status to answer with: 426 for no upgrade and for a wrong version, 405 for a wrong method, else 400.
    pub const fn status(&self) -> u16 {
        match self {
            Self::NotUpgrade | Self::Version => 426,
            Self::Method => 405,
            _ => 400,
        }
    }

    /// A text for the body of the answer. Nothing of the request is in it.
    pub const fn message(&self) -> &'static str {
        match self {
            Self::NotUpgrade => "Upgrade Required",
            Self::Method => "Invalid HTTP method",
            Self::HttpVersion => "Invalid HTTP version",
            Self::Upgrade => "Invalid Upgrade header",
            Self::Connection => "Invalid Connection header",
            Self::Version => "Missing or invalid Sec-WebSocket-Version header",
            Self::Key => "Missing or invalid Sec-WebSocket-Key header",
            Self::Protocol => "Invalid Sec-WebSocket-Protocol header",
        }
    }

    /// The headers that the status asks for: the versions spoken (RFC 6455 section 4.4), the method allowed, what to
    /// upgrade to.
    pub const fn headers(&self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::NotUpgrade => &[("Upgrade", "websocket")],
            Self::Version => &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", VERSION)],
            Self::Method => &[("Allow", "GET")],
            _ => &[],
        }
    }
}

impl fmt::Display for UpgradeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for UpgradeError {}

/// Whether the request asks for an upgrade, to whatever. One that does not is plain HTTP, for the application's
/// handlers.
pub fn is_upgrade(head: &RequestHead<'_, '_>) -> bool {
    head.headers().any(|(name, _)| name.eq_ignore_ascii_case("upgrade"))
}

/// Holds a request to RFC 6455 section 4.2.1.
///
/// # Errors
/// The first rule it breaks. [`UpgradeError::NotUpgrade`] stands apart: the request may be valid HTTP for somebody
/// else.
pub fn check<'a>(head: &RequestHead<'a, '_>) -> Result<Upgrade<'a>, UpgradeError> {
    if !is_upgrade(head) {
        return Err(UpgradeError::NotUpgrade);
    }
    if head.method != "GET" {
        return Err(UpgradeError::Method);
    }
    if head.minor_version < 1 {
        return Err(UpgradeError::HttpVersion);
    }
    if !head.has_token("upgrade", "websocket") {
        return Err(UpgradeError::Upgrade);
    }
    if !head.has_token("connection", "upgrade") {
        return Err(UpgradeError::Connection);
    }
    if head.header("sec-websocket-version") != Some(VERSION) {
        return Err(UpgradeError::Version);
    }
    let mut keys = head.values("sec-websocket-key");
    let (Some(key), None) = (keys.next(), keys.next()) else { return Err(UpgradeError::Key) };
    if !is_key(key) {
        return Err(UpgradeError::Key);
    }
    let protocol = head.values("sec-websocket-protocol").flat_map(elements).next();
    if protocol.is_some_and(|protocol| !is_token(protocol)) {
        return Err(UpgradeError::Protocol);
    }
    Ok(Upgrade { key, protocol, extensions: head.header("sec-websocket-extensions") })
}

/// Writes the `101` that accepts an upgrade behind what `out` holds.
///
/// ```
/// use bytes::BytesMut;
/// use sc_protocol::http::HeadReader;
/// use sc_protocol::ws::handshake;
///
/// let request = b"GET /socketcluster/ HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
///     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// let mut out = BytesMut::new();
/// HeadReader::new().request(request, |head| {
///     let upgrade = handshake::check(head).expect("a valid upgrade");
///     handshake::write_accept(&mut out, upgrade.key, upgrade.protocol);
/// })?;
/// assert!(out.starts_with(b"HTTP/1.1 101 Switching Protocols\r\n"));
/// # Ok::<(), sc_protocol::http::HeadError>(())
/// ```
pub fn write_accept(out: &mut BytesMut, key: &str, protocol: Option<&str>) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    out.extend_from_slice(&accept_key(key));
    // `check` lends tokens only; what is none could end the line.
    if let Some(protocol) = protocol.filter(|protocol| is_token(protocol)) {
        put_header(out, "\r\nSec-WebSocket-Protocol", protocol);
    } else {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Why a client's handshake failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// What the caller gave for the request cannot stand there: a line end or another control character, a space in
    /// host or target, a header name that is no token or that the handshake writes itself. Named is the part.
    #[error("invalid {0} for an upgrade request")]
    Request(&'static str),
    /// The server answered with another status than 101.
    #[error("the server answered with status {0}")]
    Status(u16),
    /// The answer does not upgrade to `websocket`.
    #[error("the answer has no valid Upgrade and Connection headers")]
    Upgrade,
    /// `Sec-WebSocket-Accept` is missing or does not belong to the key.
    #[error("the answer has no valid Sec-WebSocket-Accept header")]
    Accept,
    /// The server chose a sub-protocol that was not offered.
    #[error("the answer names a sub-protocol that was not offered")]
    Protocol,
    /// The server chose an extension that was not offered, or answered an offer in a way that it does not allow.
    #[error("the answer names an extension that was not offered")]
    Extension,
}

/// The client's half of the handshake, from the request until its answer is checked.
///
/// ```
/// use bytes::BytesMut;
/// use sc_protocol::entropy::SeededEntropy;
/// use sc_protocol::ws::handshake::ClientHandshake;
///
/// let handshake = ClientHandshake::new(&mut SeededEntropy::new(1));
/// let mut out = BytesMut::new();
/// handshake.write_request(&mut out, "example.com:8000", "/socketcluster/", &[("Origin", "http://example.com")])?;
/// assert!(out.starts_with(b"GET /socketcluster/ HTTP/1.1\r\nHost: example.com:8000\r\n"));
/// # Ok::<(), sc_protocol::ws::handshake::HandshakeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ClientHandshake {
    key: [u8; KEY_LEN],
    /// The comma-separated list of sub-protocols on offer.
    protocols: Option<Box<str>>,
    /// The extensions on offer.
    extensions: Option<&'static str>,
}

impl ClientHandshake {
    /// A handshake with a fresh key.
    pub fn new(entropy: &mut dyn Entropy) -> Self {
        let mut nonce = [0; 16];
        entropy.fill(&mut nonce);
        let mut key = [0; KEY_LEN];
        let written = STANDARD.encode_slice(nonce, &mut key);
        debug_assert_eq!(written, Ok(KEY_LEN), "16 bytes are 24 characters");
        Self { key, protocols: None, extensions: None }
    }

    /// Offers sub-protocols, a comma-separated list with the preferred one first. None are offered by default.
    pub fn offer(mut self, protocols: &str) -> Self {
        self.protocols = Some(protocols.into());
        self
    }

    /// Writes the request behind what `out` holds. `host` is the host with its port, if that is not the scheme's
    /// default, and `target` the path and query; `headers` go out as they are, in their order.
    ///
    /// # Errors
    /// [`HandshakeError::Request`] if a part could end its line or break the handshake. Nothing is written then.
    pub fn write_request(
        &self,
        out: &mut BytesMut,
        host: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Result<(), HandshakeError> {
        let is_word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_word(host) {
            return Err(HandshakeError::Request("host"));
        }
        if !is_word(target) || !target.starts_with('/') || target.contains('#') {
            return Err(HandshakeError::Request("target"));
        }
        if headers.iter().any(|(name, _)| !is_token(name) || is_own_header(name)) {
            return Err(HandshakeError::Request("header name"));
        }
        if headers.iter().any(|(_, value)| value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t')) {
            return Err(HandshakeError::Request("header value"));
        }
        if self
            .protocols
            .as_deref()
            .is_some_and(|list| elements(list).next().is_none() || !elements(list).all(is_token))
        {
            return Err(HandshakeError::Request("sub-protocol"));
        }
        out.extend_from_slice(b"GET ");
        out.extend_from_slice(target.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        put_header(out, "Host", host);
        out.extend_from_slice(b"Upgrade: websocket\r\nConnection: Upgrade\r\n");
        put_header(out, "Sec-WebSocket-Version", VERSION);
        put_header(out, "Sec-WebSocket-Key", self.key());
        if let Some(protocols) = &self.protocols {
            put_header(out, "Sec-WebSocket-Protocol", protocols);
        }
        if let Some(extensions) = self.extensions {
            put_header(out, "Sec-WebSocket-Extensions", extensions);
        }
        for (name, value) in headers {
            put_header(out, name, value);
        }
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Offers permessage-deflate ([`deflate::OFFER`](super::deflate::OFFER)). The answer is then to be checked with
    /// [`check_deflate`](Self::check_deflate).
    #[cfg(feature = "deflate")]
    #[must_use]
    pub const fn offer_deflate(mut self) -> Self {
        self.extensions = Some(super::deflate::OFFER);
        self
    }

    /// [`check`](Self::check) after [`offer_deflate`](Self::offer_deflate): what the server agreed to, if it did.
    ///
    /// # Errors
    /// As there.
    #[cfg(feature = "deflate")]
    pub fn check_deflate(&self, head: &ResponseHead<'_, '_>) -> Result<Option<super::deflate::Params>, HandshakeError> {
        self.check_but_extensions(head)?;
        let mut answers = head.values("sec-websocket-extensions");
        match (answers.next(), answers.next()) {
            (None, _) if !has_extensions(head) => Ok(None),
            (Some(answer), None) if self.extensions.is_some() => {
                super::deflate::Params::agreed(answer).map(Some).ok_or(HandshakeError::Extension)
            }
            _ => Err(HandshakeError::Extension),
        }
    }

    /// Holds the answer to RFC 6455 section 4.1. The sub-protocol that the server chose is in the head's
    /// `Sec-WebSocket-Protocol`.
    ///
    /// # Errors
    /// The first rule it breaks. The connection is to be dropped, without a close frame.
    pub fn check(&self, head: &ResponseHead<'_, '_>) -> Result<(), HandshakeError> {
        self.check_but_extensions(head)?;
        if has_extensions(head) { Err(HandshakeError::Extension) } else { Ok(()) }
    }

    fn check_but_extensions(&self, head: &ResponseHead<'_, '_>) -> Result<(), HandshakeError> {
        if head.status != 101 {
            return Err(HandshakeError::Status(head.status));
        }
        if !head.has_token("upgrade", "websocket") || !head.has_token("connection", "upgrade") {
            return Err(HandshakeError::Upgrade);
        }
        let mut accepts = head.values("sec-websocket-accept");
        let expected = accept_key(self.key());
        if accepts.next().map(str::as_bytes) != Some(&expected) || accepts.next().is_some() {
            return Err(HandshakeError::Accept);
        }
        let offered = self.protocols.as_deref().unwrap_or_default();
        if head.values("sec-websocket-protocol").any(|chosen| !elements(offered).any(|offer| offer == chosen)) {
            return Err(HandshakeError::Protocol);
        }
        Ok(())
    }

    fn key(&self) -> &str {
        // Base64 is ASCII.
        str::from_utf8(&self.key).unwrap_or_default()
    }
}

fn has_extensions(head: &ResponseHead<'_, '_>) -> bool {
    head.headers().any(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-extensions"))
}

/// 16 bytes in base64. The four bits that no byte needs are not looked at, as in other servers.
fn is_key(key: &str) -> bool {
    key.len() == KEY_LEN
        && key.strip_suffix("==").is_some_and(|digits| {
            digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
        })
}

/// The headers a client's request has from the handshake itself.
fn is_own_header(name: &str) -> bool {
    ["host", "upgrade", "connection", "content-length", "transfer-encoding"]
        .iter()
        .any(|own| name.eq_ignore_ascii_case(own))
        || name.get(..14).is_some_and(|start| start.eq_ignore_ascii_case("sec-websocket-"))
}

fn put_header(out: &mut BytesMut, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_sixteen_bytes_in_base64() {
        assert!(is_key("dGhlIHNhbXBsZSBub25jZQ=="));
        assert!(is_key("x3JJHMbDL1EzLkh9GBhXDw==") && is_key("+/AAAAAAAAAAAAAAAAAAAA=="));
        for key in [
            "",
            "==",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25j",
            "dGhlIHNhbXBsZSBub25jZQA=",
            "dGhlIHNhbXBsZSBub25j-Q==",
        ] {
            assert!(!is_key(key), "{key:?}");
        }
    }
}
