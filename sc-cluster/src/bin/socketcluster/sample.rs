//! The sample application, which `socketcluster` serves: what SocketCluster's own sample does, and a page to play with it.

use std::time::Duration;

use sc_cluster::{Pages, WorkerStart, prelude::*};
use serde_json::json;

/// The page, and what it needs: nothing from outside.
pub(crate) fn pages() -> Pages {
    Pages::new().asset("/", "text/html; charset=utf-8", include_str!("sample/index.html")).text("/health", "ok")
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
        .on("sampleClientEvent", |count, cx, _request| {
            *count += 1;
            cx.publish("sample", count)?;
            Ok(Reply::Empty)
        })
        .on("echo", |_count, _cx, request| match request.data.json() {
            Some(json) => Ok(Reply::Json(json.to_owned())),
            None => Ok(Reply::Empty),
        })
}
