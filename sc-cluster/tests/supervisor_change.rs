//! Workers are added and taken away while the cluster runs, and connections that one cannot take are not lost.

mod rig;

use rig::{MS, Rig, SEC};
use sc_cluster::supervisor::{ACCEPT_PAUSE, SupIn};
use sc_protocol::ipc::Control;

#[test]
fn a_worker_more_gets_links_and_connections() {
    let mut rig = Rig::running(r#"{"workers": 1, "brokers": 2, "workerHangTimeout": 0}"#);
    rig.input(SupIn::AddWorker);
    assert_eq!((rig.supervisor.workers(), rig.processes.len()), (2, 4));
    rig.connect(2);
    assert!(rig.processes[&rig.worker(1)].inbox.is_empty(), "not before it is ready");
    rig.control(rig.worker(1), Control::Ready);
    rig.connect(2);
    assert_eq!(rig.processes[&rig.worker(1)].inbox.len(), 1);
    assert_eq!(rig.processes[&rig.worker(1)].links.len(), 2);
    // And it is kept alive like the others.
    rig.die(rig.worker(1));
    assert_eq!(rig.processes.len(), 4);
}

#[test]
fn the_last_worker_is_drained_and_not_replaced() {
    let mut rig = Rig::running(r#"{"workers": 3, "workerHangTimeout": 0}"#);
    let last = rig.worker(2);
    rig.input(SupIn::RemoveWorker);
    assert!(rig.process(last).drained && rig.supervisor.workers() == 2);
    rig.connect(3);
    assert!(rig.process(last).inbox.is_empty());
    rig.die(last);
    assert_eq!((rig.processes.len(), rig.spawned), (3, 4));
    // It may come back while the old one is still at it, under the same number.
    rig.input(SupIn::RemoveWorker);
    rig.input(SupIn::AddWorker);
    rig.control(rig.worker(1), Control::Ready);
    assert_eq!((rig.supervisor.workers(), rig.processes.len()), (2, 4));
}

#[test]
fn one_worker_stays() {
    let mut rig = Rig::running(r#"{"workers": 1, "workerHangTimeout": 0}"#);
    rig.input(SupIn::RemoveWorker);
    assert!(!rig.process(rig.worker(0)).drained);
    assert!(rig.warnings().iter().any(|text| text.contains("no fewer")));
}

#[test]
fn a_change_in_the_middle_of_a_reload_does_not_stop_it() {
    let mut rig = Rig::running(r#"{"workers": 3, "workerHangTimeout": 0}"#);
    let old = [rig.worker(0), rig.worker(1), rig.worker(2)];
    rig.input(SupIn::Reload);
    rig.input(SupIn::RemoveWorker);
    assert!(rig.process(old[2]).drained);
    rig.control(rig.worker(0), Control::Ready);
    rig.control(rig.worker(1), Control::Ready);
    assert!(old.iter().all(|child| rig.processes[child].drained));
    old.into_iter().for_each(|child| rig.die(child));
    assert_eq!(rig.processes.len(), 3);
    // The one that was to replace the worker that is taken away goes too, and the reload goes on.
    rig.input(SupIn::AddWorker);
    rig.control(rig.worker(2), Control::Ready);
    rig.input(SupIn::Reload);
    rig.control(rig.worker(0), Control::Ready);
    rig.control(rig.worker(1), Control::Ready);
    let next = rig.worker(2);
    rig.input(SupIn::RemoveWorker);
    assert!(rig.process(next).asked);
    rig.input(SupIn::Reload);
    assert!(!rig.warnings().iter().any(|text| text.contains("already")), "the first one is over");
}

#[test]
fn a_worker_that_has_grown_too_large_is_replaced_once_and_without_a_gap() {
    let mut rig = Rig::running(r#"{"workers": 2, "workerHangTimeout": 0}"#);
    let large = rig.worker(0);
    rig.input(SupIn::TooLarge(large, 5 << 20));
    rig.input(SupIn::TooLarge(large, 6 << 20));
    assert_eq!(rig.processes.len(), 4);
    assert!(!rig.process(large).drained, "it serves until the new one does");
    rig.control(rig.worker(0), Control::Ready);
    assert!(rig.process(large).drained);
    rig.die(large);
    assert_eq!((rig.processes.len(), rig.warnings().len()), (3, 1));
}

#[test]
fn the_end_hastens_those_that_are_drained() {
    let mut rig = Rig::running(r#"{"workers": 2, "workerHangTimeout": 0}"#);
    let last = rig.worker(1);
    rig.input(SupIn::RemoveWorker);
    rig.input(SupIn::Terminate(15));
    assert!(rig.process(last).asked);
}

#[test]
fn connections_that_a_worker_cannot_take_go_to_another_and_it_rests() {
    let mut rig = Rig::running(r#"{"workers": 2, "schedulingPolicy": "rr", "workerHangTimeout": 0}"#);
    let (full, other) = (rig.worker(0), rig.worker(1));
    rig.connect(20);
    rig.take(full, 4);
    let lost = rig.process(full).inbox.len();
    rig.process(full).inbox.clear();
    rig.control(full, Control::ConnsLost { count: lost as u32 });
    assert_eq!(rig.process(other).inbox.len(), 16);
    rig.connect(4);
    assert!(rig.process(full).inbox.is_empty(), "it rests");
    rig.take_all(other);
    assert_eq!(rig.taken.len(), 24);
    rig.advance(ACCEPT_PAUSE + MS);
    rig.connect(2);
    assert_eq!(rig.process(full).inbox.len(), 1);
    assert_eq!(rig.warnings().len(), 1);
}

#[test]
fn with_nobody_else_they_wait_until_it_has_rested() {
    let mut rig = Rig::running(r#"{"workers": 1, "workerHangTimeout": 0}"#);
    let full = rig.worker(0);
    rig.connect(3);
    for _ in 0..5 {
        let lost = rig.process(full).inbox.len();
        assert_eq!(lost, 3);
        rig.process(full).inbox.clear();
        rig.control(full, Control::ConnsLost { count: 3 });
        assert_eq!((rig.process(full).inbox.len(), rig.held.len()), (0, 3));
        rig.advance(ACCEPT_PAUSE);
    }
    assert_eq!(rig.warnings().len(), 1, "said once");
    rig.control(full, Control::ConnsLost { count: 4 });
    assert!(rig.process(full).killed, "more than it was given");
    rig.advance(SEC);
}
