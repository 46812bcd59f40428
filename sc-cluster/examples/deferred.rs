//! What takes time, without holding up the worker: answers that come from a pool thread, from any thread, from a future of
//! tokio (feature `tokio`), and a thread of one's own that pushes into the worker.
//!
//! ```text
//! cargo run -p sc-cluster --features tokio --example deferred
//! ```
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use sc_cluster::prelude::*;
use serde_json::json;

fn main() -> ExitCode {
    Cluster::from_env().worker(|_start| worker()).run()
}

/// The state is how often the thread has ticked.
fn worker() -> Worker<u64> {
    let worker = Worker::new(0)
        .on_connection(|_ticks, cx, socket| cx.emit(socket, "welcome", &json!({ "worker": cx.worker_id() })))
        // On a thread of the worker's pool; the continuation runs in the worker again.
        .on("pool", |_ticks, cx, request| {
            let n: u64 = request.data()?;
            cx.later(move || fibonacci(n), |_ticks, _cx, result| Reply::data(result)).into()
        })
        // On whatever thread has the completer.
        .on("thread", |_ticks, cx, request| {
            let n: u64 = request.data()?;
            let (ticket, done) = cx.park(|_ticks, _cx, result: u64| Reply::data(result));
            thread::spawn(move || done.complete(fibonacci(n)));
            ticket.into()
        })
        // Verdicts may take time as well; what the socket sends meanwhile waits or not, as its protocol has it.
        .subscribe(|_ticks, cx, request| {
            let channel = request.channel.clone().into_owned();
            cx.later(
                move || channel.len() % 2 == 0,
                |_ticks, _cx, even| match even {
                    true => Ok(Pass::Now),
                    false => Err(Block::error("This channel's name is odd")),
                },
            )
            .into()
        })
        // A thread that lives beside the worker, and acts in it now and then.
        .on_start(|_ticks, cx| {
            let remote = cx.remote();
            thread::spawn(move || {
                loop {
                    thread::sleep(Duration::from_millis(100));
                    let ticked = remote.run(|ticks, cx| {
                        *ticks += 1;
                        let _ = cx.publish("tick", ticks);
                    });
                    if ticked.is_err() {
                        return;
                    }
                }
            });
        });
    #[cfg(feature = "tokio")]
    let worker = worker.on("tokio", |_ticks, cx, request| {
        let ms = request.data()?;
        let future = async move {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            thread::current().name().map(str::to_owned)
        };
        cx.spawn(future, |_ticks, _cx, name| Reply::data(json!({ "ran on": name }))).into()
    });
    worker
}

fn fibonacci(n: u64) -> u64 {
    (0..n).fold((0_u64, 1), |(a, b), _| (b, a.wrapping_add(b))).0
}
