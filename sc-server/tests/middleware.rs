//! Middleware: several functions of a stage, what they change, what they block, and what is reported of it.

mod rig;

use std::time::Duration;

use rig::{Got, Rig};
use sc_server::{Block, Config, Data, Internal, Level, Pass, Reply, ScError, Worker};
use serde_json::{Value, json};

#[test]
fn functions_of_a_stage_run_in_order_each_on_what_the_one_before_left() {
    let mut rig = Rig::new(1, 1, Config::default(), |_| {
        Worker::new(Vec::<&str>::new())
            .emit(|seen, _, request| {
                seen.push("first");
                let n: u32 = request.data.get()?;
                request.data.set(&(n + 1))?;
                Ok(Pass::Now)
            })
            .emit(|seen, cx, request| {
                seen.push("second");
                if request.data.get::<u32>()? > 100 {
                    return Err(Block::error("too much"));
                }
                cx.after(Duration::from_millis(50), |_, _| Ok(Pass::Now)).into()
            })
            .emit(|seen, _, request| {
                seen.push("third");
                let n: u32 = request.data.get()?;
                request.data.set(&json!({ "n": n * 2 }))?;
                Ok(Pass::Now)
            })
            .on("value", |seen, _, request| Reply::data(json!([request.data::<Value>()?, std::mem::take(seen)])))
    });
    for pong in ["#2", ""] {
        let client = rig.connect(0, pong);
        let cid = rig.emit(client, "value", "20");
        rig.pass(Duration::from_millis(60));
        let data = r#"[{"n":42},["first","second","third"]]"#;
        assert_eq!(rig.texts(client), [format!(r#"{{"rid":{cid},"data":{data}}}"#)]);
        let cid = rig.emit(client, "value", "100");
        assert_eq!(rig.texts(client), [format!(r#"{{"rid":{cid},"error":{{"message":"too much"}}}}"#)]);
        let cid = rig.emit(client, "value", "20");
        rig.pass(Duration::from_millis(60));
        assert!(
            rig.texts(client)[0].starts_with(&format!(r#"{{"rid":{cid},"data":[{{"n":42}},["first","second","first""#))
        );
    }
}

#[test]
fn a_publish_may_be_changed_and_its_ack_given_data() {
    let mut rig = Rig::new(1, 1, Config::default(), |_| {
        Worker::new(0_u32)
            .publish_in(|count, _, request| {
                *count += 1;
                request.data.set(&json!({ "number": *count, "text": request.data.get::<Value>()? }))?;
                request.ack = Data::of(&json!({ "number": *count }))?;
                Ok(Pass::Now)
            })
            .publish_in(|_, cx, _| cx.after(Duration::from_millis(50), |_, _| Ok(Pass::Now)).into())
    });
    for (number, pong) in [(1, "#2"), (2, "")] {
        let client = rig.connect(0, pong);
        rig.emit(client, "#subscribe", r#"{"channel":"x"}"#);
        rig.texts(client);
        let cid = rig.emit(client, "#publish", r#"{"channel":"x","data":"hi"}"#);
        rig.pass(Duration::from_millis(60));
        let mut got = rig.texts(client);
        got.sort();
        let message = format!(r#"{{"number":{number},"text":"hi"}}"#);
        let published = format!(r##"{{"event":"#publish","data":{{"channel":"x","data":{message}}}}}"##);
        assert_eq!(got, [published, format!(r#"{{"rid":{cid},"data":{{"number":{number}}}}}"#)]);
    }
}

fn blocking() -> Worker<()> {
    Worker::new(())
        .emit(|(), _, request| match request.event.as_ref() {
            "silent" => Err(Block::silent()),
            "named" => Err(Block::Error(ScError::new("OwnError", "own").with("code", 7))),
            "text" => Err(Block::Error(ScError::text("only text"))),
            "internal" => {
                "secret".parse::<u32>().internal()?;
                Ok(Pass::Now)
            }
            _ => Ok(Pass::Now),
        })
        .on("fails", |(), _, _| Reply::data("secret".parse::<u32>().internal()?))
        .on_other(|(), _, _| Ok(Reply::Empty))
}

#[test]
fn what_is_blocked_is_told_and_reported() {
    let mut rig = Rig::new(1, 1, Config::default(), |_| blocking());
    let client = rig.connect(0, "#2");
    let mut blocked = |event: &str| {
        let cid = rig.emit(client, event, "1");
        let text = rig.texts(client).remove(0);
        let error =
            text.strip_prefix(&format!(r#"{{"rid":{cid},"error":"#)).unwrap().strip_suffix('}').unwrap().to_owned();
        (error, std::mem::take(&mut rig.reports))
    };
    let (error, reports) = blocked("silent");
    assert!(error.contains(r#""name":"SilentMiddlewareBlockedError""#), "{error}");
    assert_eq!(reports, [], "silently");
    let (error, reports) = blocked("named");
    assert_eq!(error, r#"{"message":"own","name":"OwnError","code":7}"#);
    assert_eq!((reports[0].level, reports[0].name.as_str()), (Level::Warning, "OwnError"));
    let (error, reports) = blocked("text");
    assert_eq!(error, r#""only text""#);
    assert!(reports[0].message.contains("only text"));
    // The client is told nothing of the cause, the operator is.
    for event in ["internal", "fails"] {
        let (error, reports) = blocked(event);
        assert_eq!(error, r#"{"message":"Internal server error","name":"InternalError"}"#);
        let cause = reports.iter().find(|report| report.level == Level::Error).unwrap();
        assert!(cause.message.contains("invalid digit found in string"), "{cause:?}");
    }
}

#[test]
fn warnings_can_be_turned_off() {
    let config = Config { middleware_emit_warnings: false, ..Config::default() };
    let mut rig = Rig::new(1, 1, config, |_| blocking());
    let client = rig.connect(0, "");
    for event in ["silent", "named", "text"] {
        rig.emit(client, event, "1");
    }
    assert_eq!(rig.texts(client).len(), 3);
    assert_eq!(rig.reports, []);
    assert_eq!(rig.engine(0).counters().blocked_total, 3);
}

#[test]
fn both_handshake_stages_may_take_their_time() {
    let late = Duration::from_millis(50);
    let mut rig = Rig::new(1, 1, Config::default(), move |_| {
        Worker::new(())
            .handshake(move |(), cx, request| {
                let refused = request.query() == Some("no");
                cx.after(late, move |(), _| if refused { Err(Block::error("not you")) } else { Ok(Pass::Now) }).into()
            })
            .handshake_sc(move |(), cx, request| {
                request.close_code = 4123;
                let refused = cx.target(request.socket).is_some_and(|target| target.ends_with("?later"));
                cx.after(late, move |(), _| if refused { Err(Block::error("not now")) } else { Ok(Pass::Now) }).into()
            })
            .on("echo", |(), _, request| Reply::data(request.data))
    });
    let refused = rig.upgrade(0, "/socketcluster/?no");
    assert_eq!(rig.take(refused), []);
    rig.pass(late);
    let got = rig.take(refused);
    assert!(
        matches!(&got[0], Got::Http(text) if text.starts_with("HTTP/1.1 401") && text.ends_with("not you")),
        "{got:?}"
    );
    for (pong, target) in [("#2", "/socketcluster/?later"), ("", "/socketcluster/?later"), ("", "/socketcluster/")] {
        let client = rig.upgrade(0, target);
        // What comes behind the upgrade, and behind `#handshake`, waits for each verdict.
        rig.send(client, r##"{"event":"#handshake","data":{},"cid":1}"##);
        rig.send(client, pong);
        rig.send(client, r#"{"event":"echo","data":5,"cid":2}"#);
        rig.pass(late);
        rig.take(client);
        rig.pass(late);
        let got = rig.texts(client);
        if target.ends_with("later") {
            assert!(got[0].contains("not now") && got.last().unwrap().starts_with("Close(4123"), "{got:?}");
        } else {
            assert!(got[0].starts_with(r#"{"rid":1,"data":{"id":"#) && got[1] == r#"{"rid":2,"data":5}"#, "{got:?}");
        }
    }
}
