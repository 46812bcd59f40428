//! The server under test: a program of sc-cluster, mostly the contract application.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, mpsc};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::PATIENCE;

/// A running server. It is killed when this goes out of scope, and ended properly with [`stop`](Self::stop).
#[derive(Debug)]
pub struct Server {
    child: Option<Child>,
    /// The port it listens on.
    pub port: u16,
    /// The master's process id.
    pub pid: u32,
    output: Arc<Mutex<String>>,
}

impl Server {
    /// Builds and starts the contract server with these environment variables, and waits until all its workers serve.
    pub fn start(env: &[(&str, &str)]) -> Result<Self, String> {
        Self::start_other(command(env)?)
    }

    /// Starts another program that is a contract server.
    pub fn start_other(command: Command) -> Result<Self, String> {
        Self::run(command, |line| {
            let said: Value = serde_json::from_str(line.strip_prefix("CONTRACT READY ")?).ok()?;
            Some((said["port"].as_u64()?.try_into().ok()?, said["pid"].as_u64()?.try_into().ok()?))
        })
    }

    /// Builds and starts the sample application, as the command `socketcluster` serves it, with these arguments.
    pub fn start_sample(args: &[&str]) -> Result<Self, String> {
        let mut command = Command::new(SAMPLE.as_ref().map_err(Clone::clone)?);
        command.args(["--port", "0", "--host", "127.0.0.1"]).args(args);
        Self::run(command, active)
    }

    /// Builds and starts another example of sc-cluster, with these environment variables.
    pub fn start_example(name: &str, env: &[(&str, &str)]) -> Result<Self, String> {
        let mut command = Command::new(built("--example", name)?);
        command.env("SOCKETCLUSTER_PORT", "0").env("SOCKETCLUSTER_HOST", "127.0.0.1").envs(env.iter().copied());
        Self::run(command, active)
    }

    /// Starts it, and waits for the line that tells port and process id.
    fn run(mut command: Command, told: impl Fn(&str) -> Option<(u16, u32)> + Send + 'static) -> Result<Self, String> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("the server does not start: {error}"))?;
        let output = Arc::new(Mutex::new(String::new()));
        let (ready, is_ready) = mpsc::channel();
        let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        collect(stdout, Arc::clone(&output), move |line| {
            if let Some(told) = told(line) {
                let _ = ready.send(told);
            }
        });
        collect(stderr, Arc::clone(&output), |_| {});
        let mut server = Self { child: Some(child), port: 0, pid: 0, output };
        (server.port, server.pid) =
            is_ready.recv_timeout(PATIENCE).map_err(|_| format!("the server is not ready:\n{}", server.log()))?;
        Ok(server)
    }

    /// Everything it has printed so far.
    pub fn log(&self) -> String {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends SIGTERM and waits for the end.
    pub fn stop(self) -> Result<ExitStatus, String> {
        self.end(Signal::TERM)
    }

    /// Sends a signal to the master and waits for its end.
    pub fn end(mut self, signal: Signal) -> Result<ExitStatus, String> {
        let child = self.child.take().ok_or("it has ended")?;
        let pid = Pid::from_child(&child);
        kill_process(pid, signal).map_err(|error| error.to_string())?;
        waited(child).map_err(|error| format!("{error}\n{}", self.log()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The command that runs the contract server with these environment variables; `PORT` is 0 if it is not among them.
pub fn command(env: &[(&str, &str)]) -> Result<Command, String> {
    let mut command = Command::new(EXECUTABLE.as_ref().map_err(Clone::clone)?);
    command.env("PORT", "0").envs(env.iter().copied());
    Ok(command)
}

/// Runs a command to its end; its output is the error if it fails, or takes too long.
pub fn run_to_end(command: &mut Command) -> Result<String, String> {
    let shown = format!("{command:?}");
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| format!("{shown}: {error}"))?;
    let output = Arc::new(Mutex::new(String::new()));
    let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let readers = [collect(stdout, Arc::clone(&output), |_| {}), collect(stderr, Arc::clone(&output), |_| {})];
    let status = waited(child);
    for reader in readers {
        let _ = reader.join();
    }
    let output = output.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match status {
        Ok(status) if status.success() => Ok(output),
        Ok(status) => Err(format!("{shown}: {status}\n{output}")),
        Err(error) => Err(format!("{shown}: {error}\n{output}")),
    }
}

/// The end of a process; one that takes longer than [`PATIENCE`] is killed.
fn waited(mut child: Child) -> Result<ExitStatus, String> {
    let pid = Pid::from_child(&child);
    let (ended, end) = mpsc::channel();
    let waiter = thread::spawn(move || {
        let status = child.wait();
        let _ = ended.send(());
        status
    });
    let in_time = end.recv_timeout(PATIENCE).is_ok();
    if !in_time {
        // It has not been waited for, so the number is still its own.
        let _ = kill_process(pid, Signal::KILL);
    }
    match waiter.join() {
        Ok(Ok(status)) if in_time => Ok(status),
        Ok(Ok(_)) => Err("it did not end".to_owned()),
        _ => Err("it could not be waited for".to_owned()),
    }
}

/// Reads lines on a thread of their own, into `output` and to `each`.
fn collect(
    from: impl Read + Send + 'static,
    output: Arc<Mutex<String>>,
    each: impl Fn(&str) + Send + 'static,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            each(&line);
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            output.push_str(&line);
            output.push('\n');
        }
    })
}

/// Port and process id, from the line that every cluster says when it is ready.
fn active(line: &str) -> Option<(u16, u32)> {
    let (_, place) = line.strip_prefix("[Active] ")?.split_once("http://127.0.0.1:")?;
    let (_, pid) = place.rsplit_once("master ")?;
    Some((place.split_once('/')?.0.parse().ok()?, pid.trim_end_matches(')').parse().ok()?))
}

/// The command's program.
static SAMPLE: LazyLock<Result<String, String>> = LazyLock::new(|| built("--bin", "socketcluster"));

/// The contract server's program.
static EXECUTABLE: LazyLock<Result<String, String>> = LazyLock::new(|| built("--example", "contract-server"));

/// The path of a program of sc-cluster (`--bin` or `--example` and its name), built with the profile of this test.
pub fn built(kind: &str, name: &str) -> Result<String, String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| env!("CARGO").to_owned());
    let mut build = Command::new(cargo);
    // With --workspace the features are those of `cargo test --workspace`, so that nothing is built a second time.
    build.args(["build", "--quiet", "--workspace", kind, name]);
    build.args(["--message-format=json-render-diagnostics"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let said = run_to_end(&mut build)?;
    let messages = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let executable = |message: Value| match message["target"]["name"].as_str() {
        Some(found) if found == name => message["executable"].as_str().map(str::to_owned),
        _ => None,
    };
    messages.filter_map(executable).next_back().ok_or_else(|| format!("no executable was built:\n{said}"))
}
