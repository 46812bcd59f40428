//! A cluster of real processes.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::app::OPTIONS_ENV;

/// A running cluster, ended when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a cluster and waits until it says where it is. The options are JSON; port 0 unless they say something else.
    pub(crate) fn start(options: &str) -> Self {
        Self::start_with(options, |_| ())
    }

    pub(crate) fn start_with(options: &str, change: impl FnOnce(&mut Command)) -> Self {
        let mut all: serde_json::Map<_, _> = serde_json::from_str(options).expect("an object");
        for (name, value) in [("host", "127.0.0.1".into()), ("port", 0.into()), ("logLevel", 3.into())] {
            all.entry(name).or_insert(value);
        }
        let mut command = Command::new(std::env::current_exe().expect("a test has a path"));
        change(&mut command);
        let mut child = command
            .env(OPTIONS_ENV, serde_json::Value::Object(all).to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the cluster starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (stderr, lines) = (child.stderr.take().expect("piped"), Arc::clone(&log));
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().expect("nobody panics with it").push(line);
            }
        });
        let mut active = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut active).expect("text");
        let port = active.split_once("127.0.0.1:").and_then(|(_, rest)| rest.split('/').next()?.parse().ok());
        let port = port.unwrap_or_else(|| panic!("no port in {active:?}; {:?}", log.lock()));
        Self { child, port, log, reader: Some(reader) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// The processes by their names, `worker 0` and the like; of two with one name the newer.
    pub(crate) fn children(&self) -> BTreeMap<String, u32> {
        let mut named: Vec<_> = children_of(self.pid()).into_iter().map(|pid| (name_of(pid), pid)).collect();
        named.sort_by_key(|(_, pid)| *pid);
        named.into_iter().filter_map(|(name, pid)| Some((name?, pid))).collect()
    }

    pub(crate) fn child(&self, name: &str) -> u32 {
        *self.children().get(name).unwrap_or_else(|| panic!("there is no {name} in {:?}", self.children()))
    }

    /// Lines of the log so far that contain a text.
    pub(crate) fn logged(&self, text: &str) -> Vec<String> {
        let log = self.log.lock().expect("nobody panics with it");
        log.iter().filter(|line| line.contains(text)).cloned().collect()
    }

    /// Ends it in order; answers the exit status. No process is left.
    pub(crate) fn stop(mut self) -> ExitStatus {
        let pids: Vec<_> = self.children().into_values().collect();
        self.signal(Signal::TERM);
        let status = self.child.wait().expect("our child");
        self.reader.take().map(JoinHandle::join);
        assert!(pids.iter().all(|pid| !is_alive(*pid)), "the master ends last");
        status
    }

    /// Waits for the end of a master that was killed, and of its children.
    pub(crate) fn wait_killed(&mut self, children: &[u32]) {
        self.child.wait().expect("our child");
        children.iter().for_each(|pid| wait_gone(*pid));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log.lock().map(|log| log[log.len().saturating_sub(40)..].join("\n"));
            eprintln!("the cluster's log:\n{}", log.unwrap_or_default());
        }
        // Its children go with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, signal).expect("the process is there");
}

pub(crate) fn children_of(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn name_of(pid: u32) -> Option<String> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let first = String::from_utf8_lossy(line.split(|byte| *byte == 0).next()?).into_owned();
    first.strip_prefix("socketcluster: ").map(str::to_owned)
}

/// Whether there is such a process, and it has not ended.
pub(crate) fn is_alive(pid: u32) -> bool {
    let mut stat = String::new();
    let read = std::fs::File::open(format!("/proc/{pid}/stat")).and_then(|mut file| file.read_to_string(&mut stat));
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    read.is_ok() && !matches!(state, Some('Z' | 'X') | None)
}

/// Waits for the end of a process that is not a child of ours.
pub(crate) fn wait_gone(pid: u32) {
    let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    let Ok(handle) = rustix::process::pidfd_open(raw, rustix::process::PidfdFlags::empty()) else { return };
    // Readable when it has ended.
    let mut fds = [rustix::event::PollFd::new(&handle, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut fds, None).expect("poll");
}

/// The number of the user that a process runs as.
pub(crate) fn user_of(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    line.and_then(|ids| ids.split_whitespace().next()).unwrap_or_default().to_owned()
}

/// Descriptors that a process has open.
pub(crate) fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count).unwrap_or(0)
}

/// Memory of a process that is in RAM, in bytes.
pub(crate) fn resident(pid: u32) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages: usize = text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size()
}
