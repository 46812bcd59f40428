//! What happens to a connection: connected, lost, the delay until the next try, authentication.
//!
//! `cargo run -p sc-client --example events -- ws://127.0.0.1:8000/`

#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    unreachable_pub,
    reason = "a driver, which the tests run too"
)]

use sc_client::{Client, CloseCode, Event};

/// Connects, disconnects, and tells what happened.
pub fn story(url: &str) -> Result<Vec<&'static str>, Box<dyn std::error::Error>> {
    let client = Client::builder(url).lazily().connect()?;
    let events = client.events();
    client.reconnect_now();
    let mut story = Vec::new();
    for event in events {
        match event? {
            Event::Connecting => story.push("connecting"),
            Event::Connected(connected) => {
                println!("{} (authenticated: {})", connected.id, connected.authenticated);
                story.push("connected");
                client.disconnect(CloseCode::NORMAL, "seen enough");
            }
            Event::Disconnected(end) => {
                println!("{} {:?}, next try in {:?}", end.code, end.reason, end.retry_in);
                story.push("disconnected");
                if end.retry_in.is_none() {
                    break;
                }
            }
            other => println!("{other:?}"),
        }
    }
    Ok(story)
}

#[allow(dead_code, reason = "the tests call what it calls")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "ws://127.0.0.1:8000/".to_owned());
    println!("{:?}", story(&url)?);
    Ok(())
}
