//! A chat with names, rooms and their last messages, in forty lines: `cargo run -p sc-cluster --example chat`.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, VecDeque};
use std::process::ExitCode;

use sc_cluster::prelude::*;
use serde_json::{Value, json};

/// The last messages of each room that somebody on this worker is in.
type Rooms = BTreeMap<String, VecDeque<Value>>;

fn main() -> ExitCode {
    Cluster::from_env().worker(|_start| chat(Worker::new(Rooms::new()))).run()
}

fn chat(worker: Worker<Rooms>) -> Worker<Rooms> {
    worker
        // The name goes into a signed token, so it is still there after a reconnect, to whichever worker.
        .on("login", |_rooms, cx, request| {
            let name: String = request.data()?;
            cx.set_auth_token(request.socket, &json!({ "name": name }), None)?;
            Ok(Reply::Empty)
        })
        .subscribe(|_rooms, cx, request| {
            request.auth.as_ref().ok_or_else(|| Block::named("AuthRequiredError", "Say your name first"))?;
            cx.watch(&request.channel);
            Ok(Pass::Now)
        })
        .publish_in(|_rooms, _cx, request| {
            let (Some(token), Ok(text)) = (&request.auth, request.data.get::<String>()) else {
                return Err(Block::error("A message is a text of somebody with a name"));
            };
            request.data.set(&json!({ "from": token["name"], "text": text }))?;
            Ok(Pass::Now)
        })
        // What is published in a watched room comes here too, from every worker.
        .on_publish(|rooms, _cx, published| {
            let room = rooms.entry(published.channel.to_owned()).or_default();
            room.extend(published.data::<Value>());
            room.drain(..room.len().saturating_sub(20));
        })
        .on("history", |rooms, cx, request| match request.data::<String>()? {
            room if cx.subscriptions(request.socket).contains(&room) => Reply::data(rooms.get(&room)),
            _ => Err(ScError::message_only("You are not in that room")),
        })
}
