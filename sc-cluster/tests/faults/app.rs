//! The application whose processes are killed: this test itself, started again.

use std::process::ExitCode;

use sc_cluster::{Cluster, Options, prelude::*};
use serde_json::json;

/// Options in JSON: this process is to be a cluster.
pub(crate) const OPTIONS_ENV: &str = "SC_FAULTS_OPTIONS";

pub(crate) fn run(options: &str) -> ExitCode {
    let mut all = Options::default();
    all.merge_json(options).expect("the test's own options");
    // The processes of a cluster are started from a test here, and on purpose: they come to this function again.
    all.worker_executable = std::env::current_exe().ok();
    Cluster::new(all).page("/", "text/plain", "page").worker(|_| worker()).run()
}

fn worker() -> Worker<()> {
    Worker::new(())
        .on_connection(|(), cx, socket| {
            let whoami = json!({ "worker": cx.worker_id(), "pid": cx.pid() });
            cx.emit(socket, "whoami", &whoami);
        })
        .on("panic", |(), _, _| panic!("on purpose"))
        .on("flood", |(), cx, request| {
            let (channel, count, bytes): (String, u32, usize) = request.data()?;
            for number in 0..count {
                cx.publish(&channel, &format!("{number:08}{}", "x".repeat(bytes)))?;
            }
            Ok(Reply::Empty)
        })
        .on("echo", |(), _, request| Reply::data(request.data::<u64>()?))
}
