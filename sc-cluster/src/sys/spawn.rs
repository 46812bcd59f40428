//! Starting this program again as a child, and in the child finding out that it is one.
//!
//! A child is an exec of the same image: no state of the parent's threads or locks comes along, as it would with a bare fork.
//! It inherits one descriptor, its end of the control channel, as standard input.

use std::{
    ffi::CString,
    io,
    os::fd::AsFd,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use super::{fd_pass::SeqPacket, user::Ids};
use crate::control::Role;

/// Tells a child what it is: `role:id:pid of the master:nonce:version`. Whoever starts other programs from a worker removes it from
/// their environment.
pub(crate) const CHILD_ENV: &str = "SOCKETCLUSTER_CHILD";

/// This program's image as it was started, also after its file has been replaced or removed: versions never mix.
const SELF: &str = "/proc/self/exe";

/// What a child finds in its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) role: Role,
    pub(crate) id: u32,
    pub(crate) master_pid: u32,
    pub(crate) nonce: String,
    /// Of what the processes say to each other: one that is linked with another version cannot take part.
    pub(crate) version: u8,
}

impl Mark {
    fn write(&self) -> String {
        format!("{}:{}:{}:{}:{}", self.role, self.id, self.master_pid, self.nonce, self.version)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let role = match parts.next()? {
            "worker" => Role::Worker,
            "broker" => Role::Broker,
            _ => return None,
        };
        let (id, master_pid) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let nonce = parts.next().filter(|nonce| !nonce.is_empty())?.to_owned();
        // A later version may have more to say behind its number.
        let version = parts.next()?.parse().ok()?;
        Some(Self { role, id, master_pid, nonce, version })
    }

    /// How the process is named in lists of processes.
    fn name(&self) -> String {
        format!("socketcluster: {} {}", self.role, self.id)
    }
}

/// Starts a child with this process' arguments and the other end of a new control channel.
///
/// To be called from the thread that runs the master: when that thread ends, the kernel ends the child.
pub(crate) fn spawn(executable: Option<&Path>, user: Option<Ids>, mark: &Mark) -> io::Result<(Child, SeqPacket)> {
    let (ours, theirs) = SeqPacket::pair()?;
    let mut command = Command::new(executable.unwrap_or_else(|| Path::new(SELF)));
    if let Some(Ids { uid, gid }) = user {
        // Root's further groups are given up with it.
        command.uid(uid).gid(gid);
    }
    let child = command
        .arg0(mark.name())
        .args(std::env::args_os().skip(1))
        .env(CHILD_ENV, mark.write())
        .stdin(Stdio::from(theirs.into_fd()))
        .spawn()?;
    Ok((child, ours))
}

/// In a child: its mark and its end of the control channel. `None` in every other process.
///
/// # Errors
/// This process looks like a child and is none: the mark is garbled, standard input is not a control channel, or the
/// master is gone. To go on as a master would start a cluster inside a cluster, so the process has to end.
pub(crate) fn inherited() -> Option<io::Result<(Mark, SeqPacket)>> {
    let mark = std::env::var_os(CHILD_ENV)?;
    Some(take_over(mark.to_str().unwrap_or_default()))
}

fn take_over(mark: &str) -> io::Result<(Mark, SeqPacket)> {
    let Some(mark) = Mark::parse(mark) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{CHILD_ENV} is garbled")));
    };
    let control = SeqPacket::from_fd(rustix::stdio::stdin().try_clone_to_owned()?)?;
    // Nothing may read the control channel by mistake, and programs started from here may not inherit it.
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?.as_fd())?;
    // SIGKILL, since a stopped or hung child would keep any other signal for later.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The master may have died before the line above; nobody would tell us any more.
    let parent = getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    if u32::try_from(parent) != Ok(mark.master_pid) {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the master is gone"));
    }
    // Else it would be "exe", for /proc/self/exe. At most 15 bytes; what is shown in `ps` without arguments.
    if let Ok(name) = CString::new(format!("sc-{}-{}", mark.role, mark.id)) {
        let _ = rustix::thread::set_name(&name);
    }
    Ok((mark, control))
}

/// Whether this program is a test harness: starting it again would run all the tests again, in each child.
///
/// Cargo puts the executables of tests, and only them and benchmarks, into a folder `deps`, with a hash of 16 digits behind
/// their name.
pub(crate) fn is_test_harness() -> bool {
    std::fs::read_link(SELF).is_ok_and(|path| looks_like_a_test(&path))
}

fn looks_like_a_test(path: &Path) -> bool {
    let in_deps = path.parent().and_then(Path::file_name).is_some_and(|folder| folder == "deps");
    let hash = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.rsplit_once('-'));
    in_deps && hash.is_some_and(|(_, hash)| hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The executable named, as it can be started from any working directory.
pub(crate) fn absolute(executable: &Path) -> io::Result<PathBuf> {
    std::fs::canonicalize(executable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_survives_the_environment_and_garbage_is_none() {
        let mark = Mark { role: Role::Worker, id: 3, master_pid: 77, nonce: "abc".into(), version: 7 };
        assert_eq!(Mark::parse(&mark.write()), Some(mark));
        for garbage in [
            "",
            "worker",
            "worker:3:77",
            "worker:3:77:",
            "chef:3:77:abc",
            "worker:x:77:abc",
            "worker:3:77:a:b",
            "worker:3:77:a",
        ] {
            assert_eq!(Mark::parse(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn test_harnesses_are_known_by_their_place_and_name() {
        assert!(is_test_harness());
        assert!(looks_like_a_test(Path::new("/x/target/debug/deps/cluster-0123456789abcdef")));
        assert!(!looks_like_a_test(Path::new("/x/target/debug/socketcluster")));
        assert!(!looks_like_a_test(Path::new("/x/target/debug/examples/chat-0123456789abcdef")));
        assert!(!looks_like_a_test(Path::new("/x/deps/socketcluster")));
    }

    #[test]
    fn a_process_with_a_mark_but_no_channel_is_refused() {
        assert!(take_over("garbage").is_err());
    }
}
