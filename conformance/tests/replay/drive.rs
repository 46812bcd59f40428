//! Plays the client's side of a recording to an engine and writes down what the engine says.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::BytesMut;
use sc_protocol::codec::MinBin;
use sc_protocol::heartbeat::Policy;
use sc_protocol::ws::{OpCode, frame};
use sc_server::{Config, Origins};
use serde_json::Value;

use crate::apps::{self, Flavour, Switches};
use crate::masks;
use crate::recording::{From, Kind, Line, Recording};
use crate::rig::{Got, Rig};

/// Which server a pack was recorded from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Version {
    pub(crate) pack: &'static str,
    pub(crate) policy: Policy,
    pub(crate) flavour: Flavour,
    /// A whole cluster, with an application of its own.
    pub(crate) master: bool,
}

/// What each connection saw, in order.
pub(crate) type Seen = BTreeMap<String, Vec<String>>;

struct Player {
    rig: Rig<()>,
    /// Each connection's client in the rig. `None`: the recorded connection never reached a server.
    clients: HashMap<String, Option<usize>>,
    ended: HashMap<String, bool>,
    ours: Seen,
    workers: usize,
    path: bool,
    /// How clients answer the pings that come with the upgrade, where there are any.
    pong: Option<&'static str>,
}

/// The recorded server's side and ours. `auto`: ours is not told which version the client speaks. The client's answer to
/// the first pings is then played as well, and they are left out.
pub(crate) fn play(version: Version, recording: &Recording, auto: bool) -> (Seen, Seen) {
    let told = if auto { Policy::Auto } else { version.policy };
    let mut player = Player::new(Version { policy: told, ..version }, recording);
    player.pong = auto.then_some(if version.policy == Policy::V1 { "#2" } else { "" });
    let mut theirs = Seen::new();
    let mut at = 0;
    let mut lines = recording.lines.iter().peekable();
    while let Some(line) = lines.next() {
        player.rig.pass(Duration::from_millis(line.t.saturating_sub(at)));
        at = at.max(line.t);
        match line.from {
            From::Recorder => {}
            From::Server => player.server_line(recording, line, &mut theirs),
            From::Client if matches!(line.kind, Kind::Text | Kind::Binary) => {
                let mut bytes = BytesMut::new();
                player.client_frame(recording, line, &theirs, &mut bytes);
                // What a client sends in one go arrives in one go.
                while let Some(next) = lines.next_if(|next| {
                    next.from == From::Client && next.conn == line.conn && next.t == line.t && next.kind == line.kind
                }) {
                    player.client_frame(recording, next, &theirs, &mut bytes);
                }
                player.deliver(line, &mut bytes);
            }
            From::Client => player.client_line(recording, line, &mut theirs),
        }
        player.collect();
    }
    // Our clock has coarser ticks.
    player.rig.pass(Duration::from_millis(20));
    player.collect();
    (theirs, player.ours)
}

impl Player {
    fn new(version: Version, recording: &Recording) -> Self {
        let (config, switches, workers, brokers) = options(version, recording);
        let limit = config.socket_channel_limit;
        let mut rig = Rig::new(workers, brokers, config, |_| match version.master {
            true => apps::master_app(version.pack, limit),
            false if switches.min_bin => apps::app(version.flavour, switches).codec(MinBin),
            false => apps::app(version.flavour, switches),
        });
        rig.begin_ms = masks::begin_ms(recording);
        // The masters of 4.2 and 4.3 take any path by default.
        let any = recording.options.get("path").is_some_and(Value::is_null);
        let path = !(any || version.master && !version.pack.starts_with("sc14"));
        let workers = workers as usize;
        Self { rig, clients: HashMap::new(), ended: HashMap::new(), ours: Seen::new(), workers, path, pong: None }
    }

