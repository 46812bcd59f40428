//! Timers that set off timers.

mod rig;

use std::time::Duration;

use rig::Rig;
use sc_server::{Config, Reply, Worker};

#[test]
fn a_timer_without_delay_is_due_in_a_later_call() {
    let mut rig: Rig<u32> = Rig::new(1, 1, Config::default(), |_| {
        Worker::new(0).on("begin", |_, cx, _| {
            let ticket = cx.after(Duration::from_millis(20), |_, cx| {
                let _ = cx.after(Duration::ZERO, |count, _| *count += 1);
                Ok(Reply::Empty)
            });
            Ok(ticket.into())
        })
    });
    let client = rig.connect(0, "#2");
    let cid = rig.emit(client, "begin", "null");
    // The rig holds that the next timeout lies in the future after each call.
    rig.pass(Duration::from_millis(100));
    assert_eq!(rig.texts(client), [format!(r#"{{"rid":{cid}}}"#)]);
}
