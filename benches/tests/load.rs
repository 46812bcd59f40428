//! The generator against the real cluster: every workload comes to its end with every message once and in order, and what is wrong is seen.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(options: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_serve"))
            .arg(format!(r#"{{"port":0,"host":"127.0.0.1"{options}}}"#))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let line = stdout.lines().map(Result::unwrap).find(|line| line.contains("http://")).unwrap();
        let (_, rest) = line.split_once("http://").unwrap();
        let address = rest.split_once('/').unwrap().0.to_owned();
        Self { child, address }
    }

    fn load(&self, args: &[&str]) -> (bool, Value) {
        let output = Command::new(env!("CARGO_BIN_EXE_load"))
            .args(args)
            .args(["--address", &self.address, "--pid", &self.child.id().to_string()])
            .args(["--quiet", "--duration", "0.3", "--warmup", "0"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.success(), serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its children end with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn every_workload_gets_every_message_once_and_in_order() {
    let server = Server::start(r#","workers":2,"brokers":2"#);
    for protocol in ["1", "2"] {
        for workload in [
            &["connect"][..],
            &["churn", "--window", "8"],
            &["echo", "--window", "4"],
            &["echo", "--rate", "500"],
            &["fanout", "--subscribers", "100", "--window", "8"],
            &["fanout", "--subscribers", "50", "--rate", "100", "--size", "70000"],
            &["many", "--connections", "50", "--channels", "100"],
            &["chat", "--connections", "100"],
        ] {
            let (ok, outcome) = server.load(&[workload, &["--protocol", protocol]].concat());
            assert!(ok && outcome["faults"] == 0, "{workload:?}: {outcome}");
            assert!(outcome["work"].as_u64() > Some(10), "{workload:?}: {outcome}");
            assert!(outcome["latency_us"]["p50"].as_f64() > Some(0.0), "{workload:?}: {outcome}");
        }
    }
}

#[test]
fn idle_connections_answer_heartbeats() {
    let server = Server::start(r#","workers":1,"brokers":1,"pingInterval":100"#);
    let (ok, outcome) = server.load(&["idle", "--connections", "100"]);
    assert!(ok && outcome["closed"] == 0, "{outcome}");
    assert!(outcome["pings"].as_u64() > Some(200), "{outcome}");
    assert!(outcome["server_pss_after"].as_u64() > outcome["server_pss_before"].as_u64().map(|before| before / 2));
    assert_eq!(outcome["server_processes"], 3);
}

#[test]
fn what_is_refused_is_a_fault() {
    let server = Server::start(r#","workers":1,"brokers":1,"socketChannelLimit":0"#);
    let output = Command::new(env!("CARGO_BIN_EXE_load"))
        .args(["fanout", "--subscribers", "2", "--duration", "0.2", "--quiet", "--address", &server.address])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "no subscription, no run: {output:?}");
}
