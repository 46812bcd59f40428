//! A real cluster of two workers and two brokers: who listens, who gets connections, what outlives the death of a part, and
//! how it ends.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;

use libtest_mimic::{Arguments, Failed};
use rustix::process::Signal;
use serde_json::{Value, json};
use support::process::{self, Process};
use support::server::{Server, command, run_to_end};
use support::wire::{Got, Wire};
use support::{PATIENCE, is_long, packages, trial};

type Outcome = Result<(), Failed>;

/// Enough channels that each broker has some.
const CHANNELS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

fn main() -> std::process::ExitCode {
    let args = Arguments::from_args();
    let trials = vec![
        trial("two generations converse across workers", &["node", "npm"], conversation),
        trial("connections alternate and only the master listens", &[], alternation),
        trial("a killed worker takes only its own clients with it", &[], killed_worker),
        trial("a killed broker takes no client and no subscription with it", &[], killed_broker),
        trial("a port in use is one clear line", &[], port_in_use),
        trial("SIGTERM ends every process", &[], || ends_on(Signal::TERM)),
        trial("SIGINT ends every process", &[], || ends_on(Signal::INT)),
        trial("nothing outlives a killed master", &[], killed_master),
    ];
    libtest_mimic::run(&args, trials).exit_code()
}

fn start() -> Result<Server, String> {
    Server::start(&[("WORKERS", "2"), ("BROKERS", "2"), ("PING_INTERVAL", "500"), ("PING_TIMEOUT", "5000")])
}

fn conversation() -> Outcome {
    let server = start()?;
    let (port, time) = (server.port.to_string(), if is_long() { "60000" } else { "8000" });
    let sides = [("js-4.3.19", "js-20.0.2", "0"), ("js-20.0.2", "js-4.3.19", "1")];
    let talk = |(name, other, worker): (&str, &str, &str)| -> Result<Value, String> {
        let mut node = Command::new("node");
        node.arg("--no-deprecation").arg(packages::clients().join("story/conversation.js"));
        node.current_dir(packages::npm(name)?).env("PORT", &port).env("FOR_MS", time);
        node.env("NAME", name).env("OTHER", other).env("WORKER", worker);
        serde_json::from_str(&run_to_end(&mut node)?).map_err(|error| error.to_string())
    };
    let [a, b] =
        thread::scope(|scope| sides.map(|side| scope.spawn(move || talk(side))).map(|side| side.join().unwrap()));
    let (a, b) = (a?, b?);
    check(a["order"] == b["order"], "both saw everything in the same order")?;
    check(a["mine"] == b["others"] && a["others"] == b["mine"], "what one said, the other heard")?;
    check(a["mine"].as_u64() > Some(100), "they had something to say")?;
    stopped(server)
}

fn alternation() -> Outcome {
    let server = start()?;
    let wires: Vec<Wire> = (0..10).map(|_| Wire::connect(server.port)).collect::<Result<_, _>>()?;
    let workers: Vec<u64> = wires.iter().map(Wire::worker).collect();
    check(workers.windows(2).all(|two| two[0] != two[1]), format!("one after the other: {workers:?}"))?;
    let children = children(&server)?;
    let listeners = process::listeners(server.port);
    check(listeners.len() == 1, format!("one listener: {listeners:?}"))?;
    check(process::sockets(server.pid).is_superset(&listeners), "the master has it")?;
    for child in &children {
        check(process::sockets(child.pid).is_disjoint(&listeners), format!("{} has it too", child.line))?;
    }
    stopped(server)
}

