//! The server under test: a real cluster, with an application that does nothing but echo.
//!
//! ```text
//! cargo run --release -p benches --bin serve -- '{"port": 8000, "workers": 1, "brokers": 1}'
//! ```

use std::process::ExitCode;

use sc_cluster::{Cluster, Options, prelude::*};

fn main() -> ExitCode {
    let mut options = Options::default();
    if let Some(json) = std::env::args().nth(1)
        && let Err(error) = options.merge_json(&json)
    {
        eprintln!("serve: {error}");
        return ExitCode::FAILURE;
    }
    Cluster::new(options)
        .worker(|_| {
            Worker::<(), ()>::new(()).on("echo", |_, _, request| match request.data.json() {
                Some(json) => Ok(Reply::Json(json.to_owned())),
                None => Ok(Reply::Empty),
            })
        })
        .run()
}
