//! A process that lives and does nothing.

use rustix::process::Signal;

use crate::{
    crowd::Crowd,
    kills::{end, say},
    server::{Server, send},
};

pub(crate) fn worker() {
    let server = Server::start(r#"{"workers": 3, "brokers": 1, "workerHangTimeout": 2000}"#);
    let mut crowd = Crowd::new(server.port, 200, 20);
    crowd.until_all_serve("all clients");
    crowd.publish_more(100);
    let (pid, victims) = (server.child("worker 1"), crowd.on_worker(server.child("worker 1")));
    send(pid, Signal::STOP);
    // Some of these are handed to the one that does not take them.
    let mut late = Crowd::named("late", server.port, 30, 1);
    late.until_all_serve("the clients that came while it hung");
    assert_eq!(late.ends(), 0, "what it had not taken went to another");
    crowd.until("the end of its connections", |crowd| crowd.on_worker(pid) == 0);
    let again = crowd.until_all_serve("all clients again");
    assert_eq!(crowd.ends(), victims, "nobody else is disconnected");
    assert_eq!(server.logged("gave no sign of life").len(), 1);
    say("kill -STOP of a worker (workerHangTimeout 2 s)", victims, &format!("{again:?} after it was killed"));
    let tally = crowd.finish();
    late.finish();
    drop(late);
    assert_eq!(tally.refused.len(), 0, "{tally:?}");
    end(server, crowd, &tally);
}
