//! The sample application, as the command `socketcluster` serves it.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, mpsc};

use rustix::process::{Pid, Signal, kill_process};

use super::PATIENCE;
use super::server::{built, collect, waited};

static EXECUTABLE: LazyLock<Result<String, String>> = LazyLock::new(|| built("--bin", "socketcluster"));

/// A running cluster. It is killed when this goes out of scope, and ended properly with [`stop`](Self::stop).
#[derive(Debug)]
pub struct Sample {
    child: Option<Child>,
    /// The port it listens on, of 127.0.0.1.
    pub port: u16,
    output: Arc<Mutex<String>>,
}

impl Sample {
    /// Builds and starts one with these arguments, and waits until it serves.
    pub fn start(args: &[&str]) -> Result<Self, String> {
        let mut command = Command::new(EXECUTABLE.as_ref().map_err(Clone::clone)?);
        command.args(["--port", "0", "--host", "127.0.0.1"]).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("the server does not start: {error}"))?;
        let output = Arc::new(Mutex::new(String::new()));
        let (ready, is_ready) = mpsc::channel();
        let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        collect(stdout, Arc::clone(&output), move |line| {
            if let Some((_, rest)) = line.split_once("http://127.0.0.1:") {
                let _ = ready.send(rest.split('/').next().unwrap_or_default().to_owned());
            }
        });
        collect(stderr, Arc::clone(&output), |_| {});
        let mut sample = Self { child: Some(child), port: 0, output };
        let port =
            is_ready.recv_timeout(PATIENCE).map_err(|_| format!("the server is not ready:\n{}", sample.log()))?;
        sample.port = port.parse().map_err(|_| format!("no port: {port}"))?;
        Ok(sample)
    }

    /// Everything it has printed so far.
    pub fn log(&self) -> String {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends SIGTERM and waits for the end.
    pub fn stop(mut self) -> Result<ExitStatus, String> {
        let child = self.child.take().ok_or("it has ended")?;
        kill_process(Pid::from_child(&child), Signal::TERM).map_err(|error| error.to_string())?;
        waited(child).map_err(|error| format!("{error}\n{}", self.log()))
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
