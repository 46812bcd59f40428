//! The applications that the recorded servers ran, on the public API of sc-server.

use std::time::Duration;

use sc_server::{Block, Cx, Data, Pass, Reply, Request, ScError, SocketId, Verdict, Worker};
use serde_json::{Value, json};

/// Which of the two recorded applications: the one for servers 4 to 14, or the one for server 20 with its streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    Classic,
    Streams,
}

/// What a recording's `mw` option asks of the application.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Switches {
    pub(crate) handshake: bool,
    pub(crate) reject_expired: bool,
    pub(crate) no_handshake: bool,
    pub(crate) min_bin: bool,
    /// Servers before 4.1.10 have no `authState` to show.
    pub(crate) no_auth_state: bool,
}

type App = Worker<()>;
type Ctx<'a> = Cx<'a, ()>;

/// The errors that a client asks the middleware for by name, as `block:custom`.
fn wanted_block(flavour: Flavour, kind: &str, place: &str) -> Verdict {
    let by = |kind: &str| format!("blocked by {place} ({kind})");
    let custom = |message| {
        let error =
            ScError::new("MyCustomError", message).with("reasonCode", 42).with("nested", json!({ "a": [1, 2] }));
        Err(Block::Error(error))
    };
    match (flavour, kind) {
        (_, "string") => Err(Block::Error(ScError::text(by("string")))),
        (_, "error") => Err(Block::error(by("Error"))),
        (_, "typeerror") => Err(Block::error(by("TypeError"))),
        (_, "custom") => custom(by("custom")),
        (_, "customerror") => custom(by("custom Error")),
        (_, "true" | "silentprop") => Err(Block::silent()),
        (Flavour::Classic, "number") => Err(Block::Error(ScError::json(json!(7)))),
        (Flavour::Classic, "empty") => Err(Block::Error(ScError::json(json!({})))),
        (Flavour::Classic, _) => Ok(Pass::Now),
        (Flavour::Streams, "named") => Err(Block::named("MyCustomError", by("named"))),
        (Flavour::Streams, "code") => {
            Err(Block::Error(ScError::message_only("with statusCode").with("statusCode", 4501)))
        }
        (Flavour::Streams, _) => Err(Block::silent()),
    }
}

/// What stands behind `prefix` if it is a word to the end.
fn word_behind<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let word = text.strip_prefix(prefix)?;
    (!word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')).then_some(word)
}

/// The value of a query parameter.
fn parameter<'a>(target: &'a str, name: &str) -> Option<&'a str> {
    let query = target.split_once('?')?.1;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn block_word(flavour: Flavour, text: &str, publish: bool) -> Option<&str> {
    let plain = word_behind(text, "block:").filter(|_| flavour == Flavour::Streams || !publish);
    plain.or_else(|| word_behind(text, "pblock:").filter(|_| flavour == Flavour::Streams || publish))
}

fn private(channel: &str, authenticated: bool) -> Verdict {
    match channel == "private" && !authenticated {
        true => Err(Block::error("You are not authorized to subscribe to private")),
        false => Ok(Pass::Now),
    }
}

