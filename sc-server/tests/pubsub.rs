//! Subscriptions and publishes, over real brokers, within and across workers.

mod rig;

use rig::{Got, Rig};
use sc_server::{Block, Config, Pass, Reply, Worker};

fn cluster() -> Rig<()> {
    Rig::new(2, 2, Config::default(), |_| {
        Worker::new(())
            .on("publish", |(), cx, request| {
                let (channel, data): (String, u32) = request.data()?;
                cx.publish(&channel, &data)?;
                Ok(Reply::Empty)
            })
            .on("confirmed", |(), cx, request| {
                let ticket = cx.publish_then("news", &request.data::<u32>()?, |(), _, result| {
                    result?;
                    Reply::data(true)
                });
                Ok(ticket.into())
            })
    })
}

fn subscribe(rig: &mut Rig<()>, client: usize, channel: &str) {
    let cid = rig.emit(client, "#subscribe", &format!(r#"{{"channel":"{channel}"}}"#));
    assert_eq!(rig.texts(client), [format!(r#"{{"rid":{cid}}}"#)]);
}

#[test]
fn a_publish_reaches_every_subscriber_of_every_worker_once() {
    let mut rig = cluster();
    let clients = [rig.connect(0, "#2"), rig.connect(0, ""), rig.connect(1, "#2"), rig.connect(1, "")];
    for client in clients {
        for channel in ["a", "b", "c", "d"] {
            subscribe(&mut rig, client, channel);
        }
    }
    let outsider = rig.connect(1, "#2");
    for channel in ["a", "b", "c", "d"] {
        for n in 0..3 {
            let cid = rig.emit(outsider, "#publish", &format!(r#"{{"channel":"{channel}","data":{n}}}"#));
            assert_eq!(rig.texts(outsider), [format!(r#"{{"rid":{cid}}}"#)]);
        }
    }
    for client in clients {
        let expected: Vec<String> = ["a", "b", "c", "d"]
            .iter()
            .flat_map(|channel| {
                (0..3).map(move |n| format!(r##"{{"event":"#publish","data":{{"channel":"{channel}","data":{n}}}}}"##))
            })
            .collect();
        assert_eq!(rig.texts(client), expected);
    }
}

#[test]
fn own_publish_and_ack_come_in_the_order_of_the_version() {
    let mut rig = cluster();
    for (pong, delivery_first) in [("#2", true), ("", false)] {
        let client = rig.connect(0, pong);
        subscribe(&mut rig, client, "own");
        let cid = rig.emit(client, "#publish", r#"{"channel":"own","data":{"x": [1,  2]}}"#);
        let delivery = r##"{"event":"#publish","data":{"channel":"own","data":{"x": [1,  2]}}}"##.to_owned();
        let ack = format!(r#"{{"rid":{cid}}}"#);
        let expected = if delivery_first { [delivery, ack] } else { [ack, delivery] };
        assert_eq!(rig.texts(client), expected, "the data travels as the bytes that came");
        rig.vanish(client);
    }
}

#[test]
fn absent_data_and_null_stay_apart() {
    let mut rig = cluster();
    let client = rig.connect(0, "#2");
    subscribe(&mut rig, client, "x");
    rig.send(client, r##"{"event":"#publish","data":{"channel":"x"}}"##);
    rig.send(client, r##"{"event":"#publish","data":{"channel":"x","data":null}}"##);
    let expected = [
        r##"{"event":"#publish","data":{"channel":"x"}}"##,
        r##"{"event":"#publish","data":{"channel":"x","data":null}}"##,
    ];
    assert_eq!(rig.texts(client), expected);
}

#[test]
fn nothing_comes_after_an_acked_unsubscribe() {
    let mut rig = cluster();
    let (client, other) = (rig.connect(0, "#2"), rig.connect(1, "#2"));
    subscribe(&mut rig, client, "x");
    let cid = rig.emit(client, "#unsubscribe", r#""x""#);
    assert_eq!(rig.texts(client), [format!(r#"{{"rid":{cid}}}"#)]);
    rig.emit(other, "#publish", r#"{"channel":"x","data":1}"#);
    assert_eq!(rig.take(client), []);
    // Not subscribed any more: protocol 1 acks, protocol 2 tells.
    let cid = rig.emit(client, "#unsubscribe", r#""x""#);
    assert_eq!(rig.texts(client), [format!(r#"{{"rid":{cid}}}"#)]);
    let second = rig.connect(0, "");
    rig.emit(second, "#unsubscribe", r#""x""#);
    assert!(rig.texts(second)[0].contains("tried to unsubscribe from a channel which it is not subscribed to"));
}

#[test]
fn a_socket_that_is_gone_leaves_its_channels() {
    let mut rig = cluster();
    let (a, b, c) = (rig.connect(0, "#2"), rig.connect(0, "#2"), rig.connect(0, "#2"));
    for client in [a, b, c] {
        subscribe(&mut rig, client, "x");
    }
    rig.vanish(a);
    rig.emit(b, "#publish", r#"{"channel":"x","data":1}"#);
    assert_eq!(rig.texts(b).len(), 2);
    assert_eq!(rig.texts(c).len(), 1);
    rig.vanish(c);
    rig.emit(b, "#publish", r#"{"channel":"x","data":2}"#);
    assert_eq!(rig.texts(b).len(), 2);
    assert_eq!(rig.engine(0).counters().sockets, 1);
}

#[test]
fn a_broker_that_dies_costs_unanswered_publishes_and_no_subscription() {
    let mut rig = Rig::new(2, 1, Config::default(), |_| Worker::new(()));
    let (a, b) = (rig.connect(0, "#2"), rig.connect(1, "#2"));
    subscribe(&mut rig, a, "x");
    rig.kill_broker(0);
    let waiting = rig.emit(b, "#publish", r#"{"channel":"x","data":1}"#);
    let joining = rig.emit(b, "#subscribe", r#"{"channel":"y"}"#);
    assert_eq!(rig.take(b), [], "they wait for the broker");
    rig.revive_broker(0);
    let mut acks = rig.texts(b);
    acks.sort();
    assert_eq!(acks, [format!(r#"{{"rid":{waiting}}}"#), format!(r#"{{"rid":{joining}}}"#)]);
    assert_eq!(rig.texts(a), [r##"{"event":"#publish","data":{"channel":"x","data":1}}"##]);
}

#[test]
fn the_application_publishes_too() {
    let mut rig = cluster();
    let (a, b) = (rig.connect(0, "#2"), rig.connect(1, "#2"));
    subscribe(&mut rig, a, "news");
    rig.emit(b, "publish", r#"["news", 7]"#);
    let cid = rig.emit(b, "confirmed", "8");
    assert_eq!(rig.texts(b).last().unwrap(), &format!(r#"{{"rid":{cid},"data":true}}"#));
    let expected = [7, 8].map(|n| format!(r##"{{"event":"#publish","data":{{"channel":"news","data":{n}}}}}"##));
    assert_eq!(rig.texts(a), expected);
}

#[test]
fn limits_and_bad_channels_are_told() {
    let config = Config { socket_channel_limit: 2, ..Config::default() };
    let mut rig = Rig::new(1, 1, config, |_| Worker::new(()));
    let client = rig.connect(0, "#2");
    subscribe(&mut rig, client, "1");
    subscribe(&mut rig, client, "2");
    subscribe(&mut rig, client, "2");
    rig.emit(client, "#subscribe", r#"{"channel":"3"}"#);
    assert!(rig.texts(client)[0].contains("tried to exceed the channel subscription limit of 2"));
    for data in ["{}", "null", r#"{"channel":5}"#, r#"[{"channel":"x"}]"#] {
        rig.emit(client, "#subscribe", data);
        let answer = rig.texts(client);
        assert!(
            answer[0].contains("provided an invalid channel name") && answer[0].contains("BrokerError"),
            "{answer:?}"
        );
    }
    // SC 4.1.3 to 14 take the bare name.
    rig.emit(client, "#unsubscribe", r#""1""#);
    rig.texts(client);
    let cid = rig.emit(client, "#subscribe", r#""bare""#);
    assert_eq!(rig.texts(client), [format!(r#"{{"rid":{cid}}}"#)]);
    rig.emit(client, "#publish", r#"{"channel":{},"data":1}"#);
    assert!(rig.texts(client)[0].contains("tried to publish to an invalid"));
}

#[test]
fn subscribe_and_unsubscribe_before_the_broker_answers() {
    let mut rig = Rig::new(1, 1, Config::default(), |_| Worker::new(()));
    let client = rig.connect(0, "#2");
    rig.kill_broker(0);
    let joined = rig.emit(client, "#subscribe", r#"{"channel":"x"}"#);
    let parted = rig.emit(client, "#unsubscribe", r#""x""#);
    assert_eq!(rig.texts(client), [format!(r#"{{"rid":{joined}}}"#), format!(r#"{{"rid":{parted}}}"#)]);
    let again = rig.emit(client, "#subscribe", r#"{"channel":"x"}"#);
    rig.revive_broker(0);
    assert_eq!(rig.texts(client), [format!(r#"{{"rid":{again}}}"#)]);
    rig.emit(client, "#publish", r#"{"channel":"x","data":1}"#);
    assert_eq!(rig.texts(client).len(), 2);
}

#[test]
fn filters_see_every_receiver() {
    let mut rig = Rig::new(1, 1, Config::default(), |_| {
        Worker::with_sessions::<u32>(())
            .on("number", |(), cx, request| {
                *cx.session(request.socket) = request.data()?;
                Ok(Reply::Empty)
            })
            .publish_out(|(), cx, request| match *cx.session(request.socket) {
                1 => Err(Block::silent()),
                2 => Ok(request.replace("for two")?),
                _ => Ok(()),
            })
    });
    let clients = [0, 1, 2].map(|number| {
        let client = rig.connect(0, "#2");
        rig.emit(client, "number", &number.to_string());
        rig.emit(client, "#subscribe", r#"{"channel":"x"}"#);
        rig.texts(client);
        client
    });
    rig.send(clients[0], r##"{"event":"#publish","data":{"channel":"x","data":"for all"}}"##);
    let got = clients.map(|client| rig.texts(client));
    assert_eq!(got[0], [r##"{"event":"#publish","data":{"channel":"x","data":"for all"}}"##]);
    assert_eq!(got[1], [] as [&str; 0]);
    assert_eq!(got[2], [r##"{"event":"#publish","data":{"channel":"x","data":"for two"}}"##]);
}

#[test]
fn publish_in_may_rewrite_stamp_and_block() {
    let mut rig = Rig::new(1, 1, Config::default(), |_| {
        Worker::new(()).publish_in(|(), _, request| match request.channel.as_ref() {
            "rewrite" => {
                request.data.set("rewritten")?;
                request.ack.set(&1)?;
                Ok(Pass::Now)
            }
            "silent" => Err(Block::silent()),
            "error" => Err(Block::named("NoError", "no")),
            _ => Ok(Pass::Now),
        })
    });
    let client = rig.connect(0, "#2");
    rig.emit(client, "#subscribe", r#"{"channel":"rewrite"}"#);
    rig.texts(client);
    let cid = rig.emit(client, "#publish", r#"{"channel":"rewrite","data":"x"}"#);
    let delivery = r##"{"event":"#publish","data":{"channel":"rewrite","data":"rewritten"}}"##.to_owned();
    assert_eq!(rig.texts(client), [delivery, format!(r#"{{"rid":{cid},"data":1}}"#)]);
    rig.emit(client, "#publish", r#"{"channel":"silent","data":"x"}"#);
    assert!(rig.texts(client)[0].contains("Action was silently blocked by publishIn middleware"));
    rig.emit(client, "#publish", r#"{"channel":"error","data":"x"}"#);
    assert!(rig.texts(client)[0].contains(r#""name":"NoError""#));
    assert_eq!(rig.reports.len(), 1, "a silent block is no warning: {:?}", rig.reports);
    let _ = Got::End;
}
