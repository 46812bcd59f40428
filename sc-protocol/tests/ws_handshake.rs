//! The opening handshake: what a server accepts and refuses, what a client asks and accepts.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use bytes::BytesMut;
use sc_protocol::entropy::SeededEntropy;
use sc_protocol::http::HeadReader;
use sc_protocol::ws::handshake::{self, ClientHandshake, HandshakeError, UpgradeError};

const VALID: &[&str] = &[
    "Host: server.example.com",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
];

/// The verdict on a request with this first line and these headers: its sub-protocol, or its error.
fn verdict(first: &str, headers: &[&str]) -> Result<Option<String>, UpgradeError> {
    let request = format!("{first}\r\n{}\r\n\r\n", headers.join("\r\n"));
    let answer = HeadReader::new()
        .request(request.as_bytes(), |head| handshake::check(head).map(|upgrade| upgrade.protocol.map(str::to_owned)));
    answer.unwrap().unwrap().0
}

/// The valid request, with one header replaced (or, by an empty text, left out).
fn with(name: &str, replacement: &str) -> Result<Option<String>, UpgradeError> {
    let headers: Vec<&str> = VALID
        .iter()
        .map(|header| if header.starts_with(name) { replacement } else { *header })
        .filter(|header| !header.is_empty())
        .collect();
    verdict("GET /chat HTTP/1.1", &headers)
}

fn with_also(header: &str) -> Result<Option<String>, UpgradeError> {
    verdict("GET /chat HTTP/1.1", &[VALID, &[header]].concat())
}

#[test]
fn the_request_of_the_rfc_is_accepted() {
    assert_eq!(verdict("GET /chat HTTP/1.1", VALID), Ok(None));
}

#[test]
fn names_and_tokens_have_no_letter_case_and_lists_are_lists() {
    assert_eq!(with("Upgrade", "UPGRADE: h2c, WebSocket"), Ok(None));
    assert_eq!(with("Connection", "connection: keep-alive,  upgrade"), Ok(None));
    assert_eq!(with("Connection", "Connection: keep-alive\r\nConnection: Upgrade"), Ok(None));
    assert_eq!(with("Sec-WebSocket-Version", "sec-websocket-version:13  "), Ok(None));
}

