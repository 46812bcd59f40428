//! Random schedules of calls, subscriptions and everything that can go wrong with a connection.

mod rig;

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use rig::{ServerConfig, World, application};
use sc_client::{Backoff, CallId, ChannelChange, ChannelState, CloseCode, Config, Output, State, SubscribeOptions};
use sc_protocol::Version;
use sc_protocol::heartbeat::Policy;

#[derive(Debug, Clone)]
enum Step {
    Call(&'static str, u64),
    Publish(u8),
    Transmit,
    Subscribe(u8),
    Unsubscribe(u8),
    Login,
    Logout,
    ServerCloses(u16),
    Disconnect(u16),
    Connect,
    Reconnect,
    Cut,
    Restart,
    Listen(bool),
    Passing(bool),
    Congested(bool),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (prop_oneof![Just("echo"), Just("fail"), Just("silence"), Just("nowhere")], 1..20_000u64)
            .prop_map(|(event, timeout)| Step::Call(event, timeout)),
        3 => (0..4u8).prop_map(Step::Publish),
        1 => Just(Step::Transmit),
        4 => (0..4u8).prop_map(Step::Subscribe),
        2 => (0..4u8).prop_map(Step::Unsubscribe),
        1 => Just(Step::Login),
        1 => Just(Step::Logout),
        2 => prop_oneof![Just(1000u16), Just(1001), Just(4001), Just(4500), Just(4008)].prop_map(Step::ServerCloses),
        1 => prop_oneof![Just(1000u16), Just(4242)].prop_map(Step::Disconnect),
        2 => Just(Step::Connect),
        1 => Just(Step::Reconnect),
        2 => Just(Step::Cut),
        1 => Just(Step::Restart),
        2 => any::<bool>().prop_map(Step::Listen),
        1 => any::<bool>().prop_map(Step::Passing),
        1 => any::<bool>().prop_map(Step::Congested),
        6 => prop_oneof![0..300u64, 0..40_000u64].prop_map(Step::Pass),
    ]
}

fn channel(number: u8) -> String {
    // The last one is private: it waits for authentication, or is refused.
    if number == 3 { "private.x".to_owned() } else { format!("channel {number}") }
}

fn run(world: &mut World, client: usize, step: &Step, calls: &mut Vec<CallId>, wanted: &mut BTreeSet<String>) {
    let waits =
        |name: &str| SubscribeOptions { wait_for_auth: name.starts_with("private"), ..SubscribeOptions::default() };
    match step {
        Step::Call(event, timeout) => calls.push(
            world.act(client, |core, now| core.call(now, event, Some("[1]"), Some(Duration::from_millis(*timeout)))),
        ),
        Step::Publish(number) => {
            calls.push(world.act(client, |core, now| core.publish(now, &channel(*number), Some("0"))));
        }
        Step::Transmit => world.act(client, |core, now| core.transmit(now, "echo", None)),
        Step::Subscribe(number) => {
            let name = channel(*number);
            world.act(client, |core, now| core.subscribe(now, &name, &waits(&name)));
            wanted.insert(name);
        }
        Step::Unsubscribe(number) => {
            let name = channel(*number);
            world.act(client, |core, now| core.unsubscribe(now, &name));
            wanted.remove(&name);
        }
        Step::Login => calls.push(world.act(client, |core, now| core.call(now, "login", Some("\"ann\""), None))),
        Step::Logout => world.act(client, |core, now| core.deauthenticate(now)),
        Step::ServerCloses(code) => {
            calls.push(world.act(client, |core, now| core.call(now, "close", Some(&code.to_string()), None)));
        }
        Step::Disconnect(code) => world.act(client, |core, now| core.disconnect(now, CloseCode(*code), "")),
        Step::Connect => world.act(client, |core, now| core.connect(now)),
        Step::Reconnect => world.act(client, |core, now| core.reconnect(now, CloseCode::NORMAL, "")),
        Step::Cut => world.cut(client),
        Step::Restart => world.restart_server(),
        Step::Listen(on) => world.listening = *on,
        Step::Passing(on) => set_passing(world, client, *on),
        Step::Congested(on) => world.act(client, |core, now| core.set_congested(now, *on)),
        Step::Pass(millis) => world.pass(Duration::from_millis(*millis)),
    }
}

