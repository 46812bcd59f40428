//! The application that the conformance tests, the matrix of clients and the fault tests talk to: a little of everything
//! that an application does. It is configured by environment variables only, and says on standard output when it serves.
//!
//! `PORT`, `HOST`, `SCPATH`, `WORKERS`, `BROKERS`, `AUTH_KEY`, `AUTH_ALG`, `AUTH_PRIVATE_KEY_FILE`, `AUTH_PUBLIC_KEY_FILE`, `AUTH_EXPIRY`,
//! `PING_INTERVAL`, `PING_TIMEOUT`, `HANDSHAKE_TIMEOUT`, `ACK_TIMEOUT`, `CHANNEL_LIMIT`, `ORIGINS`, `ALLOW_PUBLISH`, `MAX_PAYLOAD`,
//! `ALLOW_CRASH`, `LOG_LEVEL`, `ECHO_PORT`, and `APP`: `full` (the default), `auth2` or `external`.
//!
//! ```text
//! WORKERS=2 BROKERS=2 PORT=0 cargo run --release -p sc-cluster --example contract-server
//! CONTRACT READY {"pid":4711,"port":40123,"version":"socketcluster (Rust) 0.1.0"}
//! ```
#![forbid(unsafe_code)]

mod echo;
mod full;
mod rules;
mod small;

use std::env;
use std::process::ExitCode;
use std::str::FromStr;

use sc_cluster::{Secret, prelude::*};
use serde_json::json;

fn main() -> ExitCode {
    let (options, app) = match settings() {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let cluster = Cluster::new(options).pages(Pages::new().text("/health", "ok")).on_ready(|ready| {
        let version = concat!("socketcluster (Rust) ", env!("CARGO_PKG_VERSION"));
        println!("CONTRACT READY {}", json!({ "pid": ready.pid, "port": ready.port, "version": version }));
    });
    match app.as_str() {
        "full" => cluster.worker(echo::beside(full::worker)),
        "auth2" => cluster.worker(echo::beside(small::auth2)),
        "external" => cluster.worker(echo::beside(small::external)),
        other => {
            eprintln!("APP has to be full, auth2 or external, not {other:?}");
            return ExitCode::FAILURE;
        }
    }
    .run()
}

fn settings() -> Result<(Options, String), String> {
    let file = |name| match text(name) {
        Some(path) => std::fs::read_to_string(&path).map(Some).map_err(|error| format!("{name}: {path}: {error}")),
        None => Ok(None),
    };
    let (private, public) = (file("AUTH_PRIVATE_KEY_FILE")?, file("AUTH_PUBLIC_KEY_FILE")?);
    let defaults = Options::default();
    let options = Options {
        port: value("PORT")?.unwrap_or(8000),
        host: Some(text("HOST").unwrap_or_else(|| "127.0.0.1".to_owned())),
        path: Some(text("SCPATH").unwrap_or_else(|| "/socketcluster/".to_owned())),
        workers: value("WORKERS")?,
        brokers: value("BROKERS")?,
        auth_key: match private {
            Some(_) => None,
            None => Some(text("AUTH_KEY").map_or_else(|| "contract-test-key".into(), Secret::from)),
        },
        auth_private_key: private.map(Secret::from),
        auth_public_key: public,
        auth_algorithm: text("AUTH_ALG"),
        auth_default_expiry_secs: value("AUTH_EXPIRY")?.unwrap_or(86_400),
        ping_interval_ms: value("PING_INTERVAL")?.unwrap_or(8000),
        ping_timeout_ms: Some(value("PING_TIMEOUT")?.unwrap_or(20_000)),
        handshake_timeout_ms: value("HANDSHAKE_TIMEOUT")?.unwrap_or(10_000),
        ack_timeout_ms: value("ACK_TIMEOUT")?.unwrap_or(10_000),
        socket_channel_limit: Some(value("CHANNEL_LIMIT")?.unwrap_or(1000)),
        origins: text("ORIGINS").unwrap_or_else(|| "*:*".to_owned()),
        allow_client_publish: text("ALLOW_PUBLISH").as_deref() != Some("0"),
        max_payload: value("MAX_PAYLOAD")?.unwrap_or(defaults.max_payload),
        log_level: value("LOG_LEVEL")?.unwrap_or(1),
        ..defaults
    };
    Ok((options, text("APP").unwrap_or_else(|| "full".to_owned())))
}

fn text(name: &str) -> Option<String> {
    env::var(name).ok().filter(|text| !text.is_empty())
}

fn value<T: FromStr>(name: &str) -> Result<Option<T>, String> {
    let parse = |text: String| text.parse().map_err(|_| format!("{name} cannot be {text:?}"));
    text(name).map(parse).transpose()
}
