//! A client whose first pong comes late: until then it is taken for protocol 1, and what was begun then is not stuck after.

mod rig;

use std::time::Duration;

use rig::Rig;
use sc_server::{Config, Pass, Reply, Worker};

#[test]
fn verdicts_that_were_awaited_before_the_pong_release_what_waits_for_them() {
    let mut rig: Rig<()> = Rig::new(1, 1, Config::default(), |_| {
        Worker::new(())
            .subscribe(|(), cx, _| Ok(cx.after(Duration::from_millis(50), |(), _| Ok(Pass::Now)).into()))
            .emit(|(), cx, request| match &*request.event {
                "slow" => Ok(cx.after(Duration::from_millis(80), |(), _| Ok(Pass::Now)).into()),
                _ => Ok(Pass::Now),
            })
            .on("slow", |(), _, _| Ok(Reply::Empty))
            .on("fast", |(), _, _| Ok(Reply::Empty))
    });
    let client = rig.upgrade(0, "/socketcluster/");
    rig.send(client, r##"{"event":"#handshake","data":{},"cid":1}"##);
    rig.pass(Duration::from_millis(150));
    rig.send(client, r##"{"event":"slow","cid":2}"##);
    rig.send(client, r##"{"event":"#subscribe","data":{"channel":"a"},"cid":3}"##);
    rig.send(client, r##"{"event":"#publish","data":{"channel":"a","data":1},"cid":4}"##);
    rig.take(client);
    rig.send(client, "");
    rig.send(client, r##"{"event":"#unsubscribe","data":"a","cid":5}"##);
    rig.send(client, r##"{"event":"slow","cid":6}"##);
    rig.send(client, r##"{"event":"fast","cid":7}"##);
    rig.pass(Duration::from_millis(60));
    assert_eq!(rig.texts(client), [r#"{"rid":3}"#], "the rest waits for the verdict on 6, as protocol 2 has it");
    rig.pass(Duration::from_millis(100));
    // The publish is under way to its broker when the socket leaves the channel, so it is acknowledged last and not delivered.
    let expected = [r#"{"rid":2}"#, r#"{"rid":6}"#, r#"{"rid":5}"#, r#"{"rid":7}"#, r#"{"rid":4}"#];
    assert_eq!(rig.texts(client), expected);
}
