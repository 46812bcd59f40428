//! A client that subscribes and never reads.

use crate::{
    client::State,
    crowd::Crowd,
    kills::{end, say},
    server::{Server, resident},
};

const LIMIT: usize = 4 << 20;
const MESSAGE: usize = 50_000;
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