    /// The rig's client for a connection; it is upgraded when it is first heard of.
    fn client(&mut self, recording: &Recording, line: &Line) -> Option<usize> {
        if let Some(client) = self.clients.get(&line.conn) {
            return *client;
        }
        let answered = recording
            .lines
            .iter()
            .any(|other| other.conn == line.conn && other.from == From::Server && other.kind == Kind::Http);
        let head = if line.from == From::Client && line.kind == Kind::Http && line.data.is_string() {
            self.raw_head(line)
        } else {
            answered.then(|| upgrade_head(line))
        };
        let worker = self.clients.len() % self.workers;
        let client = head.map(|head| self.rig.request(worker, &head));
        if let Some((client, pong)) = client.zip(self.pong) {
            self.answer_first_pings(&line.conn, client, pong);
        }
        self.clients.insert(line.conn.clone(), client);
        client
    }

    fn answer_first_pings(&mut self, conn: &str, client: usize, pong: &str) {
        let pings = ["#1", ""].map(|ping| Got::Text(ping.to_owned()));
        let mut got = self.rig.take(client);
        if got.get(1..) == Some(&pings[..]) {
            got.truncate(1);
            self.rig.send(client, pong);
        }
        self.write_down(conn, client, got);
    }

    /// A request head as it was recorded; `None` where it is the driver that answers, not the engine.
    fn raw_head(&mut self, line: &Line) -> Option<String> {
        let head = line.text();
        let target = head.split(' ').nth(1).unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        if head.contains("Upgrade: ") && (!self.path || path == "/socketcluster/") {
            return Some(head);
        }
        self.ours.entry(line.conn.clone()).or_default().push(format!("(the driver's) {path}"));
        None
    }

    fn server_line(&mut self, recording: &Recording, line: &Line, theirs: &mut Seen) {
        self.client(recording, line);
        let seen = theirs.entry(line.conn.clone()).or_default();
        match line.kind {
            Kind::Http => seen.push(masks::http(&line.data)),
            Kind::Text => seen.push(line.text()),
            Kind::Binary => seen.push(masks::binary(&masks::base64(line.data.as_str().unwrap_or_default()))),
            Kind::Close => seen.push(close_line(line.close())),
            Kind::Crash => seen.push("(the process crashed)".to_owned()),
            Kind::Vanish | Kind::Note => {}
        }
    }

    fn client_frame(&mut self, recording: &Recording, line: &Line, theirs: &Seen, out: &mut BytesMut) {
        self.client(recording, line);
        let mask = Some([1, 2, 3, 4]);
        if line.kind == Kind::Binary {
            let bytes = masks::base64(line.data.as_str().unwrap_or_default());
            return frame::write(out, OpCode::Binary, &bytes, mask);
        }
        let empty = Vec::new();
        let (theirs, ours) = (theirs.get(&line.conn).unwrap_or(&empty), self.ours.get(&line.conn).unwrap_or(&empty));
        let text = masks::answer_ours(line.text(), theirs, ours);
        frame::write(out, OpCode::Text, text.as_bytes(), mask);
    }

    fn deliver(&mut self, line: &Line, bytes: &mut BytesMut) {
        if let Some(Some(client)) = self.clients.get(&line.conn).copied() {
            self.rig.send_bytes(client, bytes);
        }
    }

    fn client_line(&mut self, recording: &Recording, line: &Line, theirs: &mut Seen) {
        // A proxy writes down a request before anything is known of its fate.
        let Some(client) = self.client(recording, line) else { return };
        match line.kind {
            Kind::Close if !self.ended.get(&line.conn).is_some_and(|ended| *ended) => {
                self.ended.insert(line.conn.clone(), true);
                let (code, reason) = line.close();
                let mut out = BytesMut::new();
                frame::write_close(&mut out, (code != 1005).then_some(code), reason, Some([1, 2, 3, 4]));
                self.rig.send_bytes(client, &mut out);
            }
            Kind::Vanish => {
                self.collect();
                if self.rig.is_connected(client) {
                    self.rig.vanish(client);
                }
                theirs.entry(line.conn.clone()).or_default();
            }
            _ => {}
        }
    }

