//! The suites for servers and clients, run against ours and against SocketCluster's own.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Failed};
use sc_conformance::{Outcome, Target, Version, client, server};
use serde_json::Value;
use support::server::Server;
use support::{packages, trial};

/// Short, so that the checks of liveness are not skipped.
const TIMES: [(&str, &str); 2] = [("PING_INTERVAL", "500"), ("PING_TIMEOUT", "1500")];

/// A server of SocketCluster's that is known to break a rule, and how. The rule is looked at on a server of its own, since
/// none of them survives it.
struct Deviation {
    rule: &'static str,
    reason: &'static str,
}

/// `{"rid":"constructor"}` is looked up among the members of a plain object, and what is found there is called.
const OF_14: [Deviation; 1] =
    [Deviation { rule: "odd/strange-answers", reason: "a remote crash: an inherited member of an object is called" }];

/// The event `constructor` is looked up among the streams in a plain object, and what is found there is written to.
const OF_20: [Deviation; 1] = [Deviation {
    rule: "odd/object-members-as-names",
    reason: "a remote crash: an inherited member counts as a stream",
}];

fn main() -> ExitCode {
    let args = Arguments::from_args();
    let node: &[&str] = &["node", "npm"];
    let trials = vec![
        trial("ours_as_protocol_1", &[], || ours(Version::V1)),
        trial("ours_as_protocol_2", &[], || ours(Version::V2)),
        trial("the_command_tells_json_and_an_exit_code", &[], the_command),
        trial("socketcluster_14", node, || theirs("server-14.4.2", "server-14.js", Version::V1, &OF_14)),
        trial("socketcluster_server_20", node, || theirs("server-20.0.1", "server-20.js", Version::V2, &OF_20)),
        trial("javascript_client_14", node, || their_client("js-14.3.2", "client-14.js", Version::V1)),
        trial("javascript_client_20", node, || their_client("js-20.0.2", "client-20.js", Version::V2)),
        trial("a_client_of_the_other_protocol_is_noticed", node, the_other_client),
        trial("a_server_of_the_other_protocol_is_noticed", node, the_other_protocol),
    ];
    libtest_mimic::run(&args, trials).exit_code()
}

fn target(server: &Server, version: Version) -> Target {
    Target::new(&format!("ws://127.0.0.1:{}/socketcluster/", server.port), version).unwrap()
}

fn start_ours() -> Result<Server, String> {
    let [interval, timeout] = TIMES;
    Server::start(&[interval, timeout, ("WORKERS", "2"), ("BROKERS", "2")])
}

fn ours(version: Version) -> Result<(), Failed> {
    let server = start_ours()?;
    let report = server::run(&target(&server, version), |_| true);
    if report.count(Outcome::Pass) == report.checks.len() && !report.checks.is_empty() {
        server.stop()?;
        return Ok(());
    }
    Err(format!("{report}\n{}", server.log()).into())
}

fn start_theirs(package: &str, program: &str) -> Result<Server, String> {
    let mut node = Command::new("node");
    node.arg("--no-deprecation").arg(packages::clients().join("contract").join(program));
    node.current_dir(packages::npm(package)?).env("PORT", "0").envs(TIMES);
    Server::start_other(node)
}

fn theirs(package: &str, program: &str, version: Version, deviations: &[Deviation]) -> Result<(), Failed> {
    let is_known = |name: &str| deviations.iter().any(|deviation| deviation.rule == name);
    let server = start_theirs(package, program)?;
    let report = server::run(&target(&server, version), |name| !is_known(name));
    if report.count(Outcome::Pass) != report.checks.len() {
        return Err(format!("{report}\n{}", server.log()).into());
    }
    for Deviation { rule, reason } in deviations {
        let server = start_theirs(package, program)?;
        let report = server::run(&target(&server, version), |name| name == *rule);
        if report.failed() != [*rule] {
            return Err(format!("{package} is said to break {rule} ({reason}), and does not:\n{report}").into());
        }
    }
    Ok(())
}

/// A client's process, which ends with this.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn client_report(package: &str, program: &str, version: Version) -> Result<sc_conformance::Report, String> {
    let mut suite = client::Suite::new("127.0.0.1:0", version).map_err(|error| error.to_string())?;
    let port = suite.address().map_err(|error| error.to_string())?.port();
    let mut node = Command::new("node");
    node.arg("--no-deprecation").arg(packages::clients().join("contract").join(program));
    node.current_dir(packages::npm(package)?).env("PORT", port.to_string());
    node.stdin(Stdio::null()).stdout(Stdio::null());
    let _client = Running(node.spawn().map_err(|error| error.to_string())?);
    Ok(suite.run())
}

fn their_client(package: &str, program: &str, version: Version) -> Result<(), Failed> {
    let report = client_report(package, program, version)?;
    if report.count(Outcome::Pass) == report.checks.len() { Ok(()) } else { Err(report.to_string().into()) }
}

fn the_other_client() -> Result<(), Failed> {
    let report = client_report("js-20.0.2", "client-20.js", Version::V1)?;
    if report.failed() == ["client/answers-pings"] { Ok(()) } else { Err(report.to_string().into()) }
}

/// That a suite passes says something only if it can fail.
fn the_other_protocol() -> Result<(), Failed> {
    let server = start_theirs("server-20.0.1", "server-20.js")?;
    let mut target = target(&server, Version::V1);
    target.patience = std::time::Duration::from_millis(500);
    let rules = ["publish/own-before-ack", "events/cid-zero", "subscribe/bare-name", "liveness/pings", "events/echo"];
    let report = server::run(&target, |name| rules.contains(&name));
    let expected = ["liveness/pings", "events/cid-zero", "subscribe/bare-name", "publish/own-before-ack"];
    if report.failed() == expected { Ok(()) } else { Err(report.to_string().into()) }
}

fn the_command() -> Result<(), Failed> {
    let server = start_ours()?;
    let run = |only: &str, url: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_conformance"));
        command.args(["server", url, "--protocol", "2", "--only", only, "--json", "--patience", "2000"]);
        command.stdin(Stdio::null()).output().map_err(|error| error.to_string())
    };
    let url = format!("ws://127.0.0.1:{}/socketcluster/", server.port);
    let good = run("publish/,batch/", &url)?;
    let report: Value = serde_json::from_slice(&good.stdout).map_err(|error| error.to_string())?;
    let checks = report["checks"].as_array().map_or(0, Vec::len);
    let all = report["checks"].as_array().into_iter().flatten().all(|check| check["outcome"] == "pass");
    if good.status.code() != Some(0) || checks < 10 || !all || report["protocol"] != 2 {
        return Err(format!("{:?}: {report}", good.status).into());
    }
    server.stop()?;
    // Nobody is there any more.
    let bad = run("upgrade/accepted", &url)?;
    if bad.status.code() == Some(1) { Ok(()) } else { Err(format!("without a server: {:?}", bad.status).into()) }
}
