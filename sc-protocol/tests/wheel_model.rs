//! The timer wheel against a sorted list.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use sc_protocol::wheel::{TimerId, Wheel};

const TICK_MS: u64 = 10;

#[expect(clippy::disallowed_methods, reason = "any instant will do as the beginning of virtual time")]
fn start() -> Instant {
    Instant::now()
}

#[derive(Debug, Clone)]
enum Step {
    /// A timer this many milliseconds from now; negative: in the past.
    Insert(i64),
    /// Cancel one of all timers ever made.
    Cancel(prop::sample::Index),
    /// Let this many milliseconds pass.
    Pass(u64),
    /// Sleep until `poll_timeout`.
    Sleep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let far = prop_oneof![-50i64..200, 0i64..2000, 0i64..100_000, 0i64..10_000_000_000];
    let pass = prop_oneof![0u64..30, 0u64..1000, 0u64..1_000_000, 0u64..10_000_000_000];
    prop::collection::vec(
        prop_oneof![
            4 => far.prop_map(Step::Insert),
            1 => any::<prop::sample::Index>().prop_map(Step::Cancel),
            2 => pass.prop_map(Step::Pass),
            2 => Just(Step::Sleep),
        ],
        0..80,
    )
}

/// The model: all timers in the order of their making, with the tick in which each is due.
#[derive(Debug, Default)]
struct Model {
    live: Vec<(u64, usize)>,
}

impl Model {
    fn due(&mut self, now_tick: u64) -> Vec<usize> {
        let mut due: Vec<_> = self.live.extract_if(.., |(tick, _)| *tick <= now_tick).collect();
        due.sort_by_key(|(tick, _)| *tick);
        due.into_iter().map(|(_, value)| value).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn timers_fire_as_in_a_sorted_list(steps in steps()) {
        let start = start();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut wheel = Wheel::new(start, Duration::from_millis(TICK_MS));
        let (mut model, mut ids, mut now): (Model, Vec<TimerId>, u64) = (Model::default(), Vec::new(), 0);
        for step in steps {
            match step {
                Step::Insert(ahead) => {
                    let deadline = now.saturating_add_signed(ahead);
                    ids.push(wheel.insert(at(deadline), ids.len()));
                    // What is overdue has no order of its own: it is due now.
                    let tick = deadline.div_ceil(TICK_MS).max(now / TICK_MS);
                    model.live.push((tick, ids.len() - 1));
                }
                Step::Cancel(index) if !ids.is_empty() => {
                    let value = index.index(ids.len());
                    let place = model.live.iter().position(|(_, live)| *live == value);
                    place.map(|place| model.live.remove(place));
                    prop_assert_eq!(wheel.cancel(ids[value]), place.map(|_| value));
                    prop_assert_eq!(wheel.cancel(ids[value]), None);
                }
                Step::Cancel(_) => {}
                Step::Pass(ms) => now += ms,
                Step::Sleep => {
                    if let Some(wake) = wheel.poll_timeout() {
                        now = now.max((wake - start).as_millis() as u64);
                    }
                }
            }
            prop_assert_eq!(wheel.len(), model.live.len());
            let earliest = model.live.iter().map(|(tick, _)| tick * TICK_MS).min();
            prop_assert_eq!(wheel.poll_timeout().is_none(), earliest.is_none());
            if let (Some(wake), Some(earliest)) = (wheel.poll_timeout(), earliest) {
                prop_assert!(wake <= at(earliest), "would oversleep by {:?}", wake - at(earliest));
            }
            if matches!(step, Step::Pass(_) | Step::Sleep) {
                let mut due = Vec::new();
                wheel.advance(at(now), &mut due);
                prop_assert_eq!(due, model.due(now / TICK_MS));
                prop_assert!(wheel.poll_timeout().is_none_or(|wake| wake > at(now)), "a busy loop");
            }
        }
    }
}

#[test]
fn a_sleeper_wakes_a_few_times_at_most() {
    let start = start();
    let mut wheel = Wheel::new(start, Duration::from_millis(TICK_MS));
    wheel.insert(start + Duration::from_secs(24 * 3600), ());
    let (mut due, mut wakes) = (Vec::new(), 0);
    while let Some(wake) = wheel.poll_timeout() {
        wakes += 1;
        wheel.advance(wake, &mut due);
    }
    assert_eq!(due.len(), 1);
    assert!(wakes <= 5, "once per level, not {wakes} times");
}

#[test]
fn a_place_that_is_used_again_has_another_id() {
    let start = start();
    let mut wheel = Wheel::new(start, Duration::from_millis(TICK_MS));
    let first = wheel.insert(start, 1);
    let mut due = Vec::new();
    wheel.advance(start, &mut due);
    assert_eq!(due, [1], "what is overdue does not wait for a tick");
    let second = wheel.insert(start, 2);
    assert_ne!(first, second);
    assert_eq!(wheel.cancel(first), None);
    assert_eq!(wheel.cancel(second), Some(2));
    assert!(wheel.is_empty());
}

#[test]
fn time_that_goes_back_changes_nothing() {
    let start = start();
    let mut wheel = Wheel::new(start, Duration::from_millis(TICK_MS));
    let mut due = Vec::new();
    wheel.advance(start + Duration::from_secs(1), &mut due);
    wheel.insert(start + Duration::from_secs(1), 'a');
    wheel.advance(start, &mut due);
    assert_eq!(due, []);
    wheel.advance(start + Duration::from_secs(1), &mut due);
    assert_eq!(due, ['a']);
}

#[test]
fn any_tick_and_any_deadline_do() {
    let start = start();
    for tick in [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(1 << 40)] {
        let mut wheel = Wheel::new(start, tick);
        for far in [1, 1 << 20, 1 << 30, 1 << 33] {
            wheel.insert(start + Duration::from_secs(far), far);
        }
        let mut due = Vec::new();
        for _ in 0..100 {
            let Some(wake) = wheel.poll_timeout() else { break };
            wheel.advance(wake, &mut due);
        }
        assert_eq!(due, [1, 1 << 20, 1 << 30, 1 << 33], "{tick:?}");
    }
}
