//! How cost grows with connections, subscribers, channels, payloads and processes: a plot and a table for each.
//!
//! ```text
//! cargo run --release -p benches --bin grow
//! ```

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use benches::peers::{PEERS, Peer, Server, ours, sibling};
use benches::{plot, report};
use clap::Parser;
use serde_json::Value;

/// Measures how cost grows.
#[derive(Debug, Parser)]
struct Args {
    /// Seconds that each point is measured
    #[arg(short, long, default_value_t = 1.5)]
    duration: f64,
    /// Measurements of each point; figures are medians
    #[arg(short, long, default_value_t = 3)]
    rounds: usize,
    /// Only these: connections, subscribers, channels, payload, processes
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where programs are built and results written
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/compare"))]
    dir: PathBuf,
    /// Put the tables into this file, between its markers, and the plots beside it
    #[arg(long)]
    readme: Option<PathBuf>,
}

/// A line: its name, the server, and for each place on the x axis the arguments of the generator.
struct Line {
    name: &'static str,
    peer: Peer,
    points: Vec<(f64, Vec<String>)>,
}

/// A plot.
struct Growth {
    name: &'static str,
    title: &'static str,
    x: &'static str,
    y: &'static str,
    lines: Vec<Line>,
    /// The figure of an outcome.
    figure: fn(&Value, f64) -> Option<f64>,
}

