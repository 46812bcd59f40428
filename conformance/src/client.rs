//! What a client has to do, shown by one that obeys as `CONTRACT.md` says.
//!
//! The suite is the server here: it waits for the client, tells it what to do, and looks at what it sends. All rules are
//! looked at in one conversation, over as many connections as the client makes.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use sc_protocol::Version;
use serde_json::{Value, json};

use crate::check::{Report, Rule, Stop, Verdict, ensure, equal, member};
use crate::served::Served;

/// A suite that waits for a client.
#[derive(Debug)]
pub struct Suite {
    listener: TcpListener,
    version: Version,
    /// How long anything may take. Default 10 s.
    pub patience: Duration,
    /// The connection that the client has now.
    conn: Option<Served>,
}

type Step = fn(&mut Suite) -> Verdict;

const STEPS: &[(&str, &str, Step)] = &[
    ("client/handshake-first", "SC client: #handshake, with a cid and no token", handshake_first),
    ("client/answers-pings", "SC client: #2, or the empty message", answers_pings),
    ("client/emits", "SC client: an event without a wish for an ack", emits),
    ("client/calls", "SC client: a cid, and the ack's data", calls),
    ("client/error-object", "sc-errors: hydrateError keeps name and message", error_object),
    ("client/error-text", "SC client: errors of any JSON type", error_text),
    ("client/acks", "SC client: the server's calls are answered", acks),
    ("client/tolerates", "SC client: what it does not know does no harm", tolerates),
    ("client/subscribes", "SC client: #subscribe, then messages arrive", subscribes),
    ("client/batches", "SC 8: arrays are batches", batches),
    ("client/keeps-its-token", "SC client: #setAuthToken is acked", keeps_token),
    ("client/comes-back", "SC client: token and channels outlive a connection", comes_back),
    ("client/gives-its-token-up", "SC client: #removeAuthToken", gives_token_up),
    ("client/is-kicked-out", "SC client: #kickOut ends a subscription for good", is_kicked_out),
    ("client/notices-silence", "SC client: 4000 after pingTimeout without a ping", notices_silence),
    ("client/disconnects", "SC client: code 1000, and it stays away", disconnects),
];

impl Suite {
    /// Waits at an address, such as `127.0.0.1:0`.
    ///
    /// # Errors
    /// It cannot be listened to.
    pub fn new(address: &str, version: Version) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, version, patience: Duration::from_secs(10), conn: None })
    }

    /// Where the client is to connect to.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Waits for the client and looks at every rule. Rules behind the first that is broken are skipped, since the
    /// conversation cannot go on as it should.
    pub fn run(&mut self) -> Report {
        let mut report = Report::new("a client", self.version);
        let mut broken = None;
        for &(name, source, step) in STEPS {
            let verdict = match broken {
                Some(before) => Err(Stop::skip(format!("the conversation ended at {before}"))),
                None => step(self),
            };
            if matches!(verdict, Err(Stop::Fail(_))) {
                broken.get_or_insert(name);
            }
            report.add(Rule { name, source, version: None }, verdict);
        }
        report
    }

    fn accept(&mut self) -> Verdict<&mut Served> {
        let deadline = Instant::now() + self.patience;
        let stream = loop {
            match self.listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                    std::thread::park_timeout(Duration::from_millis(10));
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return Err(Stop::fail("the client does not connect"));
                }
                Err(error) => return Err(error.into()),
            }
        };
        stream.set_nonblocking(false)?;
        Ok(self.conn.insert(Served::upgrade(stream, self.version, self.patience)?))
    }

    fn conn(&mut self) -> Verdict<&mut Served> {
        self.conn.as_mut().ok_or_else(|| Stop::fail("there is no connection"))
    }

    /// Waits for the next connection, and answers its handshake; answers the token that came.
    fn come_back(&mut self, ping_timeout: u64) -> Verdict<Value> {
        let conn = self.accept()?;
        let first = conn.packet()?;
        member("the first event", &first["event"], json!("#handshake"))?;
        ensure(first["cid"].is_number(), || format!("the handshake has no cid: {first}"))?;
        let authenticated = first["data"]["authToken"].is_string();
        let answer =
            json!({ "id": "abcdefghijklmnopqrst", "pingTimeout": ping_timeout, "isAuthenticated": authenticated });
        conn.send(&json!({ "rid": first["cid"], "data": answer }))?;
        Ok(first["data"]["authToken"].clone())
    }

    /// Tells the client to do something.
    fn tell(&mut self, what: Value) -> Verdict<&mut Served> {
        let conn = self.conn()?;
        conn.send(&json!({ "event": "do", "data": what }))?;
        Ok(conn)
    }
}

