//! The native client tells one story to real servers of every generation, from npm, and to ours. `servers/<name>` pins them,
//! `servers/app` is what they serve.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

#[path = "native_client/many.rs"]
mod many;
#[path = "native_client/node.rs"]
mod node;
#[path = "native_client/relay.rs"]
mod relay;
#[path = "native_client/story.rs"]
mod story;
mod support;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed};
use node::NodeServer;
use relay::Relay;
use rustix::process::Signal;
use sc_client::Version;
use story::{Step, Story};
use support::server::Server as ContractServer;
use support::trial;

/// Packages of npm, but for the last one.
const SERVERS: [&str; 10] = [
    "socketcluster-4.3.2",
    "socketcluster-5.16.0",
    "socketcluster-9.3.3",
    "socketcluster-14.4.2",
    "socketcluster-server-15.0.1",
    "socketcluster-server-16.2.1",
    "socketcluster-server-17.4.1",
    "socketcluster-server-19.2.2",
    "socketcluster-server-20.0.1",
    OURS,
];

const OURS: &str = "ours";

/// Short, so that the story hears pings; long enough for a busy machine.
const ENV: [(&str, &str); 2] = [("PING_INTERVAL", "1000"), ("PING_TIMEOUT", "10000")];

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    // They mostly wait.
    args.test_threads.get_or_insert(SERVERS.len());
    let trials = SERVERS.map(|name| {
        let programs: &[&str] = if name == OURS { &[] } else { &["node", "npm"] };
        trial(name, programs, move || tell(name))
    });
    let many = trial("many clients on one thread", &[], many::many);
    libtest_mimic::run(&args, trials.into_iter().chain([many]).collect()).exit_code()
}

enum Server {
    Node(&'static str, NodeServer),
    Ours(ContractServer),
}

impl Server {
    fn start(name: &'static str) -> Result<Self, String> {
        match name {
            OURS => ContractServer::start(&ENV).map(Self::Ours),
            _ => NodeServer::start(name, &ENV).map(|server| Self::Node(name, server)),
        }
    }

    fn port(&self) -> u16 {
        match self {
            Self::Node(_, server) => server.port,
            Self::Ours(server) => server.port,
        }
    }

    /// Ends it with a signal and starts it anew.
    fn again(self, signal: Signal) -> Result<Self, String> {
        match self {
            Self::Node(name, server) => {
                server.end(signal)?;
                Self::start(name)
            }
            Self::Ours(server) => {
                server.end(signal)?;
                Self::start(OURS)
            }
        }
    }
}

fn tell(name: &'static str) -> Result<(), Failed> {
    let mut server = Some(Server::start(name)?);
    let relay = Relay::start()?;
    relay.set_target(server.as_ref().map_or(0, Server::port));
    // Ours speaks both, and the client takes the newer one.
    let version =
        if name.starts_with("socketcluster-") && !name.contains("-server-") { Version::V1 } else { Version::V2 };
    let story = Story { relay, version };
    let told = |step: &str, result: Step| result.map_err(|error| format!("{step}: {error}"));
    told("calls and errors", story.calls_and_errors())?;
    told("publish and subscribe", story.publish_and_subscribe())?;
    told("middleware blocks", story.middleware_blocks())?;
    told("subscription data", story.subscription_data())?;
    told("login and token", story.login_and_token())?;
    told("wrong token", story.wrong_token())?;
    told("token expires", story.token_expires())?;
    told("the server asks", story.the_server_asks())?;
    told("kicked out and closed", story.kicked_out_and_closed())?;
    if name != OURS {
        told("messages are compressed", story.messages_are_compressed())?;
    }
    for (step, signal) in [("restart", Signal::TERM), ("kill -9", Signal::KILL)] {
        let result = story.the_server_is_gone(|| {
            let again = server.take().ok_or("it is gone")?.again(signal)?;
            let port = again.port();
            server = Some(again);
            Ok(port)
        });
        told(step, result)?;
    }
    told("the network goes silent", story.the_network_goes_silent())?;
    Ok(())
}
