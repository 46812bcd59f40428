//! What other threads do with an engine, and channels that the application watches itself.

#![allow(clippy::disallowed_methods, reason = "other threads are what this is about")]

mod rig;

use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use rig::Rig;
use sc_server::{Block, Completer, Config, Letter, Mailbox, Pass, Remote, Reply, Worker};

fn config() -> (Config, Receiver<Letter>) {
    let (sender, letters) = mpsc::channel();
    let mailbox = Mailbox::new(move |letter| drop(sender.send(letter)));
    (Config { mailbox, crash_worker_on_error: false, ..Config::default() }, letters)
}

#[test]
fn any_thread_may_answer() {
    let (config, letters) = config();
    let mut rig = Rig::new(1, 1, config, |_| {
        Worker::new(()).on("sum", |(), cx, request| {
            let (a, b): (u32, u32) = request.data()?;
            let (ticket, done) = cx.park(|(), _, sum: u32| Reply::data(sum));
            thread::spawn(move || done.complete(a + b));
            ticket.into()
        })
    });
    for pong in ["#2", ""] {
        let client = rig.connect(0, pong);
        let cid = rig.emit(client, "sum", "[40,2]");
        assert_eq!(rig.texts(client), [] as [&str; 0]);
        rig.deliver_letter(0, letters.recv().unwrap());
        assert_eq!(rig.texts(client), [format!(r#"{{"rid":{cid},"data":42}}"#)]);
    }
}

#[test]
fn a_completer_that_is_dropped_or_late_is_an_error_of_ours() {
    let (config, letters) = config();
    let (sender, completers) = mpsc::channel::<Completer<bool>>();
    let mut rig = Rig::new(1, 1, config, move |_| {
        let sender = sender.clone();
        Worker::new(())
            .subscribe(move |(), cx, _| {
                let allowed = |may| if may { Ok(Pass::Now) } else { Err(Block::error("no")) };
                let (ticket, done) = cx.park(move |(), _, may| allowed(may));
                sender.send(done).unwrap();
                ticket.into()
            })
            .on("still there", |(), _, _| Reply::data(true))
    });
    let client = rig.connect(0, "#2");
    let cid = rig.emit(client, "#subscribe", r#"{"channel":"dropped"}"#);
    drop(completers.recv().unwrap());
    rig.deliver_letter(0, letters.recv().unwrap());
    let error = r#"{"message":"Internal server error","name":"InternalError"}"#;
    assert_eq!(rig.texts(client), [format!(r#"{{"rid":{cid},"error":{error}}}"#)]);
    assert!(rig.reports.iter().any(|report| report.message.contains("a Completer was dropped")));

    let cid = rig.emit(client, "#subscribe", r#"{"channel":"late"}"#);
    rig.pass(Duration::from_millis(10_010));
    let error = r#"{"message":"The deferred work did not finish in time","name":"TimeoutError"}"#;
    assert_eq!(rig.texts(client), [format!(r#"{{"rid":{cid},"error":{error}}}"#)]);
    completers.recv().unwrap().complete(true);
    rig.deliver_letter(0, letters.recv().unwrap());
    assert_eq!(rig.texts(client), [] as [&str; 0]);
    let cid = rig.emit(client, "still there", "null");
    assert_eq!(rig.texts(client), [format!(r#"{{"rid":{cid},"data":true}}"#)]);
}

#[test]
fn closures_of_other_threads_run_in_order_and_are_bounded() {
    let (config, letters) = config();
    let (sender, remotes) = mpsc::channel::<Remote<Vec<u32>>>();
    let mut rig = Rig::new(1, 1, Config { remote_max: 3, ..config }, move |_| {
        let sender = sender.clone();
        Worker::new(Vec::new())
            .on_start(move |_, cx| sender.send(cx.remote()).unwrap())
            .on("list", |list: &mut Vec<u32>, _, _| Reply::data(list))
    });
    let client = rig.connect(0, "#2");
    rig.emit(client, "#subscribe", r#"{"channel":"added"}"#);
    rig.texts(client);
    let remote = remotes.recv().unwrap();
    let results = thread::spawn(move || {
        let add = |number| {
            remote.clone().run(move |list, cx| {
                list.push(number);
                cx.publish("added", &number).unwrap();
            })
        };
        let full = (1..=4).map(add).collect::<Vec<_>>();
        (full, remote)
    });
    let (results, remote) = results.join().unwrap();
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, true, false]);
    assert_eq!(results[3].as_ref().unwrap_err().name(), Some("ResourceLimitError"));
    for letter in letters.try_iter() {
        rig.deliver_letter(0, letter);
    }
    let published = |n| format!(r##"{{"event":"#publish","data":{{"channel":"added","data":{n}}}}}"##);
    assert_eq!(rig.texts(client), [1, 2, 3].map(published));
    let cid = rig.emit(client, "list", "null");
    assert_eq!(rig.texts(client), [format!(r#"{{"rid":{cid},"data":[1,2,3]}}"#)]);
    // There is room again, and a panic costs nobody else anything.
    remote.run(|_, _| panic!("in a closure")).unwrap();
    rig.deliver_letter(0, letters.recv().unwrap());
    assert!(rig.reports.iter().any(|report| report.message.contains("in a closure")));
    assert!(!rig.crashed);
}

#[test]
fn deferred_work_that_nobody_waits_for_takes_no_room() {
    let (config, _letters) = config();
    let mut rig = Rig::new(1, 1, Config { deferred_max: 4, ..config }, |_| {
        Worker::new(0_u32)
            .on("more", |_, cx, request| {
                for _ in 0..request.data::<u32>()? {
                    cx.after(Duration::from_secs(1), |count: &mut u32, _| *count += 1).detach();
                }
                Ok(Reply::Empty)
            })
            .on("count", |count, cx, _| {
                cx.after(Duration::from_millis(10), {
                    let n = *count;
                    move |_, _| Reply::data(n)
                })
                .into()
            })
    });
    let client = rig.connect(0, "#2");
    for _ in 0..3 {
        rig.emit(client, "more", "10");
        rig.pass(Duration::from_millis(1010));
    }
    rig.texts(client);
    let cid = rig.emit(client, "count", "null");
    rig.pass(Duration::from_millis(20));
    assert_eq!(rig.texts(client), [format!(r#"{{"rid":{cid},"data":12}}"#)], "four of each ten had room");
}

#[test]
fn the_application_watches_channels_of_the_whole_cluster() {
    let (config, _letters) = config();
    let mut rig = Rig::new(2, 2, config, |_| {
        Worker::new(Vec::<String>::new())
            .watch("fixed", |seen, cx, published| {
                seen.push(format!("fixed {}", published.data.json().unwrap_or("absent")));
                cx.publish("echo", &published.data).unwrap();
            })
            .on_publish(|seen, _, published| seen.push(format!("any {}", published.channel)))
            .on("watch", |_, cx, request| {
                cx.watch(&request.data::<String>()?);
                Reply::data(cx.watched())
            })
            .on("unwatch", |_, cx, request| {
                cx.unwatch(&request.data::<String>()?);
                Reply::data(cx.watched())
            })
            .on("seen", |seen, _, _| Reply::data(std::mem::take(seen)))
    });
    let (a, b) = (rig.connect(0, "#2"), rig.connect(1, ""));
    let ask = |rig: &mut Rig<Vec<String>>, client, event: &str, data: &str| {
        let cid = rig.emit(client, event, data);
        let texts = rig.texts(client);
        let prefix = format!(r#"{{"rid":{cid}"#);
        texts.into_iter().find(|text| text.starts_with(&prefix)).unwrap()[prefix.len()..].to_owned()
    };
    ask(&mut rig, a, "#subscribe", r#"{"channel":"echo"}"#);
    // A publish of the own worker's client and one of another's.
    ask(&mut rig, a, "#publish", r#"{"channel":"fixed","data":1}"#);
    ask(&mut rig, b, "#publish", r#"{"channel":"fixed"}"#);
    for client in [a, b] {
        let seen = ask(&mut rig, client, "seen", "null");
        assert_eq!(seen, r#","data":["fixed 1","any fixed","fixed absent","any fixed"]}"#);
    }
    // Watched while the program runs; a socket's subscription to the same channel is another matter.
    assert_eq!(ask(&mut rig, a, "watch", r#""more""#), r#","data":["fixed","more"]}"#);
    ask(&mut rig, a, "#subscribe", r#"{"channel":"more"}"#);
    ask(&mut rig, a, "#unsubscribe", r#""more""#);
    ask(&mut rig, b, "#publish", r#"{"channel":"more","data":1}"#);
    rig.kill_broker(0);
    rig.kill_broker(1);
    rig.revive_broker(0);
    rig.revive_broker(1);
    ask(&mut rig, b, "#publish", r#"{"channel":"more","data":2}"#);
    assert_eq!(ask(&mut rig, a, "seen", "null"), r#","data":["any more","any more"]}"#);
    assert_eq!(ask(&mut rig, b, "seen", "null"), r#","data":[]}"#);
    assert_eq!(ask(&mut rig, a, "unwatch", r#""more""#), r#","data":["fixed"]}"#);
    ask(&mut rig, b, "#publish", r#"{"channel":"more","data":3}"#);
    assert_eq!(ask(&mut rig, a, "seen", "null"), r#","data":[]}"#);
}
