//! A worker that is to end sends its clients away evenly, and owes nobody an answer.

mod rig;

use std::time::Duration;

use rig::{Got, Rig};
use sc_protocol::ws::CloseCode;
use sc_server::{Config, DRAIN_ANSWERS_MAX, Reply, Worker};

const SEC: Duration = Duration::from_secs(1);

fn cluster() -> Rig<()> {
    Rig::new(1, 1, Config::default(), |_| {
        Worker::new(()).on("slow", |(), cx, _| Ok(cx.later(|| 7_u8, |(), _, seven| Reply::data(seven)).into()))
    })
}

fn closes(rig: &mut Rig<()>, clients: &[usize]) -> usize {
    let mut closed = |client: &usize| rig.take(*client).contains(&Got::Close(4001, String::new()));
    clients.iter().filter(|client| closed(client)).count()
}

#[test]
fn sockets_go_evenly_and_all_of_them() {
    let mut rig = cluster();
    let clients: Vec<_> = (0..40).map(|at| rig.connect(0, if at % 2 == 0 { "#2" } else { "" })).collect();
    rig.drain_worker(0, 10 * SEC, CloseCode::PONG_TIMEOUT);
    for _ in 0..10 {
        rig.pass(SEC);
        let closed = closes(&mut rig, &clients);
        assert!((3..=5).contains(&closed), "a tenth in a tenth of the time, not {closed}");
    }
    assert_eq!(rig.engine(0).counters().clients, 0);
    rig.pass(3 * SEC);
    assert_eq!(rig.engine(0).counters().sockets, 0, "who does not close is closed");
}

#[test]
fn who_comes_in_the_meantime_is_served_and_goes_in_time() {
    let mut rig = cluster();
    let first = rig.connect(0, "#2");
    rig.drain_worker(0, 10 * SEC, CloseCode::PONG_TIMEOUT);
    let late = rig.connect(0, "");
    let cid = rig.emit(late, "#subscribe", r#"{"channel":"a"}"#);
    assert_eq!(rig.texts(late), [format!(r#"{{"rid":{cid}}}"#)]);
    rig.pass(10 * SEC);
    assert_eq!(closes(&mut rig, &[first, late]), 2);
    let after = rig.connect(0, "");
    rig.pass(SEC);
    assert_eq!(closes(&mut rig, &[after]), 1, "the end of the drain does not end it");
}

#[test]
fn what_was_read_is_answered_before_the_close() {
    let mut rig = cluster();
    let (publisher, caller, idle) = (rig.connect(0, "#2"), rig.connect(0, ""), rig.connect(0, ""));
    rig.kill_broker(0);
    let publish = rig.emit(publisher, "#publish", r#"{"channel":"a","data":1}"#);
    let call = rig.emit(caller, "slow", "null");
    rig.drain_worker(0, Duration::ZERO, CloseCode::PONG_TIMEOUT);
    assert_eq!(closes(&mut rig, &[publisher, caller, idle]), 1, "only who waits for nothing goes");
    assert!(!rig.is_reading(publisher) && !rig.is_reading(caller));
    rig.run_jobs();
    rig.revive_broker(0);
    rig.pass(SEC);
    for (client, cid, answer) in [
        (publisher, publish, format!(r#"{{"rid":{publish}}}"#)),
        (caller, call, format!(r#"{{"rid":{call},"data":7}}"#)),
    ] {
        let got = rig.take(client);
        let (answered, closed) =
            (got.iter().position(|got| *got == Got::Text(answer.clone())), got.iter().position(is_close));
        assert!(answered.is_some() && answered < closed, "{cid}: {got:?}");
        assert!(rig.is_reading(client), "its close frame is awaited");
    }
}

#[test]
fn an_answer_that_does_not_come_does_not_hold_the_worker() {
    let mut rig = cluster();
    let publisher = rig.connect(0, "#2");
    rig.kill_broker(0);
    rig.emit(publisher, "#publish", r#"{"channel":"a","data":1}"#);
    rig.drain_worker(0, SEC, CloseCode::PONG_TIMEOUT);
    rig.pass(SEC);
    assert_eq!(closes(&mut rig, &[publisher]), 0);
    rig.pass(DRAIN_ANSWERS_MAX);
    assert_eq!(closes(&mut rig, &[publisher]), 1);
}

fn is_close(got: &Got) -> bool {
    matches!(got, Got::Close(4001, _))
}
