//! The examples do what they say.
#![cfg(feature = "driver")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests with sockets and threads"
)]

#[path = "../examples/blocking.rs"]
mod blocking;
#[path = "../examples/core_on_smol.rs"]
mod core_on_smol;
#[path = "../examples/core_on_tokio.rs"]
mod core_on_tokio;
#[path = "../examples/events.rs"]
mod events;
mod rig;
#[path = "../examples/server_in_axum.rs"]
mod server_in_axum;

use rig::server::Server;
use rig::{ServerConfig, application};
use sc_client::Client;

fn server() -> Server {
    Server::start(ServerConfig::default(), application)
}

fn tokio_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn the_handle_needs_no_runtime() {
    let server = server();
    assert_eq!(blocking::talk(&server.url()).unwrap(), "hello");
    assert_eq!(events::story(&server.url()).unwrap(), ["connecting", "connected", "disconnected"]);
}

#[test]
fn the_core_runs_on_tokio_and_on_smol() {
    let server = server();
    let address = server.address.to_string();
    assert_eq!(tokio_runtime().block_on(core_on_tokio::echo(&address, "[1]")).unwrap(), "[1]");
    assert_eq!(smol::block_on(core_on_smol::echo(&address, "[2]")).unwrap(), "[2]");
}

#[test]
fn the_server_runs_in_a_route_of_axum() {
    let runtime = tokio_runtime();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let plain = format!("ws://{}/elsewhere", listener.local_addr().unwrap());
    // It serves until the runtime is dropped.
    runtime.spawn(async { server_in_axum::serve(listener).await.unwrap() });
    let done = runtime.spawn_blocking(move || {
        assert_eq!(blocking::talk(&url).unwrap(), "hello");
        let big: String = Client::connect(&url).unwrap().emit("echo", "x".repeat(100_000)).wait().unwrap();
        assert_eq!(big.len(), 100_000);
        let lost = Client::builder(&plain).reconnect(None).connect().unwrap();
        assert!(lost.connected().wait().is_err());
    });
    runtime.block_on(done).unwrap();
}
