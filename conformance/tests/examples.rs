//! The examples of sc-cluster do what they say, as real clusters.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use libtest_mimic::{Arguments, Failed};
use serde_json::{Value, json};
use support::server::Server;
use support::trial;
use support::wire::Wire;

fn main() -> std::process::ExitCode {
    let args = Arguments::from_args();
    let trials = vec![trial("chat", &[], chat), trial("deferred", &[], deferred)];
    libtest_mimic::run(&args, trials).exit_code()
}

/// Two people on two workers, who need a name first.
fn chat() -> Result<(), Failed> {
    let server = Server::start_example("chat", &[("SOCKETCLUSTER_WORKERS", "2")])?;
    let (a, b) = (Wire::open(server.port)?, Wire::open(server.port)?);
    let nameless = json!({ "name": "AuthRequiredError", "message": "Say your name first" });
    is(a.call("#subscribe", json!({ "channel": "rust" })), nameless)?;
    for (wire, name) in [(&a, "ada"), (&b, "bob")] {
        is(wire.call("login", json!(name)), Value::Null)?;
        wire.subscribe("rust")?;
    }
    let messages = [json!({ "from": "ada", "text": "hello" }), json!({ "from": "bob", "text": "hello, ada" })];
    for (wire, message) in [(&a, &messages[0]), (&b, &messages[1])] {
        wire.publish("rust", message["text"].clone()).map_err(|error| error.to_string())?;
    }
    let refused = json!({ "message": "A message is a text of somebody with a name" });
    is(a.publish("rust", 5).map(|()| Value::Null), refused)?;
    for wire in [&a, &b] {
        for message in &messages {
            is(wire.event("#publish").map_err(Value::from), json!({ "channel": "rust", "data": message }))?;
        }
        is(wire.call("history", json!("rust")), json!(messages))?;
        is(wire.call("history", json!("other")), json!({ "message": "You are not in that room" }))?;
    }
    ended(server)
}

/// Answers and verdicts that come from other threads and from tokio, and a thread that acts in the worker by itself.
fn deferred() -> Result<(), Failed> {
    let server = Server::start_example("deferred", &[("SOCKETCLUSTER_BROKERS", "1")])?;
    let wire = Wire::connect(server.port)?;
    for event in ["pool", "thread"] {
        is(wire.call(event, json!(50)), json!(12_586_269_025_u64))?;
    }
    is(wire.call("tokio", json!(20)), json!({ "ran on": "tokio" }))?;
    is(wire.call("#subscribe", json!({ "channel": "even" })), Value::Null)?;
    is(wire.call("#subscribe", json!({ "channel": "odd" })), json!({ "message": "This channel's name is odd" }))?;
    wire.subscribe("tick")?;
    let ticks: Vec<Value> = (0..3).map(|_| wire.event("#publish")).collect::<Result<_, _>>()?;
    let first = ticks[0]["data"].as_u64().unwrap();
    let expected = [first, first + 1, first + 2].map(|tick| json!({ "channel": "tick", "data": tick }));
    if ticks != expected {
        return Err(format!("{ticks:?}").into());
    }
    ended(server)
}

fn is(answer: Result<Value, Value>, expected: Value) -> Result<(), Failed> {
    let answer = answer.unwrap_or_else(|error| error);
    if answer == expected { Ok(()) } else { Err(format!("{answer} is not {expected}").into()) }
}

fn ended(server: Server) -> Result<(), Failed> {
    let status = server.stop()?;
    if status.success() { Ok(()) } else { Err(status.to_string().into()) }
}
