//! One exchange whose brokers are played by the test: what it asks for, and what it answers.

use bytes::BytesMut;
use proptest::prelude::*;
use sc_broker::{Exchange, ExchangeEvent, ExchangeLimits, Key, Mapped};
use sc_protocol::ipc::{CallKind, LinkMsg, LinkReader};

type Ex = Exchange<&'static str, &'static str>;

fn exchange(limits: ExchangeLimits) -> Ex {
    let mut exchange = Exchange::new(1, limits, 3);
    exchange.link_up(0, 4, 99);
    assert_eq!(said(&mut exchange), "hello 4, synced");
    exchange
}

/// What the exchange says to its broker now.
fn said(exchange: &mut Ex) -> String {
    let mut words = Vec::new();
    let mut reader = LinkReader::new();
    while let Some((_, bytes)) = exchange.poll_link() {
        let read = reader.handle_bytes(&bytes, |msg| {
            words.push(match msg {
                LinkMsg::Hello { worker, .. } => format!("hello {worker}"),
                LinkMsg::Synced => "synced".to_owned(),
                LinkMsg::Subscribe { cid, channel } => format!("sub {cid} {channel}"),
                LinkMsg::Unsubscribe { channel } => format!("unsub {channel}"),
                LinkMsg::Publish { cid, channel, data } => format!("pub {cid} {channel} {}", data.unwrap_or("absent")),
                LinkMsg::Call { cid, what, key, .. } => format!("call {cid} {what:?} {key}"),
                other => panic!("{other:?}"),
            });
        });
        read.expect("whole messages");
    }
    words.join(", ")
}

fn word(event: &ExchangeEvent<'_, &'static str, &'static str>) -> String {
    match event {
        ExchangeEvent::Deliver { channel, data } => format!("{channel}={}", data.unwrap_or("absent")),
        ExchangeEvent::Published { pending, deliver: true } => format!("own {pending}"),
        ExchangeEvent::Published { pending, deliver: false } => format!("published {pending}"),
        ExchangeEvent::PublishFailed { pending, error } => format!("failed {pending}: {error}"),
        ExchangeEvent::Subscribed { waiter } => format!("subscribed {waiter}"),
        ExchangeEvent::SubscribeFailed { waiter, error } => format!("no {waiter}: {error}"),
        ExchangeEvent::Answered { number, data } => format!("answer {number} {}", data.unwrap_or("absent")),
        ExchangeEvent::CallFailed { number, error } => format!("failed call {number}: {error}"),
    }
}

fn hear(exchange: &mut Ex, messages: &[LinkMsg<'_>]) -> String {
    let mut bytes = BytesMut::new();
    messages.iter().for_each(|msg| msg.write(&mut bytes));
    let mut words = Vec::new();
    exchange.handle_bytes(0, &bytes, |_, event| words.push(word(&event))).expect("whole messages");
    words.join(", ")
}

fn events(exchange: &mut Ex) -> String {
    let words: Vec<String> = std::iter::from_fn(|| exchange.poll_event()).map(|event| word(&event)).collect();
    words.join(", ")
}

const fn ack(cid: u64, deliver: bool) -> LinkMsg<'static> {
    LinkMsg::Ack { cid, deliver }
}

const NEWS: LinkMsg<'_> = LinkMsg::Deliver { channel: "a", data: None };

#[test]
fn the_broker_is_asked_once_for_all_subscribers_of_a_channel() {
    let mut exchange = exchange(ExchangeLimits::default());
    exchange.subscribe("a", "one");
    exchange.subscribe("a", "two");
    assert_eq!(said(&mut exchange), "sub 1 a");
    assert_eq!(hear(&mut exchange, &[ack(1, false), NEWS]), "subscribed one, subscribed two, a=absent");
    exchange.subscribe("a", "three");
    assert_eq!(events(&mut exchange), "subscribed three");
    assert_eq!(said(&mut exchange), "");
}

