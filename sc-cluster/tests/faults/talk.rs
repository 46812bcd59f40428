//! Messages between processes, and the one log.

use crate::{
    crowd::Crowd,
    kills::end,
    server::{Server, is_alive},
};

pub(crate) fn messages() {
    let server = Server::start(r#"{"workers": 2}"#);
    let mut crowd = Crowd::new(server.port, 1, 1);
    crowd.until_all_serve("the client");
    let id = u8::from(crowd.clients[0].worker_pid() != server.child("worker 0"));
    let answer = |text: &str| Some(format!("[{},\"{text} to worker {id}\"]", id == 0));
    assert_eq!(crowd.ask("first", "null"), (None, Some("\"worker\"".to_owned())));
    assert_eq!(crowd.ask("master", "\"hello\""), (None, answer("hello")));
    let (error, _) = crowd.ask("master", "\"fail\"");
    assert!(error.is_some_and(|error| error.contains("NoError")));
    let (error, _) = crowd.ask("master", "\"panic\"");
    assert!(error.is_some_and(|error| error.contains("InternalError")));
    assert_eq!(crowd.ask("master", "\"all\""), (None, answer("all")));
    for (text, times) in [
        ("says \"hello\"", 1),
        ("says \"a word\"", 4),
        ("0 answers Ok(Data(Some(\"\\\"who are you? worker 0\\\"\"))) in a cluster of 3", 1),
        ("1 answers Ok(Data(Some(\"\\\"who are you? worker 1\\\"\"))) in a cluster of 3", 1),
        ("the broker answers Err(", 1),
        ("There is no worker 9", 1),
        ("in the master", 1),
    ] {
        crowd.until(text, |_| server.logged(text).len() == times);
    }
    let tally = crowd.finish();
    end(server, crowd, &tally);
}

pub(crate) fn panics() {
    let server = Server::start(r#"{"workers": 1, "crashWorkerOnError": false}"#);
    let mut crowd = Crowd::new(server.port, 2, 1);
    crowd.until_all_serve("all clients");
    let pid = server.child("worker 0");
    crowd.ask("thread", "null");
    crowd.clients[1].emit("panic", "null");
    crowd.until("the end of one socket", |crowd| crowd.ends() == 1);
    crowd.until_all_serve("all clients again");
    assert!(is_alive(pid), "it costs that one socket");
    let from = format!("worker 0 (pid {pid}): ");
    let place = "(at sc-cluster/tests/faults/app.rs:";
    for (text, times) in [
        ("[Warning]", "a word from the application user=42"),
        ("[Error]", "PanicError: panic at sc-cluster/tests/faults/app.rs:"),
        ("[Error]", "in helper: on a thread"),
        ("[Error]", "PanicError: event handler panicked: on purpose"),
    ]
    .map(|(level, text)| {
        (text, server.logged(level).iter().filter(|line| line.contains(&from) && line.contains(text)).count())
    }) {
        assert_eq!(times, 1, "{text}: {:?}", server.logged(""));
    }
    assert_eq!(server.logged(place).len(), 1, "the place of the caught one: {:?}", server.logged(""));
    let tally = crowd.tally();
    assert_eq!(tally.ends["Close(1011)"], 1, "{tally:?}");
    end(server, crowd, &tally);

    let server = Server::start(r#"{"workers": 1}"#);
    let mut crowd = Crowd::new(server.port, 2, 1);
    crowd.until_all_serve("all clients");
    crowd.clients[1].emit("panic", "null");
    crowd.until("the end of the worker", |crowd| crowd.ends() == 2);
    crowd.until_all_serve("all clients again");
    assert_eq!(server.logged(place).len(), 1, "{:?}", server.logged(""));
    assert_eq!(server.logged("ended: exit code 1; it is replaced").len(), 1);
    let tally = crowd.tally();
    end(server, crowd, &tally);
}

pub(crate) fn json() {
    let server = Server::start(r#"{"workers": 1, "crashWorkerOnError": false, "logFormat": "json"}"#);
    let mut crowd = Crowd::new(server.port, 1, 1);
    crowd.until_all_serve("the client");
    crowd.clients[0].emit("panic", "null");
    crowd.until("the end of its socket", |crowd| crowd.ends() == 1);
    crowd.until("the line", |_| !server.logged("on purpose").is_empty());
    for line in server.logged("") {
        let entry: serde_json::Value = serde_json::from_str(&line).expect("each line is JSON");
        let members = ["time", "level", "origin", "pid", "message"];
        assert!(members.iter().all(|name| entry.get(name).is_some()), "{entry}");
    }
    let panic: serde_json::Value = serde_json::from_str(&server.logged("on purpose")[0]).expect("JSON");
    assert_eq!(
        (&panic["origin"], &panic["level"], &panic["name"]),
        (&"worker 0".into(), &"error".into(), &"PanicError".into())
    );
    let tally = crowd.tally();
    end(server, crowd, &tally);
}
