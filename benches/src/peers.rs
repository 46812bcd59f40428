//! The servers that are compared: how each is made ready, started and ended.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Where the sources of the peers are.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");

/// A server that can be measured.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// How it is called in tables.
    pub name: &'static str,
    /// What it is.
    pub what: &'static str,
    /// The protocol that the generator speaks with it.
    pub protocol: &'static str,
    /// The workloads that it can do; empty: all.
    pub workloads: &'static [&'static str],
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// This project's cluster with these options.
    Ours(&'static str),
    /// The C program in `floor/`.
    Floor,
    /// A script `server.js` with its own packages.
    Node(&'static str),
    /// A program of the workspace in `peers/rust`.
    Rust(&'static str),
    /// `nats-server` as it is installed.
    Nats,
}

const NO_EVENTS: &[&str] = &["fan1", "fan16", "many", "connect", "latency", "idle"];

/// All of them. The first is this project's, the second what the others are divided by.
pub const PEERS: [Peer; 13] = [
    Peer {
        name: "ours",
        what: "this project, 1 worker + 1 broker, schedulingPolicy none",
        protocol: "2",
        workloads: &[],
        kind: Kind::Ours(r#""workers":1,"brokers":1,"schedulingPolicy":"none""#),
    },
    Peer {
        name: "floor",
        what: "C on epoll, knows the messages by heart, parses and checks nothing",
        protocol: "2",
        workloads: &[],
        kind: Kind::Floor,
    },
    Peer {
        name: "ours, V1",
        what: "the same with clients of protocol 1",
        protocol: "1",
        workloads: &["fan1", "many", "echo1", "connect"],
        kind: Kind::Ours(r#""workers":1,"brokers":1,"schedulingPolicy":"none""#),
    },
    Peer {
        name: "ours, rr",
        what: "the same with round-robin handoff through the master",
        protocol: "2",
        workloads: &["connect"],
        kind: Kind::Ours(r#""workers":1,"brokers":1,"schedulingPolicy":"rr""#),
    },
    Peer {
        name: "ours, 2 workers",
        what: "2 workers + 1 broker",
        protocol: "2",
        workloads: &["fan1", "fan16", "many", "chat"],
        kind: Kind::Ours(r#""workers":2,"brokers":1,"schedulingPolicy":"rr""#),
    },
    Peer {
        name: "SC 4.3.2",
        what: "SocketCluster 4.3.2 from npm on ws, 1 worker + 1 broker",
        protocol: "1",
        workloads: &[],
        kind: Kind::Node("sc4"),
    },
    Peer {
        name: "SC 20",
        what: "socketcluster-server 20.0.1 from npm on ws 8, one process, no broker",
        protocol: "2",
        workloads: &[],
        kind: Kind::Node("sc20"),
    },
    Peer {
        name: "ws",
        what: "npm ws 8 alone, messages by substring",
        protocol: "2",
        workloads: &[],
        kind: Kind::Node("ws"),
    },
    Peer {
        name: "fastwebsockets",
        what: "fastwebsockets 0.10 on hyper, one thread, messages by substring",
        protocol: "2",
        workloads: &[],
        kind: Kind::Rust("fastws"),
    },
    Peer {
        name: "tungstenite",
        what: "tokio-tungstenite 0.28, one thread, messages by substring",
        protocol: "2",
        workloads: &[],
        kind: Kind::Rust("ttung"),
    },
    Peer {
        name: "socketcluster_server",
        what: "the crate socketcluster_server 0.2.1, one thread; it has no handlers for events",
        protocol: "1",
        workloads: NO_EVENTS,
        kind: Kind::Rust("scserver"),
    },
    Peer {
        name: "socketioxide",
        what: "socketioxide 0.18 on hyper, one thread: Socket.IO, channels are rooms",
        protocol: "socketio",
        workloads: &[],
        kind: Kind::Rust("sioxide"),
    },
    Peer {
        name: "nats-server",
        what: "nats-server with its WebSocket listener: NATS, channels are subjects",
        protocol: "nats",
        workloads: NO_EVENTS,
        kind: Kind::Nats,
    },
];

/// This project's cluster with these options (a piece of JSON without its braces).
#[must_use]
pub const fn ours(options: &'static str) -> Peer {
    Peer { name: "ours", what: "this project", protocol: "2", workloads: &[], kind: Kind::Ours(options) }
}

impl Peer {
    /// The path of its WebSockets.
    #[must_use]
    pub fn path(&self) -> &'static str {
        if self.protocol == "socketio" { "/socket.io/?EIO=4&transport=websocket" } else { "/socketcluster/" }
    }

    /// Whether it can do a workload.
    #[must_use]
    pub fn does(&self, workload: &str) -> bool {
        self.workloads.is_empty() || self.workloads.contains(&workload)
    }

    /// Builds or installs what it needs, below `dir`.
    ///
    /// # Errors
    /// A compiler or package manager is missing or fails.
    pub fn prepare(&self, dir: &Path) -> io::Result<()> {
        match self.kind {
            Kind::Ours(_) => Ok(()),
            Kind::Nats => run(Command::new("nats-server").arg("--version").stdout(Stdio::null())),
            Kind::Floor => {
                fs::create_dir_all(dir)?;
                let source = concat!(env!("CARGO_MANIFEST_DIR"), "/floor/floor.c");
                run(Command::new("gcc").args(["-O3", "-march=native", "-o"]).arg(dir.join("floor")).arg(source))
            }
            Kind::Node(name) => install(name, &dir.join(name)),
            Kind::Rust(_) => {
                let manifest = format!("{SOURCES}/rust/Cargo.toml");
                run(Command::new("cargo")
                    .args(["build", "--release", "--locked", "--quiet", "--manifest-path", &manifest, "--target-dir"])
                    .arg(dir.join("rust")))
            }
        }
    }

    /// Starts it on a free port and, if one is named, on one processor; returns when it accepts connections.
    ///
    /// # Errors
    /// It cannot be started, or does not listen within ten seconds.
    pub fn start(&self, dir: &Path, cpu: Option<usize>) -> io::Result<Server> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut command = self.command(dir, port)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        if std::env::var_os("BENCHES_VERBOSE").is_none() {
            command.stderr(Stdio::null());
        }
        let child = on_cpu(cpu, || command.spawn())?;
        let mut server = Server { child, port };
        let end = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if let Some(status) = server.child.try_wait()? {
                return Err(io::Error::other(format!("{} ended: {status}", self.name)));
            }
            if Instant::now() > end {
                return Err(io::Error::other(format!("{} does not listen", self.name)));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // A master listens before its workers are there.
        std::thread::sleep(Duration::from_millis(500));
        Ok(server)
    }

    fn command(&self, dir: &Path, port: u16) -> io::Result<Command> {
        let mut command = match self.kind {
            Kind::Ours(options) => {
                let mut command = Command::new(sibling("serve")?);
                command.arg(format!(r#"{{"port":{port},"host":"127.0.0.1","logLevel":1,{options}}}"#));
                return Ok(command);
            }
            Kind::Floor => {
                let mut command = Command::new(dir.join("floor"));
                command.args([&port.to_string(), "b"]);
                return Ok(command);
            }
            Kind::Node(name) => {
                let mut command = Command::new("node");
                command.current_dir(dir.join(name)).arg("server.js");
                command
            }
            Kind::Rust(name) => Command::new(dir.join("rust/release").join(name)),
            Kind::Nats => {
                let file = dir.join("nats.conf");
                let listener = format!("websocket {{ listen: \"127.0.0.1:{port}\", no_tls: true }}");
                fs::write(&file, format!("listen: \"127.0.0.1:-1\"\nmax_connections: 19000\n{listener}\n"))?;
                let mut command = Command::new("nats-server");
                command.arg("--config").arg(file);
                return Ok(command);
            }
        };
        command.arg(port.to_string());
        Ok(command)
    }
}

/// A server that runs; it ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where it listens.
    pub port: u16,
}

impl Server {
    /// The process that all others of it descend from.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its process group is its own.
        if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// A program beside this one.
///
/// # Errors
/// This program's own path is not known.
pub fn sibling(name: &str) -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(name))
}

/// What is started within `start` runs on this processor only.
fn on_cpu<R>(cpu: Option<usize>, start: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
    let Some(cpu) = cpu else { return start() };
    let before = rustix::thread::sched_getaffinity(None)?;
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only)?;
    let result = start();
    sched_setaffinity(None, &before)?;
    result
}

/// Copies a script's sources and installs the packages of its lock file beside them.
fn install(name: &str, dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for entry in fs::read_dir(format!("{SOURCES}/{name}"))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), dir.join(entry.file_name()))?;
        }
    }
    run(Command::new("npm").current_dir(dir).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]))
}

fn run(command: &mut Command) -> io::Result<()> {
    match command.status()? {
        status if status.success() => Ok(()),
        status => Err(io::Error::other(format!("{:?}: {status}", command.get_program()))),
    }
}
