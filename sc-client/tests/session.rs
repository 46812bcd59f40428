//! A client against the real engine: calls, channels, tokens, both protocols.

mod rig;

use std::time::Duration;

use rig::{ServerConfig, World, application};
use sc_client::{ChannelChange, ChannelState, CloseCode, Config, Output, Raw, State, SubscribeOptions, Token, Version};
use sc_protocol::heartbeat::Policy;

fn world() -> World {
    World::new(ServerConfig::default(), application)
}

#[test]
fn each_protocol_is_found_out_and_a_server_that_speaks_both_is_answered_in_the_newer() {
    for (policy, asked, expected) in [
        (Policy::Auto, None, Version::V2),
        (Policy::Auto, Some(Version::V1), Version::V1),
        (Policy::Auto, Some(Version::V2), Version::V2),
        (Policy::V1, None, Version::V1),
        (Policy::V2, None, Version::V2),
    ] {
        for piece in [1, 3, usize::MAX] {
            let mut world =
                World::new(ServerConfig { protocol_version: policy, ..ServerConfig::default() }, application);
            world.piece = piece;
            let client = world.client(Config { protocol: asked, ..Config::default() });
            world.act(client, |core, now| core.connect(now));
            let probed = world.peers[client].core.state();
            assert_eq!(probed, State::Open, "the handshake waits for no timeout: {policy:?} {asked:?}");
            // Ten intervals of silence but for pings.
            world.pass(Duration::from_secs(80));
            assert_eq!(world.peers[client].core.version(), Some(expected), "{policy:?} {asked:?}");
            let log = world.take(client);
            assert!(!log.iter().any(|output| matches!(output, Output::Raw(_) | Output::Disconnected(_))), "{log:?}");
        }
    }
}