#[test]
fn a_change_of_mind_in_flight_costs_no_request() {
    let mut exchange = exchange(ExchangeLimits::default());
    exchange.subscribe("a", "one");
    for _ in 0..5 {
        exchange.unsubscribe("a");
        exchange.subscribe("a", "again");
    }
    assert_eq!(said(&mut exchange), "sub 1 a");
    let again = ", subscribed again".repeat(5);
    assert_eq!(hear(&mut exchange, &[ack(1, false)]), format!("subscribed one{again}"));
    assert_eq!(said(&mut exchange), "");
    exchange.unsubscribe("a");
    exchange.subscribe("a", "later");
    exchange.unsubscribe("a");
    assert_eq!(said(&mut exchange), "unsub a, sub 2 a");
    assert_eq!(hear(&mut exchange, &[NEWS, ack(2, false), NEWS]), "subscribed later");
    assert_eq!((said(&mut exchange), exchange.channels()), ("unsub a".to_owned(), 0));
}

#[test]
fn a_delivery_for_an_earlier_interest_is_dropped() {
    let mut exchange = exchange(ExchangeLimits::default());
    exchange.subscribe("a", "one");
    hear(&mut exchange, &[ack(1, false)]);
    exchange.publish("a", None, "mine").unwrap();
    exchange.unsubscribe("a");
    exchange.subscribe("a", "two");
    assert_eq!(
        hear(&mut exchange, &[NEWS, ack(2, true), ack(3, false), NEWS]),
        "published mine, subscribed two, a=absent"
    );
}

#[test]
fn a_broker_that_comes_back_is_told_everything_in_order() {
    let mut exchange = exchange(ExchangeLimits::default());
    for channel in ["z", "a", "m"] {
        exchange.subscribe(channel, channel);
    }
    exchange.publish("a", Some("1"), "sent").unwrap();
    hear(&mut exchange, &[ack(1, false), ack(2, false)]);
    exchange.unsubscribe("m");
    exchange.link_down(0);
    exchange.link_down(0);
    let lost = "BrokerError: The link to the broker broke before it answered";
    let gone = "BrokerError: Unsubscribed while the broker was away";
    assert_eq!(events(&mut exchange), format!("failed sent: {lost}, no m: {gone}"));
    exchange.publish("a", Some("2"), "waits").unwrap();
    exchange.subscribe("z", "more");
    exchange.unsubscribe("gone before it came");
    assert_eq!((said(&mut exchange), events(&mut exchange)), (String::new(), String::new()));
    exchange.link_up(0, 4, 99);
    assert_eq!(said(&mut exchange), "hello 4, sub 5 z, sub 6 a, synced, pub 7 a 2");
    assert_eq!(
        hear(&mut exchange, &[ack(4, true), ack(5, false), ack(6, false), ack(7, true)]),
        "subscribed more, own waits"
    );
}

#[test]
fn answers_nobody_waits_for_are_ignored() {
    let mut exchange = exchange(ExchangeLimits::default());
    exchange.publish("a", None, "mine").unwrap();
    let strange = [ack(0, true), ack(2, true), ack(u64::MAX, false), LinkMsg::Nack { cid: 9, error: "" }];
    assert_eq!(hear(&mut exchange, &strange), "");
    assert_eq!(
        hear(&mut exchange, &[LinkMsg::Unsubscribe { channel: "a" }, ack(1, true), ack(1, true)]),
        "published mine"
    );
}

#[test]
fn publishes_wait_behind_limits_and_are_refused_beyond() {
    let limits = ExchangeLimits {
        in_flight_max: 1,
        waiting_publishes_max: 2,
        waiting_bytes_max: 80,
        link_bytes_max: 200,
        ..ExchangeLimits::default()
    };
    let mut exchange = exchange(limits);
    let large = "1".repeat(60);
    let mut publish = |data: &str, name| match exchange.publish("a", Some(data), name) {
        Ok(()) => String::new(),
        Err((error, pending)) => format!("{pending}: {}", error.message()),
    };
    assert_eq!(publish(&"1".repeat(200), "p0"), "p0: The message is too large: link_bytes_max is 200");
    assert_eq!((publish("1", "p1"), publish("2", "p2")), (String::new(), String::new()));
    let too_large = "p3: The publishes that wait for the broker are too large: waiting_bytes_max is 80";
    assert_eq!(publish(&large, "p3"), too_large);
    assert_eq!(publish("4", "p4"), "");
    assert_eq!(publish("5", "p5"), "p5: Too many publishes wait for the broker: waiting_publishes_max is 2");
    assert_eq!(said(&mut exchange), "pub 1 a 1");
    assert_eq!(hear(&mut exchange, &[ack(1, false)]), "published p1");
    assert_eq!(said(&mut exchange), "pub 2 a 2");
    exchange.set_queued(0, 190);
    assert_eq!(hear(&mut exchange, &[ack(2, false)]), "published p2");
    assert_eq!((said(&mut exchange), exchange.waiting(0)), (String::new(), 1));
    exchange.set_queued(0, 0);
    assert_eq!(said(&mut exchange), "pub 3 a 4");
}

