//! The application whose processes are killed: this test itself, started again.

use std::{process::ExitCode, sync::OnceLock};

use sc_cluster::{Cluster, Event, Options, prelude::*};
use serde_json::json;

/// Options in JSON: this process is to be a cluster.
pub(crate) const OPTIONS_ENV: &str = "SC_FAULTS_OPTIONS";

pub(crate) fn run(options: &str) -> ExitCode {
    let mut all = Options::default();
    all.merge_json(options).expect("the test's own options");
    // The processes of a cluster are started from a test here, and on purpose: they come to this function again.
    all.worker_executable = std::env::current_exe().ok();
    Cluster::new(all)
        .page("/", "text/plain", "page")
        .init(|role| FIRST.set(role.to_string()).expect("it runs once"))
        .worker(|_| worker())
        .on_event(|event, _| {
            if let Event::Message { origin, data } = event {
                eprintln!("app: {origin} says {}", data.json().unwrap_or_default());
            }
        })
        .on_message(|origin, data, master| {
            let text: String = data.get()?;
            match text.as_str() {
                "fail" => return Err(ScError::new("NoError", "No")),
                "panic" => panic!("in the master"),
                "all" => {
                    for id in 0..2 {
                        master.call_worker(id, "who are you?", move |answer, master| {
                            let processes = master.status().len();
                            eprintln!("app: {id} answers {answer:?} in a cluster of {processes}");
                        })?;
                    }
                    master.call_broker(0, "who?", |answer, _| eprintln!("app: the broker answers {answer:?}"))?;
                    let nobody = master.send_to_worker(9, "hello?");
                    eprintln!("app: {nobody:?}");
                }
                _ => {}
            }
            Reply::data(format!("{text} to {origin}"))
        })
        .run()
}

/// What came before the worker.
static FIRST: OnceLock<String> = OnceLock::new();

fn worker() -> Worker<()> {
    Worker::new(())
        .on_connection(|(), cx, socket| {
            let whoami = json!({ "worker": cx.worker_id(), "pid": cx.pid() });
            cx.emit(socket, "whoami", &whoami);
        })
        .on("first", |(), _, _| Reply::data(FIRST.get()))
        .on("master", |(), cx, request| {
            let text: String = request.data()?;
            cx.send_to_master("a word")?;
            let leads = cx.is_leader();
            Ok(cx.call_master(&text, move |(), _, answer| Reply::data((leads, answer?.get::<String>()?))).into())
        })
        .on_master_message(|(), cx, data| {
            let text: String = data.get()?;
            Reply::data(format!("{text} worker {}", cx.worker_id()))
        })
        .on("thread", |(), _, _| {
            tracing::warn!(user = 42, "a word from the application");
            let thread = std::thread::Builder::new().name("helper".to_owned());
            thread.spawn(|| panic!("on a thread")).expect("a thread").join().expect_err("it panics");
            Ok(Reply::Empty)
        })
        .on("grow", |(), _, request| {
            let bytes: usize = request.data()?;
            std::mem::forget(vec![1_u8; bytes]);
            Ok(Reply::Empty)
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