fn killed_worker() -> Outcome {
    let server = start()?;
    let (publisher, observer) = (Wire::to_worker(server.port, 1)?, Wire::to_worker(server.port, 1)?);
    let victim = Wire::to_worker(server.port, 0)?;
    subscribe_all(&[&observer, &victim])?;
    let traffic = Traffic::new();
    let acked = thread::scope(|scope| -> Result<Acked, String> {
        let running = scope.spawn(|| traffic.run(&publisher));
        traffic.rounds(20)?;
        child(&server, |child| child.pid == victim.pid())?.signal(Signal::KILL)?;
        if victim.end()? != 1006 {
            return Err("a killed process says nothing".to_owned());
        }
        // It comes back, under its number, and gets what is published elsewhere.
        let successor = Wire::to_worker(server.port, 0)?;
        check(successor.pid() != victim.pid(), "another process")?;
        subscribe_all(&[&successor])?;
        heard_on_all(&successor)?;
        traffic.stop();
        Ok(running.join().unwrap())
    })?;
    heard_in_order(&publisher, &[&observer], &acked)?;
    stayed(&[&publisher, &observer])?;
    check(children(&server)?.len() == 4, "all processes are there again")?;
    stopped(server)
}

fn killed_broker() -> Outcome {
    let server = start()?;
    let publisher = Wire::to_worker(server.port, 0)?;
    let observers = [Wire::to_worker(server.port, 0)?, Wire::to_worker(server.port, 1)?];
    let observers = [&observers[0], &observers[1]];
    subscribe_all(&observers)?;
    let traffic = Traffic::new();
    let acked = thread::scope(|scope| -> Result<Acked, String> {
        let running = scope.spawn(|| traffic.run(&publisher));
        for name in ["broker 0", "broker 1"] {
            traffic.rounds(20)?;
            let victim = child(&server, |child| child.line.contains(name))?;
            victim.signal(Signal::KILL)?;
            victim.ended()?;
            // Publishes on its channels fail or wait, until there is a new one.
            traffic.rounds(20)?;
            let successor = child(&server, |child| child.line.contains(name))?;
            check(successor.pid != victim.pid, "another process")?;
        }
        traffic.stop();
        Ok(running.join().unwrap())
    })?;
    heard_in_order(&publisher, &observers, &acked)?;
    stayed(&[&publisher, observers[0], observers[1]])?;
    // Not only what was subscribed to before.
    for channel in CHANNELS.map(|channel| format!("new {channel}")) {
        observers[1].subscribe(&channel)?;
        publisher.publish(&channel, "heard").map_err(|error| error.to_string())?;
        let data = observers[1].event("#publish")?;
        check(data == json!({ "channel": channel, "data": "heard" }), data)?;
    }
    stopped(server)
}

fn port_in_use() -> Outcome {
    let server = start()?;
    let port = server.port.to_string();
    let second = command(&[("PORT", &port)])?.output()?;
    let said = String::from_utf8(second.stderr)?;
    check(second.status.code() == Some(1), second.status)?;
    check(said.lines().count() == 1 && said.contains(&format!("port {port} is in use")), &said)?;
    check(second.stdout.is_empty(), "and nothing else")?;
    Wire::connect(server.port)?;
    stopped(server)
}

fn ends_on(signal: Signal) -> Outcome {
    let server = start()?;
    let wires: Vec<Wire> = (0..4).map(|_| Wire::connect(server.port)).collect::<Result<_, _>>()?;
    let children = children(&server)?;
    let status = server.end(signal)?;
    check(status.code() == Some(0), status)?;
    for child in children {
        child.ended()?;
    }
    for wire in wires {
        // The code after which clients of every version come back at once.
        let code = wire.end()?;
        check(code == 4001, code)?;
    }
    Ok(())
}

fn killed_master() -> Outcome {
    let server = start()?;
    let wire = Wire::connect(server.port)?;
    let children = children(&server)?;
    server.end(Signal::KILL)?;
    for child in children {
        child.ended()?;
    }
    wire.end()?;
    Ok(())
}

/// The numbers that were acknowledged, in each channel.
type Acked = BTreeMap<&'static str, Vec<u64>>;

/// Numbers, published on all channels in turn, each when the one before it was answered.
struct Traffic {
    stop: AtomicBool,
    whole_rounds: mpsc::SyncSender<()>,
    told: Mutex<mpsc::Receiver<()>>,
}

