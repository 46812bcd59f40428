//! The load generator: see the crate's README.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use benches::client::Shared;
use benches::dialect::Dialect;
use benches::many;
use benches::net::Net;
use benches::run::{Outcome, Settings, run};
use benches::workload::{Churn, Echo, Idle, Plan, Publishing, Workload};
use clap::{Parser, ValueEnum};
use sc_protocol::Version;

/// Puts load on a SocketCluster server, and checks that every message comes once and in order.
///
/// At the end there is a line on standard error and a JSON object on standard output. The exit code is 1 if anything was lost,
/// doubled, out of order or refused.
#[derive(Debug, Clone, Parser)]
#[command(name = "load", args_override_self = true)]
struct Args {
    /// What to do
    workload: Kind,
    /// Host and port of the server
    #[arg(short, long, default_value = "127.0.0.1:8000")]
    address: String,
    /// Path of WebSockets
    #[arg(long, default_value = "/socketcluster/")]
    path: String,
    /// Which protocol to speak
    #[arg(long, value_enum, default_value_t = Protocol::V2)]
    protocol: Protocol,
    /// Process id of the server, to measure what it costs
    #[arg(long)]
    pid: Option<u32>,
    /// Connections: echo 50, many 500, chat 1000, idle 10000
    #[arg(short, long)]
    connections: Option<u32>,
    /// Subscribers of fanout's channel
    #[arg(long, default_value_t = 1000)]
    subscribers: u32,
    /// Connections that publish: fanout as many as in flight but at most 4, many 8
    #[arg(long)]
    publishers: Option<u32>,
    /// Channels of many
    #[arg(long, default_value_t = 1000)]
    channels: u32,
    /// Subscribers of a channel in many and idle, and users of a chat room [default: 5, chat 20]
    #[arg(long)]
    per_channel: Option<u32>,
    /// Operations in flight: echo 1 on each connection; fanout 1, many, chat, connect and churn 64 in all
    #[arg(short, long)]
    window: Option<u32>,
    /// Instead of a window: so many operations a second, whether or not the server keeps up
    #[arg(short, long)]
    rate: Option<f64>,
    /// Characters in a message's body
    #[arg(short, long, default_value_t = 128)]
    size: usize,
    /// Seconds that are measured
    #[arg(short, long, default_value_t = 5.0)]
    duration: f64,
    /// Seconds of load before
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Connections that are being opened at a time
    #[arg(long, default_value_t = 64)]
    opening: u32,
    /// Run on this processor only
    #[arg(long)]
    cpu: Option<usize>,
    /// No progress
    #[arg(short, long)]
    quiet: bool,
    /// The first channel of idle
    #[arg(long, default_value_t = 0, hide = true)]
    first_channel: u32,
    /// One of several processes
    #[arg(long, hide = true)]
    part: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    /// SocketCluster up to 14.x
    #[value(name = "1")]
    V1,
    /// SocketCluster from 15 on
    #[value(name = "2")]
    V2,
    /// Socket.IO 4, with SocketCluster's events
    #[value(name = "socketio")]
    SocketIo,
    /// NATS over WebSocket: fanout, many, connect and idle
    Nats,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Handshakes; every connection ends after its own
    Connect,
    /// Requests that are answered with their own body
    Echo,
    /// One channel with many subscribers
    Fanout,
    /// Many channels with few subscribers each
    Many,
    /// Rooms: messages, requests, visits
    Chat,
    /// Connections that only answer heartbeats; with more than one process may hold, in several
    Idle,
    /// Connections that come, subscribe, publish, hear themselves, and go
    Churn,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match measure(&args) {
        Ok(outcome) => {
            if !args.part {
                eprintln!(
                    "{}: {}",
                    args.workload.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned()),
                    outcome.line()
                );
            }
            match serde_json::to_string(&outcome) {
                Ok(json) => println!("{json}"),
                Err(error) => eprintln!("{error}"),
            }
            ExitCode::from(u8::from(outcome.faults > 0))
        }
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::from(2)
        }
    }
}

fn measure(args: &Args) -> io::Result<Outcome> {
    if let Some(cpu) = args.cpu {
        let mut set = rustix::thread::CpuSet::new();
        set.set(cpu);
        rustix::thread::sched_setaffinity(None, &set)?;
    }
    let descriptors = many::raise_open_files();
    let settings = Settings {
        warmup: Duration::from_secs_f64(args.warmup),
        duration: Duration::from_secs_f64(args.duration),
        opening: args.opening,
        server: args.pid,
        progress: !args.quiet && !args.part,
        is_part: args.part,
    };
    let connections = args.connections.unwrap_or(10_000);
    if args.workload == Kind::Idle && connections > descriptors && !args.part {
        return many::run(&std::env::args().skip(1).collect::<Vec<_>>(), connections, descriptors, &settings);
    }
    let server = resolve(&args.address)?;
    let version = if args.protocol == Protocol::V1 { Version::V1 } else { Version::V2 };
    let mut workload = workload(args);
    let mut shared = Shared::new(version, &args.address, &args.path, args.size.max(benches::body::MIN_LEN));
    shared.dialect = match args.protocol {
        Protocol::V1 | Protocol::V2 => Dialect::SocketCluster,
        Protocol::SocketIo => Dialect::SocketIo,
        Protocol::Nats => Dialect::Nats,
    };
    let mut net = Net::new(server, shared, workload.channels())?;
    net.lean = args.workload == Kind::Idle;
    run(net, &mut *workload, &settings)
}

fn workload(args: &Args) -> Box<dyn Workload> {
    let window = |default| args.window.unwrap_or(default);
    let connections = |default| args.connections.unwrap_or(default);
    let plan = match args.workload {
        Kind::Connect => return Box::new(Churn::new(window(64), false)),
        Kind::Churn => return Box::new(Churn::new(window(64), true)),
        Kind::Echo => return Box::new(Echo::new(connections(50), window(1), args.rate)),
        Kind::Idle => {
            return Box::new(Idle::new(connections(10_000), args.per_channel.unwrap_or(5), args.first_channel));
        }
        Kind::Fanout => {
            let publishers = args.publishers.unwrap_or_else(|| window(1).clamp(1, 4));
            Plan::Fanout { subscribers: args.subscribers, publishers }
        }
        Kind::Many => Plan::Many {
            channels: args.channels,
            per_channel: args.per_channel.unwrap_or(5),
            connections: connections(500),
            publishers: args.publishers.unwrap_or(8),
        },
        Kind::Chat => Plan::Chat { users: connections(1000), room: args.per_channel.unwrap_or(20) },
    };
    let default = if args.workload == Kind::Fanout { 1 } else { 64 };
    Box::new(Publishing::new(plan, window(default), args.rate))
}

fn resolve(address: &str) -> io::Result<SocketAddr> {
    let mut addresses = address.to_socket_addrs()?;
    addresses.next().ok_or_else(|| io::Error::other(format!("{address} has no address")))
}