/// Bytes that were lost do not come back: a connection that lost some ends when the network is there again.
fn set_passing(world: &mut World, client: usize, on: bool) {
    if !std::mem::replace(&mut world.passing, on) {
        world.cut(client);
    }
}

fn check(steps: &[Step], policy: Policy, protocol: Option<Version>, piece: usize, on_demand: bool) {
    let config = ServerConfig { protocol_version: policy, ..ServerConfig::default() };
    let mut world = World::new(config, application);
    world.piece = piece;
    let backoff = Backoff { initial_delay: Duration::from_secs(1), ..Backoff::default() };
    let client = world.client(Config {
        protocol,
        reconnect: Some(backoff),
        connect_on_demand: on_demand,
        batch_on_handshake: piece.is_multiple_of(2).then_some(Duration::from_millis(20)),
        ..Config::default()
    });
    let (mut calls, mut wanted) = (Vec::new(), BTreeSet::new());
    for step in steps {
        run(&mut world, client, step, &mut calls, &mut wanted);
    }

    // All is well again.
    world.listening = true;
    set_passing(&mut world, client, true);
    world.act(client, |core, now| core.set_congested(now, false));
    world.pass(Duration::from_secs(100));
    world.act(client, |core, now| core.connect(now));
    world.pass(Duration::from_secs(100));
    assert_eq!(world.peers[client].core.state(), State::Open);
    for call in calls {
        assert!(world.answer(client, call).is_some(), "{call:?} was never answered");
    }
    assert_eq!(world.peers[client].core.outstanding(), 0);

    // Each channel that is wanted is subscribed, once, unless it waits for authentication.
    let failed = |output: &Output| matches!(output, Output::Channel { change: ChannelChange::Failed(_), .. });
    let refused = world.peers[client].log.iter().any(failed);
    let authenticated = world.peers[client].core.is_authenticated();
    let publisher = world.connected(Config::default());
    let login = world.act(publisher, |core, now| core.call(now, "login", Some("\"publisher\""), None));
    assert!(world.answer(publisher, login).is_some_and(|answer| answer.is_ok()));
    for number in 0..4 {
        let name = channel(number);
        let state = world.peers[client].core.channel_state(&name);
        let there = state == ChannelState::Subscribed;
        // What was subscribed stays so when the authentication ends; what waits for it may have missed it, or was refused
        // because the client had given its token up while the server's next one was on its way.
        let free = number == 3 && (!authenticated || refused) && wanted.contains(&name);
        assert!(free || there == wanted.contains(&name), "{name}: {state:?}");
        world.take(client);
        world.act(publisher, |core, now| core.transmit_publish(now, &name, Some("1")));
        world.pass(Duration::from_millis(100));
        assert_eq!(world.messages(client).len(), usize::from(there), "{name}");
    }
}

#[expect(clippy::disallowed_methods, reason = "whether this is the long form")]
fn cases() -> u32 {
    if std::env::var("SC_TEST_LONG").is_ok_and(|long| long == "1") { 5000 } else { 150 }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn each_call_is_answered_once_and_no_subscription_is_lost(
        steps in prop::collection::vec(step(), 0..60),
        server in 0..3usize,
        client in 0..3usize,
        piece in prop_oneof![1..40usize, Just(usize::MAX)],
        on_demand in any::<bool>(),
    ) {
        let policy = [Policy::Auto, Policy::V1, Policy::V2][server];
        // A client that insists on a protocol needs a server that speaks it.
        let protocol = match policy {
            Policy::Auto => [None, Some(Version::V1), Some(Version::V2)][client],
            _ => None,
        };
        check(&steps, policy, protocol, piece, on_demand);
    }
}
