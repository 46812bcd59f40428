//! This server and others in turn, several rounds, and a table of what each does per CPU second of its processes.
//!
//! ```text
//! cargo run --release -p benches --bin compare -- --rounds 5
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use benches::peers::{PEERS, Peer, Server, sibling};
use benches::{goals, plot, report};
use clap::Parser;
use serde_json::{Value, json};

/// Compares servers: starts each in turn, puts every load on it, several rounds.
#[derive(Debug, Parser)]
struct Args {
    /// Rounds; figures are medians
    #[arg(short, long, default_value_t = 5)]
    rounds: usize,
    /// Seconds that each load is measured
    #[arg(short, long, default_value_t = 1.5)]
    duration: f64,
    /// Only servers whose name contains one of these
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these loads
    #[arg(long, value_delimiter = ',')]
    loads: Vec<String>,
    /// Processor of the server; the generator takes the next one
    #[arg(long, default_value_t = 0)]
    cpu: usize,
    /// Where programs are built and results written
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/compare"))]
    dir: PathBuf,
    /// Measure nothing; make the tables from the results in `dir`
    #[arg(long)]
    again: bool,
    /// Put the table into this file, between its markers, and the plot beside it
    #[arg(long)]
    readme: Option<PathBuf>,
}

/// Name, arguments of the generator, and the figure that counts.
const LOADS: [(&str, &[&str], &str); 9] = [
    ("fan1", &["fanout", "--window", "1"], "work_per_cpu_second"),
    ("fan16", &["fanout", "--window", "16"], "work_per_cpu_second"),
    ("many", &["many"], "work_per_cpu_second"),
    ("chat", &["chat"], "work_per_cpu_second"),
    ("echo1", &["echo", "--window", "1"], "work_per_cpu_second"),
    ("echo16", &["echo", "--window", "16"], "work_per_cpu_second"),
    ("connect", &["connect"], "work_per_cpu_second"),
    ("latency", &["fanout", "--rate", "20"], "work_per_cpu_second"),
    ("idle", &["idle", "--connections", "10000", "--opening", "32"], ""),
];

/// What was measured: by server and load, one outcome a round.
type Results = BTreeMap<(usize, usize), Vec<Value>>;

fn main() -> ExitCode {
    let args = Args::parse();
    if args.again {
        return end(read(&args).and_then(|(peers, results, head)| write(&args, &head, &peers, &results)), 0);
    }
    let peers: Vec<usize> = (0..PEERS.len())
        .filter(|&at| args.only.is_empty() || args.only.iter().any(|name| PEERS[at].name.contains(name.as_str())))
        .filter(|&at| match PEERS[at].prepare(&args.dir) {
            Ok(()) => true,
            Err(error) => {
                eprintln!("without {}: {error}", PEERS[at].name);
                false
            }
        })
        .collect();
    let mut results = Results::new();
    let mut faults = 0;
    for round in 0..args.rounds {
        for &peer in &peers {
            match one(&args, &PEERS[peer], peer, round, &mut results) {
                Ok(n) => faults += n,
                Err(error) => {
                    eprintln!("{}: {error}", PEERS[peer].name);
                    faults += 1;
                }
            }
        }
    }
    let Args { rounds, duration, .. } = &args;
    let command = format!("`cargo run --release -p benches --bin compare -- --rounds {rounds} --duration {duration}`");
    let head = format!("{}\n\n{command}", report::circumstances());
    end(write(&args, &head, &peers, &results), faults)
}

fn end(written: io::Result<()>, faults: u64) -> ExitCode {
    match written {
        Ok(()) => ExitCode::from(u8::from(faults > 0)),
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::from(2)
        }
    }
}

/// What an earlier run wrote.
fn read(args: &Args) -> io::Result<(Vec<usize>, Results, String)> {
    let all: Vec<Value> = serde_json::from_slice(&fs::read(args.dir.join("compare.json"))?)?;
    let mut results = Results::new();
    for entry in &all {
        let peer = PEERS.iter().position(|peer| entry["server"] == peer.name);
        let load = LOADS.iter().position(|load| entry["load"] == load.0);
        if let (Some(peer), Some(load), Some(rounds)) = (peer, load, entry["rounds"].as_array()) {
            results.insert((peer, load), rounds.clone());
        }
    }
    let peers = (0..PEERS.len()).filter(|&at| results.keys().any(|(peer, _)| *peer == at)).collect();
    let text = fs::read_to_string(args.dir.join("compare.md"))?;
    Ok((peers, results, text.lines().take(3).collect::<Vec<_>>().join("\n")))
}

/// All loads on one server that was started for it; answers the faults.
fn one(args: &Args, peer: &Peer, number: usize, round: usize, results: &mut Results) -> io::Result<u64> {
    let server = peer.start(&args.dir, Some(args.cpu))?;
    let mut faults = 0;
    for (load, (name, ..)) in LOADS.iter().enumerate() {
        let wanted = args.loads.is_empty() || args.loads.iter().any(|other| other == name);
        // Memory does not vary; and the first thing a server does is what shows its memory.
        if !wanted || !peer.does(name) || (*name == "idle" && round > 0) {
            continue;
        }
        let outcome = if *name == "idle" {
            measure(args, peer, &peer.start(&args.dir, Some(args.cpu))?, load)?
        } else {
            measure(args, peer, &server, load)?
        };
        let n = outcome["faults"].as_u64().unwrap_or(1);
        eprintln!("{} {name}: {}", peer.name, report::brief(&outcome));
        faults += n;
        results.entry((number, load)).or_default().push(outcome);
    }
    Ok(faults)
}

