//! Who gets a ping when, and which.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use sc_protocol::Version;
use sc_protocol::heartbeat::{PING_BOTH, PING_V1, PING_V2, Policy, Probe, Ring, Speaks, Verdict};

#[expect(clippy::disallowed_methods, reason = "any instant will do as the beginning of virtual time")]
fn start() -> Instant {
    Instant::now()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The longest slot of an interval.
fn slot(interval: Duration) -> Duration {
    if interval < ms(64) { ms(1) } else { (interval / 64).min(ms(1000)) }
}

proptest! {
    /// A loop that sleeps until poll_timeout and is never late.
    #[test]
    fn every_key_is_due_once_per_interval(
        interval in prop_oneof![Just(8000u64), 1u64..200, 1u64..300_000],
        gaps in prop::collection::vec(0.0f64..0.5, 1..30),
    ) {
        let (start, interval) = (start(), ms(interval));
        let mut ring = Ring::new(start, interval);
        let mut now = start;
        let mut turns: Vec<(Instant, Vec<Instant>)> = Vec::new();
        for gap in gaps.into_iter().chain([3.2]) {
            let until = now + interval.mul_f64(gap);
            while let Some(wake) = ring.poll_timeout().filter(|wake| *wake <= until) {
                prop_assert!(wake >= now);
                now = wake;
                ring.advance(now, |key: usize| { turns[key].1.push(now); true });
                prop_assert!(ring.poll_timeout().is_none_or(|wake| wake > now), "a busy loop");
            }
            now = until;
            ring.insert(now, turns.len());
            turns.push((now, Vec::new()));
            prop_assert_eq!(ring.len(), turns.len());
        }
        turns.pop();
        for (inserted, turns) in turns {
            prop_assert!(turns.len() >= 3);
            let first = turns[0] - inserted;
            prop_assert!(first <= interval, "{:?} late", first - interval);
            prop_assert!(first + slot(interval) >= interval, "{:?} early", interval - first);
            prop_assert!(turns.windows(2).all(|pair| pair[1] - pair[0] == interval));
        }
    }

    /// A loop that comes whenever it can.
    #[test]
    fn a_late_loop_gives_one_turn_per_delay(naps in prop::collection::vec(0u64..30_000, 1..60)) {
        let (start, interval) = (start(), ms(8000));
        let mut ring = Ring::new(start, interval);
        ring.insert(start, ());
        let (mut now, mut turns, mut due) = (start, 0, start + interval);
        for nap in naps {
            now += ms(nap);
            let mut times = 0;
            ring.advance(now, |()| { times += 1; true });
            prop_assert_eq!(times, u64::from(now >= due));
            turns += times;
            while due <= now {
                due += interval;
            }
            prop_assert_eq!(ring.poll_timeout(), Some(due), "after {} turns", turns);
        }
    }
}

#[test]
fn a_key_that_is_not_kept_leaves() {
    let (start, interval) = (start(), ms(8000));
    let mut ring = Ring::new(start, interval);
    for key in 0..10 {
        ring.insert(start, key);
    }
    let mut seen = Vec::new();
    ring.advance(start + interval, |key| {
        seen.push(key);
        key % 3 == 0
    });
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
    assert_eq!(ring.len(), 4);
    ring.advance(start + 2 * interval, |_| false);
    assert_eq!((ring.len(), ring.is_empty(), ring.poll_timeout()), (0, true, None));
}

#[test]
fn a_ring_that_was_empty_for_long_begins_anew() {
    let (start, interval) = (start(), ms(8000));
    let mut ring = Ring::new(start, interval);
    assert_eq!(ring.poll_timeout(), None);
    let later = start + ms(123_456_789);
    ring.insert(later, ());
    assert_eq!(ring.poll_timeout(), Some(later + interval));
}

#[test]
fn keys_are_spread_over_the_interval() {
    let (start, interval) = (start(), ms(6400));
    let mut ring = Ring::new(start, interval);
    for key in 0..64 {
        ring.insert(start + ms(100) * key, key);
    }
    for key in 0..64 {
        let now = ring.poll_timeout().unwrap();
        assert_eq!(now, start + interval + ms(100) * key);
        let mut due = Vec::new();
        ring.advance(now, |key| {
            due.push(key);
            true
        });
        assert_eq!(due, [key]);
    }
}

#[test]
fn extreme_intervals_do() {
    for interval in [Duration::ZERO, ms(1), ms(64_001), ms(1 << 31), Duration::MAX] {
        let start = start();
        let mut ring = Ring::new(start, interval);
        ring.insert(start, ());
        let wake = ring.poll_timeout().unwrap();
        assert!(wake > start && wake - start <= ms((1 << 31) - 1), "{interval:?}");
        let mut turns = 0;
        ring.advance(wake, |()| {
            turns += 1;
            true
        });
        assert_eq!(turns, 1);
    }
}

#[test]
fn the_first_pong_decides() {
    for (version, other, ping) in [(Version::V1, Version::V2, PING_V1), (Version::V2, Version::V1, PING_V2)] {
        let mut probe = Probe::new(Policy::Auto);
        assert_eq!((probe.speaks(), probe.version()), (Speaks::Unknown, Version::V1));
        probe.on_interval();
        assert_eq!(probe.pings_to_send(), PING_BOTH, "until the first pong");
        assert_eq!(probe.on_pong(version), Verdict::Decided(version));
        assert_eq!(probe.pings_to_send(), ping);
        assert_eq!(probe.on_pong(other), Verdict::Ignored, "it may answer the other ping");
        assert_eq!(probe.on_pong(version), Verdict::Pong);
        probe.on_interval();
        assert_eq!(probe.on_pong(other), Verdict::Raw);
        assert_eq!(probe.on_pong(version), Verdict::Pong);
        assert_eq!((probe.speaks(), probe.version()), (Speaks::Known(version), version));
    }
}

#[test]
fn a_configured_version_is_not_probed() {
    for (policy, version, other, ping) in
        [(Policy::V1, Version::V1, Version::V2, PING_V1), (Policy::V2, Version::V2, Version::V1, PING_V2)]
    {
        let mut probe = Probe::new(policy);
        assert_eq!((probe.pings_to_send(), probe.version()), (ping, version));
        assert_eq!(probe.on_pong(other), Verdict::Raw);
        assert_eq!(probe.on_pong(version), Verdict::Pong);
    }
    assert_eq!(size_of::<Probe>(), 2);
    assert_eq!([PING_V1, PING_V2].concat(), PING_BOTH);
}
