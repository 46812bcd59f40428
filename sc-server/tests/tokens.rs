//! Tokens that run out, and silence that is allowed.

mod rig;

use std::time::Duration;

use rig::{Got, Rig};
use sc_server::{Config, Reply, Worker};
use serde_json::{Value, json};

fn app() -> Worker<()> {
    Worker::new(())
        .on("login", |(), cx, request| {
            cx.set_auth_token(request.socket, &json!({ "name": "bob" }), Some(request.data()?))?;
            Ok(Reply::Empty)
        })
        .on("logout", |(), cx, request| {
            cx.deauthenticate(request.socket);
            Ok(Reply::Empty)
        })
        .on("who", |(), _cx, request| {
            let name = request.auth.as_ref().map(|claims| claims["name"].clone());
            Reply::data(json!([name, request.expired.is_some()]))
        })
}

fn server() -> (Rig<()>, usize) {
    let mut rig = Rig::new(1, 1, Config::default(), |_| app());
    let client = rig.connect(0, "#2");
    (rig, client)
}

fn who(rig: &mut Rig<()>, client: usize) -> Value {
    let cid = rig.emit(client, "who", "null");
    let texts = rig.texts(client);
    let answer: Value = serde_json::from_str(texts.last().expect("an answer")).expect("JSON");
    assert_eq!(answer["rid"], cid);
    answer["data"].clone()
}

fn told() -> Worker<Vec<String>> {
    Worker::new(Vec::new())
        .on("login", |_told, cx, request| {
            let claims = json!({ "name": "bob" });
            let _ = cx.set_auth_token_then(request.socket, &claims, None, |told: &mut Vec<String>, _cx, result| {
                told.push(result.map_or_else(|error| error.to_json(), |()| "delivered".to_owned()));
            })?;
            Ok(Reply::Empty)
        })
        .on("told", |told, _cx, _request| Reply::data(told))
}

#[test]
fn a_client_confirms_that_it_has_its_token() {
    const NO: &str = r#"{"message":"quota exceeded"}"#;
    for (pong, refused, gone) in [
        ("#2", NO.to_owned(), "Event '#setAuthToken' was aborted due to a bad connection"),
        (
            "",
            r#"{"message":"Failed to deliver auth token to client - quota exceeded","name":"AuthError"}"#.to_owned(),
            "Failed to deliver auth token to client - Socket invoke #setAuthToken event was aborted due to a bad connection",
        ),
    ] {
        let mut rig = Rig::new(1, 1, Config::default(), |_| told());
        let (client, other) = (rig.connect(0, pong), rig.connect(0, pong));
        for answer in [String::new(), format!(r#","error":{NO}"#), "gone".to_owned()] {
            rig.emit(client, "login", "null");
            let asked: Value = serde_json::from_str(&rig.texts(client)[0]).expect("a packet");
            assert_eq!(asked["event"], "#setAuthToken");
            match answer.as_str() {
                "gone" => rig.vanish(client),
                answer => rig.send(client, &format!(r#"{{"rid":{}{answer}}}"#, asked["cid"])),
            }
        }
        rig.emit(other, "told", "null");
        let answer: Value = serde_json::from_str(&rig.texts(other)[0]).expect("an answer");
        let told: Vec<String> = serde_json::from_value(answer["data"].clone()).expect("a list");
        assert_eq!(told[..2], ["delivered".to_owned(), refused]);
        assert!(told[2].contains(gone), "{}", told[2]);
    }
}

#[test]
fn protocol_2_waits_for_the_verdict_on_a_token_and_protocol_1_does_not() {
    let app = |_| app().authenticate(|(), cx, _request| cx.later(|| (), |(), _cx, ()| Ok(sc_server::Pass::Now)).into());
    for (pong, waits) in [("#2", false), ("", true)] {
        let mut rig = Rig::new(1, 1, Config::default(), app);
        let client = rig.connect(0, pong);
        rig.emit(client, "login", "60");
        let token: Value = serde_json::from_str(&rig.texts(client)[0]).expect("a packet");
        rig.emit(client, "logout", "null");
        rig.take(client);
        rig.emit(client, "#authenticate", &token["data"]["token"].to_string());
        rig.emit(client, "who", "null");
        assert_eq!(rig.texts(client).len(), usize::from(!waits));
        rig.run_jobs();
        assert_eq!(rig.texts(client).len(), if waits { 2 } else { 1 });
        assert_eq!(who(&mut rig, client), json!(["bob", false]));
    }
}

const REMOVE: &str = r##"{"event":"#removeAuthToken","data":null}"##;

#[test]
fn the_end_of_a_token_is_noticed_when_it_comes() {
    let (mut rig, client) = server();
    rig.emit(client, "login", "2");
    rig.take(client);
    rig.pass(Duration::from_millis(1990));
    assert_eq!(rig.texts(client), Vec::<String>::new());
    rig.pass(Duration::from_millis(30));
    assert_eq!(rig.texts(client), [REMOVE]);
    // The packet that comes next is told, as if it had been the first to notice; those behind it are not.
    assert_eq!(who(&mut rig, client), json!([null, true]));
    assert_eq!(who(&mut rig, client), json!([null, false]));
}

#[test]
fn a_pong_does_not_take_that_from_the_next_packet() {
    let (mut rig, client) = server();
    rig.emit(client, "login", "2");
    rig.pass(Duration::from_secs(12));
    assert_eq!(rig.texts(client).last().map(String::as_str), Some(REMOVE), "said once, with a ping behind it");
    assert_eq!(who(&mut rig, client), json!([null, true]));
}

#[test]
fn a_new_token_has_a_new_deadline_and_none_outlives_a_logout() {
    let (mut rig, client) = server();
    rig.emit(client, "login", "2");
    rig.emit(client, "login", "5");
    rig.take(client);
    rig.pass(Duration::from_secs(4));
    assert_eq!(who(&mut rig, client), json!(["bob", false]));
    rig.emit(client, "logout", "null");
    rig.take(client);
    rig.pass(Duration::from_secs(4));
    assert_eq!(rig.texts(client), Vec::<String>::new());
    assert_eq!(who(&mut rig, client), json!([null, false]));
}

#[test]
fn without_a_ping_timeout_silence_is_no_reason_to_close() {
    let config = Config { ping_timeout_disabled: true, ..Config::default() };
    let mut rig = Rig::new(1, 1, config, |_| app());
    let client = rig.upgrade(0, "/socketcluster/");
    rig.send(client, r##"{"event":"#handshake","data":{},"cid":1}"##);
    rig.send(client, "");
    rig.pass(Duration::from_secs(3600));
    let got = rig.take(client);
    let pings = [Got::Text("#1".to_owned()), Got::Text(String::new())];
    assert_eq!(got[1..3], pings, "the first pings tell the version");
    assert_eq!(got.len(), 4, "the 101, these and the answer to the handshake");
    assert!(rig.is_connected(client));
}