/// Longer than any run.
const CALM_MS: u64 = 60_000;

fn handshake_first(suite: &mut Suite) -> Verdict {
    let token = suite.come_back(CALM_MS)?;
    member("the token of a client that has none", &token, Value::Null)
}

fn answers_pings(suite: &mut Suite) -> Verdict {
    let (ping, pong) = if suite.version == Version::V1 { ("#1", "#2") } else { ("", "") };
    let conn = suite.conn()?;
    conn.send_text(ping)?;
    equal("the answer to a ping", conn.text()?.as_str(), pong)
}

fn emits(suite: &mut Suite) -> Verdict {
    let conn = suite.tell(json!({ "op": "emit", "event": "hello", "data": { "a": [1, null, "é"] } }))?;
    let packet = conn.event("hello")?;
    member("its data", &packet["data"], json!({ "a": [1, null, "é"] }))?;
    // Old clients ask for an ack in any case.
    if packet["cid"].is_number() { conn.send(&json!({ "rid": packet["cid"] })) } else { Ok(()) }
}

/// Has the client call, answers it so, and gives what the client made of it.
fn called(suite: &mut Suite, answer: Value) -> Verdict<Value> {
    let conn = suite.tell(json!({ "op": "call", "event": "sum", "data": 5 }))?;
    let packet = conn.event("sum")?;
    ensure(packet["cid"].is_number(), || format!("a call without a cid: {packet}"))?;
    let mut answer = answer;
    answer["rid"] = packet["cid"].clone();
    conn.send(&answer)?;
    Ok(conn.event("done")?["data"].clone())
}

fn calls(suite: &mut Suite) -> Verdict {
    let done = called(suite, json!({ "data": { "sum": 6 } }))?;
    member("what it got", &done["data"], json!({ "sum": 6 }))
}

fn error_object(suite: &mut Suite) -> Verdict {
    let error = json!({ "name": "OwnError", "message": "No", "cause": { "$ref": "$[\"self\"]" } });
    let done = called(suite, json!({ "error": error }))?;
    member("the error's name", &done["error"]["name"], json!("OwnError"))?;
    member("its message", &done["error"]["message"], json!("No"))
}

fn error_text(suite: &mut Suite) -> Verdict {
    let done = called(suite, json!({ "error": "just a text" }))?;
    member("the error's message", &done["error"]["message"], json!("just a text"))
}

fn acks(suite: &mut Suite) -> Verdict {
    let conn = suite.conn()?;
    conn.send(&json!({ "event": "question", "data": [7], "cid": 77 }))?;
    member("its answer", &conn.answer(77)?["data"], json!([7]))
}

fn tolerates(suite: &mut Suite) -> Verdict {
    let conn = suite.conn()?;
    for odd in [
        json!({ "rid": 4711, "data": 1 }),
        json!({ "rid": "constructor" }),
        json!({ "event": "nobodyListens", "data": null, "cid": 78 }),
        json!({ "event": "#publish", "data": { "channel": "neverSubscribed", "data": 1 }, "cid": 79 }),
        json!([]),
    ] {
        conn.send(&odd)?;
    }
    conn.send_text("no packet")?;
    emits(suite)
}

fn got(conn: &mut Served, channel: &str, data: Value) -> Verdict {
    member("what arrives", &conn.event("got")?["data"], json!({ "channel": channel, "data": data }))
}

