//! The application: the exchange for clients, and a controller in the brokers. It is this test itself, started again.

use std::process::ExitCode;
use std::time::Duration;

use sc_cluster::server::{Key, Mapped, ScError, shard};
use sc_cluster::{BrokerStart, Cluster, Event, Options, Role, prelude::*};
use serde_json::{Value, json};

/// Options in JSON: this process is to be a cluster.
pub(crate) const OPTIONS_ENV: &str = "SC_BROKERS_OPTIONS";

pub(crate) fn run(options: &str) -> ExitCode {
    let mut all = Options::default();
    all.merge_json(options).expect("the test's own options");
    if let Some(file) = all.extra.get("secretFile").and_then(Value::as_str) {
        let secret = std::fs::read_to_string(file).expect("the test has written it");
        all.secret_key = Some(secret.as_str().into());
    }
    // The processes of a cluster are started from a test here, and on purpose: they come to this function again.
    all.worker_executable = std::env::current_exe().ok();
    Cluster::new(all)
        .broker(controller)
        .worker(|_| worker())
        .on_event(|event, master| {
            // What a broker says is asked back, and told to the other one.
            let Event::Message { origin, data } = event else { return };
            assert_eq!(origin.role, Some(Role::Broker), "workers here say nothing");
            let data = data.get::<Value>().expect("JSON");
            let asked = master.call_broker(origin.id, json!({ "back": data }), |answer, master| {
                let answer = answer.expect("the broker answers").get::<Value>().expect("JSON");
                master.send_to_broker(0, json!({ "publish": answer })).expect("it is there");
            });
            asked.expect("it is there");
        })
        .run()
}

/// Channels and keys of the form `0/…` live on broker 0, and so on.
fn by_prefix(what: Mapped<'_>, brokers: u32) -> u32 {
    let name = match what {
        Mapped::Channel(name) => name,
        Mapped::Key(key) => key.first(),
    };
    name.split('/').next().and_then(|prefix| prefix.parse().ok()).unwrap_or_else(|| shard(name, brokers))
}

fn worker() -> Worker<()> {
    Worker::new(())
        .on_start(|(), cx| cx.exchange().set_mapper(by_prefix).expect("nothing is in use yet"))
        .on_connection(|(), cx, socket| {
            let worker = cx.worker_id();
            cx.emit(socket, "whoami", &worker);
        })
        .on("set", |(), cx, request| {
            let (key, value): (String, Value) = request.data()?;
            cx.exchange().set(key, &value).then(|(), _, done| done.map(|()| Reply::Empty)).into()
        })
        .on("get", |(), cx, request| {
            let key: String = request.data()?;
            cx.exchange().get(key).then(|(), _, value| Reply::data(value?.get::<Value>()?)).into()
        })
        .on("add", |(), cx, request| {
            let (key, value): (String, Value) = request.data()?;
            cx.exchange().add(key, &value).then(|(), _, index| Reply::data(index?)).into()
        })
        .on("all", |(), cx, _| cx.exchange().get_all().then(|(), _, all| Reply::data(all?.get::<Value>()?)).into())
        .on("expire", |(), cx, request| {
            let (key, ms): (String, u64) = request.data()?;
            let after = Duration::from_millis(ms);
            cx.exchange().expire(key, after).then(|(), _, done| done.map(|()| Reply::Empty)).into()
        })
        .on("run", |(), cx, request| {
            let (query, key, data): (String, String, Value) = request.data()?;
            cx.exchange().run(&query, key, &data).then(|(), _, answer| Reply::data(answer?.get::<Value>()?)).into()
        })
        .on("onDeath", |(), cx, request| {
            let (query, key, data): (String, String, Value) = request.data()?;
            let call = cx.exchange().register_death_query(&query, key, &data);
            call.then(|(), _, done| done.map(|()| Reply::Empty)).into()
        })
        .on("send", |(), cx, request| {
            let data: Value = request.data()?;
            cx.exchange().send(&data).then(|(), _, answers| Reply::data(answers?.get::<Value>()?)).into()
        })
}

fn controller(start: &BrokerStart) -> BrokerController<Vec<String>> {
    let respawn = start.respawn;
    BrokerController::new(Vec::new())
        .on_start(move |_, cx| {
            let key = Key::from(format!("{}/start", cx.id()));
            cx.set(&key, &json!({ "again": respawn })).expect("there is room");
        })
        .on_subscribe(|heard, _, channel| heard.push(format!("+{channel}")))
        .on_unsubscribe(|heard, _, channel| heard.push(format!("-{channel}")))
        .on_publish(|_, cx, channel, data| {
            if let Some(rest) = channel.strip_suffix("/in") {
                cx.publish(&format!("{rest}/out"), data).expect("nobody is slow");
            }
        })
        .on_master_message(|_, cx, data| {
            let mut message: Value = data.get()?;
            if !message["publish"].is_null() {
                cx.publish("0/master", &message["publish"])?;
            }
            Data::of(&json!({ "broker": cx.id(), "was asked": message["back"].take() }))
        })
        .query("report", |_, cx, data| {
            cx.send_to_master(data)?;
            Ok(Data::absent())
        })
        .on_message(|heard, cx, data| {
            Data::of(&json!({ "broker": cx.id(), "got": data.get::<Value>()?, "heard": heard }))
        })
        .query("take", |_, cx, data| {
            let (key, wanted): (String, u64) = data.get()?;
            let key = Key::from(key);
            let left = cx.get::<u64>(&key)?.unwrap_or(0);
            let taken = wanted.min(left);
            cx.set(&key, &(left - taken))?;
            Data::of(&taken)
        })
        .query("refuse", |_, _, _| Err(ScError::new("QuotaError", "No more").with("limit", 3)))
        .query("panic", |_, _, _| panic!("on purpose"))
        .query("bury", |_, cx, data| {
            let (channel, message): (String, Value) = data.get()?;
            cx.publish(&channel, &message)?;
            Ok(Data::absent())
        })
}
