//! More connections than one process may have descriptors: a generator in several processes.

use std::io::{self, BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::process::{Tree, machine_memory};
use crate::run::{Latency, Outcome, Settings};

/// Descriptors that a process needs beside its connections.
const RESERVED: u64 = 100;

/// Processes that open connections at a time.
const OPENING: usize = 2;

/// Lets this process have as many descriptors as it may; answers how many connections that are.
#[must_use]
pub fn raise_open_files() -> u32 {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it is refused, the old limit stays.
    let _ = setrlimit(Resource::Nofile, limit);
    let files = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    u32::try_from(files.saturating_sub(RESERVED)).unwrap_or(u32::MAX)
}

struct Part {
    child: Child,
    stdout: BufReader<ChildStdout>,
    connections: u32,
}

impl Part {
    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.stdout.read_line(&mut line)? {
            0 => Err(io::Error::other("a process of the generator has ended")),
            _ => Ok(line),
        }
    }
}

/// Idle connections in as many processes as it takes: each runs this program with `args` and its share of them.
///
/// # Errors
/// A process failed.
pub fn run(args: &[String], connections: u32, each: u32, settings: &Settings) -> io::Result<Outcome> {
    let tree = settings.server.map(Tree::of).transpose()?;
    let before = tree.as_ref().map(Tree::usage);
    let memory = machine_memory();
    let began = Instant::now();
    let parts = open(args, connections, each, settings)?;
    let connect_seconds = began.elapsed().as_secs_f64();
    let connected = tree.as_ref().map(Tree::usage);
    let generator = Tree::of(std::process::id())?;
    if settings.progress {
        eprintln!("{connections} connections in {connect_seconds:.1} s");
    }
    let (start, own) = (Instant::now(), generator.cpu());
    watch(settings, tree.as_ref(), start);
    let cpu = tree.as_ref().map_or(0.0, Tree::cpu) - connected.map_or(0.0, |usage| usage.cpu);
    let seconds = start.elapsed().as_secs_f64();
    let generator_cpu_seconds = generator.cpu() - own;
    let (available, slab) = machine_memory();
    let after = tree.as_ref().map(Tree::usage);
    let (mut closed, mut pings, mut faults) = (0, 0, 0);
    for mut part in parts {
        // The end of its input is the end of its wait.
        drop(part.child.stdin.take());
        let outcome: serde_json::Value = serde_json::from_str(&part.line()?)?;
        let field = |name: &str| outcome[name].as_u64().unwrap_or(0);
        closed += field("closed");
        pings += field("pings");
        faults += field("faults");
        part.child.wait()?;
    }
    Ok(Outcome {
        connections,
        connect_seconds,
        seconds,
        work: 0,
        work_per_second: 0.0,
        server_cpu_seconds: tree.as_ref().map(|_| cpu),
        work_per_cpu_second: None,
        connect_cpu_seconds: connected.map(|usage| usage.cpu - before.map_or(0.0, |usage| usage.cpu)),
        generator_cpu_seconds,
        latency_us: Latency::default(),
        faults,
        missing: 0,
        repeated: 0,
        skipped: 0,
        refused: faults - closed,
        unknown: 0,
        closed,
        pings,
        server_pss_before: before.map(|usage| usage.pss),
        server_pss_after: after.map(|usage| usage.pss),
        server_processes: before.map(|usage| usage.processes),
        machine_memory_used: memory.0 as i64 - available as i64,
        machine_slab_used: slab as i64 - memory.1 as i64,
    })
}

/// Starts the processes, a few at a time; each has its connections when the next is started.
fn open(args: &[String], connections: u32, each: u32, settings: &Settings) -> io::Result<Vec<Part>> {
    let count = connections.div_ceil(each);
    let share = connections.div_ceil(count);
    let (mut parts, mut ready): (Vec<Part>, usize) = (Vec::new(), 0);
    let mut left = connections;
    while left > 0 || ready < parts.len() {
        if left > 0 && parts.len() - ready < OPENING {
            let connections = share.min(left);
            left -= connections;
            parts.push(start(args, parts.len() as u32, connections, each)?);
            continue;
        }
        let line = parts[ready].line()?;
        debug_assert_eq!(line.trim(), "ready");
        ready += 1;
        if settings.progress {
            let up: u32 = parts[..ready].iter().map(|part| part.connections).sum();
            eprintln!("{up} of {} connections", connections);
        }
    }
    Ok(parts)
}

fn start(args: &[String], number: u32, connections: u32, each: u32) -> io::Result<Part> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(args)
        .args(["--part", "--quiet", "--warmup", "0"])
        .args(["--connections", &connections.to_string(), "--first-channel", &(number * each).to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().map(BufReader::new).ok_or_else(|| io::Error::other("no output"))?;
    Ok(Part { child, stdout, connections })
}

/// Says once in a while what the server uses.
fn watch(settings: &Settings, tree: Option<&Tree>, start: Instant) {
    let end = start + settings.duration;
    let mut last = tree.map_or(0.0, Tree::cpu);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let nap = left.min(Duration::from_secs(10));
        std::thread::sleep(nap);
        let (Some(tree), true) = (tree, settings.progress) else { continue };
        let cpu = tree.cpu();
        eprintln!("{:.0} s: {:.2} cores", start.elapsed().as_secs_f64(), (cpu - last) / nap.as_secs_f64());
        last = cpu;
    }
}
