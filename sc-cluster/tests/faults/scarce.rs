//! Descriptors run out: nobody is turned away, it is said once, and it goes on.

use std::process::Command;

use crate::{
    client::State,
    crowd::Crowd,
    kills::end,
    server::{Server, is_alive},
};

/// The master, which passes connections on, may have fewer open than come at once.
pub(crate) fn in_the_master() {
    // Workers get 56 connections each; the master holds those for which there is no room.
    run(r#"{"workers": 2, "schedulingPolicy": "rr"}"#, "120", 300);
}

/// The workers accept themselves, and one alone cannot hold all.
pub(crate) fn in_the_workers() {
    run(r#"{"workers": 2, "schedulingPolicy": "none"}"#, "50", 150);
}

/// More clients than there is room for: some are served, the others wait, and when the first leave they are served too.
fn run(options: &str, descriptors: &str, clients: usize) {
    let server = Server::start_with(options, |command| {
        let program = command.get_program().to_owned();
        *command = Command::new("sh");
        command.args(["-c", "ulimit -n \"$0\" && exec \"$1\"", descriptors]).arg(program);
    });
    let pids: Vec<_> = server.children().into_values().collect();
    let mut crowd = Crowd::new(server.port, clients, 1);
    crowd.is_publishing = false;
    let ready = |crowd: &Crowd| crowd.clients.iter().filter(|client| client.state == State::Ready).count();
    crowd.until("that some are served", |crowd| ready(crowd) >= 40);
    crowd.is_churning = true;
    let served =
        |crowd: &Crowd| crowd.clients.iter().all(|client| client.epochs.iter().any(|epoch| epoch.due_from.is_some()));
    crowd.until("that all were served", |crowd| served(crowd));
    let tally = crowd.tally();
    assert!(tally.ends.keys().eq(["Left"]), "nobody was turned away: {tally:?}");
    assert!(pids.into_iter().all(is_alive), "nobody ended for it: {:?}", server.logged("ended"));
    let said = server.logged("connections cannot be accepted").len() + server.logged("descriptors").len();
    assert!(said <= 3, "said once by each that it concerns: {:?}", server.logged(""));
    println!("{:?}", server.logged("connections"));
    end(server, crowd, &tally);
}
