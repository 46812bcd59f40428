//! The application that the workers run: a bit of everything that an application can do.

use std::time::Duration;

use sc_server::{Block, Cx, Pass, Reply, Request, ScError, Verdict, Worker};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What each worker counts of its own.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Calls to clients that were begun and answered (or failed).
    pub(crate) asked: u64,
}

/// What each socket has.
#[derive(Debug, Default)]
pub(crate) struct Session {
    count: u64,
}

type AppCx<'a> = Cx<'a, State, Session>;

#[derive(Debug, Deserialize)]
struct Publish {
    channel: String,
    data: serde_json::Value,
}

#[derive(Debug, Deserialize, Serialize)]
struct Login {
    username: String,
}

/// How verdicts come: at once, after a while, or from a thread.
fn verdict(cx: &mut AppCx<'_>, name: &str) -> Verdict {
    if name.starts_with("slow") {
        return Ok(cx.after(Duration::from_millis(40), |_, _| Ok(Pass::Now)).into());
    }
    if name.starts_with("job") {
        return Ok(cx.later(|| (), |_, _, ()| Ok(Pass::Now)).into());
    }
    if name.starts_with("forbidden") {
        return Err(Block::named("ForbiddenError", "Not this one"));
    }
    Ok(Pass::Now)
}

fn needs_login(name: &str, auth: Option<&sc_server::Token>) -> Result<(), Block> {
    match (name.starts_with("private"), auth) {
        (true, None) => Err(Block::named("AuthRequiredError", "Login first")),
        _ => Ok(()),
    }
}

/// The application. `filtered`: with a stage before each delivery, which takes another way through the engine.
pub(crate) fn application(filtered: bool) -> Worker<State, Session> {
    let worker = Worker::with_sessions::<Session>(State::default());
    let worker = if filtered { worker.publish_out(|_, _, _| Ok(())) } else { worker };
    worker
        .emit(|_, cx, request| verdict(cx, &request.event))
        .subscribe(|_, cx, request| {
            needs_login(&request.channel, request.auth.as_ref())?;
            verdict(cx, &request.channel)
        })
        .publish_in(|_, cx, request| {
            needs_login(&request.channel, request.auth.as_ref())?;
            verdict(cx, &request.channel)
        })
        .on_connection(|_, cx, socket| {
            cx.emit(socket, "welcome", &json!({ "pid": cx.pid() }));
        })
        .on("echo", |_, _, request| Reply::data(request.data::<serde_json::Value>()?))
        .on("count", count)
        .on("slow.count", count)
        .on("job.count", count)
        .on("late", |_, cx, request| {
            let data: u64 = request.data()?;
            Ok(cx.after(Duration::from_millis(data % 200), move |_, _| Reply::data(data)).into())
        })
        .on("work", |_, cx, request| {
            let data: u64 = request.data()?;
            Ok(cx.later(move || data + 1, |_, _, sum| Reply::data(sum)).into())
        })
        .on("push", |_, cx, request| {
            let count: u64 = request.data()?;
            for n in 0..count {
                cx.emit(request.socket, "tick", &json!({ "n": n, "of": count }));
            }
            Ok(Reply::Empty)
        })
        .on("ask", |state: &mut State, cx, request| {
            state.asked += 1;
            let data: u64 = request.data()?;
            let ticket = cx.call(request.socket, "question", &data, |state: &mut State, _, answer| {
                state.asked -= 1;
                Reply::data(answer?.get::<u64>()?)
            });
            Ok(ticket.into())
        })
        .on("serverPublish", |_, cx, request| {
            let publish: Publish = request.data()?;
            let ticket = cx.publish_then(&publish.channel, &publish.data, |_, _, result| {
                result?;
                Ok(Reply::Empty)
            });
            Ok(ticket.into())
        })
        .on("login", |_, cx, request| {
            let login: Login = request.data()?;
            cx.set_auth_token(request.socket, &login, None)?;
            Ok(Reply::Empty)
        })
        .on("logout", |_, cx, request| {
            cx.deauthenticate(request.socket);
            Ok(Reply::Empty)
        })
        .on("kick", |_, cx, request| {
            let channel: String = request.data()?;
            cx.kick_out(request.socket, Some(&channel), Some("out"));
            Ok(Reply::Empty)
        })
        .on("closeMe", |_, cx, request| {
            cx.disconnect(request.socket, 4321, "as you wish");
            Ok(Reply::Empty)
        })
        .on("terminateMe", |_, cx, request| {
            cx.terminate(request.socket);
            Ok(Reply::Never)
        })
        .on("whoami", |_, cx, request| {
            let subscriptions = cx.subscriptions(request.socket);
            Reply::data(json!({ "subscriptions": subscriptions, "authenticated": request.auth.is_some() }))
        })
}

fn count(_: &mut State, cx: &mut AppCx<'_>, request: Request<'_>) -> Result<Reply, ScError> {
    let session = cx.session(request.socket);
    session.count += 1;
    Reply::data(session.count)
}
