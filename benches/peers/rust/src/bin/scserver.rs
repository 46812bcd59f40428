//! The crate `socketcluster_server`, as its documentation shows it. It has no handlers for events, so no echo.

use std::net::SocketAddr;
use std::time::Duration;

use axum::{Router, routing::get};
use socketcluster_server::{ServerConfig, WebSocketSender, create_socketcluster_state, ws_handler};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let port = peers::port();
    let config = ServerConfig {
        ping_interval: Duration::from_secs(8),
        ping_timeout: Duration::from_secs(20),
        port,
        host: "127.0.0.1".to_owned(),
        jwt_secret: "a key for benchmarks".to_owned(),
    };
    let state = create_socketcluster_state::<WebSocketSender>(config);
    let app = Router::new().route("/socketcluster/", get(ws_handler)).with_state(state);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).tcp_nodelay(true).await.expect("a server");
}
