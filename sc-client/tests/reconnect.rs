//! When a client comes back, when it does not, and what it brings along.

mod rig;

use std::time::Duration;

use rig::{ServerConfig, World, application};
use sc_client::{Backoff, ChannelState, Config, Disconnected, Output, State, SubscribeOptions};

fn world() -> World {
    World::new(ServerConfig::default(), application)
}

fn quick() -> Config {
    let backoff = Backoff {
        initial_delay: Duration::from_millis(200),
        randomness: Duration::ZERO,
        multiplier: 2.0,
        max_delay: Duration::from_secs(1),
    };
    Config { reconnect: Some(backoff), ..Config::default() }
}

fn ends(world: &mut World, client: usize) -> Vec<Disconnected> {
    let log = world.take(client).into_iter();
    log.filter_map(|output| if let Output::Disconnected(end) = output { Some(end) } else { None }).collect()
}

#[test]
fn the_delays_are_those_of_the_javascript_client() {
    let mut world = world();
    world.listening = false;
    let client = world.client(quick());
    world.act(client, |core, now| core.connect(now));
    world.pass(Duration::from_secs(4));
    let delays: Vec<_> = ends(&mut world, client).iter().map(|end| end.retry_in.unwrap().as_millis()).collect();
    assert_eq!(delays, [200, 400, 800, 1000, 1000, 1000]);
    world.listening = true;
    world.pass(Duration::from_secs(1));
    assert_eq!(world.peers[client].core.state(), State::Open);
    // Once it has been open, the count begins anew.
    world.listening = false;
    world.cut(client);
    assert_eq!(ends(&mut world, client)[0].retry_in, Some(Duration::from_millis(200)));
}

#[test]
fn some_codes_bring_it_back_at_once_and_some_never() {
    for (code, expected) in [
        (4001, Some(0)),
        (4000, Some(0)),
        (1000, None),
        (4500, None),
        (4999, None),
        (1001, Some(200)),
        (4008, Some(200)),
        (3500, Some(200)),
    ] {
        let mut world = world();
        let client = world.connected(quick());
        world.take(client);
        let call = world.act(client, |core, now| core.call(now, "close", Some(&code.to_string()), None));
        assert!(world.answer(client, call).unwrap().is_ok(), "the ack comes before the close");
        let end = ends(&mut world, client).remove(0);
        assert_eq!((end.code.0, end.was_open), (code, true));
        assert_eq!(&*end.reason, "as asked");
        assert_eq!(end.retry_in.map(|delay| delay.as_millis()), expected, "{code}");
        world.pass(Duration::from_secs(1));
        let state = world.peers[client].core.state();
        assert_eq!(state == State::Open, expected.is_some(), "{code}");
    }
}

#[test]
fn a_server_that_sends_it_away_gets_it_back_at_once_with_its_subscriptions() {
    let mut world = world();
    let client = world.connected(Config::default());
    world.act(client, |core, now| core.subscribe(now, "chat", &SubscribeOptions::default()));
    world.act(client, |core, now| core.call(now, "close", Some("4001"), None));
    world.pass(Duration::from_millis(150));
    assert_eq!(world.peers[client].core.channel_state("chat"), ChannelState::Subscribed);
    world.take(client);
    world.act(client, |core, now| core.transmit_publish(now, "chat", Some("1")));
    assert_eq!(world.messages(client).len(), 1, "and no message comes twice");
}

#[test]
fn what_the_server_had_fails_and_what_it_had_not_waits() {
    let mut world = world();
    let client = world.connected(quick());
    let sent = world.act(client, |core, now| core.call(now, "silence", None, None));
    world.cut(client);
    let error = world.answer(client, sent).unwrap().unwrap_err();
    assert_eq!(error.name(), Some("BadConnectionError"));
    world.listening = false;
    let waits = world.act(client, |core, now| core.call(now, "echo", Some("1"), None));
    let gives_up = world.act(client, |core, now| core.call(now, "echo", None, Some(Duration::from_secs(1))));
    world.pass(Duration::from_secs(3));
    assert_eq!(world.answer(client, gives_up).unwrap().unwrap_err().name(), Some("TimeoutError"));
    assert_eq!(world.answer(client, waits), None);
    world.listening = true;
    world.pass(Duration::from_secs(2));
    assert!(world.answer(client, waits).unwrap().is_ok());
}

