//! What a server costs: CPU time and memory of a process and everything below it, from `/proc`.

use std::fs;
use std::io;

/// The processes of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree(Vec<u32>);

/// A reading of a [`Tree`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// CPU time since each process began, in seconds.
    pub cpu: f64,
    /// Proportional set size of all of them, in bytes.
    pub pss: u64,
    /// How many processes there are.
    pub processes: usize,
}

impl Tree {
    /// The process `root` and its descendants, as they are now.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn of(root: u32) -> io::Result<Self> {
        let mut parents: Vec<(u32, u32)> = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            if let Some(parent) = stat(pid).and_then(|fields| fields.get(1)?.parse().ok()) {
                parents.push((pid, parent));
            }
        }
        let mut tree = vec![root];
        let mut done = 0;
        while let Some(&parent) = tree.get(done) {
            tree.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
            done += 1;
        }
        Ok(Self(tree))
    }

    /// The processes' numbers, the root first.
    #[must_use]
    pub fn pids(&self) -> &[u32] {
        &self.0
    }

    /// CPU time so far, in seconds. Cheap enough to be called at the edges of a measurement.
    #[must_use]
    pub fn cpu(&self) -> f64 {
        self.0.iter().map(|&pid| cpu_of(pid)).sum()
    }

    /// All there is to know. Walks every page table, so not while something is measured.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let pss = self.0.iter().filter_map(|&pid| pss_of(pid)).sum();
        Usage { cpu: self.cpu(), pss, processes: self.0.len() }
    }
}

/// Fields of `/proc/PID/stat` behind the command's name: the first is the state.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    Some(rest.split(' ').map(str::to_owned).collect())
}

/// User and system time of a process, with that of its ended threads. The kernel counts it in nanoseconds and shows it in
/// hundredths of a second.
fn cpu_of(pid: u32) -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let Some(fields) = stat(pid) else { return 0.0 };
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / TICKS_PER_SECOND
}

fn pss_of(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Free memory of the machine as the kernel estimates it, and memory in kernel slabs, in bytes.
#[must_use]
pub fn machine_memory() -> (u64, u64) {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    };
    (field("MemAvailable:").unwrap_or(0) * 1024, field("Slab:").unwrap_or(0) * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_its_children_and_they_use_memory() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let tree = Tree::of(std::process::id()).unwrap();
        assert!(tree.pids().contains(&child.id()));
        assert_eq!(tree.pids()[0], std::process::id());
        let usage = tree.usage();
        assert!(usage.processes >= 2 && usage.pss > 0);
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
