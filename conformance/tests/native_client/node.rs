//! A server from npm, with the application of the contract, as a process group of its own.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::support::{PATIENCE, packages};

/// A running server; killed with all its processes when this goes out of scope.
#[derive(Debug)]
pub(crate) struct NodeServer {
    child: Child,
    pub(crate) port: u16,
}

impl NodeServer {
    /// Starts the version that is pinned in `conformance/servers/<name>`.
    pub(crate) fn start(name: &str, env: &[(&str, &str)]) -> Result<Self, String> {
        let servers = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers");
        let folder = packages::npm_in(&servers, name)?;
        let script = if name.starts_with("socketcluster-server") { "stream.js" } else { "classic.js" };
        let mut node = Command::new("node");
        // The oldest servers make buffers as one did then.
        node.arg("--no-deprecation").arg(servers.join("app").join(script)).current_dir(&folder);
        node.env("NODE_PATH", folder.join("node_modules")).env("PORT", "0").envs(env.iter().copied());
        node.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = node.spawn().map_err(|error| format!("node does not start: {error}"))?;
        let (said, says) = mpsc::channel();
        let outputs: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|out| Box::new(out) as Box<dyn Read + Send>),
            child.stderr.take().map(|out| Box::new(out) as Box<dyn Read + Send>),
        ];
        for output in outputs.into_iter().flatten() {
            let said = said.clone();
            thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let _ = said.send(line);
                }
            });
        }
        let mut server = Self { child, port: 0 };
        let mut log = Vec::new();
        while server.port == 0 {
            let line = says.recv_timeout(PATIENCE).map_err(|_| format!("it is not ready:\n{}", log.join("\n")))?;
            if let Some(json) = line.strip_prefix("CONTRACT READY ") {
                let said: serde_json::Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
                server.port = said["port"].as_u64().and_then(|port| port.try_into().ok()).ok_or("it named no port")?;
            }
            log.push(line);
        }
        Ok(server)
    }

    /// Ends it with a signal: TERM for the master, KILL for all its processes.
    pub(crate) fn end(mut self, signal: Signal) -> Result<(), String> {
        let pid = Pid::from_child(&self.child);
        let sent = if signal == Signal::KILL { kill_process_group(pid, signal) } else { kill_process(pid, signal) };
        sent.map_err(|error| error.to_string())?;
        self.child.wait().map(drop).map_err(|error| error.to_string())
    }
}

impl Drop for NodeServer {
    fn drop(&mut self) {
        // Workers may outlive a master that has ended.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}