fn measure(args: &Args, peer: &Peer, server: &Server, load: usize) -> io::Result<Value> {
    let output = Command::new(sibling("load")?)
        .args(LOADS[load].1)
        .args(["--address", &format!("127.0.0.1:{}", server.port), "--pid", &server.pid().to_string()])
        .args(["--protocol", peer.protocol, "--path", peer.path(), "--cpu", &(args.cpu + 1).to_string()])
        .args(["--duration", &args.duration.to_string(), "--warmup", "0.3", "--quiet"])
        .output()?;
    serde_json::from_slice(&output.stdout)
        .map_err(|_| io::Error::other(format!("{}: {}", LOADS[load].0, String::from_utf8_lossy(&output.stderr).trim())))
}

fn median(results: &Results, peer: usize, load: usize, figure: &str) -> Option<f64> {
    let figures = results.get(&(peer, load))?.iter().filter_map(|outcome| outcome.pointer(figure)?.as_f64());
    report::median(figures.collect())
}

fn write(args: &Args, head: &str, peers: &[usize], results: &Results) -> io::Result<()> {
    fs::create_dir_all(&args.dir)?;
    let (mut table, mut groups) = (String::new(), Vec::new());
    table += &format!("{head}\n\n");
    table += "Per CPU second of the server, and in brackets as a share of the floor's:\n\n| server |";
    let shown = 0..7;
    for load in shown.clone() {
        table += &format!(" {} |", LOADS[load].0);
    }
    table += &format!("\n|---|{}\n", "---|".repeat(shown.len()));
    for &peer in peers {
        table += &format!("| {} |", PEERS[peer].name);
        for load in shown.clone() {
            let figure = median(results, peer, load, "/work_per_cpu_second");
            let floor = median(results, 1, load, "/work_per_cpu_second");
            table += &match (figure, floor) {
                (Some(figure), Some(floor)) => format!(" {} ({:.2}) |", plot::short(figure), figure / floor),
                (Some(figure), None) => format!(" {} |", plot::short(figure)),
                _ => " – |".to_owned(),
            };
        }
        table += "\n";
    }
    for load in shown {
        let Some(floor) = median(results, 1, load, "/work_per_cpu_second") else { continue };
        let bars = peers.iter().filter_map(|&peer| {
            Some((PEERS[peer].name.to_owned(), median(results, peer, load, "/work_per_cpu_second")? / floor))
        });
        groups.push((LOADS[load].0.to_owned(), bars.collect()));
    }
    table += &other_table(peers, results);
    let faults: u64 = results.values().flatten().filter_map(|outcome| outcome["faults"].as_u64()).sum();
    let runs: usize = results.values().map(Vec::len).sum();
    table += "\n";
    for &peer in peers {
        table += &format!("- **{}**: {}\n", PEERS[peer].name, PEERS[peer].what);
    }
    table += &format!("\nLost, doubled, out of order or refused in all {runs} runs: {faults}.\n");
    let goals = goals::table(&|server, load, figure| {
        let peer = PEERS.iter().position(|peer| peer.name == server)?;
        median(results, peer, LOADS.iter().position(|other| other.0 == load)?, figure)
    });
    println!("{table}\n{goals}");
    let svg = plot::bars("Work per CPU second, as a share of the floor's", &groups);
    let all: Vec<Value> = results
        .iter()
        .map(
            |((peer, load), outcomes)| json!({"server": PEERS[*peer].name, "load": LOADS[*load].0, "rounds": outcomes}),
        )
        .collect();
    fs::write(args.dir.join("compare.json"), serde_json::to_string_pretty(&all)?)?;
    fs::write(args.dir.join("compare.md"), &table)?;
    fs::write(args.dir.join("compare.svg"), &svg)?;
    if let Some(readme) = &args.readme {
        report::between_markers(readme, "compare", &table)?;
        report::between_markers(readme, "goals", &goals)?;
        let plots = readme.with_file_name("plots");
        fs::create_dir_all(&plots)?;
        fs::write(plots.join("compare.svg"), &svg)?;
    }
    Ok(())
}

/// Latency at a fixed load, and memory.
fn other_table(peers: &[usize], results: &Results) -> String {
    let mut table =
        "\nLatency at 20 publishes a second to 1,000 subscribers each, and memory (PSS of all processes):\n\n\
        | server | p50 | p99 | empty, a process | per idle connection |\n|---|---|---|---|---|\n"
            .to_owned();
    for &peer in peers {
        let at = |load, figure| median(results, peer, load, figure);
        let (p50, p99) = (at(7, "/latency_us/p50"), at(7, "/latency_us/p99"));
        let (before, after) = (at(8, "/server_pss_before"), at(8, "/server_pss_after"));
        let processes = at(8, "/server_processes").unwrap_or(1.0);
        if p50.is_none() && before.is_none() {
            continue;
        }
        let ms = |us: Option<f64>| us.map_or_else(|| "–".to_owned(), |us| format!("{:.2} ms", us / 1000.0));
        let empty =
            before.map_or_else(|| "–".to_owned(), |b| format!("{:.1} MiB × {processes:.0}", b / processes / 1048576.0));
        let each = match (before, after) {
            (Some(before), Some(after)) => format!("{:.2} KiB", (after - before) / 10_000.0 / 1024.0),
            _ => "–".to_owned(),
        };
        table += &format!("| {} | {} | {} | {empty} | {each} |\n", PEERS[peer].name, ms(p50), ms(p99));
    }
    table
}
