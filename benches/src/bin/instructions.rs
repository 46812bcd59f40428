//! How many instructions each hot path takes, which does not depend on what else the machine does.
//!
//! Runs itself under `valgrind --tool=callgrind` twice for each path, with more and with fewer rounds; the difference is that of the rounds.

use std::process::{Command, ExitCode};

use benches::paths;

const FEW: u64 = 100;
const MORE: u64 = 1100;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name, rounds] = &args[..]
        && flag == "--go"
    {
        return go(name, rounds.parse().unwrap_or(0));
    }
    println!("| path | instructions |\n|---|---|");
    let wanted = args.first().map_or("", String::as_str);
    for name in paths::names().filter(|name| name.contains(wanted)) {
        let Some(path) = paths::path(name) else { continue };
        match (count(name, FEW), count(name, MORE)) {
            (Ok(few), Ok(more)) => println!("| {name} | {} |", more.saturating_sub(few) / (MORE - FEW) / path.units),
            (Err(error), _) | (_, Err(error)) => {
                eprintln!("instructions: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn go(name: &str, rounds: u64) -> ExitCode {
    let Some(mut path) = paths::path(name) else { return ExitCode::FAILURE };
    for _ in 0..rounds {
        (path.call)();
    }
    ExitCode::SUCCESS
}

/// The instructions of a whole run.
fn count(name: &str, rounds: u64) -> Result<u64, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let out = std::env::temp_dir().join(format!("callgrind.{}.{rounds}", std::process::id()));
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-jumps=no"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(own)
        .args(["--go", name, &rounds.to_string()])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    // Only the total is of interest, and it is on standard error.
    let _ = std::fs::remove_file(&out);
    let text = String::from_utf8_lossy(&run.stderr);
    let total = text.lines().find_map(|line| line.split_once("Collected : ")).and_then(|(_, n)| n.trim().parse().ok());
    total.ok_or_else(|| format!("valgrind says nothing of instructions: {text}"))
}
