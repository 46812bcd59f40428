//! The full application: an event for each thing that a server can do with a client.

use std::time::Duration;

use sc_cluster::{WorkerStart, prelude::*};
use serde_json::{Map, Value, json};

use crate::rules;

/// What a socket has: how many `count` events it sent.
type Session = u64;
type App = Worker<State, Session>;

pub(crate) struct State {
    allow_crash: bool,
}

pub(crate) fn worker(_start: &WorkerStart) -> App {
    let state = State { allow_crash: crate::text("ALLOW_CRASH").as_deref() == Some("1") };
    let worker = Worker::with_sessions::<Session>(state);
    faults(output(tokens(answers(middleware(worker)))))
}

fn middleware(worker: App) -> App {
    worker
        .handshake(|_state, _cx, request| rules::handshake(request))
        .emit(|_state, _cx, request| rules::emit(request))
        .subscribe(|_state, cx, request| match rules::subscribe(request) {
            Some(verdict) => verdict,
            None => cx.after(Duration::from_millis(200), |_state, _cx| Ok(Pass::Now)).into(),
        })
        .publish_in(|_state, _cx, request| rules::publish_in(request))
        .publish_out(|_state, cx, request| rules::publish_out(request, &cx.id(request.socket)))
}

/// Events that are about their answers.
fn answers(worker: App) -> App {
    worker
        .on_connection(|_state, cx, socket| {
            let authenticated = cx.auth_token(socket).is_some();
            let welcome = json!({
                "id": cx.id(socket), "pid": cx.pid(), "worker": cx.worker_id(), "authenticated": authenticated
            });
            cx.emit(socket, "welcome", &welcome);
        })
        .on_raw(|_state, cx, socket, message| {
            if let RawMessage::Text(text) = message {
                cx.emit(socket, "rawReceived", &json!({ "message": text }));
            }
        })
        .on("echo", |_state, _cx, request| Reply::data(request.data))
        .on("add", |_state, _cx, request| add(&request.data()?))
        .on("reject", |_state, _cx, request| {
            let data: Map<String, Value> = request.data().unwrap_or_default();
            let text = |key: &str, or: &str| data.get(key).and_then(Value::as_str).unwrap_or(or).to_owned();
            let error = ScError::new(text("name", "Error"), text("message", ""));
            let props = data.get("props").and_then(Value::as_object).into_iter().flatten();
            Err(props.fold(error, |error, (key, value)| error.with(key, value)))
        })
        .on("rejectString", |_state, _cx, request| Err(ScError::text(request.data::<String>()?)))
        .on("noAck", |_state, _cx, _request| Ok(Reply::Never))
        .on("late", |_state, cx, request| {
            let mut data: Map<String, Value> = request.data()?;
            let delay = Duration::from_millis(data.get("ms").and_then(Value::as_u64).unwrap_or(0));
            cx.after(delay, move |_state, _cx| data.remove("data").map_or(Ok(Reply::Empty), Reply::data)).into()
        })
        .on("count", |_state, cx, request| {
            let count = cx.session(request.socket);
            *count += 1;
            Reply::data(*count)
        })
        .on("stats", |_state, cx, _request| {
            Reply::data(json!({ "pid": cx.pid(), "worker": cx.worker_id(), "clients": cx.counters().clients }))
        })
        .on_other(|_state, _cx, request| match request.event.starts_with("user.") {
            true => Reply::data(request.data),
            false => Ok(Reply::Never),
        })
}

/// Events about who a socket is.
fn tokens(worker: App) -> App {
    worker
        .on("whoami", |_state, cx, request| {
            let (socket, token) = (request.socket, request.auth);
            let auth_state = if token.is_some() { "authenticated" } else { "unauthenticated" };
            Reply::data(json!({
                "id": cx.id(socket), "pid": cx.pid(), "worker": cx.worker_id(), "authState": auth_state,
                "authToken": token.as_deref(), "subscriptions": cx.subscriptions(socket)
            }))
        })
        .on("login", |_state, cx, request| {
            let mut data: Map<String, Value> = request.data().unwrap_or_default();
            let field = |key| data.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            let username = field("username");
            if username.is_empty() || field("password") != format!("pw-{username}") {
                return Err(ScError::new("LoginError", "Invalid credentials").with("code", "ELOGIN"));
            }
            let mut claims = json!({ "username": username, "role": "user" });
            if let Some(extra) = data.remove("extra") {
                claims["extra"] = extra;
            }
            let expires_in = data.get("expiresIn").and_then(Value::as_u64);
            cx.set_auth_token(request.socket, &claims, expires_in)?;
            Reply::data(json!({ "username": username }))
        })
        .on("logout", |_state, cx, request| {
            cx.deauthenticate(request.socket);
            Reply::data(true)
        })
        .on("grant", |_state, cx, request| {
            cx.set_auth_token(request.socket, &request.data, None)?;
            Reply::data(true)
        })
}