#[test]
fn a_call_does_not_wait_for_the_next_try() {
    let mut world = world();
    let client = world.connected(Config::default());
    world.cut(client);
    assert_eq!(world.peers[client].core.state(), State::Closed);
    let call = world.act(client, |core, now| core.call(now, "echo", Some("1"), None));
    world.pass(Duration::from_millis(150));
    assert!(world.answer(client, call).unwrap().is_ok());
}

#[test]
fn without_pings_a_connection_is_given_up_and_made_anew() {
    let mut world = world();
    let client = world.connected(Config::default());
    world.act(client, |core, now| core.subscribe(now, "chat", &SubscribeOptions::default()));
    world.take(client);
    world.passing = false;
    world.pass(Duration::from_secs(31));
    let end = ends(&mut world, client).remove(0);
    assert_eq!((end.code.0, end.retry_in), (4000, Some(Duration::ZERO)));
    world.passing = true;
    world.pass(Duration::from_secs(60));
    assert_eq!(world.peers[client].core.state(), State::Open);
    assert_eq!(world.peers[client].core.channel_state("chat"), ChannelState::Subscribed);
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let mut world = world();
    world.passing = false;
    let client = world.client(Config::default());
    world.act(client, |core, now| core.connect(now));
    world.pass(Duration::from_secs(20));
    let end = ends(&mut world, client).remove(0);
    assert_eq!((end.code.0, end.was_open), (4007, false));
    assert!(end.retry_in.is_some_and(|delay| delay >= Duration::from_secs(10) && delay < Duration::from_secs(20)));
}

#[test]
fn a_refused_upgrade_is_told_with_its_status_and_words() {
    let mut world = World::new(ServerConfig::default(), || {
        application().handshake(|(), _cx, _request| Err(sc_server::Block::error("no entry")))
    });
    let client = world.client(quick());
    world.act(client, |core, now| core.connect(now));
    let end = ends(&mut world, client).remove(0);
    assert_eq!((end.status, &*end.reason), (Some(401), "401 Unauthorized: no entry"));
    assert_eq!(end.retry_in, Some(Duration::from_millis(200)));
}

#[test]
fn a_refused_handshake_is_told_with_its_error_and_code() {
    let mut world = World::new(ServerConfig::default(), || {
        application().handshake_sc(|(), _cx, request| {
            request.close_code = 4501;
            Err(sc_server::Block::named("BannedError", "go away"))
        })
    });
    let client = world.client(quick());
    world.act(client, |core, now| core.connect(now));
    world.pass(Duration::from_secs(1));
    let end = ends(&mut world, client).remove(0);
    assert_eq!((end.code.0, end.retry_in, end.was_open), (4501, None, false));
    assert_eq!(end.error.as_ref().and_then(|error| error.name()), Some("BannedError"));
    assert_eq!(end.to_error().unwrap().message(), "go away");
}

#[test]
fn a_server_that_restarts_gets_every_subscription_once() {
    let mut world = world();
    let clients: Vec<_> = (0..5).map(|_| world.connected(quick())).collect();
    for &client in &clients {
        for channel in ["a", "b"] {
            world.act(client, |core, now| core.subscribe(now, channel, &SubscribeOptions::default()));
        }
    }
    world.restart_server();
    world.pass(Duration::from_secs(2));
    clients.iter().for_each(|&client| drop(world.take(client)));
    world.act(clients[0], |core, now| core.transmit_publish(now, "a", Some("1")));
    world.act(clients[1], |core, now| core.transmit_publish(now, "b", Some("2")));
    for &client in &clients {
        let got = world.messages(client);
        assert_eq!(got, [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
    }
}
