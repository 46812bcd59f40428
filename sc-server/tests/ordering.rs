//! What waits for a deferred verdict and what does not, and what goes out around an ack.

mod rig;

use std::time::Duration;

use rig::{Got, Rig};
use sc_server::{Block, Config, Pass, Reply, Verdict, Worker};

const LATER: Duration = Duration::from_millis(500);

fn verdict(name: &str) -> Verdict {
    if name.contains("bad") { Err(Block::named("BadError", "no")) } else { Ok(Pass::Now) }
}

/// Whatever has `slow` in its name is decided half a second later; what has `bad` in it is blocked.
fn app() -> Worker<()> {
    Worker::new(())
        .emit(|(), cx, request| {
            let name = request.event.clone().into_owned();
            if name.contains("slow") { cx.after(LATER, move |(), _| verdict(&name)).into() } else { verdict(&name) }
        })
        .subscribe(|(), cx, request| {
            let name = request.channel.clone().into_owned();
            if name.contains("slow") { cx.after(LATER, move |(), _| verdict(&name)).into() } else { verdict(&name) }
        })
        .publish_in(|(), cx, request| {
            let name = request.data.json().unwrap_or_default().to_owned();
            if name.contains("slow") { cx.after(LATER, move |(), _| verdict(&name)).into() } else { verdict(&name) }
        })
        .on("late answer", |(), cx, request| {
            let answer = request.data.into_owned();
            cx.after(LATER, |(), _| Reply::data(answer)).into()
        })
        .on("ask", |(), cx, request| {
            cx.call(request.socket, "question", &1, |(), _, answer| Reply::data(answer?)).into()
        })
        .on_other(|(), _, request| Reply::data(request.event.as_ref()))
}

fn rig() -> Rig<()> {
    Rig::new(1, 1, Config::default(), |_| app())
}

