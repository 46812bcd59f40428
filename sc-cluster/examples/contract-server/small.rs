//! Two small applications: those that the tests of other clients expect of a server.

use std::time::Duration;

use sc_cluster::auth::{JwtConfig, JwtEngine, Key};
use sc_cluster::{WorkerStart, prelude::*};
use serde_json::{Map, Value, json};

/// 5000 years of 366 days, in seconds.
const AGES: u64 = 158_112_000_000;

/// Tokens: who gets one, with which key, and which one is refused all the same. The session says whether the socket has tried.
pub(crate) fn auth2(_start: &WorkerStart) -> Worker<(), bool> {
    Worker::with_sessions::<bool>(())
        .authenticate(|(), _cx, request| match request.auth.get("username").and_then(Value::as_str) {
            Some("alice") => Err(Block::named("AuthenticateMiddlewareError", "Blocked by MIDDLEWARE_AUTHENTICATE")),
            _ => Ok(Pass::Now),
        })
        .on("login", |(), cx, request| {
            if std::mem::replace(cx.session(request.socket), true) {
                return Ok(Reply::Never);
            }
            let mut claims: Map<String, Value> = request.data().unwrap_or_default();
            let username = claims.get("username").and_then(Value::as_str);
            if !matches!(username, Some("bob" | "kate" | "alice")) {
                return Err(ScError::new("FailedLoginError", "Failed to login"));
            }
            claims.insert("exp".to_owned(), (cx.unix_ms() / 1000 + AGES).into());
            cx.set_auth_token(request.socket, &claims, None)?;
            Ok(Reply::Empty)
        })
        .on("setAuthKey", |(), cx, request| {
            let key = Key::shared(request.data::<String>()?).internal()?;
            cx.set_auth_engine(Box::new(JwtEngine::new(JwtConfig::new(key)).internal()?));
            Ok(Reply::Empty)
        })
        .on("performTask", |(), cx, _request| cx.after(Duration::from_secs(1), |(), _cx| Ok(Reply::Empty)).into())
}

/// A first event, a publish, a token, and an end.
pub(crate) fn external(_start: &WorkerStart) -> Worker<()> {
    Worker::new(())
        .on_connection(|(), cx, socket| cx.emit(socket, "first", "This is the first event"))
        .on("ping", |(), cx, _request| {
            cx.publish("pong", &json!({ "message": "This is pong data" }))?;
            Ok(Reply::Empty)
        })
        .on("login", |(), cx, request| {
            let username: Value = request.data()?;
            cx.set_auth_token(request.socket, &json!({ "username": username }), None)?;
            Ok(Reply::Empty)
        })
        .on("killWorker", |(), _cx, _request| std::process::exit(0))
}