/// Events that make the server send something, or end the socket.
fn output(worker: App) -> App {
    worker
        .on("kick", |_state, cx, request| {
            let data: Map<String, Value> = request.data().unwrap_or_default();
            let text = |key| data.get(key).and_then(Value::as_str);
            cx.kick_out(request.socket, text("channel"), text("message"));
            Reply::data(true)
        })
        .on("closeMe", |_state, cx, request| {
            let data: Value = request.data()?;
            let code = data["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(1000);
            cx.disconnect(request.socket, code, data["reason"].as_str().unwrap_or_default());
            Reply::data(true)
        })
        .on("terminate", |_state, cx, request| {
            cx.terminate(request.socket);
            Ok(Reply::Never)
        })
        .on("sendRaw", |_state, cx, request| {
            cx.send_raw(request.socket, &request.data::<String>()?);
            Reply::data(true)
        })
        .on("push", |_state, cx, request| {
            let data: Value = request.data()?;
            let (event, count) = (event(&data)?, data["count"].as_u64().unwrap_or(1));
            for seq in 1..=count {
                match data.get("data") {
                    _ if count > 1 => cx.emit(request.socket, event, &json!({ "seq": seq, "data": data.get("data") })),
                    Some(data) => cx.emit(request.socket, event, data),
                    None => cx.emit_empty(request.socket, event),
                }
            }
            Reply::data(count)
        })
        .on("ask", |_state, cx, request| {
            let data: Value = request.data()?;
            cx.call(request.socket, event(&data)?, &data["data"], |_state, _cx, result| match result {
                Ok(reply) => Reply::data(json!({ "ok": true, "reply": reply.get::<Value>()? })),
                Err(error) => {
                    let name = error.name().unwrap_or("Error");
                    Reply::data(json!({ "ok": false, "error": { "name": name, "message": error.message() } }))
                }
            })
            .into()
        })
        .on("serverPublish", |_state, cx, request| {
            let data: Value = request.data()?;
            let channel = data["channel"].as_str().ok_or_else(|| ScError::new("ArgumentError", "No channel"))?;
            cx.publish_then(channel, &data["data"], |_state, _cx, result| {
                result?;
                Reply::data(true)
            })
            .into()
        })
}

/// Events that break the worker.
fn faults(worker: App) -> App {
    worker
        .on("die", |state, _cx, request| {
            let data: Value = request.data().unwrap_or_default();
            match state.allow_crash {
                true => {
                    std::process::exit(data["code"].as_i64().and_then(|code| i32::try_from(code).ok()).unwrap_or(0))
                }
                false => Err(crash_disabled()),
            }
        })
        .on("crash", |state, _cx, _request| match state.allow_crash {
            true => panic!("contract crash"),
            false => Err(crash_disabled()),
        })
}

fn crash_disabled() -> ScError {
    ScError::new("ForbiddenError", "crash disabled")
}

fn event(data: &Value) -> Result<&str, ScError> {
    data["event"].as_str().ok_or_else(|| ScError::new("ArgumentError", "No event"))
}

fn add(data: &Value) -> Answer {
    if let (Some(a), Some(b)) = (data["a"].as_f64(), data["b"].as_f64()) {
        // A sum of whole numbers is one, as JavaScript writes it.
        let sum = a + b;
        return match sum.fract() == 0.0 && sum.abs() < 9e15 {
            true => Reply::data(sum as i64),
            false => Reply::data(sum),
        };
    }
    let error = ScError::new("ArgumentError", "a and b must be numbers").with("code", "EARG");
    let got = [type_of(data.get("a")), type_of(data.get("b"))];
    Err(error.with("detail", json!({ "got": got })))
}

/// What JavaScript's `typeof` says.
fn type_of(value: Option<&Value>) -> &'static str {
    match value {
        None => "undefined",
        Some(Value::Bool(_)) => "boolean",
        Some(Value::Number(_)) => "number",
        Some(Value::String(_)) => "string",
        Some(Value::Null | Value::Array(_) | Value::Object(_)) => "object",
    }
}