#[test]
fn calls_are_answered_with_data_or_with_the_servers_error_and_its_members() {
    let mut world = world();
    world.piece = 7;
    let client = world.connected(Config::default());
    let log = world.take(client);
    let welcome = log.iter().any(
        |output| matches!(output, Output::Event { name, data, .. } if &**name == "welcome" && data.json() == Some("\"hello\"")),
    );
    assert!(welcome, "{log:?}");

    let echo = world.act(client, |core, now| core.call(now, "echo", Some(r#"{"a":[1,null]}"#), None));
    assert_eq!(world.answer(client, echo).unwrap().unwrap().json(), Some(r#"{"a":[1,null]}"#));
    let fail = world.act(client, |core, now| core.call(now, "fail", None, None));
    let error = world.answer(client, fail).unwrap().unwrap_err();
    assert_eq!((error.name(), error.message()), (Some("QuotaError"), "Too many rooms"));
    assert_eq!(error.get("limit"), Some(&serde_json::json!(5)));
}

#[test]
fn an_answer_that_does_not_come_is_a_timeout_error_and_comes_too_late_for_nobody() {
    let mut world = world();
    let client = world.connected(Config::default());
    let short = world.act(client, |core, now| core.call(now, "silence", None, Some(Duration::from_secs(1))));
    let long = world.act(client, |core, now| core.call(now, "silence", None, None));
    world.pass(Duration::from_secs(2));
    assert_eq!(world.answer(client, short).unwrap().unwrap_err().name(), Some("TimeoutError"));
    assert_eq!(world.answer(client, long), None);
    world.pass(Duration::from_secs(9));
    let error = world.answer(client, long).unwrap().unwrap_err();
    assert_eq!(error.message(), "Event response for silence event timed out");
    assert_eq!(world.peers[client].core.outstanding(), 0);
}

#[test]
fn channels_deliver_to_all_subscribers_and_to_nobody_after_unsubscribing() {
    let mut world = world();
    let (ann, bob) = (world.connected(Config::default()), world.connected(Config::default()));
    for client in [ann, bob] {
        world.act(client, |core, now| core.subscribe(now, "chat", &SubscribeOptions::default()));
        assert_eq!(world.channel_news(client), [("chat".to_owned(), ChannelChange::Subscribed)]);
    }
    let publish = world.act(ann, |core, now| core.publish(now, "chat", Some("\"hi\"")));
    assert!(world.answer(ann, publish).unwrap().is_ok());
    assert_eq!(world.messages(ann), [("chat".to_owned(), "\"hi\"".to_owned())]);
    assert_eq!(world.messages(bob), [("chat".to_owned(), "\"hi\"".to_owned())]);
    world.act(bob, |core, now| core.unsubscribe(now, "chat"));
    world.act(ann, |core, now| core.transmit_publish(now, "chat", Some("2")));
    assert_eq!(world.messages(ann), [("chat".to_owned(), "2".to_owned())]);
    assert_eq!(world.messages(bob), []);
    assert_eq!(world.peers[bob].core.channel_state("chat"), ChannelState::Unsubscribed);
}

#[test]
fn a_prefix_is_on_the_wire_and_nowhere_else() {
    let mut world = world();
    let prefixed = world.connected(Config { channel_prefix: "app/".to_owned(), ..Config::default() });
    let plain = world.connected(Config::default());
    world.act(prefixed, |core, now| core.subscribe(now, "news", &SubscribeOptions::default()));
    world.act(plain, |core, now| core.subscribe(now, "app/news", &SubscribeOptions::default()));
    world.act(prefixed, |core, now| core.transmit_publish(now, "news", Some("1")));
    assert_eq!(world.messages(prefixed), [("news".to_owned(), "1".to_owned())]);
    assert_eq!(world.messages(plain), [("app/news".to_owned(), "1".to_owned())]);
}

#[test]
fn a_refused_subscription_is_not_tried_again_but_one_that_waits_for_auth_comes_with_it() {
    let mut world = world();
    let client = world.connected(Config::default());
    world.act(client, |core, now| core.subscribe(now, "forbidden.a", &SubscribeOptions::default()));
    let news = world.channel_news(client);
    assert!(
        matches!(&news[..], [(_, ChannelChange::Failed(error))] if error.name() == Some("ForbiddenError")),
        "{news:?}"
    );
    assert_eq!(world.peers[client].core.channel_state("forbidden.a"), ChannelState::Unsubscribed);

    let waits = SubscribeOptions { wait_for_auth: true, ..SubscribeOptions::default() };
    world.act(client, |core, now| core.subscribe(now, "private.a", &waits));
    assert_eq!(world.channel_news(client), []);
    let login = world.act(client, |core, now| core.call(now, "login", Some("\"ann\""), None));
    assert!(world.answer(client, login).unwrap().is_ok());
    assert_eq!(world.channel_news(client), [("private.a".to_owned(), ChannelChange::Subscribed)]);
    assert!(world.peers[client].core.is_authenticated());
    assert_eq!(world.peers[client].saved.as_ref(), world.peers[client].core.token());
}

#[test]
fn subscriptions_go_out_by_priority_and_before_what_was_buffered() {
    let mut world = world();
    let client = world.client(Config { connect_on_demand: false, ..Config::default() });
    let call = world.act(client, |core, now| core.call(now, "echo", Some("1"), None));
    for (name, priority) in [("low", -1), ("first", 0), ("second", 0), ("high", 3)] {
        let options = SubscribeOptions { priority, ..SubscribeOptions::default() };
        world.act(client, |core, now| core.subscribe(now, name, &options));
    }
    world.act(client, |core, now| core.connect(now));
    world.pass(Duration::from_secs(1));
    let names: Vec<_> = world.channel_news(client).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["high", "first", "second", "low"]);
    assert!(world.answer(client, call).unwrap().is_ok());
}

#[test]
fn a_token_lasts_over_connections_until_it_is_given_up() {
    let mut world = world();
    let client = world.connected(Config::default());
    world.act(client, |core, now| core.call(now, "login", Some("\"ann\""), None));
    let token = world.peers[client].saved.clone().expect("the token was saved");
    assert!(token.claims().unwrap().json().unwrap().contains("\"username\":\"ann\""));
    world.cut(client);
    world.pass(Duration::from_secs(30));
    let log = world.take(client);
    assert!(log.iter().any(|output| matches!(output, Output::Connected(c) if c.authenticated)), "{log:?}");

    world.act(client, |core, now| core.deauthenticate(now));
    assert_eq!(world.peers[client].saved, None);
    let other = world.connected(Config::default());
    let wrong = world.act(other, |core, now| core.authenticate(now, &Token::from("no.token.atall")));
    assert!(world.answer(other, wrong).unwrap().is_err());
    assert!(!world.peers[other].core.is_authenticated());
    let right = world.act(other, |core, now| core.authenticate(now, &token));
    let answer: serde_json::Value = world.answer(other, right).unwrap().unwrap().parse().unwrap();
    assert_eq!(answer["isAuthenticated"], true);
    assert_eq!(world.peers[other].saved, Some(token));
    world.act(other, |core, now| core.call(now, "logout", None, None));
    assert_eq!((world.peers[other].saved.clone(), world.peers[other].core.is_authenticated()), (None, false));
}

#[test]
fn a_bad_token_is_told_with_the_handshake_and_forgotten() {
    let mut world = world();
    let client = world.client(Config::default());
    world.act(client, |core, now| {
        core.set_stored_token(Some(Token::from("a.b.c")));
        core.connect(now);
    });
    world.pass(Duration::from_secs(1));
    let log = world.take(client);
    let connected =
        log.iter().find_map(|output| if let Output::Connected(connected) = output { Some(connected) } else { None });
    let connected = connected.expect("the connection is open all the same");
    assert!(!connected.authenticated);
    assert_eq!(connected.auth_error.as_ref().and_then(|error| error.name()), Some("AuthTokenInvalidError"));
    assert_eq!(world.peers[client].core.token(), None);
}

#[test]
fn the_server_may_ask_and_a_late_answer_reaches_nobody() {
    let mut world = world();
    let client = world.connected(Config::default());
    world.take(client);
    let ask = world.act(client, |core, now| core.call(now, "ask", Some("\"why?\""), None));
    let log = world.take(client);
    let reply = log.into_iter().find_map(|output| match output {
        Output::Event { name, reply: Some(reply), .. } if &*name == "question" => Some(reply),
        _ => None,
    });
    let reply = reply.expect("the server asks");
    world.act(client, |core, now| core.respond(now, &reply, Ok(Some("42"))));
    assert_eq!(world.answer(client, ask).unwrap().unwrap().json(), Some("42"));
    world.cut(client);
    world.pass(Duration::from_secs(30));
    world.take(client);
    world.act(client, |core, now| core.respond(now, &reply, Ok(Some("43"))));
    assert_eq!(world.peers[client].core.state(), State::Open);
}

#[test]
fn kicked_out_means_unsubscribed() {
    let mut world = world();
    let client = world.connected(Config::default());
    world.act(client, |core, now| core.subscribe(now, "chat", &SubscribeOptions::default()));
    world.take(client);
    world.act(client, |core, now| core.call(now, "kick", Some("\"chat\""), None));
    let news = world.channel_news(client);
    assert!(
        matches!(&news[..], [(_, ChannelChange::Kicked(message))] if message.json() == Some("\"out\"")),
        "{news:?}"
    );
    assert_eq!(world.peers[client].core.channels().count(), 0);
}

#[test]
fn batches_carry_everything_in_order() {
    let mut world = world();
    let client = world.connected(Config { batch_on_handshake: Some(Duration::from_millis(50)), ..Config::default() });
    world.act(client, |core, now| core.start_batching(now));
    let batched = SubscribeOptions { batch: true, ..SubscribeOptions::default() };
    let first = world.act(client, |core, now| {
        core.subscribe(now, "a", &batched);
        core.call(now, "echo", Some("1"), None)
    });
    assert_eq!(world.answer(client, first), None, "it waits in the batch");
    world.pass(Duration::from_millis(50));
    assert!(world.answer(client, first).unwrap().is_ok());
    assert_eq!(world.peers[client].core.channel_state("a"), ChannelState::Subscribed);
    let last = world.act(client, |core, now| {
        let last = core.call(now, "echo", Some("2"), None);
        core.stop_batching(now);
        last
    });
    assert!(world.answer(client, last).unwrap().is_ok());
    world.act(client, |core, now| core.subscribe(now, "b", &batched));
    assert_eq!(world.peers[client].core.channel_state("b"), ChannelState::Pending);
    // What is not collected pushes the batch out before it.
    let call = world.act(client, |core, now| core.call(now, "echo", None, None));
    assert_eq!(world.peers[client].core.channel_state("b"), ChannelState::Subscribed);
    assert!(world.answer(client, call).unwrap().is_ok());
}

#[test]
fn over_its_limits_a_client_refuses_at_once() {
    let mut world = world();
    let config = Config { buffer_max: 2, unanswered_max: 3, connect_on_demand: false, ..Config::default() };
    let client = world.client(config);
    let calls: Vec<_> = (0..3).map(|_| world.act(client, |core, now| core.call(now, "silence", None, None))).collect();
    assert_eq!(world.answer(client, calls[2]).unwrap().unwrap_err().name(), Some("ResourceLimitError"));
    world.act(client, |core, now| core.connect(now));
    world.pass(Duration::from_millis(200));
    let calls: Vec<_> = (0..2).map(|_| world.act(client, |core, now| core.call(now, "silence", None, None))).collect();
    assert_eq!(world.answer(client, calls[0]), None);
    assert_eq!(world.answer(client, calls[1]).unwrap().unwrap_err().name(), Some("ResourceLimitError"));
}

#[test]
fn without_room_packets_wait_in_the_buffer() {
    let mut world = world();
    let client = world.connected(Config::default());
    world.act(client, |core, now| core.set_congested(now, true));
    let call = world.act(client, |core, now| core.call(now, "echo", Some("1"), None));
    assert_eq!(world.answer(client, call), None);
    world.act(client, |core, now| core.set_congested(now, false));
    assert!(world.answer(client, call).unwrap().is_ok());
}

#[test]
fn raw_messages_pass_both_ways_and_closing_is_final() {
    let mut world =
        World::new(ServerConfig::default(), || application().on_raw(|(), cx, socket, _| cx.send_raw(socket, "raw!")));
    let client = world.connected(Config::default());
    world.act(client, |core, now| core.send_raw(now, Raw::Text("raw?".into())));
    let log = world.take(client);
    assert!(log.iter().any(|output| *output == Output::Raw(Raw::Text("raw!".into()))), "{log:?}");

    let call = world.act(client, |core, now| core.call(now, "silence", None, None));
    world.act(client, |core, now| core.disconnect(now, CloseCode::NORMAL, ""));
    let error = world.answer(client, call).unwrap().unwrap_err();
    assert_eq!((error.name(), error.get("type")), (Some("BadConnectionError"), Some(&serde_json::json!("disconnect"))));
    world.pass(Duration::from_secs(200));
    assert_eq!(world.peers[client].core.state(), State::Closed);
    assert_eq!(world.peers[client].core.poll_timeout(), None);
}

/// What is in the heap comes on top, and is nothing while nothing is under way.
#[test]
fn an_idle_core_is_small() {
    assert!(size_of::<sc_client::ClientCore>() <= 448, "{}", size_of::<sc_client::ClientCore>());
}
