//! The processes of a cluster, as the kernel knows them.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::PATIENCE;

/// A process that somebody else started and ends.
#[derive(Debug)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its command line.
    pub line: String,
    /// It becomes readable when the process has ended, even if another one has taken its number.
    fd: OwnedFd,
}

impl Process {
    /// All children of a process.
    pub fn children(parent: u32) -> Result<Vec<Self>, String> {
        let numbers = fs::read_dir("/proc").map_err(|error| error.to_string())?;
        let pids = numbers.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let mut children: Vec<Self> =
            pids.filter(|pid| parent_of(*pid) == Some(parent)).filter_map(Self::open).collect();
        children.sort_by(|a, b| a.line.cmp(&b.line));
        Ok(children)
    }

    fn open(pid: u32) -> Option<Self> {
        let fd = pidfd_open(Pid::from_raw(pid.try_into().ok()?)?, PidfdFlags::empty()).ok()?;
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?.replace('\0', " ");
        Some(Self { pid, line, fd })
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), String> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).ok_or("no process id")?;
        kill_process(pid, signal).map_err(|error| error.to_string())
    }

    /// Waits for its end.
    pub fn ended(&self) -> Result<(), String> {
        let patience = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
        match poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&patience)) {
            Ok(1) => Ok(()),
            Ok(_) => Err(format!("{} ({}) does not end", self.line, self.pid)),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let (state, parent) = rest.split_once(' ')?;
    (state != "Z").then(|| parent.split(' ').next()?.parse().ok())?
}

/// The inodes of the sockets that listen on a TCP port.
pub fn listeners(port: u16) -> BTreeSet<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let listening = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[_, local, _, "0A", _, _, _, _, _, inode, ..] = fields.as_slice() else { return None };
        let (_, hex) = local.rsplit_once(':')?;
        (u16::from_str_radix(hex, 16) == Ok(port)).then(|| inode.to_owned())
    };
    tables.iter().flat_map(|table| table.lines()).filter_map(listening).collect()
}

/// The inodes of the sockets that a process has open.
pub fn sockets(pid: u32) -> BTreeSet<String> {
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links = fds.filter_map(|fd| fs::read_link(fd.path()).ok());
    let inode = |link: std::path::PathBuf| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned());
    links.filter_map(inode).collect()
}