pub(crate) fn app(flavour: Flavour, switches: Switches) -> App {
    let mut app = Worker::new(());
    let streams = flavour == Flavour::Streams;
    if if streams { !switches.no_handshake } else { switches.handshake } {
        app = app.handshake(move |(), _cx, request| {
            let place = if streams { "handshakeWS" } else { "handshake" };
            parameter(&request.target, "hs").map_or(Ok(Pass::Now), |kind| wanted_block(flavour, kind, place))
        });
    }
    if !switches.no_handshake {
        app = app.handshake_sc(move |(), cx, request| {
            let kind = cx.target(request.socket).and_then(|target| parameter(target, "hssc")).map(str::to_owned);
            match kind.as_deref() {
                None => Ok(Pass::Now),
                Some("code") if !streams => {
                    request.close_code = 4501;
                    Err(Block::error("hssc with code"))
                }
                Some(kind) => wanted_block(flavour, kind, "handshakeSC"),
            }
        });
    }
    let app = app
        .authenticate(|(), _cx, request| match request.auth.get("banned").and_then(Value::as_str) {
            Some(kind) => {
                request.is_bad_token = kind == "hard";
                Err(Block::error(format!("banned ({kind})")))
            }
            None => Ok(Pass::Now),
        })
        .emit(move |(), _cx, request| {
            if let Some(expired) = request.expired.clone().filter(|_| switches.reject_expired) {
                return Err(Block::Error(expired));
            }
            // Server 20 has an action of its own for what wants no answer; nobody is told of its block.
            let place = if streams { "invoke" } else { "emit" };
            let kind = block_word(flavour, &request.event, false);
            kind.map_or(Ok(Pass::Now), |kind| wanted_block(flavour, kind, place))
        })
        .subscribe(move |(), _cx, request| {
            private(&request.channel, request.auth.is_some())?;
            let kind = block_word(flavour, &request.channel, false);
            kind.map_or(Ok(Pass::Now), |kind| wanted_block(flavour, kind, "subscribe"))
        })
        .publish_in(move |(), _cx, request| {
            if streams {
                private(&request.channel, request.auth.is_some())?;
            }
            match (&*request.channel, flavour) {
                ("ackdata", Flavour::Classic) => request.ack.set(&json!({ "stored": true }))?,
                ("mutate", _) => request.data.set("mutated-by-publishIn")?,
                _ => {}
            }
            let kind = block_word(flavour, &request.channel, true);
            kind.map_or(Ok(Pass::Now), |kind| wanted_block(flavour, kind, "publishIn"))
        })
        .publish_out(|(), _cx, request| match request.data.get::<Value>() {
            Ok(data) if data.get("dropOut").is_some_and(|drop| *drop != json!(false)) => Err(Block::silent()),
            _ => Ok(()),
        });
    controls(answers(app, flavour), flavour, switches.no_auth_state)
}

/// An event of the application. Server 20 keeps events that want an answer apart from those that do not.
fn on(
    app: App,
    flavour: Flavour,
    kind: Kind,
    event: &str,
    run: impl Fn(&mut Ctx<'_>, &Request<'_>) -> sc_server::Answer + Send + Sync + 'static,
) -> App {
    app.on(event, move |(), cx, request| {
        let there = match kind {
            Kind::Both => true,
            Kind::Procedure => flavour == Flavour::Classic || request.wants_ack,
            Kind::Receiver => flavour == Flavour::Classic || !request.wants_ack,
        };
        if there { run(cx, &request) } else { Ok(Reply::Never) }
    })
}

#[derive(Clone, Copy)]
enum Kind {
    Both,
    Procedure,
    Receiver,
}

