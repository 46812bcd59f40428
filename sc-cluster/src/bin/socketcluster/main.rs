//! The `socketcluster` command: a cluster on every core of this machine, with the sample application.

#![forbid(unsafe_code)]

mod client;
mod sample;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sc_cluster::{Cluster, InvalidOptionsError, Options};
use serde_json::{Map, Value, json};

/// A real-time server for WebSocket clients of SocketCluster, on every core of this machine.
///
/// Environment variables (SOCKETCLUSTER_PORT, SOCKETCLUSTER_WORKERS, …) are taken where a flag is not given;
/// SOCKETCLUSTER_OPTIONS, a JSON object with any of the options, wins over both.
#[derive(Debug, Parser)]
#[command(name = "socketcluster", version, args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Worker processes [default: one per core]
    #[arg(short, long, value_name = "N")]
    workers: Option<u32>,
    /// Broker processes [default: 1]
    #[arg(short, long, value_name = "N")]
    brokers: Option<u32>,
    /// TCP port; 0 takes a free one and prints it [default: 8000]
    #[arg(short, long)]
    port: Option<u16>,
    /// Name or address to listen on [default: every address, IPv6 and IPv4]
    #[arg(long)]
    host: Option<String>,
    /// 0: nothing, 1: errors, 2: warnings too, 3: news too, 4: everything [default: 2]
    #[arg(short, long, value_name = "0-4", value_parser = clap::value_parser!(u8).range(0..=4))]
    log_level: Option<u8>,
    /// How the log looks: text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// How connections are spread over the workers: rr, least or none [default: rr]
    #[arg(long, value_name = "POLICY")]
    scheduling_policy: Option<String>,
    /// URL path of WebSocket connections [default: /socketcluster/]
    #[arg(long)]
    path: Option<String>,
    /// Any other options, as a JSON object with SocketCluster's names: --options '{"pingInterval": 5000}'
    #[arg(long, value_name = "JSON")]
    options: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Talk to a server from a terminal or a script
    Client(Box<client::ClientArgs>),
}

impl Args {
    /// The command's defaults, then the environment, then flags, then `SOCKETCLUSTER_OPTIONS`.
    fn into_options(self, env: impl Fn(&str) -> Option<String>) -> Result<Options, InvalidOptionsError> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut options = Options { workers: u32::try_from(cores).ok(), brokers: Some(1), ..Options::default() };
        options.merge_env(&env)?;
        if let Some(json) = &self.options {
            options
                .merge_json(json)
                .map_err(|InvalidOptionsError(text)| InvalidOptionsError(format!("--options: {text}")))?;
        }
        let flags = json!({
            "workers": self.workers,
            "brokers": self.brokers,
            "port": self.port,
            "host": self.host,
            "logLevel": self.log_level,
            "logFormat": self.log_format,
            "schedulingPolicy": self.scheduling_policy,
            "path": self.path,
        });
        let Value::Object(flags) = flags else { return Ok(options) };
        let given: Map<_, _> = flags.into_iter().filter(|(_, value)| !value.is_null()).collect();
        options.merge_json(&Value::Object(given).to_string())?;
        options.merge_env_json(&env)?;
        Ok(options)
    }
}

fn main() -> ExitCode {
    let mut args = Args::parse();
    if let Some(Action::Client(client)) = args.action.take() {
        return client::run(*client);
    }
    let options = args.into_options(|name| std::env::var(name).ok());
    match options {
        Ok(options) => Cluster::new(options).pages(sample::pages()).worker(sample::worker).run(),
        Err(error) => {
            eprintln!("[Error] {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(args: &[&str], env: &[(&str, &str)]) -> Result<Options, InvalidOptionsError> {
        let args = Args::try_parse_from(std::iter::once(&"socketcluster").chain(args)).unwrap();
        args.into_options(|name| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn one_worker_per_core_unless_something_says_otherwise() {
        let cores = std::thread::available_parallelism().unwrap().get();
        let defaults = options(&[], &[]).unwrap();
        assert_eq!((defaults.workers() as usize, defaults.brokers(), defaults.port), (cores, 1, 8000));
        let env = [("SOCKETCLUSTER_WORKERS", "5"), ("SOCKETCLUSTER_PORT", "9000"), ("SOCKETCLUSTER_LOG_LEVEL", "3")];
        let from_env = options(&[], &env).unwrap();
        assert_eq!((from_env.workers(), from_env.port, from_env.log_level), (5, 9000, 3));
        let flags =
            options(&["-w", "2", "--brokers", "3", "-p", "0", "--host", "::1", "--log-level", "1"], &env).unwrap();
        assert_eq!((flags.workers(), flags.brokers(), flags.port, flags.log_level), (2, 3, 0, 1));
        assert_eq!(flags.host.as_deref(), Some("::1"));
    }

    #[test]
    fn json_in_the_environment_wins_over_all_and_json_on_the_line_over_the_rest_of_it() {
        let env = [("SOCKETCLUSTER_OPTIONS", r#"{"workers": 7, "own": true}"#), ("SOCKETCLUSTER_BROKERS", "2")];
        let all = options(&["-w", "2", "--options", r#"{"brokers": 3, "pingInterval": 5}"#], &env).unwrap();
        assert_eq!((all.workers(), all.brokers(), all.ping_interval_ms), (7, 3, 5));
        assert_eq!(all.extra["own"], true);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let text = |args: &[&str], env: &[(&str, &str)]| options(args, env).unwrap_err().to_string();
        assert!(text(&[], &[("SOCKETCLUSTER_WORKERS", "many")]).contains("SOCKETCLUSTER_WORKERS must be a number"));
        assert!(text(&[], &[("SOCKETCLUSTER_OPTIONS", "{")]).contains("SOCKETCLUSTER_OPTIONS: not a JSON object"));
        let workers = text(&[], &[("SOCKETCLUSTER_OPTIONS", r#"{"workers": "4"}"#)]);
        assert!(workers.contains("The workers option must be a number"), "{workers}");
        assert!(text(&["--options", "[]"], &[]).contains("--options"));
        assert!(text(&["--scheduling-policy", "fast"], &[]).contains("schedulingPolicy"));
    }
}
