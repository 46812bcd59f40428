//! Crash after crash: nothing is left over.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use sc_protocol::entropy::{Entropy, SeededEntropy};

use crate::{
    crowd::Crowd,
    kills::{end, say},
    server::{Server, is_alive, open_files, send},
};

/// Ten minutes with a hundred crashes, or a short form of it.
const LONG: (u32, Duration) = (100, Duration::from_secs(600));
const SHORT: (u32, Duration) = (10, Duration::ZERO);

pub(crate) fn crashes() {
    let (count, time) = if std::env::var_os("SC_TEST_LONG").is_some() { LONG } else { SHORT };
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start_with(r#"{"workers": 3, "brokers": 2}"#, |command| {
        command.env("TMPDIR", folder.path()).current_dir(folder.path());
    });
    let mut crowd = Crowd::new(server.port, 200, 20);
    crowd.until_all_serve("all clients");
    let files = open_files(server.pid());
    let (mut entropy, mut dead) = (SeededEntropy::new(1), Vec::new());
    let (begin, mut longest) = (Instant::now(), Duration::ZERO);
    for number in 1..=count {
        let children: Vec<_> = server.children().into_values().collect();
        let victim = children[entropy.next_u64() as usize % children.len()];
        send(victim, Signal::KILL);
        dead.push(victim);
        crowd.until("its end", |crowd| crowd.on_worker(victim) == 0 && !is_alive(victim));
        longest = longest.max(crowd.until_all_serve("all clients again"));
        crowd.until("all processes", |_| server.children().len() == 5);
        let next = begin + time * number / count;
        crowd.until("the next crash", |_| Instant::now() >= next);
    }
    let what = format!("{count} crashes of random workers and brokers");
    say(&what, crowd.ends(), &format!("{longest:?} at the longest"));
    let tally = crowd.finish();
    assert!(!dead.into_iter().any(is_alive));
    assert_eq!(open_files(server.pid()), files, "descriptors of the master");
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0, "files");
    assert_eq!(tally.refused.keys().filter(|name| *name != "BrokerError").count(), 0, "{tally:?}");
    end(server, crowd, &tally);
}