/// The events that show how answers are written.
fn answers(mut app: App, flavour: Flavour) -> App {
    app = on(app, flavour, Kind::Both, "echo", |_cx, request| Reply::data(request.data.clone()));
    app = on(app, flavour, Kind::Both, "noack", |_cx, _request| Ok(Reply::Never));
    app = on(app, flavour, Kind::Procedure, "ackEmpty", |_cx, _request| Ok(Reply::Empty));
    app = on(app, flavour, Kind::Procedure, "ackNull", |_cx, _request| Reply::data(Value::Null));
    // A handler answers once, by its type.
    app = on(app, flavour, Kind::Procedure, "ackTwice", |_cx, _request| Reply::data(1));
    if flavour == Flavour::Classic {
        app = app.on("ping", |(), _cx, _request| Reply::data("app-pong"));
        app = app.on("errWithData", |(), _cx, _request| {
            Reply::refuse_with(ScError::message_only("with data"), json!({ "partial": true }))
        });
    }
    let custom = || {
        ScError::new("MyCustomError", "custom Error instance")
            .with("statusCode", 418)
            .with("details", json!({ "a": [1, { "b": 2 }] }))
    };
    let errors: [(&str, ScError); 8] = [
        ("errString", ScError::text("this is a string error")),
        ("errError", ScError::message_only("plain Error")),
        ("errTypeError", ScError::message_only("a TypeError")),
        ("errCustom", custom()),
        ("errObject", ScError::new("ObjErr", "plain object").with("extra", 1)),
        ("errObjectNoMessage", ScError::json(json!({ "foo": "bar" }))),
        ("errNumber", ScError::json(json!(42))),
        ("errTrue", ScError::json(json!(true))),
    ];
    for (event, error) in errors {
        app = on(app, flavour, Kind::Procedure, event, move |_cx, _request| Err(error.clone()));
    }
    // A Rust value has no cycles; what it shares is copied.
    let shared = json!({ "x": 1 });
    app = on(app, flavour, Kind::Procedure, "errCyclic", move |_cx, _request| {
        Err(ScError::message_only("cyclic").with("shared", shared.clone()).with("again", shared.clone()))
    });
    on(app, flavour, Kind::Procedure, "cyclicData", |_cx, _request| Reply::data(Unserialisable))
}

/// What comes closest to a value that JSON cannot hold.
struct Unserialisable;

impl serde::Serialize for Unserialisable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("no JSON for it"))
    }
}