fn strings(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

fn points(at: &[u32], args: impl Fn(&str) -> Vec<String>) -> Vec<(f64, Vec<String>)> {
    at.iter().map(|&at| (f64::from(at), args(&at.to_string()))).collect()
}

/// Microseconds of server CPU for a unit of work.
fn cpu_each(outcome: &Value, _: f64) -> Option<f64> {
    Some(1e6 / outcome["work_per_cpu_second"].as_f64().filter(|figure| *figure > 0.0)?)
}

fn growths() -> Vec<Growth> {
    let (one, floor) = (PEERS[0], PEERS[1]);
    let both = |points: Vec<(f64, Vec<String>)>| {
        vec![Line { name: "ours", peer: one, points: points.clone() }, Line { name: "floor", peer: floor, points }]
    };
    let many_workers = ours(r#""workers":6,"brokers":1,"schedulingPolicy":"rr","pingInterval":8000"#);
    vec![
        Growth {
            name: "connections",
            title: "Memory of the server per idle connection (6 workers + 1 broker)",
            x: "connections, one subscription each, 5 to a channel",
            y: "bytes (PSS of all processes)",
            lines: vec![Line {
                name: "ours",
                peer: many_workers,
                points: points(&[1000, 3000, 10_000, 30_000, 100_000], |n| {
                    strings(&["idle", "--connections", n, "--warmup", "0"])
                }),
            }],
            figure: |outcome, connections| {
                let at = |name: &str| outcome[name].as_f64();
                Some((at("server_pss_after")? - at("server_pss_before")?) / connections)
            },
        },
        Growth {
            name: "subscribers",
            title: "CPU of the server per delivery",
            x: "subscribers of the channel, 1 publish in flight",
            y: "µs",
            lines: both(points(&[1, 10, 100, 1000, 10_000], |n| strings(&["fanout", "--subscribers", n]))),
            figure: cpu_each,
        },
        Growth {
            name: "channels",
            title: "CPU of the server per delivery",
            x: "channels of one subscriber each, on 500 connections",
            y: "µs",
            lines: both(points(&[500, 5000, 50_000, 100_000], |n| {
                strings(&["many", "--channels", n, "--per-channel", "1"])
            })),
            figure: cpu_each,
        },
        Growth {
            name: "payload",
            title: "CPU of the server per delivery to 100 subscribers",
            x: "characters in the message",
            y: "µs",
            lines: both(points(&[16, 128, 1024, 8192, 32_768], |n| {
                strings(&["fanout", "--subscribers", "100", "--size", n])
            }))
            .into_iter()
            .map(|mut line| {
                if line.name == "ours" {
                    // The floor keeps a message in 64 KiB.
                    line.points.extend(points(&[131_072, 1_048_576], |n| {
                        strings(&["fanout", "--subscribers", "100", "--size", n])
                    }));
                }
                line
            })
            .collect(),
            figure: cpu_each,
        },
        Growth {
            name: "processes",
            title: "CPU of the server per delivery, by workers and brokers",
            x: "1000 channels with 5 subscribers each; workers, and as many brokers",
            y: "µs",
            lines: vec![
                Line { name: "many", peer: one, points: points(&[1, 2, 3, 4], |_| strings(&["many"])) },
                Line { name: "fan1", peer: one, points: points(&[1, 2, 3, 4], |_| strings(&["fanout"])) },
            ],
            figure: cpu_each,
        },
    ]
}

/// The options of the last plot's servers.
const PROCESSES: [&str; 4] = [
    r#""workers":1,"brokers":1"#,
    r#""workers":2,"brokers":2"#,
    r#""workers":3,"brokers":3"#,
    r#""workers":4,"brokers":4"#,
];

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(faults) => {
            eprintln!("grow: {faults} faults");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("grow: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> io::Result<u64> {
    PEERS[1].prepare(&args.dir)?;
    let (mut text, mut faults) = (format!("{}\n", report::circumstances()), 0);
    for growth in
        growths().iter().filter(|growth| args.only.is_empty() || args.only.iter().any(|name| name == growth.name))
    {
        let mut lines = Vec::new();
        for line in &growth.lines {
            let mut drawn = Vec::new();
            for (number, (x, load)) in line.points.iter().enumerate() {
                let peer = if growth.name == "processes" { ours(PROCESSES[number]) } else { line.peer };
                match point(args, &peer, load) {
                    Ok(outcomes) => {
                        faults += outcomes.iter().filter_map(|outcome| outcome["faults"].as_u64()).sum::<u64>();
                        let figures = outcomes.iter().filter_map(|outcome| (growth.figure)(outcome, *x)).collect();
                        if let Some(figure) = report::median(figures) {
                            eprintln!("{} {} {x}: {figure:.3}", growth.name, line.name);
                            drawn.push((*x, figure));
                        }
                    }
                    Err(error) => eprintln!("{} {} {x}: {error}", growth.name, line.name),
                }
            }
            lines.push((line.name.to_owned(), drawn));
        }
        text += &table(growth, &lines);
        let svg = plot::lines(growth.title, growth.x, growth.y, &lines);
        write_plot(args, growth.name, &svg)?;
    }
    println!("{text}");
    fs::write(args.dir.join("grow.md"), &text)?;
    if let Some(readme) = args.readme.as_ref().filter(|_| args.only.is_empty()) {
        report::between_markers(readme, "grow", &text)?;
    }
    Ok(faults)
}

fn point(args: &Args, peer: &Peer, load: &[String]) -> io::Result<Vec<Value>> {
    let idle = load[0] == "idle";
    let cpu = if idle { None } else { Some(0) };
    (0..if idle { 1 } else { args.rounds }).map(|_| measure(args, &peer.start(&args.dir, cpu)?, load, idle)).collect()
}

fn measure(args: &Args, server: &Server, load: &[String], idle: bool) -> io::Result<Value> {
    let mut command = Command::new(sibling("load")?);
    command.args(load);
    if !idle {
        command.args(["--cpu", "1", "--warmup", "0.3"]);
    }
    let output = command
        .args(["--address", &format!("127.0.0.1:{}", server.port), "--pid", &server.pid().to_string()])
        .args(["--duration", &args.duration.to_string(), "--quiet"])
        .output()?;
    serde_json::from_slice(&output.stdout)
        .map_err(|_| io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

fn table(growth: &Growth, lines: &[(String, Vec<(f64, f64)>)]) -> String {
    let mut text = format!("\n![{}](plots/{}.svg)\n\n| {} |", growth.title, growth.name, growth.x);
    let mut places: Vec<f64> = lines.iter().flat_map(|(_, points)| points).map(|point| point.0).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    for place in &places {
        text += &format!(" {} |", plot::short(*place));
    }
    text += &format!("\n|---|{}\n", "---|".repeat(places.len()));
    for (name, points) in lines {
        text += &format!("| {name}, {} |", growth.y);
        for place in &places {
            let figure = points.iter().find(|point| point.0 == *place);
            text += &figure.map_or_else(|| " – |".to_owned(), |point| format!(" {} |", plot::short(point.1)));
        }
        text += "\n";
    }
    text
}

fn write_plot(args: &Args, name: &str, svg: &str) -> io::Result<()> {
    fs::write(args.dir.join(format!("{name}.svg")), svg)?;
    if let Some(readme) = &args.readme {
        let plots = readme.with_file_name("plots");
        fs::create_dir_all(&plots)?;
        fs::write(plots.join(format!("{name}.svg")), svg)?;
    }
    Ok(())
}