    /// Takes what the clients got, and has them answer a close as a WebSocket client does by itself.
    fn collect(&mut self) {
        let clients: Vec<(String, usize)> =
            self.clients.iter().filter_map(|(conn, client)| Some((conn.clone(), (*client)?))).collect();
        for (conn, client) in clients {
            let got = self.rig.take(client);
            self.write_down(&conn, client, got);
        }
    }

    fn write_down(&mut self, conn: &str, client: usize, got: Vec<Got>) {
        for got in got {
            let seen = self.ours.entry(conn.to_owned()).or_default();
            let closed = seen.iter().any(|line| line.starts_with("close ") || line.starts_with("HTTP 4"));
            match got {
                Got::Http(head) => seen.push(masks::http(&Value::String(head))),
                Got::Text(text) => seen.push(text),
                Got::Binary(bytes) => seen.push(masks::binary(&bytes)),
                Got::Pong(_) => {}
                Got::Close(code, reason) => {
                    seen.push(close_line((code, &reason)));
                    if !self.ended.insert(conn.to_owned(), true).unwrap_or_default() {
                        let mut out = BytesMut::new();
                        frame::write_close(&mut out, (code != 1005).then_some(code), "", Some([1, 2, 3, 4]));
                        self.rig.send_bytes(client, &mut out);
                    }
                }
                Got::End | Got::Aborted if closed => {}
                Got::End | Got::Aborted => seen.push(close_line((1006, ""))),
            }
        }
    }
}

fn close_line((code, reason): (u16, &str)) -> String {
    format!("close {code} {reason}").trim_end().to_owned()
}

fn upgrade_head(line: &Line) -> String {
    let target = line.data["url"].as_str().unwrap_or("/socketcluster/");
    format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// The recorded server's options as ours.
fn options(version: Version, recording: &Recording) -> (Config, Switches, u32, u32) {
    let mut config = Config { protocol_version: version.policy, ..Config::default() };
    let mut switches = Switches { no_auth_state: version.pack == "sc4.2.0", ..Switches::default() };
    let (mut workers, mut brokers) = (1, 1);
    for (name, value) in &recording.options {
        let number = || value.as_u64().expect("a number");
        let ms = || Duration::from_millis(number());
        match name.as_str() {
            "pingInterval" => config.ping_interval = ms(),
            "pingTimeout" => config.ping_timeout = Some(ms()),
            "ackTimeout" => config.ack_timeout = ms(),
            "handshakeTimeout" => config.handshake_timeout = ms(),
            "pubSubBatchDuration" => config.pub_sub_batch_duration = ms(),
            "batchOnHandshake" => config.batch_on_handshake = *value == Value::Bool(true),
            "allowClientPublish" => config.allow_client_publish = *value == Value::Bool(true),
            "strictHandshake" => config.strict_handshake = *value == Value::Bool(true),
            "maxPayload" => config.max_payload = number() as usize,
            "socketChannelLimit" => config.socket_channel_limit = number() as usize,
            "workers" => workers = number() as u32,
            "brokers" => brokers = number() as u32,
            "origins" => config.origins = origins(value),
            "mw" => {
                let on = |name: &str| value.get(name).is_some_and(|value| *value == Value::Bool(true));
                switches.handshake = on("handshake");
                switches.reject_expired = on("rejectExpired");
                switches.no_handshake = on("noHandshake");
            }
            // The key is that of all recordings; the rest is for the driver, or for a server's modules.
            "codecMinBin" => switches.min_bin = *value == Value::Bool(true),
            "authKey" | "path" | "wsEngine" | "protocolVersion" | "perMessageDeflate" => {}
            other => panic!("{}: unknown option {other}", recording.name),
        }
    }
    (config, switches, workers, brokers)
}

fn origins(value: &Value) -> Origins {
    match value {
        Value::String(list) => Origins::parse(list),
        list => {
            let list = list.as_array().expect("a list of origins").iter().filter_map(Value::as_str);
            Origins::parse(&list.collect::<Vec<_>>().join(" "))
        }
    }
}