#[test]
fn interests_are_bounded_but_for_those_that_are_there() {
    let limits = ExchangeLimits { channels_max: 2, names_bytes_max: 10, waiters_max: 3, ..ExchangeLimits::default() };
    let mut exchange = exchange(limits);
    exchange.subscribe("a", "one");
    exchange.subscribe("0123456789", "two");
    exchange.subscribe("b", "three");
    exchange.subscribe("c", "four");
    exchange.subscribe("a", "five");
    exchange.subscribe("a", "six");
    let texts = events(&mut exchange);
    assert!(
        texts.contains("no two: BrokerError: The worker has too long channel names: names_bytes_max is 10"),
        "{texts}"
    );
    assert!(texts.contains("no four: BrokerError: The worker has too many channels: channels_max is 2"), "{texts}");
    assert!(
        texts.contains("no six: BrokerError: Too many subscribers wait for the broker: waiters_max is 3"),
        "{texts}"
    );
    assert_eq!(said(&mut exchange), "sub 1 a, sub 2 b");
    assert_eq!(
        hear(&mut exchange, &[ack(1, false), ack(2, false)]),
        "subscribed one, subscribed five, subscribed three"
    );
}

#[test]
fn a_refusal_of_the_broker_ends_what_it_never_had() {
    let mut exchange = exchange(ExchangeLimits::default());
    let no = |cid| LinkMsg::Nack { cid, error: r#"{"message":"full","name":"BrokerError"}"# };
    exchange.subscribe("a", "one");
    exchange.publish("a", None, "mine").unwrap();
    assert_eq!(hear(&mut exchange, &[no(1), no(2)]), "no one: BrokerError: full, failed mine: BrokerError: full");
    assert_eq!(exchange.channels(), 0);
    exchange.subscribe("a", "two");
    assert_eq!(hear(&mut exchange, &[ack(3, false)]), "subscribed two");
    said(&mut exchange);

    exchange.link_up(0, 4, 99);
    assert_eq!(said(&mut exchange), "hello 4, sub 4 a, synced");
    assert_eq!(hear(&mut exchange, &[no(4), NEWS]), "");
    exchange.subscribe("a", "three");
    assert_eq!(said(&mut exchange), "sub 5 a");
    assert_eq!(hear(&mut exchange, &[ack(5, false), NEWS]), "subscribed three, a=absent");
}

#[test]
fn a_sink_may_use_the_exchange() {
    let mut exchange = exchange(ExchangeLimits::default());
    exchange.subscribe("a", "one");
    hear(&mut exchange, &[ack(1, false)]);
    said(&mut exchange);
    let mut bytes = BytesMut::new();
    [NEWS, NEWS, NEWS].iter().for_each(|msg| msg.write(&mut bytes));
    let mut count = 0;
    let sink = |exchange: &mut Ex, _: ExchangeEvent<'_, &'static str, &'static str>| {
        count += 1;
        exchange.publish("b", None, "echo").unwrap();
        if count == 2 {
            exchange.unsubscribe("a");
        }
    };
    exchange.handle_bytes(0, &bytes, sink).unwrap();
    assert_eq!((count, said(&mut exchange).as_str()), (2, "pub 2 b absent, pub 3 b absent, unsub a"));
}

