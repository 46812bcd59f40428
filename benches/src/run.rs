//! One run of a workload: connect, warm up, measure, let it run out, and say what came of it.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::client::{Event, Happened};
use crate::net::Net;
use crate::process::{Tree, machine_memory};
use crate::workload::{Tally, Workload};

/// How long a run takes and what is watched.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Under load, before anything is counted.
    pub warmup: Duration,
    /// What is counted.
    pub duration: Duration,
    /// Connections that are being opened at a time.
    pub opening: u32,
    /// The server's process; what it costs is that of its whole tree.
    pub server: Option<u32>,
    /// Say how it goes, once a second.
    pub progress: bool,
    /// This process is one of several: it says when its connections are there, and ends when its input does.
    pub is_part: bool,
}

/// What came of it. Times are in seconds where nothing else is said, sizes in bytes.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the names are the document")]
pub struct Outcome {
    pub connections: u32,
    pub connect_seconds: f64,
    pub seconds: f64,
    pub work: u64,
    pub work_per_second: f64,
    pub server_cpu_seconds: Option<f64>,
    pub work_per_cpu_second: Option<f64>,
    pub connect_cpu_seconds: Option<f64>,
    pub generator_cpu_seconds: f64,
    pub latency_us: Latency,
    pub faults: u64,
    pub missing: u64,
    pub repeated: u64,
    pub skipped: u64,
    pub refused: u64,
    pub unknown: u64,
    pub closed: u64,
    pub pings: u64,
    pub server_pss_before: Option<u64>,
    pub server_pss_after: Option<u64>,
    pub server_processes: Option<usize>,
    pub machine_memory_used: i64,
    pub machine_slab_used: i64,
}

/// From when something was to begin until it ended, in microseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[allow(missing_docs, reason = "the names are the document")]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Outcome {
    /// The one line.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = format!("{:.0}/s", self.work_per_second);
        if let (Some(per_cpu), Some(cpu)) = (self.work_per_cpu_second, self.server_cpu_seconds) {
            line += &format!(", {per_cpu:.0} per CPU second of the server ({cpu:.2} s of {:.2} s)", self.seconds);
        }
        let Latency { p50, p99, p999, .. } = self.latency_us;
        line += &format!(", latency p50 {p50:.0} µs p99 {p99:.0} p99.9 {p999:.0}");
        if let (Some(before), Some(after)) = (self.server_pss_before, self.server_pss_after) {
            let each = (after as f64 - before as f64) / f64::from(self.connections.max(1)) / 1024.0;
            line += &format!(", PSS {:.1} MiB, {each:.2} KiB a connection", after as f64 / 1048576.0);
        }
        line += &match self.faults {
            0 => ", every message once and in order".to_owned(),
            n => format!(
                ", {n} FAULTS: {} missing, {} repeated, {} skipped, {} refused, {} unknown, {} connections lost",
                self.missing, self.repeated, self.skipped, self.refused, self.unknown, self.closed
            ),
        };
        line
    }
}

/// What was read at one moment.
#[derive(Clone, Copy)]
struct Mark {
    at: Instant,
    work: u64,
    server: f64,
    own: f64,
}

struct Run<'a> {
    net: Net,
    workload: &'a mut dyn Workload,
    settings: &'a Settings,
    tree: Option<Tree>,
    own: Tree,
    happened: Vec<Happened>,
    said: Instant,
    said_work: u64,
}

/// Runs a workload to its end.
///
/// # Errors
/// Connections cannot be opened, or `/proc` not be read.
pub fn run(net: Net, workload: &mut dyn Workload, settings: &Settings) -> io::Result<Outcome> {
    let tree = settings.server.map(Tree::of).transpose()?;
    let own = Tree::of(std::process::id())?;
    let now = Instant::now();
    let mut run = Run { net, workload, settings, tree, own, happened: Vec::new(), said: now, said_work: 0 };
    let before = run.tree.as_ref().map(Tree::usage);
    let memory = machine_memory();
    let opened = run.mark();
    run.connect()?;
    let connected = run.mark();
    let settled = run.tree.as_ref().map(Tree::usage);
    if settings.is_part {
        println!("ready");
        io::stdout().flush()?;
    }
    run.workload.begin(&mut run.net, connected.at)?;
    run.go_on(settings.warmup)?;
    run.workload.tally().latency.reset();
    let start = run.mark();
    if settings.is_part {
        run.wait_for_input()?;
    } else {
        run.go_on(settings.duration)?;
    }
    let end = run.mark();
    let (available, slab) = machine_memory();
    let used = (memory.0 as i64 - available as i64, slab as i64 - memory.1 as i64);
    let latency = run.latency();
    let idle = run.workload.tally().work == 0;
    let after = if idle { run.tree.as_ref().map(Tree::usage) } else { settled };
    run.workload.stop();
    run.run_out()?;

    let missing = run.workload.missing();
    let mut faults = run.workload.tally().faults;
    faults.missing += missing;
    let seconds = (end.at - start.at).as_secs_f64();
    let work = end.work - start.work;
    let cpu = run.tree.as_ref().map(|_| end.server - start.server);
    Ok(Outcome {
        connections: run.workload.connections(),
        connect_seconds: (connected.at - opened.at).as_secs_f64(),
        seconds,
        work,
        work_per_second: work as f64 / seconds,
        server_cpu_seconds: cpu,
        work_per_cpu_second: cpu.map(|cpu| work as f64 / cpu.max(0.005)),
        connect_cpu_seconds: run.tree.as_ref().map(|_| connected.server - opened.server),
        generator_cpu_seconds: end.own - start.own,
        latency_us: latency,
        faults: faults.total(),
        missing: faults.missing,
        repeated: faults.repeated,
        skipped: faults.skipped,
        refused: faults.refused,
        unknown: faults.unknown,
        closed: faults.closed,
        pings: run.net.shared.pings,
        server_pss_before: before.map(|usage| usage.pss),
        server_pss_after: after.map(|usage| usage.pss),
        server_processes: before.map(|usage| usage.processes),
        machine_memory_used: used.0,
        machine_slab_used: used.1,
    })
}

