//! A client that subscribes and never reads.

use crate::{
    client::State,
    crowd::Crowd,
    kills::{end, say},
    server::{Server, is_alive, resident},
};

const LIMIT: usize = 4 << 20;
const MESSAGE: usize = 50_000;
/// A client that falls behind and comes back: it is still connected, has not got everything, and gets what comes now.
pub(crate) fn falls_behind() {
    for policy in ["dropOldest", "keepLatest"] {
        let server = Server::start(&format!(
            r#"{{"workers": 1, "maxBackpressure": 1000000, "maxPayload": 1000000, "backpressurePolicy": "{policy}",
                "workerStatusInterval": 500}}"#
        ));
        let mut crowd = Crowd::new(server.port, 2, 1);
        crowd.is_publishing = false;
        crowd.until("all clients", |crowd| crowd.clients.iter().all(|client| client.state == State::Ready));
        crowd.clients[1].is_deaf = true;
        let mut sent = 0;
        while server.logged("were dropped for clients that read too slowly").is_empty() {
            sent += 40;
            crowd.clients[0].emit("flood", &format!(r#"["crowd 0", 40, {MESSAGE}]"#));
            crowd.until("the flood", |crowd| crowd.clients[0].texts >= sent);
        }
        crowd.listen_again(1);
        crowd.is_publishing = true;
        crowd.publish_more(1);
        crowd.until("the last message", |crowd| crowd.clients[1].epochs[0].received.starts_with(&[0]));
        assert!(crowd.clients[1].texts < sent, "some were dropped");
        assert_eq!(crowd.ends(), 0, "nobody is disconnected");
        let tally = crowd.tally();
        end(server, crowd, &tally);
    }
}

/// A worker that grows beyond its threshold is replaced, and its clients come back.
pub(crate) fn grows() {
    let server = Server::start(
        r#"{"workers": 1, "killWorkerMemoryThreshold": 60000000, "workerStatusInterval": 200, "drainTimeout": 300}"#,
    );
    let mut crowd = Crowd::new(server.port, 20, 2);
    crowd.until_all_serve("all clients");
    let before = server.child("worker 0");
    crowd.ask("grow", "80000000");
    crowd.until("the end of the large worker", |_| !is_alive(before));
    crowd.until_all_serve("all clients again");
    assert_eq!(server.logged("over killWorkerMemoryThreshold").len(), 1);
    let tally = crowd.finish();
    assert!(tally.ends.keys().eq(["Close(4001)"]), "{tally:?}");
    end(server, crowd, &tally);
}

/// Besides the client's queue: what one turn holds, the others' queues, and what the allocator keeps.
const SLACK: usize = 24 << 20;

pub(crate) fn never_reads() {
    let options = format!(r#"{{"workers": 1, "brokers": 1, "maxBackpressure": {LIMIT}, "maxPayload": 1000000}}"#);
    let server = Server::start(&options);
    let mut crowd = Crowd::new(server.port, 3, 1);
    crowd.is_publishing = false;
    crowd.until("all clients", |crowd| crowd.clients.iter().all(|client| client.state == State::Ready));
    let worker = server.child("worker 0");
    let flood = |crowd: &mut Crowd, number: usize| {
        crowd.clients[0].emit("flood", &format!(r#"["crowd 0", 40, {MESSAGE}]"#));
        crowd.until("the flood", |crowd| crowd.clients[1].texts >= 40 * number);
    };
    // What the worker keeps anyway once it has had so much in its hands.
    (1..5).for_each(|number| flood(&mut crowd, number));
    let before = resident(worker);
    crowd.clients[2].is_deaf = true;
    let (mut peak, mut floods) = (before, 4);
    while server.logged("maxBackpressure").is_empty() {
        floods += 1;
        flood(&mut crowd, floods);
        peak = peak.max(resident(worker));
    }
    let grown = peak.saturating_sub(before);
    let mib = |bytes: usize| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    say(
        &format!("a subscriber that never reads (maxBackpressure {})", mib(LIMIT)),
        1,
        &format!("closed; the worker grew by {} at most", mib(grown)),
    );
    assert!(grown <= LIMIT + SLACK, "{}", mib(grown));
    assert_eq!(crowd.ends(), 0, "nobody else is disconnected");
    let tally = crowd.tally();
    end(server, crowd, &tally);
}
