//! The page that `cargo run --release` serves, in a real browser, on a real cluster of two workers and two brokers.
//!
//! The stories are in `browser/stories.mjs`, each with a cluster of its own, because some of them kill its workers. The heartbeat is short, so that
//! a ping that is answered wrongly shows: the connection would not outlive `pingTimeout`.

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};
use support::server::{Server, run_to_end};
use support::{packages, trial};

const PROGRAMS: &[&str] = &["chromium", "node", "npm"];

/// A heartbeat that shows its faults within a second or so.
const HEARTBEAT: &str = r#"{"pingInterval": 250, "pingTimeout": 1000}"#;

/// The same for clients of protocol 1 alone.
const HEARTBEAT_V1: &str = r#"{"pingInterval": 250, "pingTimeout": 1000, "protocolVersion": 1}"#;

/// A heartbeat that no story waits for.
const PATIENT: &str = r#"{"pingInterval": 8000}"#;

fn main() -> ExitCode {
    let stories = [
        ("loads", PATIENT),
        ("keyboard", PATIENT),
        ("emits", PATIENT),
        ("busy", PATIENT),
        ("two-windows", HEARTBEAT),
        ("outlives-ping-timeout", HEARTBEAT),
        ("outlives-ping-timeout-protocol-1", HEARTBEAT_V1),
        ("without-pongs", HEARTBEAT),
        ("signs-in", PATIENT),
        ("worker-killed", HEARTBEAT),
    ];
    let arguments = Arguments::from_args();
    // Before the stories, which run at the same time.
    let wanted = !arguments.list && support::can_run(PROGRAMS);
    if let Some(Err(error)) = wanted.then(|| packages::npm("browser")) {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    let trials: Vec<Trial> =
        stories.into_iter().map(|(story, options)| trial(story, PROGRAMS, move || run(story, options))).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn run(story: &str, options: &str) -> Result<(), Failed> {
    let modules = packages::npm("browser")?;
    // A module is looked for beside the file that imports it, so the stories go there; each its own copy, for they run at the same time.
    let stories = modules.join(format!("{story}.mjs"));
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/stories.mjs"), &stories)?;
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser");
    fs::create_dir_all(&pictures)?;
    let server = Server::start_sample(&["-w", "2", "-b", "2", "--options", options])?;
    let url = format!("http://127.0.0.1:{}/", server.port);
    let told = run_to_end(Command::new("node").arg(&stories).args([story, &url]).arg(pictures));
    told.map_err(|error| format!("{error}\n--- the server's log\n{}", server.log()))?;
    let status = server.stop()?;
    if status.success() { Ok(()) } else { Err(format!("the cluster ended with {status}").into()) }
}