impl Run<'_> {
    fn mark(&mut self) -> Mark {
        Mark {
            at: Instant::now(),
            work: self.workload.tally().work,
            server: self.tree.as_ref().map_or(0.0, Tree::cpu),
            own: self.own.cpu(),
        }
    }

    fn latency(&mut self) -> Latency {
        let Tally { latency, .. } = self.workload.tally();
        let at = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1000.0;
        if latency.is_empty() {
            return Latency::default();
        }
        Latency { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: latency.max() as f64 / 1000.0 }
    }

    /// Opens the connections that are to be there from the beginning, a few at a time.
    fn connect(&mut self) -> io::Result<()> {
        let wanted = self.workload.connections();
        let (mut begun, mut up) = (0, 0);
        while up < wanted {
            while begun < wanted && begun - up < self.settings.opening {
                self.net.open(Instant::now())?;
                begun += 1;
            }
            self.net.turn(Some(Duration::from_secs(10)), &mut self.happened)?;
            let before = up;
            for what in std::mem::take(&mut self.happened) {
                match what.event {
                    Event::Up => up += 1,
                    Event::Down | Event::Refused(_) => return Err(io::Error::other("a connection was refused")),
                    _ => {}
                }
            }
            if up == before && self.said.elapsed() > Duration::from_secs(60) {
                return Err(io::Error::other(format!("{up} of {wanted} connections came in a minute without another")));
            }
            if up != before && self.said.elapsed() > Duration::from_secs(1) {
                self.said = Instant::now();
                if self.settings.progress {
                    eprintln!("{up} of {wanted} connections");
                }
            }
        }
        Ok(())
    }

    fn go_on(&mut self, duration: Duration) -> io::Result<()> {
        let end = Instant::now() + duration;
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            let due = self.workload.tick(&mut self.net, now);
            let until = due.map_or(end, |due| due.min(end)).min(now + Duration::from_millis(250));
            self.step(until.saturating_duration_since(now))?;
            self.say(now);
        }
    }

    /// Goes on until standard input ends.
    fn wait_for_input(&mut self) -> io::Result<()> {
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        std::thread::spawn(move || {
            // Nothing is expected there but the end.
            let _ = io::copy(&mut io::stdin(), &mut io::sink());
            seen.store(true, Ordering::Relaxed);
        });
        while !over.load(Ordering::Relaxed) {
            self.step(Duration::from_millis(250))?;
        }
        Ok(())
    }

    fn step(&mut self, patience: Duration) -> io::Result<()> {
        self.net.turn(Some(patience), &mut self.happened)?;
        for what in self.happened.drain(..) {
            self.workload.handle(&mut self.net, what)?;
        }
        Ok(())
    }

    /// Waits for what is still to come, and then a little for what is not.
    fn run_out(&mut self) -> io::Result<()> {
        let end = Instant::now() + Duration::from_secs(5);
        while self.workload.missing() > 0 && Instant::now() < end {
            self.step(Duration::from_millis(50))?;
        }
        let end = Instant::now() + Duration::from_millis(100);
        while Instant::now() < end {
            self.step(Duration::from_millis(20))?;
        }
        Ok(())
    }

    fn say(&mut self, now: Instant) {
        if !self.settings.progress || now.duration_since(self.said) < Duration::from_secs(1) {
            return;
        }
        let seconds = now.duration_since(self.said).as_secs_f64();
        let (work, p50) = (self.workload.tally().work, self.latency().p50);
        let faults = self.workload.tally().faults.total();
        let per_second = (work - self.said_work) as f64 / seconds;
        eprintln!(
            "{per_second:.0}/s, latency p50 {p50:.0} µs, {} connections, {} pings, {faults} faults",
            self.net.len(),
            self.net.shared.pings
        );
        (self.said, self.said_work) = (now, work);
    }
}
