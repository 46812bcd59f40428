//! Other programs, and other users, in the places of workers and brokers.

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use crate::{
    app::OPTIONS_ENV,
    crowd::Crowd,
    kills::end,
    server::{Server, user_of},
};

const COMMAND: &str = env!("CARGO_BIN_EXE_socketcluster");

/// Whether processes can be started as another user here.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The command `socketcluster` is linked with the same crate: it can be the worker of this test's cluster, with its own page.
pub(crate) fn controller() {
    let folder = tempfile::tempdir().expect("a folder");
    let mounted = folder.path().join("worker");
    std::fs::copy(COMMAND, &mounted).expect("a copy");
    let server = Server::start(&format!(r#"{{"workers": 2, "workerController": "{}"}}"#, mounted.display()));
    let mut crowd = Crowd::new(server.port, 20, 2);
    crowd.until_all_serve("all clients");
    let mut page = TcpStream::connect(("127.0.0.1", server.port)).expect("a connection");
    page.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    page.read_to_string(&mut answer).expect("text");
    assert!(
        answer.contains("<!doctype html>") || answer.contains("<!DOCTYPE html>"),
        "not the page of this test: {answer}"
    );
    let tally = crowd.finish();
    end(server, crowd, &tally);
}

/// What a program of another version does is to end with its code: the cluster does not begin, and says why in one line.
pub(crate) fn another_version() {
    let folder = tempfile::tempdir().expect("a folder");
    let other = folder.path().join("worker");
    std::fs::write(&other, "#!/bin/sh\nexit 86\n").expect("written");
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let options = format!(r#"{{"port": 0, "workers": 2, "workerController": "{}"}}"#, other.display());
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    let output = command.env(OPTIONS_ENV, options).stdin(Stdio::null()).output().expect("it ends");
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<_> = log.lines().filter(|line| line.starts_with("[Error]")).collect();
    assert!(errors.len() == 1 && errors[0].contains("linked with another version"), "{log}");
    // The child's side of it.
    let mut command = Command::new(COMMAND);
    command.env("SOCKETCLUSTER_CHILD", "worker:0:1:nonce:255").stdin(Stdio::null());
    assert!(!command.output().expect("it ends").status.success());
}

pub(crate) fn another_user() {
    let server = Server::start_with("{}", |command| {
        *command = Command::new(COMMAND);
        command.args(["--host", "127.0.0.1", "--port", "0", "--workers", "2", "--log-level", "3"]);
        command.args(["--options", r#"{"downgradeToUser": 65534}"#]);
    });
    let mut crowd = Crowd::new(server.port, 20, 2);
    crowd.until_all_serve("all clients");
    assert_eq!(user_of(server.pid()), "0");
    for (name, pid) in server.children() {
        assert_eq!(user_of(pid), "65534", "{name}");
    }
    crate::server::send(server.child("worker 0"), rustix::process::Signal::KILL);
    crowd.until("the end of its connections", |crowd| crowd.ends() > 0);
    crowd.until_all_serve("all clients again");
    let tally = crowd.finish();
    end(server, crowd, &tally);
}