/// The ids of the answers that came, with a `!` behind those of errors, and whatever else came.
fn answers(rig: &mut Rig<()>, client: usize) -> Vec<String> {
    let short = |text: String| match text.strip_prefix(r#"{"rid":"#) {
        Some(rest) => {
            let id: String = rest.chars().take_while(char::is_ascii_digit).collect();
            if text.contains(r#""error""#) { format!("{id}!") } else { id }
        }
        None => text,
    };
    rig.texts(client).into_iter().map(short).collect()
}

#[test]
fn protocol_2_keeps_a_sockets_packets_behind_a_pending_verdict() {
    let mut rig = rig();
    let (client, other) = (rig.connect(0, ""), rig.connect(0, ""));
    rig.emit(client, "slow", "1"); // 2
    rig.emit(client, "quick", "1"); // 3
    rig.emit(client, "#subscribe", r#"{"channel":"x"}"#); // 4
    rig.emit(client, "slow bad", "1"); // 5
    rig.emit(client, "last", "1"); // 6
    assert_eq!(answers(&mut rig, client), [] as [&str; 0]);
    rig.emit(other, "quick", "1");
    assert_eq!(answers(&mut rig, other), ["2"], "it is nobody else's verdict");
    rig.pass(LATER);
    assert_eq!(answers(&mut rig, client), ["2", "3", "4"], "up to the next pending verdict");
    rig.pass(LATER);
    assert_eq!(answers(&mut rig, client), ["5!", "6"]);
}

#[test]
fn protocol_1_keeps_only_what_is_about_one_channel() {
    let mut rig = rig();
    let client = rig.connect(0, "#2");
    rig.emit(client, "slow", "1"); // 2
    rig.emit(client, "quick", "1"); // 3
    rig.emit(client, "#subscribe", r#"{"channel":"slow one"}"#); // 4
    rig.emit(client, "#publish", r#"{"channel":"slow one","data":"mine"}"#); // 5
    rig.emit(client, "#subscribe", r#"{"channel":"two"}"#); // 6
    rig.emit(client, "#publish", r#"{"channel":"two","data":"slow"}"#); // 7
    rig.emit(client, "#publish", r#"{"channel":"two","data":"next"}"#); // 8
    rig.emit(client, "#unsubscribe", r#""slow one""#); // 9
    assert_eq!(answers(&mut rig, client), ["3", "6"]);
    rig.pass(LATER);
    let published =
        |channel, data| format!(r##"{{"event":"#publish","data":{{"channel":"{channel}","data":"{data}"}}}}"##);
    let got = answers(&mut rig, client);
    let of = |wanted: &[&str]| got.iter().filter(|got| wanted.contains(&got.as_str())).cloned().collect::<Vec<_>>();
    assert_eq!(of(&["2"]), ["2"]);
    assert_eq!(of(&["4", "5"]), ["4", "5"], "subscribed, published");
    // The publish is on its way to its broker when the socket leaves the channel.
    assert_eq!(of(&["4", "9"]), ["4", "9"], "subscribed, unsubscribed");
    let (slow, next) = (published("two", "slow"), published("two", "next"));
    assert_eq!(of(&[&slow, "7", &next, "8"]), [&slow, "7", &next, "8"], "one channel's publishes stay in order");
    assert_eq!(got.len(), 8, "{got:?}");
}

#[test]
fn a_blocked_operation_does_not_hold_up_its_channel() {
    let mut rig = rig();
    let client = rig.connect(0, "#2");
    rig.emit(client, "#subscribe", r#"{"channel":"slow bad"}"#); // 2
    rig.emit(client, "#unsubscribe", r#""slow bad""#); // 3
    rig.pass(LATER);
    assert_eq!(answers(&mut rig, client), ["2!", "3"]);
    assert!(rig.engine(0).counters().blocked_total == 1);
}

#[test]
fn pongs_responses_and_closes_do_not_wait() {
    let config = Config {
        ping_interval: Duration::from_millis(100),
        ping_timeout: Some(Duration::from_millis(300)),
        ..Config::default()
    };
    for pong in ["#2", ""] {
        let mut rig = Rig::new(1, 1, config.clone(), |_| app());
        let client = rig.connect(0, pong);
        rig.emit(client, "ask", "1"); // 2
        assert_eq!(rig.texts(client), [r#"{"event":"question","data":1,"cid":1}"#]);
        rig.emit(client, "slow", "1"); // 3
        rig.send(client, r#"{"rid":1,"data":"an answer"}"#);
        assert_eq!(rig.texts(client), [r#"{"rid":2,"data":"an answer"}"#]);
        // More silence than pingTimeout but for the pongs.
        rig.pass(LATER);
        assert_eq!(answers(&mut rig, client), ["3"]);
        rig.emit(client, "slow", "1"); // 4
        rig.send_frame(client, sc_protocol::ws::OpCode::Close, &1000_u16.to_be_bytes());
        assert!(matches!(rig.take(client).as_slice(), [Got::Close(1000, _), Got::End]));
        rig.pass(LATER);
        assert_eq!(rig.take(client), [], "the verdict is for nobody");
    }
}

#[test]
fn an_answer_that_comes_later_holds_up_nothing() {
    for pong in ["#2", ""] {
        let mut rig = rig();
        let client = rig.connect(0, pong);
        rig.emit(client, "late answer", "1"); // 2
        rig.emit(client, "quick", "1"); // 3
        assert_eq!(answers(&mut rig, client), ["3"]);
        rig.pass(LATER);
        assert_eq!(answers(&mut rig, client), ["2"]);
    }
}

#[test]
fn a_socket_that_sends_too_much_meanwhile_is_not_read() {
    let mut rig = Rig::new(1, 1, Config { pending_inbound_max: 1000, ..Config::default() }, |_| app());
    let client = rig.connect(0, "");
    rig.emit(client, "slow", "1"); // 2
    let long = format!("{:?}", "x".repeat(300));
    for _ in 0..3 {
        rig.emit(client, "quick", &long); // 3, 4, 5
    }
    assert!(!rig.is_reading(client), "more than pendingInboundMax waits");
    rig.pass(LATER);
    assert!(rig.is_reading(client));
    assert_eq!(answers(&mut rig, client), ["2", "3", "4", "5"]);
}

#[test]
fn a_verdict_that_does_not_come_is_a_timeout() {
    let config = Config { ack_timeout: Duration::from_secs(1), ..Config::default() };
    let mut rig = Rig::new(1, 1, config, |_| {
        Worker::new(())
            .emit(|(), cx, request| match request.event.as_ref() {
                "stuck" => cx.later(|| (), |(), _, ()| Ok(Pass::Now)).into(),
                _ => Ok(Pass::Now),
            })
            .on_other(|(), _, _| Ok(Reply::Empty))
    });
    let client = rig.connect(0, "");
    let stuck = rig.emit(client, "stuck", "1");
    let next = rig.emit(client, "next", "1");
    rig.pass(Duration::from_millis(1010));
    let error = r#"{"message":"The deferred work did not finish in time","name":"TimeoutError"}"#;
    let expected = [format!(r#"{{"rid":{stuck},"error":{error}}}"#), format!(r#"{{"rid":{next}}}"#)];
    assert_eq!(rig.texts(client), expected);
    // The job is done after all; it has no effect any more.
    rig.run_jobs();
    assert_eq!(rig.take(client), []);
}

/// What a handler emits goes out before its ack, and what ends things after it; whether it answers at once or later.
#[test]
fn what_a_handler_does_goes_out_around_its_ack() {
    let mut rig = Rig::new(1, 1, Config::default(), |_| {
        Worker::new(())
            .on("bye", |(), cx, request| {
                cx.disconnect(request.socket, 4100, "enough");
                cx.emit(request.socket, "before", &1);
                Reply::data("ack")
            })
            .on("bye later", |(), cx, request| {
                let socket = request.socket;
                cx.after(LATER, move |(), cx| {
                    cx.disconnect(socket, 4100, "enough");
                    cx.emit(socket, "before", &1);
                    Reply::data("ack")
                })
                .into()
            })
            .on("kick", |(), cx, request| {
                cx.kick_out(request.socket, Some("x"), Some("out"));
                cx.emit(request.socket, "before", &1);
                Reply::data("ack")
            })
            .on("drop", |(), cx, request| {
                cx.emit(request.socket, "before", &1);
                cx.terminate(request.socket);
                Reply::data("ack")
            })
    });
    for event in ["bye", "bye later"] {
        let (v1, v2) = (rig.connect(0, "#2"), rig.connect(0, ""));
        rig.emit(v1, event, "1");
        rig.emit(v2, event, "1");
        rig.pass(LATER);
        let [before, ack] = [r#"{"event":"before","data":1}"#, r#"{"rid":2,"data":"ack"}"#];
        let said = r##"{"event":"#disconnect","data":{"code":4100,"data":"enough"}}"##;
        assert_eq!(rig.texts(v1), [before, ack, said, r#"Close(4100, "")"#]);
        assert_eq!(rig.texts(v2), [before, ack, r#"Close(4100, "enough")"#]);
    }
    let client = rig.connect(0, "#2");
    rig.emit(client, "#subscribe", r#"{"channel":"x"}"#);
    rig.texts(client);
    rig.emit(client, "kick", "1");
    let kicked = r##"{"event":"#kickOut","data":{"message":"out","channel":"x"}}"##;
    assert_eq!(rig.texts(client), [r#"{"event":"before","data":1}"#, r#"{"rid":3,"data":"ack"}"#, kicked]);
    rig.emit(client, "drop", "1");
    assert_eq!(rig.texts(client), [r#"{"event":"before","data":1}"#, "Aborted"], "there is no ack");
}
