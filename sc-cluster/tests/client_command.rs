//! `socketcluster client` against the sample application: what it prints, what it takes, and its exit codes.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

const COMMAND: &str = env!("CARGO_BIN_EXE_socketcluster");

struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start() -> Self {
        let mut command = Command::new(COMMAND);
        command.args(["--port", "0", "--host", "127.0.0.1", "-w", "1", "-b", "1"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let place =
            lines.find_map(|line| line.split_once("http://127.0.0.1:").map(|(_, rest)| rest.to_owned())).unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        let url = format!("ws://127.0.0.1:{}/socketcluster/", place.split('/').next().unwrap());
        Self { child, url }
    }

    fn spawn(&self, args: &[&str]) -> Child {
        let mut command = Command::new(COMMAND);
        command.arg("client").arg(&self.url).args(args).env_remove("SOCKETCLUSTER_TOKEN");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// The exit code, and what was printed to either output.
    fn run(&self, args: &[&str], input: &str) -> (Option<i32>, Vec<Value>, Vec<Value>) {
        let mut child = self.spawn(args);
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let json = |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| json!(line))).collect()
        };
        (output.status.code(), json(&output.stdout), json(&output.stderr))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The workers and the broker end with the master.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn emit_prints_the_answer_and_errors_have_their_codes() {
    let server = Server::start();
    assert_eq!(
        server.run(&["emit", "echo", r#"{"a":[1,null]}"#], ""),
        (Some(0), vec![json!({"a": [1, null]})], vec![])
    );
    assert_eq!(server.run(&["emit", "echo"], ""), (Some(0), vec![Value::Null], vec![]));
    assert_eq!(server.run(&["emit", "echo", "1", "--no-ack"], ""), (Some(0), vec![], vec![]));
    let (code, out, errors) = server.run(&["--timeout", "0.3", "emit", "nobody-answers"], "");
    assert_eq!((code, out), (Some(4), vec![]));
    assert_eq!(errors[0]["error"]["name"], "TimeoutError");
    assert_eq!(server.run(&["emit", "echo", "not json"], "").0, Some(2));
    let mut nowhere = Command::new(COMMAND);
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    nowhere.args(["client", &format!("ws://127.0.0.1:{port}/"), "--timeout", "0.2", "emit", "x"]);
    assert_eq!(nowhere.output().unwrap().status.code(), Some(3));
}

#[test]
fn what_one_publishes_the_other_prints() {
    let server = Server::start();
    let mut subscriber = server.spawn(&["subscribe", "news", "weather", "--count", "3"]);
    let mut watcher = server.spawn(&["watch"]);
    let mut commands = watcher.stdin.take().unwrap();
    let mut seen = BufReader::new(watcher.stdout.take().unwrap()).lines();
    let mut until = |wanted: &dyn Fn(&Value) -> bool| {
        let line = seen.by_ref().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        line.into_iter().find(|line| wanted(line)).unwrap()
    };
    writeln!(commands, r#"{{"subscribe":"news"}}"#).unwrap();
    until(&|line| line["channel"] == "news" && line["state"] == "subscribed");
    // When the subscriber is there is not told; so the first message is published until it has come.
    let mut got = BufReader::new(subscriber.stdout.take().unwrap()).lines();
    let first = std::thread::spawn(move || (got.next().unwrap().unwrap(), got));
    while !first.is_finished() {
        assert_eq!(server.run(&["publish", "weather", r#""sun""#], "").0, Some(0));
    }
    let (line, mut got) = first.join().unwrap();
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), json!({"channel": "weather", "data": "sun"}));
    assert_eq!(server.run(&["publish", "news"], "1\n{\"two\": 2}\n\n").0, Some(0));
    let rest: Vec<Value> = got.by_ref().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    assert!(rest.len() == 2, "it ends after three messages: {rest:?}");
    assert!(subscriber.wait().unwrap().success());
    assert_eq!(until(&|line| line["data"] == json!({"two": 2}))["channel"], "news");

    writeln!(commands, r#"{{"emit":"echo","data":[7],"id":"mine"}}"#).unwrap();
    let answer = until(&|line| line["id"] == "mine");
    assert_eq!(answer, json!({"answer": "echo", "data": [7], "id": "mine"}));
    writeln!(commands, "nonsense").unwrap();
    until(&|line| line["error"]["message"].is_string());
    writeln!(commands, r#"{{"unsubscribe":"news"}}"#).unwrap();
    until(&|line| line["channel"] == "news" && line["state"] == "unsubscribed");
    until(&|line| line["event"] == "rand");
    drop(commands);
    assert!(watcher.wait().unwrap().success());
}

#[test]
fn tokens_come_from_a_file_or_the_environment() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "no.token.atall\n").unwrap();
    let file = path.to_str().unwrap();
    let (code, _, errors) = server.run(&["--token-file", file, "authenticate"], "");
    assert_eq!((code, errors[0]["error"]["name"].as_str()), (Some(1), Some("AuthTokenInvalidError")));
    assert_eq!(server.run(&["authenticate"], "").0, Some(2), "there is no token");
    let (code, _, errors) = server.run(&["subscribe", "members", "-n", "1"], "");
    assert_eq!((code, errors[0]["error"]["name"].as_str()), (Some(1), Some("AuthRequiredError")));

    let mut client = server.spawn(&["watch"]);
    let mut commands = client.stdin.take().unwrap();
    writeln!(commands, r#"{{"emit":"login","data":"ann"}}"#).unwrap();
    let lines = BufReader::new(client.stdout.take().unwrap()).lines();
    let mut lines = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let login = lines.find(|line| line["authState"] == "authenticated").unwrap();
    assert_eq!(login["authToken"]["username"], "ann");
    drop(commands);
    lines.for_each(drop);
    assert!(client.wait().unwrap().success());
}
