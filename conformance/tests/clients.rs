//! Real clients of every generation, from npm and PyPI, do the same things at the same time with one running cluster on
//! one port that finds out by itself what each of them speaks. `clients/story` has what they do; `clients/<name>` pins them.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::process::{Command, ExitCode};
use std::sync::{Mutex, OnceLock};

use libtest_mimic::{Arguments, Failed};
use support::server::{Server, run_to_end};
use support::{packages, trial};

/// The packages that are run: `js` is socketcluster-client from npm, `py` is socketclusterclient from PyPI.
const CLIENTS: [&str; 11] = [
    "js-3.1.1",
    "js-4.3.19",
    "js-5.5.2",
    "js-8.0.2",
    "js-14.3.2",
    "js-15.1.0",
    "js-16.1.1",
    "js-19.2.7",
    "js-20.0.2",
    "py-1.3.0",
    "py-1.3.6",
];

/// Short, so that a client which is pinged in the wrong way is cut off before its story ends.
const PING_INTERVAL_MS: &str = "1000";
const PING_TIMEOUT_MS: u64 = 4000;

/// How long a connection has to stay on which nothing but pings happens: three times `pingTimeout`, and a bit.
const HOLD_MS: u64 = 3 * PING_TIMEOUT_MS + 1000;

/// Started by the first story that is told.
static SERVER: OnceLock<Mutex<Option<Result<Server, String>>>> = OnceLock::new();

fn start() -> Result<Server, String> {
    let timeout = PING_TIMEOUT_MS.to_string();
    Server::start(&[
        ("WORKERS", "2"),
        ("BROKERS", "2"),
        ("PING_INTERVAL", PING_INTERVAL_MS),
        ("PING_TIMEOUT", timeout.as_str()),
    ])
}

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    // All at once: they wait for each other, and most of the time for their timeouts.
    args.test_threads.get_or_insert(CLIENTS.len());
    let runs = |name: &&str| is_selected(&args, name) && support::can_run(programs(name));
    let names = CLIENTS.into_iter().filter(runs).collect::<Vec<_>>().join(",");
    let trials = CLIENTS.map(|name| {
        let names = names.clone();
        trial(name, programs(name), move || story(name, &names))
    });
    let conclusion = libtest_mimic::run(&args, trials.into());
    let ended = SERVER.get().and_then(|server| server.lock().unwrap().take()).map_or(Ok(()), |server| {
        let status = server?.stop()?;
        if status.success() { Ok(()) } else { Err(format!("the server ended with {status}")) }
    });
    match ended {
        Ok(()) => conclusion.exit_code(),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn programs(name: &str) -> &'static [&'static str] {
    if name.starts_with("js") { &["node", "npm"] } else { &["python3"] }
}

fn story(name: &str, names: &str) -> Result<(), Failed> {
    let stories = packages::clients().join("story");
    let (kind, _) = name.split_once('-').ok_or("a client's name has its kind")?;
    let mut command = match kind {
        "js" => {
            let folder = packages::npm(name)?;
            let mut node = Command::new("node");
            // The oldest clients make buffers as one did then.
            node.arg("--no-deprecation").arg(stories.join("story.js")).current_dir(folder);
            node
        }
        _ => {
            let mut python = Command::new(packages::python(name)?);
            python.args(["-B", "-W", "ignore"]).arg(stories.join("story.py"));
            python
        }
    };
    let server = SERVER.get_or_init(|| Mutex::new(Some(start())));
    let port = match server.lock().unwrap().as_ref() {
        Some(Ok(server)) => server.port,
        Some(Err(error)) => return Err(error.clone().into()),
        None => return Err("the server has ended".into()),
    };
    command.env("PORT", port.to_string()).env("NAME", name).env("NAMES", names).env("HOLD_MS", HOLD_MS.to_string());
    run_to_end(&mut command)?;
    Ok(())
}

/// Those that are run know of each other, so the harness's choice is made here as well.
fn is_selected(args: &Arguments, name: &str) -> bool {
    let fits = |filter: &String| if args.exact { name == filter } else { name.contains(filter.as_str()) };
    args.filter.as_ref().is_none_or(fits) && !args.skip.iter().any(fits)
}
