//! Processes that end are replaced: soon, never in a hot loop, and never given up in silence.

mod rig;

use std::time::Duration;

use rig::{MS, Rig, SEC, config};
use sc_cluster::supervisor::{BACKOFF_MAX, ClusterEvent, ExitInfo, STABLE_AFTER, START_PATIENCE, SupIn, WRONG_VERSION};
use sc_protocol::ipc::Control;

#[test]
fn every_worker_has_a_link_to_every_broker_also_after_a_respawn() {
    let mut rig = Rig::running(r#"{"workers": 3, "brokers": 2}"#);
    assert_eq!(rig.processes.len(), 5);
    for id in 0..3 {
        let worker = rig.worker(id);
        assert_eq!(rig.process(worker).links.len(), 2);
    }
    rig.die(rig.broker(1));
    let broker = rig.broker(1);
    assert_eq!((rig.process(broker).links.len(), rig.process(broker).linked), (3, Some(3)));
    rig.die(rig.worker(2));
    let worker = rig.worker(2);
    assert_eq!(rig.process(worker).links.len(), 2);
    assert_eq!(rig.process(broker).links.len(), 3);
}

#[test]
fn the_cluster_is_ready_once_when_all_are() {
    let mut rig = Rig::new(config(r#"{"workers": 2, "brokers": 1}"#));
    let count = |rig: &Rig| rig.events.iter().filter(|event| **event == ClusterEvent::Ready).count();
    assert!(rig.paused);
    rig.control(rig.worker(0), Control::Ready);
    assert!(!rig.paused, "one worker is enough to accept");
    rig.control(rig.worker(1), Control::Ready);
    assert_eq!(count(&rig), 0);
    rig.control(rig.broker(0), Control::Ready);
    assert_eq!(count(&rig), 1);
    rig.die(rig.worker(1));
    rig.ready_all();
    assert_eq!(count(&rig), 1);
}

#[test]
fn a_worker_that_ran_well_is_replaced_at_once() {
    let mut rig = Rig::running(r#"{"workers": 2, "workerHangTimeout": 0}"#);
    for _ in 0..20 {
        rig.advance(STABLE_AFTER);
        let old = rig.worker(1);
        rig.die(old);
        assert_ne!(rig.worker(1), old);
        rig.ready_all();
    }
}

#[test]
fn one_that_dies_at_once_again_and_again_gets_growing_pauses_and_never_none() {
    let mut rig = Rig::running(r#"{"workers": 1, "workerHangTimeout": 0}"#);
    let (mut pauses, mut before) = (Vec::new(), 0);
    for _ in 0..12 {
        rig.die(rig.worker(0));
        for _ in 0..BACKOFF_MAX.as_millis() {
            if rig.processes.values().any(|p| p.is_worker) {
                break;
            }
            rig.advance(MS);
        }
        let worker = rig.worker(0);
        let spawned = rig.process(worker).spawned_ms;
        pauses.push(spawned - before);
        before = spawned;
    }
    assert_eq!(pauses, [0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000, 10_000]);
    let exits = rig.events.iter().filter(|event| matches!(event, ClusterEvent::Exit { .. })).count();
    assert_eq!(exits, 12, "each end is told");
    assert!(rig.warnings().iter().any(|text| text.contains("5 times in a row")));
    // A run that lasts makes up for it.
    rig.ready_all();
    rig.advance(STABLE_AFTER);
    let old = rig.worker(0);
    rig.die(old);
    assert_ne!(rig.worker(0), old);
}

#[test]
fn a_spawn_that_fails_is_tried_again_with_pauses() {
    let mut rig = Rig::running(r#"{"workers": 1, "workerHangTimeout": 0}"#);
    rig.spawn_fails = true;
    rig.die(rig.worker(0));
    rig.advance(60 * SEC);
    assert!((5..25).contains(&rig.spawned), "{}", rig.spawned);
    rig.spawn_fails = false;
    rig.advance(BACKOFF_MAX);
    assert!(rig.processes.values().any(|p| p.is_worker));
}

#[test]
fn without_reboot_the_last_worker_takes_the_cluster_with_it_and_brokers_are_replaced_all_the_same() {
    let mut rig = Rig::running(r#"{"workers": 2, "rebootWorkerOnCrash": false}"#);
    rig.die(rig.broker(0));
    assert_eq!(rig.processes.len(), 3);
    rig.die(rig.worker(0));
    assert_eq!((rig.processes.len(), rig.exit), (2, None));
    rig.die(rig.worker(1));
    let broker = rig.broker(0);
    assert!(rig.process(broker).asked);
    rig.die(broker);
    assert_eq!(rig.exit, Some(1));
    assert!(rig.warnings().iter().any(|text| text.contains("no worker is left")));
}

#[test]
fn one_that_stops_beating_is_killed_and_replaced() {
    let mut rig = Rig::running(r#"{"workers": 2, "workerHangTimeout": 5000}"#);
    let all: Vec<_> = rig.processes.keys().copied().collect();
    rig.advance_beating(10 * SEC, &all);
    let (hung, others): (Vec<_>, Vec<_>) = all.iter().partition(|child| **child == rig.worker(1));
    let others: Vec<_> = others.into_iter().copied().collect();
    rig.advance_beating(4 * SEC, &others);
    assert!(!rig.process(*hung[0]).killed);
    rig.advance_beating(2 * SEC, &others);
    assert!(rig.process(*hung[0]).killed);
    rig.die(*hung[0]);
    assert_eq!(rig.processes.len(), 3);
    assert!(rig.processes.values().all(|process| !process.killed));
}

#[test]
fn all_that_hang_at_once_are_noticed_and_with_0_nobody_is() {
    for (timeout, killed) in [(5000, true), (0, false)] {
        let mut rig = Rig::running(&format!(r#"{{"workers": 1, "workerHangTimeout": {timeout}}}"#));
        rig.advance_beating(2 * SEC, &[rig.worker(0), rig.broker(0)]);
        rig.advance(30 * SEC);
        assert!(rig.processes.values().all(|process| process.killed == killed));
    }
}

#[test]
fn a_master_that_was_stopped_itself_blames_nobody() {
    let mut rig = Rig::running(r#"{"workers": 2, "workerHangTimeout": 5000}"#);
    let all: Vec<_> = rig.processes.keys().copied().collect();
    rig.advance_beating(2 * SEC, &all);
    rig.now += Duration::from_secs(3600);
    rig.advance(SEC);
    assert!(rig.processes.values().all(|process| !process.killed));
}

#[test]
fn a_program_of_another_version_ends_a_cluster_that_has_just_begun_with_one_error() {
    let mut rig = Rig::new(config(r#"{"workers": 2}"#));
    let wrong = ExitInfo { code: Some(WRONG_VERSION.into()), signal: None };
    for id in 0..2 {
        let worker = rig.worker(id);
        rig.processes.remove(&worker);
        rig.input(SupIn::Exited(worker, wrong));
    }
    rig.die(rig.broker(0));
    assert_eq!((rig.exit, rig.warnings().len()), (Some(1), 1), "{:?}", rig.warnings());
}

#[test]
fn a_child_that_is_not_ready_is_mentioned_and_left_alone() {
    let mut rig = Rig::new(config("{}"));
    rig.advance(START_PATIENCE * 2 + SEC);
    assert_eq!(rig.warnings().len(), 4);
    assert!(rig.processes.values().all(|process| !process.killed));
}

#[test]
fn a_broken_channel_or_a_forged_message_costs_the_child() {
    let mut rig = Rig::running(r#"{"workers": 3}"#);
    rig.input(SupIn::Broken(rig.worker(0), "garbage".to_owned()));
    rig.control(rig.worker(1), Control::Terminate);
    rig.control(rig.worker(2), Control::ConnsTaken { total: 1 });
    for id in 0..3 {
        let worker = rig.worker(id);
        assert!(rig.process(worker).killed);
        rig.die(worker);
    }
    assert_eq!(rig.processes.len(), 4);
}

#[test]
fn a_reload_replaces_one_after_the_other_without_a_gap() {
    let mut rig = Rig::running(r#"{"workers": 2, "workerHangTimeout": 0}"#);
    let old = [rig.worker(0), rig.worker(1)];
    rig.advance(STABLE_AFTER);
    rig.input(SupIn::Reload);
    assert_eq!(rig.processes.len(), 4, "one new beside the old ones");
    assert!(!rig.process(old[0]).drained, "the old one serves until the new one does");
    rig.control(rig.worker(0), Control::Ready);
    assert!(rig.process(old[0]).drained && !rig.process(old[1]).drained);
    rig.control(rig.worker(1), Control::Ready);
    assert!(rig.process(old[1]).drained);
    let new = [rig.worker(0), rig.worker(1)];
    rig.connect(4);
    assert!(old.iter().all(|child| rig.processes[child].inbox.is_empty()));
    assert!(new.iter().all(|child| rig.processes[child].inbox.len() == 2));
    rig.die(old[0]);
    rig.advance(25 * SEC);
    assert!(!rig.process(old[1]).killed, "it has drainTimeout and processTermTimeout");
    rig.advance(2 * SEC);
    assert!(rig.process(old[1]).killed, "one that does not end is killed");
    rig.die(old[1]);
    assert_eq!((rig.worker(0), rig.worker(1)), (new[0], new[1]));
    assert_eq!(rig.processes.len(), 3);
}

#[test]
fn a_reload_whose_new_worker_fails_leaves_the_old_ones() {
    let mut rig = Rig::running(r#"{"workers": 2, "workerHangTimeout": 0}"#);
    let old = [rig.worker(0), rig.worker(1)];
    rig.input(SupIn::Reload);
    rig.die(rig.worker(0));
    rig.advance(60 * SEC);
    assert_eq!([rig.worker(0), rig.worker(1)], old);
    assert!(rig.warnings().iter().any(|text| text.contains("given up")));
    // And the next one may succeed, also when the old worker dies before the new one is ready.
    rig.input(SupIn::Reload);
    rig.die(old[0]);
    rig.control(rig.worker(0), Control::Ready);
    rig.control(rig.worker(1), Control::Ready);
    assert!(rig.process(old[1]).drained);
    assert_ne!(rig.worker(1), old[1]);
}

#[test]
fn a_worker_whose_link_a_broker_dropped_is_replaced_and_not_its_successor() {
    let mut rig = Rig::running(r#"{"workers": 2, "brokers": 2}"#);
    let (broker, worker, other) = (rig.broker(0), rig.worker(1), rig.worker(0));
    let pid = 1000 + worker.0;
    rig.control(broker, Control::Unlinked { pid });
    assert!(rig.process(worker).killed && !rig.process(other).killed);
    rig.die(worker);
    rig.advance(SEC);
    let successor = rig.worker(1);
    assert_ne!(successor, worker);
    // A second broker says the same, late.
    rig.control(rig.broker(1), Control::Unlinked { pid });
    assert!(!rig.process(successor).killed);
}
