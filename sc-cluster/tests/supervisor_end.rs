//! Asked to end, the cluster ends: in order if it can, and in time in any case.

mod rig;

use rig::{MS, Rig, SEC, config};
use sc_cluster::supervisor::{KILL_PATIENCE, SupIn};

#[test]
fn workers_are_asked_first_then_brokers_and_the_code_is_0() {
    let mut rig = Rig::running(r#"{"workers": 2, "brokers": 2}"#);
    rig.input(SupIn::Terminate(15));
    assert!(!rig.listening);
    assert!(rig.paused);
    for id in 0..2 {
        assert!(rig.processes[&rig.worker(id)].asked);
        assert!(!rig.processes[&rig.broker(id)].asked, "workers may still need them");
    }
    rig.die(rig.worker(0));
    rig.die(rig.worker(1));
    assert!(rig.processes[&rig.broker(0)].asked && rig.processes[&rig.broker(1)].asked);
    rig.die(rig.broker(0));
    assert_eq!(rig.exit, None);
    rig.die(rig.broker(1));
    assert_eq!(rig.exit, Some(0));
}

#[test]
fn all_are_asked_and_who_does_not_end_in_time_is_killed() {
    let mut rig = Rig::running(r#"{"workers": 2, "processTermTimeout": 4000}"#);
    rig.input(SupIn::Terminate(2));
    rig.advance(3999 * MS);
    assert!(rig.processes.values().all(|process| process.asked && !process.killed));
    rig.advance(MS);
    assert!(rig.processes.values().all(|process| process.killed));
    let all: Vec<_> = rig.processes.keys().copied().collect();
    all.into_iter().for_each(|child| rig.die(child));
    assert_eq!(rig.exit, Some(0));
}

#[test]
fn a_second_signal_kills_at_once() {
    let mut rig = Rig::running("{}");
    rig.input(SupIn::Terminate(2));
    rig.input(SupIn::Terminate(2));
    assert!(rig.processes.values().all(|process| process.killed));
    rig.die(rig.worker(0));
    rig.die(rig.broker(0));
    assert_eq!(rig.exit, Some(130));
}

#[test]
fn not_even_a_process_that_cannot_be_killed_holds_the_master() {
    let mut rig = Rig::running(r#"{"processTermTimeout": 0}"#);
    rig.input(SupIn::Terminate(15));
    assert!(rig.processes.values().all(|process| process.killed));
    rig.advance(KILL_PATIENCE);
    assert_eq!(rig.exit, Some(1));
    assert!(rig.supervisor.poll_output().is_none());
}

#[test]
fn connections_on_their_way_are_closed_and_late_ones_too() {
    let mut rig = Rig::running(r#"{"workers": 1}"#);
    rig.connect(300);
    rig.input(SupIn::Terminate(15));
    let worker = rig.worker(0);
    assert_eq!(rig.held.len(), rig.process(worker).inbox.len(), "what was sent may still be taken");
    rig.take(worker, 100);
    rig.die(worker);
    assert!(rig.held.is_empty());
    rig.connect(1);
    assert!(rig.held.is_empty());
}

#[test]
fn nobody_is_started_any_more() {
    let mut rig = Rig::running(r#"{"workers": 2}"#);
    rig.die(rig.worker(0));
    rig.die(rig.worker(0));
    let before = rig.spawned;
    rig.input(SupIn::Terminate(15));
    rig.input(SupIn::Reload);
    rig.advance(5 * SEC);
    let all: Vec<_> = rig.processes.keys().copied().collect();
    all.into_iter().for_each(|child| rig.die(child));
    assert_eq!((rig.spawned, rig.exit), (before, Some(0)));
}

#[test]
fn a_signal_during_the_start_ends_it_too() {
    let mut rig = Rig::new(config(r#"{"workers": 2}"#));
    rig.input(SupIn::Terminate(15));
    assert!(rig.processes.values().filter(|process| process.is_worker).all(|process| process.asked));
    let all: Vec<_> = rig.processes.keys().copied().collect();
    all.into_iter().for_each(|child| rig.die(child));
    assert_eq!(rig.exit, Some(0));
}
