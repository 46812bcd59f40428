//! The brokers' named sockets.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use sc_cluster::broker::{Exchange, ExchangeEvent};
use sc_cluster::connect_to_broker;
use sc_protocol::ipc::CallKind;
use serde_json::json;

use crate::client::Client;
use crate::server::{Server, send, wait_gone};

const SECRET: &str = "the secret of the named sockets";

/// A program outside the cluster with a link to one broker.
struct Peer {
    link: UnixStream,
    exchange: Exchange<(), ()>,
}

impl Peer {
    fn connect(socket: &Path) -> Self {
        let link = connect_to_broker(socket, SECRET).unwrap();
        link.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut exchange = Exchange::new(1, Default::default(), 1);
        exchange.link_up(0, u32::MAX, std::process::id());
        Self { link, exchange }
    }

    /// Writes what the exchange has, and reads until it has told so many things.
    fn hear(&mut self, count: usize) -> Vec<String> {
        while let Some((_, bytes)) = self.exchange.poll_link() {
            self.link.write_all(&bytes).unwrap();
        }
        let (mut heard, mut buf) = (Vec::new(), [0; 4096]);
        while heard.len() < count {
            let n = self.link.read(&mut buf).unwrap();
            assert!(n > 0, "the link lasts");
            let read = self.exchange.handle_bytes(0, &buf[..n], |_, event| {
                heard.push(match event {
                    ExchangeEvent::Deliver { channel, data } => format!("{channel} {}", data.unwrap_or("absent")),
                    ExchangeEvent::Published { .. } => "published".to_owned(),
                    ExchangeEvent::Subscribed { .. } => "subscribed".to_owned(),
                    ExchangeEvent::Answered { data, .. } => data.unwrap_or("absent").to_owned(),
                    other => format!("{other:?}"),
                });
            });
            read.unwrap();
        }
        heard
    }
}

pub(crate) fn peers() {
    let root = tempfile::tempdir().unwrap();
    let (folder, file) = (root.path().join("sockets"), root.path().join("secret"));
    std::fs::write(&file, SECRET).unwrap();
    let options = json!({ "workers": 1, "brokers": 2, "socketRoot": folder, "secretFile": file });
    let server = Server::start(&options.to_string());
    let socket = folder.join("b0");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);

    let mut client = Client::connect(server.port);
    client.subscribe("0/news");
    let mut peer = Peer::connect(&socket);
    peer.exchange.subscribe("0/back", ());
    peer.exchange.publish("0/news", Some("\"from outside\""), ()).unwrap();
    peer.exchange.call(0, CallKind::Set, r#"["0/key"]"#, Some("[1]"), 0).unwrap();
    assert_eq!(peer.hear(3), ["subscribed", "published", "absent"]);
    assert_eq!(client.message("0/news"), "from outside");
    assert_eq!(client.ask("get", "\"0/key\"").unwrap(), json!([1]));
    client.ask("#publish", r#"{"channel":"0/back","data":7}"#).unwrap();
    assert_eq!(peer.hear(1), ["0/back 7"]);

    let mut stranger = connect_to_broker(&socket, "a guess").unwrap();
    let end = stranger.read(&mut [0]);
    assert!(end.as_ref().is_ok_and(|n| *n == 0) || end.is_err(), "{end:?}");
    for pid in server.children().into_values() {
        for place in ["cmdline", "environ"] {
            let text = std::fs::read(format!("/proc/{pid}/{place}")).unwrap();
            assert!(!String::from_utf8_lossy(&text).contains(SECRET), "the secret is in {place} of {pid}");
        }
    }

    // A killed broker leaves its file; the next one takes its place.
    let broker = server.child("broker 0");
    send(broker, Signal::KILL);
    wait_gone(broker);
    let mut peer = loop {
        // The client's question waits for the broker; it is answered when that has begun, and listens.
        let asked = client.ask("get", "\"0/start\"");
        if asked.is_ok_and(|answer| answer == json!({ "again": true })) {
            break Peer::connect(&socket);
        }
    };
    peer.exchange.call(0, CallKind::HasKey, r#"["0/key"]"#, None, 0).unwrap();
    assert_eq!(peer.hear(1), ["false"]);
    assert!(server.logged(SECRET).is_empty());
    assert!(server.stop().success());
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "no socket is left");
    assert_eq!(UnixStream::connect(&socket).unwrap_err().kind(), ErrorKind::NotFound);
}

pub(crate) fn none_by_default() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("sockets");
    let options = json!({ "workers": 1, "brokers": 1, "socketRoot": folder });
    let server = Server::start(&options.to_string());
    assert!(!folder.exists(), "without secretKey nobody listens");
    assert_eq!(server.logged("socketRoot is set, but not secretKey").len(), 1);
    assert!(server.stop().success());
}