fn subscribes(suite: &mut Suite) -> Verdict {
    let conn = suite.tell(json!({ "op": "subscribe", "channel": "news" }))?;
    let packet = conn.event("#subscribe")?;
    member("the channel", &packet["data"]["channel"], json!("news"))?;
    conn.send(&json!({ "rid": packet["cid"] }))?;
    conn.send(&json!({ "event": "#publish", "data": { "channel": "news", "data": 1 } }))?;
    got(conn, "news", json!(1))
}

fn batches(suite: &mut Suite) -> Verdict {
    let conn = suite.conn()?;
    let publish = |n: u32| json!({ "event": "#publish", "data": { "channel": "news", "data": n } });
    conn.send(&json!([publish(2), publish(3)]))?;
    got(conn, "news", json!(2))?;
    got(conn, "news", json!(3))
}

/// Nobody verifies it here: `{"alg":"none"}`, `{"username":"bob"}` and nothing.
const TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJ1c2VybmFtZSI6ImJvYiJ9.c2ln";

fn keeps_token(suite: &mut Suite) -> Verdict {
    let conn = suite.conn()?;
    conn.send(&json!({ "event": "#setAuthToken", "data": { "token": TOKEN }, "cid": 80 }))?;
    let answer = conn.answer(80)?;
    ensure(answer.get("error").is_none_or(Value::is_null), || format!("it refuses the token: {answer}"))
}

fn comes_back(suite: &mut Suite) -> Verdict {
    suite.conn = None;
    member("the token", &suite.come_back(CALM_MS)?, json!(TOKEN))?;
    let conn = suite.conn()?;
    let packet = conn.packet()?;
    member("what follows the handshake", &packet["event"], json!("#subscribe"))?;
    member("the channel", &packet["data"]["channel"], json!("news"))?;
    conn.send(&json!({ "rid": packet["cid"] }))?;
    conn.send(&json!({ "event": "#publish", "data": { "channel": "news", "data": 4 } }))?;
    got(conn, "news", json!(4))
}

fn gives_token_up(suite: &mut Suite) -> Verdict {
    let conn = suite.conn()?;
    conn.send(&json!({ "event": "#removeAuthToken", "cid": 81 }))?;
    conn.answer(81)?;
    suite.conn = None;
    member("the token", &suite.come_back(CALM_MS)?, Value::Null)?;
    let conn = suite.conn()?;
    let packet = conn.event("#subscribe")?;
    conn.send(&json!({ "rid": packet["cid"] }))
}

fn is_kicked_out(suite: &mut Suite) -> Verdict {
    let conn = suite.conn()?;
    conn.send(&json!({ "event": "#kickOut", "data": { "channel": "news", "message": "out" } }))?;
    emits(suite)?;
    suite.conn = None;
    suite.come_back(CALM_MS)?;
    // What it subscribes to again stands before what it is told to do.
    emits(suite)?;
    let conn = suite.conn()?;
    ensure(!conn.came("#subscribe"), || "it subscribes again to what it was kicked out of".to_owned())
}

fn notices_silence(suite: &mut Suite) -> Verdict {
    suite.conn = None;
    suite.come_back(300)?;
    // `pingTimeout` has passed without a ping when it gives up.
    let (code, _) = suite.conn()?.closed()?;
    equal("the close code", code, 4000)?;
    suite.come_back(CALM_MS).map(drop)
}

fn disconnects(suite: &mut Suite) -> Verdict {
    let is_v1 = suite.version == Version::V1;
    let conn = suite.tell(json!({ "op": "disconnect" }))?;
    let (code, _) = conn.closed()?;
    equal("the close code", code, 1000)?;
    ensure(!is_v1 || conn.came("#disconnect"), || "protocol 1 says #disconnect before it closes".to_owned())?;
    suite.conn = None;
    let patience = std::mem::replace(&mut suite.patience, Duration::from_millis(700));
    let again = suite.accept().is_ok();
    suite.patience = patience;
    ensure(!again, || "it connects again".to_owned())
}
