//! Connections reach a worker: in turn, acknowledged, bounded, and never lost.

mod rig;

use proptest::prelude::*;
use rig::{MS, Rig, SEC, config};
use sc_cluster::supervisor::{ACCEPT_PAUSE, ACK_PATIENCE, IN_FLIGHT_MAX, SupIn};
use sc_protocol::ipc::Control;

#[test]
fn workers_take_turns() {
    let mut rig = Rig::running(r#"{"workers": 3}"#);
    let conns: Vec<_> = (0..7).map(|_| rig.connect(1)[0]).collect();
    for id in 0..3 {
        let worker = rig.worker(id as u32);
        let expected: Vec<_> = conns.iter().skip(id).step_by(3).copied().collect();
        assert_eq!(rig.process(worker).inbox, expected);
        rig.take_all(worker);
    }
    assert!(rig.held.is_empty(), "copies are closed with the acknowledgement");
}

#[test]
fn copies_are_kept_until_the_acknowledgement() {
    let mut rig = Rig::running(r#"{"workers": 1}"#);
    rig.connect(3);
    assert_eq!(rig.held.len(), 3);
    rig.take(rig.worker(0), 2);
    assert_eq!(rig.held.len(), 1);
}

#[test]
fn one_that_does_not_acknowledge_gets_no_more_until_it_does() {
    let mut rig = Rig::running(r#"{"workers": 2}"#);
    let (late, good) = (rig.worker(0), rig.worker(1));
    rig.connect(2);
    rig.take_all(good);
    rig.advance(ACK_PATIENCE - MS);
    rig.connect(1);
    assert_eq!(rig.process(late).inbox.len(), 2, "not late yet");
    rig.advance(MS);
    rig.connect(4);
    assert_eq!((rig.processes[&late].inbox.len(), rig.processes[&good].inbox.len()), (2, 4));
    rig.take_all(good);
    rig.take_all(late);
    rig.connect(4);
    assert_eq!((rig.processes[&late].inbox.len(), rig.processes[&good].inbox.len()), (2, 2));
}

#[test]
fn what_a_dead_worker_had_not_acknowledged_goes_to_another_first() {
    let mut rig = Rig::running(r#"{"workers": 2, "workerHangTimeout": 5000}"#);
    let (dead, other) = (rig.worker(0), rig.worker(1));
    let conns = rig.connect(6);
    rig.take(dead, 1);
    rig.die(dead);
    let inbox = rig.process(other).inbox.clone();
    assert_eq!(inbox, [conns[1], conns[3], conns[5], conns[2], conns[4]]);
    rig.take_all(other);
    assert!(rig.held.is_empty());
}

#[test]
fn a_hung_worker_is_gone_before_its_connections_go_to_another() {
    let mut rig = Rig::running(r#"{"workers": 2, "workerHangTimeout": 5000}"#);
    let (hung, other) = (rig.worker(0), rig.worker(1));
    rig.connect(2);
    rig.take_all(other);
    // It beats, but it takes nothing.
    rig.advance_beating(6 * SEC, &[hung, other, rig.broker(0)]);
    assert!(rig.process(hung).killed);
    assert!(rig.process(other).inbox.is_empty());
    rig.die(hung);
    assert_eq!(rig.process(other).inbox.len(), 1);
}

#[test]
fn at_the_limit_accepting_pauses_and_goes_on_at_half_of_it() {
    let mut rig = Rig::running(r#"{"workers": 1, "handoffPendingMax": 8}"#);
    let worker = rig.worker(0);
    rig.connect(7);
    assert!(!rig.paused);
    rig.connect(1);
    assert!(rig.paused);
    rig.take(worker, 4);
    assert!(rig.paused);
    rig.take(worker, 1);
    assert!(!rig.paused);
}

#[test]
fn without_a_worker_connections_wait_for_the_next_one() {
    let mut rig = Rig::running(r#"{"workers": 1, "handoffPendingMax": 4}"#);
    let conns = rig.connect(2);
    rig.die(rig.worker(0));
    let more = rig.connect(2);
    assert!(rig.paused);
    rig.control(rig.worker(0), Control::Ready);
    let worker = rig.worker(0);
    assert_eq!(rig.process(worker).inbox, [conns, more].concat());
}

#[test]
fn a_full_channel_sends_connections_elsewhere_and_comes_back() {
    let mut rig = Rig::running(r#"{"workers": 2}"#);
    let (full, other) = (rig.worker(0), rig.worker(1));
    rig.process(full).is_full = true;
    let conns = rig.connect(100);
    assert_eq!(rig.process(other).inbox.len(), 100);
    assert!(conns.iter().all(|conn| rig.processes[&other].inbox.contains(conn)));
    rig.process(full).is_full = false;
    rig.take_all(other);
    rig.connect(2);
    assert!(rig.process(full).inbox.is_empty());
    rig.input(SupIn::Writable(full));
    rig.connect(2);
    assert_eq!(rig.process(full).inbox.len(), 1);
}

#[test]
fn one_worker_gets_no_more_than_it_can_hold() {
    let mut limited = config(r#"{"workers": 2}"#);
    limited.connections_max = 10;
    let mut rig = Rig::new(limited);
    rig.ready_all();
    rig.connect(30);
    let inboxes = |rig: &Rig| (rig.processes[&rig.worker(0)].inbox.len(), rig.processes[&rig.worker(1)].inbox.len());
    assert_eq!(inboxes(&rig), (10, 10));
    rig.take_all(rig.worker(0));
    assert_eq!(inboxes(&rig), (0, 10), "taken ones count");
    rig.control(rig.worker(0), Control::Beat { connections: 4 });
    assert_eq!(inboxes(&rig), (6, 10));
    let mut rig = Rig::running(r#"{"workers": 1}"#);
    rig.connect(IN_FLIGHT_MAX + 5);
    let worker = rig.worker(0);
    assert_eq!(rig.process(worker).inbox.len(), IN_FLIGHT_MAX);
    rig.take(worker, 5);
    assert_eq!(rig.process(worker).inbox.len(), IN_FLIGHT_MAX);
}

#[test]
fn running_out_of_descriptors_is_said_once_and_survived() {
    let mut rig = Rig::running("{}");
    for _ in 0..50 {
        rig.input(SupIn::AcceptFailed("Too many open files".to_owned()));
        assert!(rig.paused);
        rig.advance(ACCEPT_PAUSE);
        assert!(!rig.paused);
    }
    assert_eq!(rig.warnings().len(), 1);
    rig.advance_beating(20 * SEC, &[]);
    rig.input(SupIn::AcceptFailed("Too many open files".to_owned()));
    assert_eq!(rig.warnings().len(), 2);
}

#[test]
fn with_policy_none_workers_get_the_listener_and_the_master_accepts_nothing() {
    let mut rig = Rig::running(r#"{"workers": 2, "schedulingPolicy": "none"}"#);
    assert!(rig.paused);
    rig.die(rig.worker(1));
    assert_eq!(rig.processes.values().filter(|process| process.has_listener).count(), 1);
    rig.ready_all();
    assert_eq!(rig.processes.values().filter(|process| process.has_listener).count(), 2);
    assert!(rig.paused);
}

#[test]
fn least_fills_the_emptiest() {
    let mut rig = Rig::running(r#"{"workers": 2, "schedulingPolicy": "least"}"#);
    rig.control(rig.worker(0), Control::Beat { connections: 5 });
    rig.connect(5);
    let worker = rig.worker(1);
    assert_eq!(rig.process(worker).inbox.len(), 5);
}

#[derive(Debug, Clone)]
enum Step {
    Connect(usize),
    Take(usize, usize),
    Die(usize),
    Ready(usize),
    Full(usize, bool),
    Pass(u64),
    Reload,
    AcceptFailed,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_usize..40).prop_map(Step::Connect),
        4 => (any::<usize>(), 0_usize..50).prop_map(|(who, count)| Step::Take(who, count)),
        1 => any::<usize>().prop_map(Step::Die),
        3 => any::<usize>().prop_map(Step::Ready),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(who, full)| Step::Full(who, full)),
        3 => (0_u64..3000).prop_map(Step::Pass),
        1 => Just(Step::Reload),
        1 => Just(Step::AcceptFailed),
    ]
}

fn run(rig: &mut Rig, step: Step) {
    let keys: Vec<_> = rig.processes.keys().copied().collect();
    let pick = |who: usize| keys.get(who % keys.len().max(1)).copied();
    match step {
        Step::Connect(count) if !rig.paused => drop(rig.connect(count)),
        Step::Take(who, count) => {
            if let Some(child) = pick(who) {
                let count = count.min(rig.process(child).inbox.len());
                rig.take(child, count);
            }
        }
        Step::Die(who) => {
            if let Some(child) = pick(who) {
                rig.die(child);
            }
        }
        Step::Ready(who) => {
            if let Some(child) = pick(who) {
                rig.control(child, Control::Ready);
            }
        }
        Step::Full(who, full) => {
            if let Some(child) = pick(who) {
                rig.process(child).is_full = full;
                if !full {
                    rig.input(SupIn::Writable(child));
                }
            }
        }
        Step::Pass(ms) => rig.advance(MS * ms as u32),
        Step::Reload => rig.input(SupIn::Reload),
        Step::AcceptFailed => rig.input(SupIn::AcceptFailed("no".to_owned())),
        Step::Connect(_) => {}
    }
    // Who is killed or was asked to end and replaced goes, sooner or later.
    let going: Vec<_> = rig.processes.iter().filter(|(_, p)| p.killed).map(|(key, _)| *key).collect();
    going.into_iter().for_each(|child| rig.die(child));
}

proptest! {
    #[test]
    fn whatever_happens_every_connection_reaches_one_worker_and_every_place_is_filled(
        steps in proptest::collection::vec(step(), 1..120),
        workers in 1_u32..4,
    ) {
        let options = format!(r#"{{"workers": {workers}, "brokers": 2, "handoffPendingMax": 100}}"#);
        let mut rig = Rig::running(&options);
        for step in steps {
            run(&mut rig, step);
        }
        // Peace: everything that lives is ready, reads and acknowledges.
        for _ in 0..40 {
            rig.advance(SEC);
            rig.ready_all();
            let keys: Vec<_> = rig.processes.keys().copied().collect();
            for child in keys {
                rig.process(child).is_full = false;
                rig.input(SupIn::Writable(child));
                if rig.process(child).is_worker {
                    rig.take_all(child);
                }
                if rig.process(child).asked || rig.process(child).killed {
                    rig.die(child);
                }
            }
        }
        prop_assert!(rig.held.is_empty(), "held: {:?}", rig.held);
        prop_assert_eq!(rig.processes.len() as u32, workers + 2);
        prop_assert!(!rig.paused);
    }
}
