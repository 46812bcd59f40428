//! The command: runs the suite against a server or a client.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use sc_conformance::check::Stop;
use sc_conformance::{Outcome, Report, Target, Version, client, server};

#[derive(Debug, Parser)]
#[command(name = "conformance", about = "Checks what a SocketCluster server or client has to do")]
struct Args {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Debug, Subcommand)]
enum Subject {
    /// Checks a server that runs the application of CONTRACT.md.
    Server {
        /// Its address, such as ws://127.0.0.1:8000/socketcluster/.
        url: String,
        /// As which version of the protocol: 1 (SC 3 to 14) or 2 (SC 15 to 20).
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=2))]
        protocol: u8,
        /// Only checks whose names begin with one of these, separated by commas.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// Not the checks of these names, separated by commas: known deviations.
        #[arg(long, value_delimiter = ',')]
        except: Vec<String>,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
        /// Milliseconds that an answer may take.
        #[arg(long, default_value_t = 5000)]
        patience: u64,
        /// Milliseconds that a check may wait for one of the server's own timeouts; checks that need longer are skipped.
        #[arg(long, default_value_t = 5000)]
        slow_max: u64,
    },
    /// Waits for a client that obeys as CONTRACT.md says, and checks it.
    Client {
        /// Where to wait, as address and port.
        #[arg(long, default_value = "127.0.0.1:8000")]
        listen: String,
        /// Which version of the protocol it speaks: 1 or 2.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=2))]
        protocol: u8,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
        /// Milliseconds that the client may take for anything.
        #[arg(long, default_value_t = 10_000)]
        patience: u64,
    },
}

fn main() -> ExitCode {
    match Args::parse().subject {
        Subject::Client { listen, protocol, json, patience } => {
            wait_for_client(&listen, version(protocol), json, patience)
        }
        subject => check_server(subject),
    }
}

fn version(protocol: u8) -> Version {
    if protocol == 1 { Version::V1 } else { Version::V2 }
}

fn wait_for_client(listen: &str, version: Version, json: bool, patience: u64) -> ExitCode {
    let suite = client::Suite::new(listen, version).and_then(|suite| Ok((suite.address()?, suite)));
    match suite {
        Ok((address, mut suite)) => {
            eprintln!("waiting for a client at ws://{address}/socketcluster/");
            suite.patience = Duration::from_millis(patience);
            tell(&suite.run(), json)
        }
        Err(error) => {
            eprintln!("{listen}: {error}");
            ExitCode::from(2)
        }
    }
}

fn check_server(subject: Subject) -> ExitCode {
    let Subject::Server { url, protocol, only, except, json, patience, slow_max } = subject else {
        return ExitCode::from(2);
    };
    let version = version(protocol);
    let mut target = match Target::new(&url, version) {
        Ok(target) => target,
        Err(Stop::Fail(why) | Stop::Skip(why)) => {
            eprintln!("{url}: {why}");
            return ExitCode::from(2);
        }
    };
    target.patience = Duration::from_millis(patience);
    target.slow_max = Duration::from_millis(slow_max);
    let wanted = |name: &str| {
        let is_wanted = only.is_empty() || only.iter().any(|prefix| name.starts_with(&**prefix));
        is_wanted && !except.iter().any(|except| except == name)
    };
    tell(&server::run(&target, wanted), json)
}

/// 0: every rule that was looked at is kept; 1: one is broken; 2: nothing could be looked at.
fn tell(report: &Report, json: bool) -> ExitCode {
    if json {
        println!("{}", serde_json::to_string_pretty(report).unwrap_or_default());
    } else {
        println!("{report}");
    }
    match (report.count(Outcome::Fail), report.count(Outcome::Pass)) {
        (0, 0) => ExitCode::from(2),
        (0, _) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
