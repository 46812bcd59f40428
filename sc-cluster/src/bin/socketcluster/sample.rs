//! The sample application, which `socketcluster` serves: what SocketCluster's own sample does, and a page to play with it.

use std::time::Duration;

use sc_cluster::{Pages, WorkerStart, prelude::*};
use serde_json::json;

/// What the page may do: load what this server has, and talk to it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page, and what it needs: nothing from outside.
pub(crate) fn pages() -> Pages {
    let script = "text/javascript; charset=utf-8";
    Pages::new()
        .asset("/", "text/html; charset=utf-8", include_str!("sample/index.html"))
        .asset("/style.css", "text/css; charset=utf-8", include_str!("sample/style.css"))
        .asset("/client.js", script, include_str!("sample/client.js"))
        .asset("/journal.js", script, include_str!("sample/journal.js"))
        .asset("/playground.js", script, include_str!("sample/playground.js"))
        .asset("/icon.svg", "image/svg+xml", include_str!("sample/icon.svg"))
        .text("/health", "ok")
        .header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        .header("Cross-Origin-Opener-Policy", "same-origin")
        .header("Cross-Origin-Resource-Policy", "same-origin")
        .header("Referrer-Policy", "no-referrer")
}

/// What each worker runs. The state is a count of `sampleClientEvent`s.
pub(crate) fn worker(start: &WorkerStart) -> Worker<u64> {
    let (workers, brokers) = (start.workers, start.brokers);
    Worker::new(0)
        .on_connection(move |_count, cx, socket| {
            let whoami = json!({ "worker": cx.worker_id(), "pid": cx.pid(), "workers": workers, "brokers": brokers });
            cx.emit(socket, "whoami", &whoami);
            cx.every(socket, Duration::from_secs(1), |_count, cx, socket| {
                let rand = cx.random() % 5;
                cx.emit(socket, "rand", &json!({ "rand": rand }));
            });
        })
        // Middleware: one channel is for those who have logged in.
        .subscribe(|_count, _cx, request| match (&*request.channel, &request.auth) {
            ("members", None) => Err(Block::named("AuthRequiredError", "Sign in to subscribe to members")),
            _ => Ok(Pass::Now),
        })
        .on("sampleClientEvent", |count, cx, _request| {
            *count += 1;
            cx.publish("sample", count)?;
            Ok(Reply::Empty)
        })
        .on("echo", |_count, _cx, request| match request.data.json() {
            Some(json) => Ok(Reply::Json(json.to_owned())),
            None => Ok(Reply::Empty),
        })
        .on("login", |_count, cx, request| {
            let username: String = request.data()?;
            cx.set_auth_token(request.socket, &json!({ "username": username }), None)?;
            Ok(Reply::Empty)
        })
        .on("brokerOf", move |_count, _cx, request| Reply::data(sc_broker::shard(&request.data::<String>()?, brokers)))
}
