//! Packets in binary: clients that use `sc-codec-min-bin` in the place of JSON. All of them have to, and the server has to be
//! told which protocol version they speak.
//!
//! ```text
//! SOCKETCLUSTER_OPTIONS='{"protocolVersion": 2}' cargo run -p sc-cluster --example min_bin
//! ```
#![forbid(unsafe_code)]

use std::process::ExitCode;

use sc_cluster::prelude::*;
use sc_cluster::server::codec::MinBin;

fn main() -> ExitCode {
    Cluster::from_env().worker(|_start| worker()).run()
}

fn worker() -> Worker<()> {
    Worker::new(())
        .codec(MinBin)
        .on("echo", |(), _cx, request| Reply::data(request.data.clone()))
        .on("refuse", |(), _cx, _request| Err(ScError::new("MyError", "no").with("code", 7)))
}
