//! The cluster in one thread: the real supervisor, engines and brokers, with clients and a network that breaks.
//!
//! ```text
//!   clients ──► net ──► master: Supervisor ──► workers: Engine + application ──► net ──► brokers: Broker
//!      └──────────────── model: what each of them saw, against what has to hold ◄──────────┘
//! ```
//!
//! A failing run prints its seed; `SC_SIM_SEED=0x… cargo test -p conformance --test sim` runs it again, step for step.
//! `SC_TEST_LONG=1` runs many more seeds.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod app;
mod broker;
mod child;
mod client;
mod clock;
mod conn;
mod env;
mod fault;
mod master;
mod model;
mod net;
mod process;
mod rng;
mod wire;
mod worker;
mod workload;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use fault::Fault;
use world::{Outcome, World};

/// One run. A panic in a machine is told with the seed, as a violation is.
fn run(seed: u64, fault: Option<Fault>) -> Outcome {
    let mut world = World::new(seed, fault);
    match catch_unwind(AssertUnwindSafe(|| world.run())) {
        Ok(outcome) => outcome,
        Err(panic) => {
            eprintln!("a machine panicked at step {} of SC_SIM_SEED={seed:#x}", world.steps);
            resume_unwind(panic)
        }
    }
}

fn expect_good(seed: u64) -> Outcome {
    let outcome = run(seed, None);
    if let Some(violation) = &outcome.violation {
        panic!("SC_SIM_SEED={seed:#x} step {}: {violation}", outcome.steps);
    }
    outcome
}

#[test]
fn a_cluster_keeps_its_promises() {
    if let Ok(seed) = std::env::var("SC_SIM_SEED") {
        let seed = u64::from_str_radix(seed.trim_start_matches("0x"), 16).expect("SC_SIM_SEED: a number in hex");
        let outcome = expect_good(seed);
        return println!("{outcome:?}");
    }
    let seeds = if std::env::var_os("SC_TEST_LONG").is_some() { 5000 } else { 40 };
    let (mut delivered, mut acked, mut starts) = (0, 0, 0);
    for seed in 0..seeds {
        let outcome = expect_good(0x5c00 + seed);
        delivered += outcome.delivered;
        acked += outcome.acked;
        starts += outcome.starts;
    }
    assert!(delivered > 100 * seeds && acked > 10 * seeds && starts > 3 * seeds, "the runs are about something");
    println!("{seeds} seeds: {acked} publishes acknowledged, {delivered} deliveries, {starts} processes started");
}

#[test]
fn a_seed_replays_exactly() {
    assert_eq!(run(7, None), run(7, None));
    assert_ne!(run(7, None).digest, run(8, None).digest);
}

/// Runs seeds with the fault until it is caught as one of these, and answers how.
fn caught(fault: Fault, words: &[&str]) -> String {
    let mut others = Vec::new();
    for seed in 0..60 {
        match run(seed, Some(fault)).violation {
            Some(violation) if words.iter().any(|words| violation.contains(words)) => return violation,
            other => others.extend(other),
        }
    }
    panic!("{fault:?} is not noticed as {words:?}, but so: {others:?}")
}

#[test]
fn deliberate_faults_are_caught() {
    let expected: [(Fault, &[&str]); 12] = [
        (Fault::LoseResubscription, &["never got it", "has lost"]),
        (Fault::AnswerTwice, &["which waits for none"]),
        (Fault::LoseAnswer, &["never got answers", "before the ack", "overtook"]),
        (Fault::SwapDeliveries, &["later in the channel's order"]),
        (Fault::LoseDelivery, &["never got it"]),
        (Fault::StaleDelivery, &["without a subscription", "twice"]),
        (Fault::SwapAckAndDelivery, &["wrong side"]),
        (Fault::LoseConnection, &["is let go", "and not held"]),
        (Fault::LoseChild, &["these run"]),
        (Fault::ShareConnection, &["two workers"]),
        (Fault::AckBeforeEmits, &["an ack before what its handler emitted"]),
        (Fault::NoLimit, &["bytes wait for one socket"]),
    ];
    for (fault, words) in expected {
        println!("{fault:?}: {}", caught(fault, words));
    }
}
