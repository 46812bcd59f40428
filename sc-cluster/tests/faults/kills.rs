//! `kill -9` of everything, one after the other.

use rustix::process::Signal;

use crate::{
    client::End,
    crowd::{Crowd, Tally},
    server::{Server, send, wait_gone},
};

const CLIENTS: usize = 200;
const CHANNELS: usize = 20;
const OPTIONS: &str = r#"{"workers": 3, "brokers": 2}"#;

pub(crate) fn worker() {
    let server = Server::start(OPTIONS);
    let mut crowd = Crowd::new(server.port, CLIENTS, CHANNELS);
    crowd.until_all_serve("all clients");
    for id in 0..3 {
        crowd.publish_more(100);
        let (pid, before) = (server.child(&format!("worker {id}")), crowd.ends());
        let victims = crowd.on_worker(pid);
        assert!(victims > 0, "connections are spread");
        send(pid, Signal::KILL);
        crowd.until("the end of its connections", |crowd| crowd.on_worker(pid) == 0);
        let again = crowd.until_all_serve("all clients again");
        assert_eq!(crowd.ends() - before, victims, "nobody else is disconnected");
        say(&format!("kill -9 of worker {id}"), victims, &format!("{again:?}"));
    }
    let tally = crowd.finish();
    assert_eq!(tally.refused.len(), 0, "{tally:?}");
    assert!(tally.lost <= 3 * CHANNELS, "at most what was under way: {tally:?}");
    end(server, crowd, &tally);
}

pub(crate) fn broker() {
    let server = Server::start(OPTIONS);
    let mut crowd = Crowd::new(server.port, CLIENTS, CHANNELS);
    crowd.until_all_serve("all clients");
    for id in 0..2 {
        crowd.publish_more(100);
        let pid = server.child(&format!("broker {id}"));
        send(pid, Signal::KILL);
        wait_gone(pid);
        let again = crowd.until_all_serve("all channels again");
        say(&format!("kill -9 of broker {id}"), 0, &format!("{again:?}"));
    }
    let tally = crowd.finish();
    assert_eq!(tally.ends.len(), 0, "nobody is disconnected: {tally:?}");
    assert_eq!(tally.lost, 0, "every publish is answered");
    assert!(tally.refused.keys().all(|name| name == "BrokerError"), "{tally:?}");
    assert!(tally.refused.values().sum::<usize>() <= 2 * CHANNELS, "at most what was under way: {tally:?}");
    end(server, crowd, &tally);
}

pub(crate) fn master() {
    let mut server = Server::start(OPTIONS);
    let port = server.port;
    let mut crowd = Crowd::new(port, CLIENTS, CHANNELS);
    crowd.until_all_serve("all clients");
    crowd.publish_more(100);
    let children: Vec<_> = server.children().into_values().collect();
    assert_eq!(children.len(), 5);
    server.signal(Signal::KILL);
    server.wait_killed(&children);
    crowd.until("the end of all connections", |crowd| crowd.ended(|end| end != End::Refused) == CLIENTS);
    let server = Server::start(&format!(r#"{{"workers": 3, "brokers": 2, "port": {port}}}"#));
    let again = crowd.until_all_serve("all clients again");
    say("kill -9 of the master, which is started again", CLIENTS, &format!("{again:?} after the start"));
    let tally = crowd.finish();
    assert_eq!(tally.refused.len(), 0, "{tally:?}");
    assert!(tally.lost <= CHANNELS, "at most what was under way: {tally:?}");
    end(server, crowd, &tally);
}

/// A row of the table in the README.
pub(crate) fn say(what: &str, disconnected: usize, again: &str) {
    println!("| {what} | {disconnected} of {CLIENTS} | {again} |");
}

/// The clients leave, and the cluster ends in order.
pub(crate) fn end(server: Server, crowd: Crowd, tally: &Tally) {
    println!("{tally:?}");
    drop(crowd);
    assert_eq!(server.stop().code(), Some(0));
}