/// The events with which a client has the server act on its socket.
fn controls(mut app: App, flavour: Flavour, no_auth_state: bool) -> App {
    use Kind::{Procedure, Receiver};
    app = on(app, flavour, Procedure, "setToken", move |cx, request| {
        let (socket, data) = (request.socket, request.data.get::<Value>()?);
        // The application of server 20 answers first.
        match flavour {
            Flavour::Classic => set_token(cx, socket, &data)?,
            Flavour::Streams => {
                let _ = cx.after(Duration::ZERO, move |(), cx| drop(set_token(cx, socket, &data)));
            }
        }
        Ok(Reply::Empty)
    });
    app = on(app, flavour, Procedure, "deauth", move |cx, request| {
        let (socket, ack) = (request.socket, request.data.get::<Value>()?["ack"] == json!(true));
        match flavour {
            Flavour::Classic => deauthenticate(cx, socket, ack),
            Flavour::Streams => {
                let _ = cx.after(Duration::ZERO, move |(), cx| deauthenticate(cx, socket, ack));
            }
        }
        Ok(Reply::Empty)
    });
    app = on(app, flavour, Procedure, "kick", |cx, request| {
        let data = request.data.get::<Value>()?;
        cx.kick_out(request.socket, data["channel"].as_str(), data["message"].as_str());
        Ok(Reply::Empty)
    });
    for event in ["bye", "destroyMe"] {
        app = on(app, flavour, Receiver, event, |cx, request| {
            let data = request.data.get::<Value>()?;
            let code = data["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(1000);
            match data.get("data") {
                Some(reason) => cx.disconnect_with(request.socket, code, reason)?,
                None => cx.disconnect(request.socket, code, ""),
            }
            Ok(Reply::Never)
        });
    }
    app = on(app, flavour, Receiver, "terminateMe", |cx, request| {
        cx.terminate(request.socket);
        Ok(Reply::Never)
    });
    app = on(app, flavour, Receiver, "emitBack", |cx, request| {
        emit_back(cx, request.socket, &request.data.get::<Value>()?);
        Ok(Reply::Never)
    });
    app = on(app, flavour, Receiver, "sendRaw", |cx, request| {
        cx.send_raw(request.socket, &request.data.get::<String>()?);
        Ok(Reply::Never)
    });
    app = on(app, flavour, Receiver, "sendBin", |cx, request| {
        let data = json!({
            "buf": sc_server::Binary(&[0, 1, 2, 253, 254, 255]),
            "ab": sc_server::Binary(&[1, 2, 3, 4]),
            "u8": { "0": 5, "1": 6 },
            "date": "1970-01-01T00:00:00.000Z",
            "nan": f64::NAN,
        });
        cx.emit(request.socket, "binEvent", &data);
        Ok(Reply::Never)
    });
    app = on(app, flavour, Procedure, "pub", |cx, request| {
        let data = request.data.get::<Value>()?;
        let channel = data["channel"].as_str().unwrap_or_default();
        let published = cx.publish_then(channel, &data["data"], |(), _cx, result| result.map(|()| Reply::Empty));
        Ok(published.into())
    });
    app = on(app, flavour, Procedure, "startBatching", |cx, request| {
        cx.start_batching(request.socket);
        Ok(Reply::Empty)
    });
    app = on(app, flavour, Procedure, "stopBatching", |cx, request| {
        cx.stop_batching(request.socket);
        Ok(Reply::Empty)
    });
    on(app, flavour, Procedure, "subs", move |cx, request| {
        let mut state = state_of(cx, request.socket);
        if let Some(state) = state.as_object_mut().filter(|_| no_auth_state) {
            state.remove("authState");
        }
        Reply::data(state)
    })
}

fn set_token(cx: &mut Ctx<'_>, socket: SocketId, data: &Value) -> Result<(), ScError> {
    let mut claims = data.get("token").cloned().unwrap_or_else(|| json!({ "username": "bob" }));
    let expires_in = data["options"].get("expiresIn");
    if expires_in.is_some_and(|expires_in| !expires_in.is_u64()) {
        // A lifetime that is no number does not compile here; claims that cannot be signed come to the same.
        claims["exp"] = json!("garbage");
    }
    let expires_in = expires_in.and_then(Value::as_u64);
    if data["ack"] == json!(true) {
        let _ = cx.set_auth_token_then(socket, &claims, expires_in, |(), _cx, _result| ())?;
        Ok(())
    } else {
        cx.set_auth_token(socket, &claims, expires_in)
    }
}

fn deauthenticate(cx: &mut Ctx<'_>, socket: SocketId, ack: bool) {
    if ack {
        let _ = cx.deauthenticate_then(socket, |(), _cx, _result| ());
    } else {
        cx.deauthenticate(socket);
    }
}

fn emit_back(cx: &mut Ctx<'_>, socket: SocketId, data: &Value) {
    let event = data["event"].as_str().unwrap_or_default();
    let emitted = data.get("data").map_or(Ok(Data::absent()), Data::of).unwrap_or_default();
    if data["ack"] == json!(true) {
        let _ = cx.call(socket, event, &emitted, |(), _cx, _result| ());
    } else {
        cx.emit(socket, event, &emitted);
    }
}

fn state_of(cx: &Ctx<'_>, socket: SocketId) -> Value {
    let subscriptions = cx.subscriptions(socket);
    let token = cx.auth_token(socket);
    json!({
        "count": subscriptions.len(),
        "subs": subscriptions,
        "authState": if token.is_some() { "authenticated" } else { "unauthenticated" },
        "token": token.as_deref(),
        "state": "open",
    })
}

/// The application of the recordings of whole clusters. What it tells of its options is not all the same in all versions.
pub(crate) fn master_app(pack: &'static str, limit: usize) -> App {
    let app = Worker::new(()).on("whoami", move |(), cx, request| {
        let subscriptions = cx.subscriptions(request.socket);
        let mut state = json!({
            "pid": cx.pid(),
            "worker": cx.worker_id(),
            "path": if pack.starts_with("sc14") { "/socketcluster/" } else { "null" },
            "count": subscriptions.len(),
            "subs": subscriptions,
        });
        if !pack.starts_with("sc4.2.0") {
            state["limit"] = json!(limit);
            state["hs"] = json!(10000);
        }
        Reply::data(state)
    });
    controls(answers(app, Flavour::Classic), Flavour::Classic, false)
}
