//! One broker and bare links: what workers are told, and what a link may not do.

use std::time::Instant;

use bytes::BytesMut;
use proptest::prelude::*;
use sc_broker::{Broker, BrokerEvent, BrokerLimits, LinkError, LinkId};
use sc_protocol::ipc::{IpcError, LINK_VERSION, LinkMsg, LinkReader};

#[expect(clippy::disallowed_methods, reason = "a test is a driver")]
fn now() -> Instant {
    Instant::now()
}

fn bytes(messages: &[LinkMsg<'_>]) -> BytesMut {
    let mut out = BytesMut::new();
    messages.iter().for_each(|msg| msg.write(&mut out));
    out
}

const fn hello(worker: u32) -> LinkMsg<'static> {
    LinkMsg::Hello { version: LINK_VERSION, worker, pid: 1 }
}

const fn subscribe(cid: u64, channel: &str) -> LinkMsg<'_> {
    LinkMsg::Subscribe { cid, channel }
}

const fn publish(cid: u64, channel: &str) -> LinkMsg<'_> {
    LinkMsg::Publish { cid, channel, data: Some("1") }
}

fn tell(broker: &mut Broker, link: LinkId, messages: &[LinkMsg<'_>]) {
    broker.handle_bytes(now(), link, &bytes(messages)).expect("within the rules");
}

/// A broker whose workers are all subscribed to "a", and have read that they are.
fn broker(limits: BrokerLimits, workers: u32) -> (Broker, Vec<LinkId>) {
    let mut broker = Broker::new(limits, 7);
    let links: Vec<LinkId> = (0..workers).map(|_| broker.attach(now())).collect();
    for (n, &link) in links.iter().enumerate() {
        tell(&mut broker, link, &[hello(n as u32), subscribe(1, "a")]);
    }
    writes(&mut broker);
    while broker.poll_event().is_some() {}
    (broker, links)
}

/// Writes all that may be written: one entry per write.
fn writes(broker: &mut Broker) -> Vec<(LinkId, String)> {
    let mut all = Vec::new();
    while let Some((link, data)) = broker.poll_transmit() {
        let (n, text) = (data.len(), read(data));
        all.push((link, text));
        broker.wrote(link, n);
    }
    all
}

fn read(data: &[u8]) -> String {
    let mut words = Vec::new();
    let mut reader = LinkReader::new();
    let read = reader.handle_bytes(data, |msg| {
        words.push(match msg {
            LinkMsg::Deliver { channel, data } => format!("{channel}={}", data.unwrap_or("absent")),
            LinkMsg::Ack { cid, deliver: true } => format!("own {cid}"),
            LinkMsg::Ack { cid, deliver: false } => format!("ack {cid}"),
            LinkMsg::Nack { cid, error } => format!("nack {cid} {error}"),
            other => panic!("{other:?}"),
        });
    });
    read.expect("whole messages");
    words.join(", ")
}

#[test]
fn deliveries_leave_before_the_acknowledgement_in_one_write_for_each_link() {
    let (mut broker, links) = broker(BrokerLimits::default(), 3);
    tell(&mut broker, links[1], &[publish(2, "a"), LinkMsg::Publish { cid: 3, channel: "a", data: None }]);
    let expected = [(links[0], "a=1, a=absent"), (links[2], "a=1, a=absent"), (links[1], "own 2, own 3")];
    assert_eq!(writes(&mut broker), expected.map(|(link, text)| (link, text.to_owned())));
}

#[test]
fn one_worker_waits_for_nobody() {
    let (mut broker, links) = broker(BrokerLimits::default(), 1);
    tell(&mut broker, links[0], &[publish(2, "a"), publish(3, "nobody's")]);
    assert_eq!(writes(&mut broker), [(links[0], "own 2, ack 3".to_owned())]);
}

#[test]
fn a_part_of_a_delivery_is_no_delivery() {
    let (mut broker, links) = broker(BrokerLimits::default(), 2);
    tell(&mut broker, links[0], &[publish(2, "a")]);
    let (link, n) = broker.poll_transmit().map(|(link, data)| (link, data.len())).unwrap();
    assert_eq!(link, links[1]);
    broker.wrote(link, n - 1);
    broker.blocked(link);
    assert!(broker.poll_transmit().is_none());
    assert_eq!(broker.unacknowledged(), 1);
    broker.writable(link);
    broker.wrote(link, 1);
    assert_eq!(writes(&mut broker), [(links[0], "own 2".to_owned())]);
}

#[test]
fn nobody_waits_for_a_link_that_is_gone() {
    let (mut broker, links) = broker(BrokerLimits::default(), 2);
    broker.blocked(links[1]);
    tell(&mut broker, links[0], &[publish(2, "a")]);
    assert!(broker.poll_transmit().is_none());
    broker.detached(now(), links[1]);
    assert_eq!(writes(&mut broker), [(links[0], "own 2".to_owned())]);
    assert_eq!(broker.topics().subscribers("a"), [links[0].0]);
}

#[test]
fn what_a_dead_publisher_sent_is_delivered() {
    let (mut broker, links) = broker(BrokerLimits::default(), 2);
    tell(&mut broker, links[0], &[publish(2, "a")]);
    broker.detached(now(), links[0]);
    let heir = broker.attach(now());
    assert_eq!(heir, links[0], "numbers are used again");
    assert_eq!(writes(&mut broker), [(links[1], "a=1".to_owned())]);
    assert_eq!(broker.unacknowledged(), 0);
}

#[test]
fn a_worker_that_does_not_read_is_named_and_costs_no_more_than_its_limit() {
    let limits = BrokerLimits { link_bytes_max: 100, ..BrokerLimits::default() };
    let (mut broker, links) = broker(limits, 3);
    broker.blocked(links[2]);
    for cid in 2..20 {
        tell(&mut broker, links[0], &[publish(cid, "a")]);
        writes(&mut broker);
    }
    assert!(broker.queued(links[2]) <= 100);
    assert_eq!(broker.poll_event(), Some(BrokerEvent::Overloaded(links[2])));
    assert_eq!(broker.poll_event(), None);

    broker.writable(links[2]);
    let rest = writes(&mut broker);
    let to = |to: LinkId| rest.iter().find(|(link, _)| *link == to).map_or("", |(_, text)| text.as_str());
    assert!(to(links[2]).starts_with("a=1, a=1"), "{rest:?}");
    assert!(to(links[0]).starts_with("own 2, own 3"), "{rest:?}");
    assert!(to(links[0]).contains("BrokerError") && to(links[0]).contains("brokerLinkLimit is 100"), "{rest:?}");
    assert_eq!(broker.poll_event(), Some(BrokerEvent::Relieved(links[2])));
    tell(&mut broker, links[0], &[publish(20, "a")]);
    assert_eq!(writes(&mut broker).len(), 3);
}

#[test]
fn who_is_only_held_up_is_not_blamed() {
    let limits = BrokerLimits { link_bytes_max: 150, ..BrokerLimits::default() };
    let (mut broker, links) = broker(limits, 3);
    tell(&mut broker, links[0], &[subscribe(2, "b")]);
    writes(&mut broker);
    // An acknowledgement at the head of link 0 waits for link 2, which does not read; "b" fills up behind it.
    broker.blocked(links[2]);
    tell(&mut broker, links[0], &[publish(3, "a")]);
    for cid in 2..30 {
        tell(&mut broker, links[1], &[publish(cid, "b")]);
        writes(&mut broker);
    }
    assert_eq!(broker.poll_event(), Some(BrokerEvent::Subscribe { channel: "b".into() }));
    assert_eq!(broker.poll_event(), Some(BrokerEvent::Overloaded(links[2])));
    assert_eq!(broker.poll_event(), None);
}

#[test]
fn who_never_reads_answers_loses_the_link() {
    let limits = BrokerLimits { link_bytes_max: 100, answers_bytes_max: 100, ..BrokerLimits::default() };
    let (mut broker, links) = broker(limits, 1);
    broker.blocked(links[0]);
    let outcome = (2..).find_map(|cid| broker.handle_bytes(now(), links[0], &bytes(&[publish(cid, "a")])).err());
    assert_eq!(outcome, Some(LinkError::AnswersOverLimit { max: 100 }));
    assert!(broker.queued(links[0]) <= 220);
}

#[test]
fn channels_are_bounded_but_for_those_that_are_there() {
    let limits = BrokerLimits { channels_max: 2, names_bytes_max: 10, ..BrokerLimits::default() };
    let (mut broker, links) = broker(limits, 2);
    tell(&mut broker, links[0], &[subscribe(2, "0123456789"), subscribe(3, "b"), subscribe(4, "c"), subscribe(5, "a")]);
    let text = writes(&mut broker).remove(0).1;
    let words: Vec<&str> = text.split(", ").collect();
    assert!(words[0].starts_with("nack 2") && words[0].contains("names_bytes_max is 10"), "{text}");
    assert!(words[1].starts_with("ack 3") && words[2].contains("channels_max is 2"), "{text}");
    assert!(text.ends_with("ack 5"), "{text}");
}

#[test]
fn the_first_and_the_last_subscriber_are_events() {
    let (mut broker, links) = broker(BrokerLimits::default(), 2);
    tell(&mut broker, links[0], &[LinkMsg::Unsubscribe { channel: "a" }, LinkMsg::Unsubscribe { channel: "a" }]);
    assert_eq!(broker.poll_event(), None);
    tell(&mut broker, links[1], &[subscribe(2, "b"), subscribe(3, "b")]);
    assert_eq!(broker.poll_event(), Some(BrokerEvent::Subscribe { channel: "b".into() }));
    broker.detached(now(), links[1]);
    assert_eq!(broker.poll_event(), Some(BrokerEvent::Unsubscribe { channel: "a".into() }));
    assert_eq!(broker.poll_event(), Some(BrokerEvent::Unsubscribe { channel: "b".into() }));
    assert_eq!(broker.poll_event(), None);
    let link = broker.attach(now());
    tell(&mut broker, link, &[LinkMsg::Hello { version: LINK_VERSION, worker: 5, pid: 77 }]);
    assert_eq!(broker.poll_event(), Some(BrokerEvent::Hello { link, worker: 5, pid: 77 }));
}

#[test]
fn a_link_that_breaks_the_rules_ends() {
    let of = |messages: &[LinkMsg<'_>]| {
        let mut broker = Broker::new(BrokerLimits::default(), 7);
        let link = broker.attach(now());
        broker.handle_bytes(now(), link, &bytes(messages)).unwrap_err()
    };
    assert_eq!(of(&[publish(1, "a")]), LinkError::Hello);
    assert_eq!(of(&[hello(0), hello(0)]), LinkError::Hello);
    let other = LinkMsg::Hello { version: LINK_VERSION + 1, worker: 0, pid: 0 };
    assert_eq!(of(&[other]), LinkError::Version { theirs: LINK_VERSION + 1, ours: LINK_VERSION });
    assert_eq!(of(&[hello(0), LinkMsg::Ack { cid: 1, deliver: true }]), LinkError::Direction("Ack"));
    let mut broker = Broker::new(BrokerLimits::default(), 7);
    let link = broker.attach(now());
    let outcome = broker.handle_bytes(now(), link, &[0, 0, 0, 1, 99]);
    assert_eq!(outcome, Err(LinkError::Ipc(IpcError::UnknownKind(99))));
}

proptest! {
    #[test]
    fn no_bytes_and_no_reports_panic(
        pieces in prop::collection::vec((0u32..4, prop::collection::vec(any::<u8>(), 0..40), 0u8..6), 0..40),
    ) {
        let (mut broker, _) = broker(BrokerLimits::default(), 3);
        for (link, data, then) in pieces {
            let link = LinkId(link);
            let _ = broker.handle_bytes(now(), link, &data);
            match then {
                0 => broker.detached(now(), link),
                1 => broker.blocked(link),
                2 => broker.writable(link),
                3 => _ = broker.attach(now()),
                _ => _ = writes(&mut broker),
            }
        }
    }
}

#[test]
fn a_successor_holds_publishes_until_it_knows_who_is_subscribed() {
    let mut broker = Broker::successor(BrokerLimits::default(), 7);
    let (a, b) = (broker.attach(now()), broker.attach(now()));
    tell(&mut broker, a, &[hello(0), subscribe(1, "a"), LinkMsg::Synced, publish(2, "a")]);
    assert_eq!(writes(&mut broker), [(a, "ack 1".to_owned())], "the publish waits");
    broker.all_attached();
    broker.release_held(|_, _| ());
    assert_eq!(writes(&mut broker), []);
    tell(&mut broker, b, &[hello(1), subscribe(1, "a")]);
    assert_eq!(writes(&mut broker), [(b, "ack 1".to_owned())]);
    let mut routed = 0;
    let synced = bytes(&[LinkMsg::Synced, publish(2, "a")]);
    broker.handle_bytes_with(now(), b, &synced, |_, _| routed += 1).unwrap();
    assert_eq!(routed, 2, "in order, and the application sees both");
    let expected = [(b, "a=1"), (a, "own 2, a=1"), (b, "own 2")].map(|(link, text)| (link, text.to_owned()));
    assert_eq!(writes(&mut broker), expected, "the first publish reaches who came back after it");
}

#[test]
fn a_successor_waits_for_nobody_who_is_gone_and_holds_no_more_than_its_limit() {
    let limits = BrokerLimits { link_bytes_max: 1000, ..BrokerLimits::default() };
    let mut broker = Broker::successor(limits, 7);
    let (a, b, c) = (broker.attach(now()), broker.attach(now()), broker.attach(now()));
    broker.all_attached();
    tell(&mut broker, a, &[hello(0), LinkMsg::Synced]);
    tell(&mut broker, b, &[hello(1), LinkMsg::Synced, publish(1, "x")]);
    for cid in 1..100 {
        tell(&mut broker, a, &[publish(cid, "x")]);
    }
    let refused = writes(&mut broker);
    assert!(refused.iter().all(|(link, text)| *link == a && text.contains("nack")), "{refused:?}");
    broker.detached(now(), b);
    broker.detached(now(), c);
    broker.release_held(|_, _| ());
    let acks = writes(&mut broker).iter().map(|(link, text)| (*link, text.matches("ack").count())).collect::<Vec<_>>();
    let refused = refused.iter().map(|(_, text)| text.matches("nack").count()).sum::<usize>();
    assert_eq!(acks, [(a, 99 - refused)], "the publish of one that is gone is gone");
}

#[test]
fn a_successor_does_not_wait_for_guests() {
    let mut broker = Broker::successor(BrokerLimits::default(), 7);
    let (guest, a) = (broker.attach_guest(now()), broker.attach(now()));
    tell(&mut broker, guest, &[hello(9), subscribe(1, "a"), publish(2, "a")]);
    broker.all_attached();
    tell(&mut broker, a, &[hello(0), subscribe(1, "a"), LinkMsg::Synced]);
    broker.release_held(|_, _| ());
    let seen = writes(&mut broker);
    assert!(seen.contains(&(a, "ack 1, a=1".to_owned())), "the guest's publish was held for the worker: {seen:?}");
    assert!(seen.contains(&(guest, "own 2".to_owned())), "{seen:?}");
}