#[test]
fn a_sink_may_end_the_link() {
    let mut exchange = exchange(ExchangeLimits::default());
    exchange.subscribe("a", "one");
    let mut bytes = BytesMut::new();
    [ack(1, false), NEWS, NEWS].iter().for_each(|msg| msg.write(&mut bytes));
    bytes.extend_from_slice(&[0, 0]);
    let sink = |exchange: &mut Ex, event: ExchangeEvent<'_, &'static str, &'static str>| {
        assert_eq!(word(&event), "subscribed one", "nothing more is heard on a link that has ended");
        exchange.link_down(0);
        exchange.link_up(0, 4, 99);
    };
    exchange.handle_bytes(0, &bytes, sink).unwrap();
    assert_eq!(said(&mut exchange), "hello 4, sub 2 a, synced");
    assert_eq!(hear(&mut exchange, &[ack(2, false), NEWS]), "a=absent", "the new stream begins at a message");
}

proptest! {
    #[test]
    fn no_bytes_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
        let mut exchange = exchange(ExchangeLimits::default());
        exchange.subscribe("a", "one");
        exchange.publish("a", None, "mine").unwrap();
        for piece in pieces {
            if exchange.handle_bytes(0, &piece, |_, _| {}).is_err() {
                exchange.link_down(0);
            }
        }
    }
}

#[test]
fn calls_and_publishes_keep_their_order_and_wait_together() {
    let mut exchange = Ex::new(1, ExchangeLimits { waiting_publishes_max: 3, ..ExchangeLimits::default() }, 7);
    exchange.call(0, CallKind::Set, r#"["k"]"#, Some("1"), 11).unwrap();
    exchange.publish("a", Some("2"), "p").unwrap();
    exchange.call(0, CallKind::Get, r#"["k"]"#, None, 12).unwrap();
    let refused = exchange.call(0, CallKind::Get, r#"["k"]"#, None, 13).unwrap_err();
    assert!(refused.message().contains("waiting_publishes_max"), "{refused}");
    exchange.link_up(0, 0, 1);
    assert_eq!(said(&mut exchange), r#"hello 0, synced, call 1 Set ["k"], pub 2 a 2, call 3 Get ["k"]"#);
    let answers = [LinkMsg::Answer { cid: 1, data: None }, ack(2, false), LinkMsg::Answer { cid: 3, data: Some("1") }];
    assert_eq!(hear(&mut exchange, &answers), "answer 11 absent, published p, answer 12 1");
}

#[test]
fn a_call_whose_link_breaks_fails_and_one_that_waits_goes_on_waiting() {
    let mut exchange = Ex::new(1, ExchangeLimits { in_flight_max: 1, ..ExchangeLimits::default() }, 7);
    exchange.link_up(0, 0, 1);
    exchange.call(0, CallKind::Pop, r#"["k"]"#, None, 11).unwrap();
    exchange.call(0, CallKind::Get, r#"["k"]"#, None, 12).unwrap();
    assert_eq!(said(&mut exchange), r#"hello 0, synced, call 1 Pop ["k"]"#);
    exchange.link_down(0);
    assert!(events(&mut exchange).starts_with("failed call 11: BrokerError"));
    exchange.link_up(0, 0, 1);
    assert_eq!(said(&mut exchange), r#"hello 0, synced, call 2 Get ["k"]"#);
    let nack = LinkMsg::Nack { cid: 2, error: r#"{"message":"no","name":"QueryError"}"# };
    assert!(hear(&mut exchange, &[nack]).starts_with("failed call 12: QueryError"));
}

#[test]
fn a_mapper_decides_for_channels_and_keys_and_must_come_first() {
    fn last(what: Mapped<'_>, brokers: u32) -> u32 {
        match what {
            Mapped::Channel("first") => 0,
            Mapped::Channel(_) => brokers - 1,
            Mapped::Key(_) => brokers + 1,
        }
    }
    let mut exchange = Ex::new(4, ExchangeLimits::default(), 7);
    exchange.set_mapper(last).unwrap();
    assert_eq!((exchange.shard_of("first"), exchange.shard_of("a")), (0, 3));
    assert_eq!(exchange.shard_of_key(&Key::from("k")), 1, "modulo the number of brokers");
    exchange.subscribe("a", "w");
    exchange.link_up(3, 0, 1);
    assert!(said(&mut exchange).contains("sub 1 a"));
    assert_eq!(exchange.set_mapper(last).unwrap_err().name(), Some("InvalidActionError"));
}
