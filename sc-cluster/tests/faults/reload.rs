//! Workers are replaced, added and taken away while clients come, publish and listen.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use rustix::process::Signal;

use crate::{
    client::{End, Fate},
    crowd::{Crowd, Tally},
    kills::{end, say},
    server::{Server, is_alive},
};

const OPTIONS: &str = r#"{"workers": 3, "brokers": 2, "drainTimeout": 2000}"#;

pub(crate) fn under_load() {
    let server = Server::start(OPTIONS);
    let mut crowd = Crowd::new(server.port, 200, 20);
    crowd.until_all_serve("all clients");
    crowd.publish_more(100);
    let passers = Passers::start(server.port);
    let old: Vec<_> = (0..3).map(|id| server.child(&format!("worker {id}"))).collect();
    server.signal(Signal::USR2);
    let under_way: Vec<(usize, usize)> = crowd
        .clients
        .iter()
        .flat_map(|client| {
            let pending = client.fates.iter().enumerate().filter(|(_, fate)| **fate == Fate::Pending);
            pending.map(|(number, _)| (client.id, number))
        })
        .collect();
    let took = crowd.until("the end of the old workers", |_| !old.iter().any(|pid| is_alive(*pid)));
    crowd.until_all_serve("all clients again");
    for (client, number) in under_way {
        assert_eq!(crowd.clients[client].fates[number], Fate::Acked, "it was sent before the drain");
    }
    assert!(crowd.clients.iter().all(|client| client.epochs.len() > 1 && !old.contains(&client.worker_pid())));
    let passed = passers.stop();
    let tally = crowd.finish();
    assert!(tally.ends.keys().eq(["Close(4001)"]), "everybody was asked to come again: {tally:?}");
    assert_eq!(tally.refused.len(), 0, "{tally:?}");
    say(
        "SIGUSR2 (drainTimeout 2 s)",
        200,
        &format!("never unserved; {passed:?} connections came and went; {took:?} until the old workers were gone"),
    );
    end(server, crowd, &tally);
}

pub(crate) fn more_and_fewer() {
    let server = Server::start(r#"{"workers": 3, "brokers": 2, "drainTimeout": 500}"#);
    let mut crowd = Crowd::new(server.port, 60, 6);
    crowd.until_all_serve("all clients");
    let passers = Passers::start(server.port);
    server.signal(Signal::TTIN);
    crowd.until("a worker more", |_| server.children().contains_key("worker 3"));
    let (added, last) = (server.child("worker 3"), server.child("worker 2"));
    crowd.until("news of it", |_| !server.logged("a worker is added").is_empty());
    let mut late = Crowd::named("late", server.port, 40, 1);
    late.until("clients on it", |late| {
        late.is_churning = late.on_worker(added) == 0;
        !late.is_churning
    });
    late.is_churning = false;
    assert_eq!(late.ended(|end| matches!(end, End::Refused | End::Broken)), 0);
    drop(late);
    for pid in [added, last] {
        server.signal(Signal::TTOU);
        crowd.until("a worker less", |_| !is_alive(pid));
    }
    crowd.until_all_serve("all clients again");
    passers.stop();
    let tally = crowd.finish();
    assert!(tally.ends.keys().eq(["Close(4001)"]), "{tally:?}");
    assert_eq!(server.children().len(), 4, "two workers and two brokers");
    end(server, crowd, &tally);
}

/// Clients that connect, are served and leave, all the time, on a thread of their own.
struct Passers {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Tally>,
}

impl Passers {
    fn start(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut crowd = Crowd::named("passers", port, 10, 1);
            crowd.is_publishing = false;
            crowd.is_churning = true;
            crowd.until("the end of the test", |_| stopped.load(Ordering::Relaxed));
            crowd.tally()
        });
        Self { stop, thread }
    }

    /// Answers how many were served; none was refused or broken off.
    fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let tally = self.thread.join().expect("the passers are served");
        let bad: Vec<_> = tally.ends.keys().filter(|end| *end == "Refused" || *end == "Broken").collect();
        assert!(bad.is_empty(), "{tally:?}");
        tally.ends["Left"]
    }
}
