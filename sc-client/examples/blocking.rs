//! A program without any runtime: calls block, and a channel is an iterator.
//!
//! `cargo run -p sc-client --example blocking -- ws://127.0.0.1:8000/`

#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    unreachable_pub,
    reason = "a driver, which the tests run too"
)]

use sc_client::{Client, Data};

/// Calls, publishes, and reads its own message back.
pub fn talk(url: &str) -> Result<String, Box<dyn std::error::Error>> {
    let client = Client::connect(url)?;
    let echoed: Vec<u32> = client.emit("echo", [1, 2, 3]).wait()?;
    println!("{echoed:?}");
    let error = client.emit_within::<_, Data>(std::time::Duration::from_millis(50), "nobody answers", ()).wait();
    println!("{}", error.err().map(|error| error.to_string()).unwrap_or_default());

    let mut chat = client.subscribe::<String>("chat");
    chat.subscribed().wait()?;
    client.publish("chat", "hello").wait()?;
    let message = chat.next().ok_or("the channel has ended")??;
    client.close().wait()?;
    Ok(message)
}

#[allow(dead_code, reason = "the tests call what it calls")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "ws://127.0.0.1:8000/".to_owned());
    println!("{}", talk(&url)?);
    Ok(())
}