impl Traffic {
    fn new() -> Self {
        let (whole_rounds, told) = mpsc::sync_channel(0);
        Self { stop: AtomicBool::new(false), whole_rounds, told: Mutex::new(told) }
    }

    fn run(&self, wire: &Wire) -> Acked {
        let mut acked: Acked = CHANNELS.iter().map(|channel| (*channel, Vec::new())).collect();
        for n in 0.. {
            let mut is_whole = true;
            for channel in CHANNELS {
                match wire.publish(channel, n) {
                    Ok(()) => acked.entry(channel).or_default().push(n),
                    Err(_) => is_whole = false,
                }
            }
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            if is_whole {
                let _ = self.whole_rounds.try_send(());
            }
        }
        acked
    }

    /// Waits for this many rounds in which everything was acknowledged.
    fn rounds(&self, count: usize) -> Result<(), String> {
        let told = self.told.lock().unwrap();
        (0..count).try_for_each(|_| told.recv_timeout(PATIENCE).map_err(|_| "no traffic".to_owned()))
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn subscribe_all(wires: &[&Wire]) -> Result<(), String> {
    wires.iter().try_for_each(|wire| CHANNELS.iter().try_for_each(|channel| wire.subscribe(channel)))
}

/// Waits until something has come on every channel.
fn heard_on_all(wire: &Wire) -> Result<(), String> {
    let mut missing = BTreeSet::from(CHANNELS);
    while !missing.is_empty() {
        let data = wire.event("#publish")?;
        missing.remove(data["channel"].as_str().unwrap_or_default());
    }
    Ok(())
}

/// Each observer has heard everything that was acknowledged, in order, and nothing twice. What was not acknowledged may have come.
fn heard_in_order(publisher: &Wire, observers: &[&Wire], acked: &Acked) -> Result<(), String> {
    for channel in CHANNELS {
        publisher.publish(channel, "end").map_err(|error| error.to_string())?;
    }
    for observer in observers {
        let (mut heard, mut ended): (Acked, _) = (Acked::new(), 0);
        while ended < CHANNELS.len() {
            let data = observer.event("#publish")?;
            let channel =
                CHANNELS.into_iter().find(|channel| data["channel"] == *channel).ok_or("a foreign channel")?;
            match data["data"].as_u64() {
                Some(n) => heard.entry(channel).or_default().push(n),
                None => ended += 1,
            }
        }
        for (channel, acked) in acked {
            let heard = heard.get(channel).map(Vec::as_slice).unwrap_or_default();
            check(heard.windows(2).all(|two| two[0] < two[1]), format!("{channel} out of order: {heard:?}"))?;
            let lost: Vec<_> = acked.iter().filter(|n| !heard.contains(n)).collect();
            check(
                lost.is_empty(),
                format!("{channel}: acknowledged, and lost at worker {}: {lost:?}", observer.worker()),
            )?;
        }
    }
    Ok(())
}

/// These connections are still what they were.
fn stayed(wires: &[&Wire]) -> Result<(), String> {
    for wire in wires {
        let who = wire.call("whoami", Value::Null).map_err(|error| error.to_string())?;
        check(who["pid"] == wire.pid() && who["id"] == wire.welcome["id"], who)?;
        check(!wire.waiting().iter().any(|got| matches!(got, Got::End(_))), "it has ended")?;
    }
    Ok(())
}

fn children(server: &Server) -> Result<Vec<Process>, String> {
    let children = Process::children(server.pid)?;
    let count = |what: &str| children.iter().filter(|child| child.line.contains(what)).count();
    check(count("worker") == 2 && count("broker") == 2, format!("{children:?}"))?;
    Ok(children)
}

fn child(server: &Server, fits: impl Fn(&Process) -> bool) -> Result<Process, String> {
    children(server)?.into_iter().find(fits).ok_or_else(|| "no such process".to_owned())
}

fn stopped(server: Server) -> Outcome {
    let status = server.stop()?;
    Ok(check(status.success(), status)?)
}

fn check(holds: bool, what: impl Display) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_string()) }
}
