//! A chat's backend in forty lines: a login, a channel for members only, a counter, a search that takes long.
#![forbid(unsafe_code)]

use sc_cluster::prelude::*;
use serde_json::json;

/// What each worker keeps for all of its sockets.
struct Room {
    greeted: u64,
}

fn worker(_start: &WorkerStart) -> Worker<Room> {
    Worker::new(Room { greeted: 0 })
        // Middleware passes, or blocks with an error that the client gets.
        .subscribe(|_room, _cx, request| match (&*request.channel, &request.auth) {
            ("members", None) => Err(Block::named("AuthRequiredError", "Log in first")),
            _ => Ok(Pass::Now),
        })
        .on_connection(|_room, cx, socket| {
            let worker = cx.worker_id();
            cx.emit(socket, "welcome", &json!({ "worker": worker }));
        })
        // The client keeps the token and comes back with it.
        .on("login", |_room, cx, request| {
            let name: String = request.data()?;
            cx.set_auth_token(request.socket, &json!({ "name": name }), None)?;
            Ok(Reply::Empty)
        })
        // What is published reaches the subscribers on every worker.
        .on("greet", |room, cx, request| {
            let name: String = request.data()?;
            room.greeted += 1;
            cx.publish("greetings", &json!({ "name": name, "nth": room.greeted }))?;
            Reply::data(room.greeted)
        })
        // What takes long runs on another thread. The answer goes out when it is there, and meanwhile nobody waits.
        .on("primes", |_room, cx, request| {
            let below: u64 = request.data()?;
            let search = move || (2..below.min(100_000)).filter(|n| (2..*n).all(|d| n % d != 0)).count();
            Ok(cx.later(search, |_room, _cx, found| Reply::data(found)).into())
        })
}

fn main() -> std::process::ExitCode {
    Cluster::from_env().page("/", "text/plain", "A chat's backend").worker(worker).run()
}
