//! Many clients on one thread, against ours.

use std::time::Duration;

use libtest_mimic::Failed;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sc_client::{Client, Driver, Pending, ProxyChoice};

use crate::support::server::Server;
use crate::support::{PATIENCE, is_long};

/// As many as connect at once.
const WAVE: usize = 500;

/// Connects them all, looks what they cost, and talks to each.
pub(crate) fn many() -> Result<(), Failed> {
    let count = if is_long() { 10_000 } else { 1_000 };
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let server = Server::start(&[])?;
    let url = format!("ws://127.0.0.1:{}/socketcluster/", server.port);
    let driver = Driver::new()?;
    let threads = status("Threads:")?;
    let (mut clients, before) = (Vec::new(), status("VmRSS:")?);
    while clients.len() < count {
        let wave = (clients.len()..count).take(WAVE);
        let wave = wave.map(|_| Client::builder(&url).driver(&driver).proxy(ProxyChoice::Direct).connect());
        let wave = wave.collect::<Result<Vec<_>, _>>()?;
        let opening: Vec<_> = wave.iter().map(Client::connected).collect();
        opening.into_iter().try_for_each(done)?;
        clients.extend(wave);
    }
    let after = status("VmRSS:")?;
    println!("{count} idle connections, {} bytes each in this process", (after - before) * 1024 / count);
    if is_long() && status("Threads:")? > threads {
        return Err("the number of threads grew with the clients".into());
    }
    let asked: Vec<Pending<usize>> =
        clients.iter().enumerate().map(|(number, client)| client.emit("echo", number)).collect();
    for (number, asked) in asked.into_iter().enumerate() {
        let answer = done(asked)?;
        if answer != number {
            return Err(format!("{answer} came to client {number}").into());
        }
    }
    let closing: Vec<_> = clients.into_iter().map(Client::close).collect();
    closing.into_iter().try_for_each(done)?;
    server.stop()?;
    Ok(())
}

fn done<T>(pending: Pending<T>) -> Result<T, Failed> {
    Ok(pending.wait_timeout(PATIENCE.max(Duration::from_secs(60)))??)
}

/// A number of `/proc/self/status`: threads, or KiB.
fn status(name: &str) -> Result<usize, Failed> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line")?;
    let number = line.split_whitespace().next().ok_or("no number")?;
    Ok(number.parse()?)
}