#[test]
fn each_rule_has_its_refusal() {
    use UpgradeError as E;
    assert_eq!(verdict("POST /chat HTTP/1.1", VALID), Err(E::Method));
    assert_eq!(verdict("GET /chat HTTP/1.0", VALID), Err(E::HttpVersion));
    assert_eq!(with("Upgrade", ""), Err(E::NotUpgrade));
    assert_eq!(with("Upgrade", "Upgrade: h2c"), Err(E::Upgrade));
    assert_eq!(with("Connection", ""), Err(E::Connection));
    assert_eq!(with("Connection", "Connection: keep-alive"), Err(E::Connection));
    assert_eq!(with("Sec-WebSocket-Version", ""), Err(E::Version));
    assert_eq!(with("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8"), Err(E::Version));
    assert_eq!(with("Sec-WebSocket-Key", ""), Err(E::Key));
    assert_eq!(with("Sec-WebSocket-Key", "Sec-WebSocket-Key: short"), Err(E::Key));
    assert_eq!(with_also("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), Err(E::Key));
    assert_eq!(with_also("Sec-WebSocket-Protocol: a b"), Err(E::Protocol));

    let statuses = [E::NotUpgrade, E::Version, E::Method, E::Key, E::Upgrade].map(|error| error.status());
    assert_eq!(statuses, [426, 426, 405, 400, 400]);
    assert!(E::Version.headers().contains(&("Sec-WebSocket-Version", "13")));
    assert_eq!(E::Key.to_string(), E::Key.message());
}

#[test]
fn the_first_offered_sub_protocol_is_taken() {
    assert_eq!(with_also("Sec-WebSocket-Protocol: chat, superchat"), Ok(Some("chat".to_owned())));
    assert_eq!(with_also("Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b"), Ok(Some("a".to_owned())));
    assert_eq!(with_also("Sec-WebSocket-Protocol: ,"), Ok(None));
}

#[test]
fn the_acceptance_is_the_one_of_the_rfc() {
    let mut out = BytesMut::new();
    handshake::write_accept(&mut out, "dGhlIHNhbXBsZSBub25jZQ==", None);
    let plain = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    assert_eq!(out, plain);

    out.clear();
    handshake::write_accept(&mut out, "dGhlIHNhbXBsZSBub25jZQ==", Some("chat"));
    assert_eq!(out, format!("{}Sec-WebSocket-Protocol: chat\r\n\r\n", &plain[..plain.len() - 2]));

    out.clear();
    handshake::write_accept(&mut out, "dGhlIHNhbXBsZSBub25jZQ==", Some("chat\r\nSet-Cookie: a"));
    assert_eq!(out, plain);
}

/// What the client says to this answer; `ACCEPT` stands for the value that belongs to its key.
fn client_says(client: &ClientHandshake, answer: &str) -> Result<(), HandshakeError> {
    let mut request = BytesMut::new();
    client.write_request(&mut request, "localhost", "/", &[]).unwrap();
    let key = HeadReader::new().request(&request, |head| head.header("sec-websocket-key").unwrap().to_owned());
    let accept = handshake::accept_key(&key.unwrap().unwrap().0);
    let answer = answer.replace("ACCEPT", str::from_utf8(&accept).unwrap());
    HeadReader::new().response(answer.as_bytes(), |head| client.check(head)).unwrap().unwrap().0
}

#[test]
fn client_and_server_agree() {
    let client = ClientHandshake::new(&mut SeededEntropy::new(3)).offer("chat, superchat");
    let (mut request, mut response) = (BytesMut::new(), BytesMut::new());
    let headers = [("Origin", "http://a.example"), ("Cookie", "a=b; c=\u{e9}")];
    client.write_request(&mut request, "[::1]:8000", "/socketcluster/?t=1", &headers).unwrap();
    let used = HeadReader::new().request(&request, |head| {
        assert_eq!(
            (head.header("host"), head.path(), head.query()),
            (Some("[::1]:8000"), "/socketcluster/", Some("t=1"))
        );
        assert_eq!(head.header("cookie"), Some("a=b; c=\u{e9}"));
        let upgrade = handshake::check(head).unwrap();
        handshake::write_accept(&mut response, upgrade.key, upgrade.protocol);
    });
    assert_eq!(used.unwrap().unwrap().1, request.len());
    let checked = HeadReader::new().response(&response, |head| {
        assert_eq!(head.header("sec-websocket-protocol"), Some("chat"));
        client.check(head)
    });
    assert_eq!(checked.unwrap().unwrap(), (Ok(()), response.len()));
}

#[test]
fn keys_differ() {
    let mut entropy = SeededEntropy::new(3);
    let keys: Vec<BytesMut> = (0..2)
        .map(|_| {
            let mut out = BytesMut::new();
            ClientHandshake::new(&mut entropy).write_request(&mut out, "localhost", "/", &[]).unwrap();
            out
        })
        .collect();
    assert_ne!(keys[0], keys[1]);
}

#[test]
fn a_client_refuses_answers_that_break_a_rule() {
    use HandshakeError as E;
    let client = ClientHandshake::new(&mut SeededEntropy::new(3));
    let upgrade = "HTTP/1.1 101 x\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\n";
    let valid = format!("{upgrade}Sec-WebSocket-Accept: ACCEPT\r\n");
    assert_eq!(client_says(&client, &format!("{valid}\r\n")), Ok(()));
    assert_eq!(client_says(&client, "HTTP/1.1 401 Unauthorized\r\n\r\n"), Err(E::Status(401)));
    assert_eq!(client_says(&client, "HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n"), Err(E::Upgrade));
    assert_eq!(client_says(&client, "HTTP/1.1 101 x\r\nConnection: upgrade\r\n\r\n"), Err(E::Upgrade));
    assert_eq!(client_says(&client, &format!("{upgrade}\r\n")), Err(E::Accept));
    assert_eq!(client_says(&client, &format!("{upgrade}Sec-WebSocket-Accept: x\r\n\r\n")), Err(E::Accept));
    let extension = format!("{valid}Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n");
    assert_eq!(client_says(&client, &extension), Err(E::Extension));

    let chosen = format!("{valid}Sec-WebSocket-Protocol: chat\r\n\r\n");
    assert_eq!(client_says(&client, &chosen), Err(E::Protocol));
    assert_eq!(client_says(&client.clone().offer("other, chat"), &chosen), Ok(()));
    assert_eq!(client_says(&client.offer("chatty"), &chosen), Err(E::Protocol));
}

#[test]
fn a_request_cannot_be_broken_open() {
    let client = ClientHandshake::new(&mut SeededEntropy::new(3));
    let mut out = BytesMut::new();
    let mut refused = |host: &str, target: &str, headers: &[(&str, &str)]| {
        let result = client.write_request(&mut out, host, target, headers);
        assert!(out.is_empty(), "a refused request leaves nothing");
        matches!(result, Err(HandshakeError::Request(_)))
    };
    assert!(refused("a\r\nX: y", "/", &[]));
    assert!(refused("", "/", &[]));
    assert!(refused("a", "/ HTTP/1.1\r\nX: y", &[]));
    assert!(refused("a", "/\u{e9}", &[]));
    assert!(refused("a", "path", &[]));
    assert!(refused("a", "/#fragment", &[]));
    assert!(refused("a", "/", &[("X", "y\nZ: z")]));
    assert!(refused("a", "/", &[("X: y\r\nZ", "z")]));
    assert!(refused("a", "/", &[("", "z")]));
    assert!(refused("a", "/", &[("Host", "b")]));
    assert!(refused("a", "/", &[("sec-websocket-key", "b")]));
    let offers = ClientHandshake::new(&mut SeededEntropy::new(3)).offer("a\r\nb");
    assert_eq!(offers.write_request(&mut out, "a", "/", &[]), Err(HandshakeError::Request("sub-protocol")));
}
