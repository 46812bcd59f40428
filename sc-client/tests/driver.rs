//! The handle and its thread, over real sockets.
#![cfg(feature = "driver")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests with sockets and threads"
)]

mod rig;

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use rig::server::Server;
use rig::{ServerConfig, application};
use sc_client::{
    Backoff, Capacity, ChannelChange, Client, CloseCode, Data, Driver, Event, Events, MemoryStore, Overflow, ScError,
    State, SubscribeOptions, TokenStore,
};
use serde_json::{Value, json};

fn server() -> Server {
    Server::start(ServerConfig::default(), application)
}

fn quick(server: &Server) -> sc_client::ClientBuilder {
    let delay = Duration::from_millis(20);
    let backoff = Backoff { initial_delay: delay, randomness: delay, multiplier: 1.0, max_delay: delay * 2 };
    Client::builder(&server.url()).reconnect(Some(backoff))
}

fn until(events: &mut Events, wanted: impl Fn(&Event) -> bool) -> Event {
    let found = events.find_map(|event| event.ok().filter(&wanted));
    found.expect("the event comes before the end")
}

/// The smallest executor there is.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn calls_wait_and_await_with_types() {
    let server = server();
    let client = Client::connect(&server.url()).unwrap();
    let echoed: Vec<u32> = client.emit("echo", [1u32, 2, 3]).wait().unwrap();
    assert_eq!(echoed, [1, 2, 3]);
    let echoed: Value = block_on(client.emit("echo", json!({"a": null}))).unwrap();
    assert_eq!(echoed, json!({"a": null}));
    let error = client.emit::<_, Data>("fail", Data::absent()).wait().unwrap_err();
    assert_eq!((error.name(), error.get("limit")), (Some("QuotaError"), Some(&json!(5))));
    let error = client.emit::<_, u32>("echo", "text").wait().unwrap_err();
    assert_eq!(error.name(), Some("InvalidMessageError"));
    let error = client.emit_within::<_, Data>(Duration::from_millis(20), "silence", 0).wait().unwrap_err();
    assert_eq!(error.name(), Some("TimeoutError"));
    assert!(client.emit::<_, Data>("silence", 0).wait_timeout(Duration::from_millis(1)).is_err());
    let bad = std::collections::BTreeMap::from([((1, 2), 3)]);
    assert_eq!(client.transmit("echo", &bad).unwrap_err().name(), Some("InvalidArgumentsError"));
    assert_eq!(client.state(), State::Open);
}

#[test]
fn subscriptions_are_iterators_and_streams_and_survive_the_server() {
    let server = server();
    let client = quick(&server).connect().unwrap();
    let mut events = client.events();
    let mut chat = client.subscribe::<String>("chat");
    chat.subscribed().wait().unwrap();
    client.publish("chat", "one").wait().unwrap();
    assert_eq!(chat.next(), Some(Ok("one".to_owned())));
    let mut second = client.clone().subscribe::<Data>("chat");
    server.cut_all();
    until(&mut events, |event| matches!(event, Event::Disconnected(end) if end.was_open && end.retry_in.is_some()));
    until(&mut events, |event| matches!(event, Event::Channel { change: ChannelChange::Subscribed, .. }));
    client.publish("chat", "two").wait().unwrap();
    assert_eq!(block_on(chat.recv()), Some(Ok("two".to_owned())));
    assert_eq!(second.next().unwrap().unwrap().json(), Some("\"two\""));
    drop(chat);
    client.publish("chat", "three").wait().unwrap();
    assert_eq!(second.next().unwrap().unwrap().json(), Some("\"three\""), "one of two is dropped, the channel stays");
    second.unsubscribe();
    until(&mut events, |event| matches!(event, Event::Channel { change: ChannelChange::Unsubscribed, .. }));
}

#[test]
fn a_subscription_that_the_server_ends_says_why() {
    let server = server();
    let client = Client::connect(&server.url()).unwrap();
    let mut forbidden = client.subscribe::<Data>("forbidden.x");
    assert_eq!(forbidden.next().unwrap().unwrap_err().name(), Some("ForbiddenError"));
    assert_eq!(forbidden.next(), None);
    assert!(forbidden.subscribed().wait().is_err());

    let mut chat = client.subscribe::<Data>("chat");
    chat.subscribed().wait().unwrap();
    let _: Data = client.emit("kick", "chat").wait().unwrap();
    let error = chat.next().unwrap().unwrap_err();
    assert_eq!((error.name(), error.message()), (Some("KickedOutError"), "out"));
    assert_eq!(chat.next(), None);
}

#[test]
fn a_slow_reader_is_told_what_it_missed() {
    let server = server();
    let client = Client::connect(&server.url()).unwrap();
    for (overflow, expected) in [
        (Overflow::DropOldest, [Err(3), Ok(3), Ok(4)]),
        (Overflow::DropNewest, [Ok(0), Ok(1), Err(3)]),
        (Overflow::End, [Ok(0), Ok(1), Err(1)]),
    ] {
        let capacity = Capacity { limit: 2, overflow };
        let slow = client.subscribe_with::<u64>("busy", SubscribeOptions::default(), capacity);
        slow.subscribed().wait().unwrap();
        for number in 0..5u64 {
            client.publish("busy", number).wait().unwrap();
        }
        // Each publish is delivered by the time that a call after it is answered.
        let _: Data = client.emit("echo", 0).wait().unwrap();
        let missed = |error: ScError| error.get("missed").and_then(Value::as_u64).unwrap();
        let got: Vec<_> = slow.take(3).map(|item| item.map_err(missed)).collect();
        assert_eq!(got, expected, "{overflow:?}");
    }
}

#[test]
fn the_server_asks_and_is_answered() {
    let server = server();
    let client = Client::connect(&server.url()).unwrap();
    let mut questions = client.listen::<String>("question");
    let asked = client.emit::<_, u32>("ask", "how many?");
    let question = questions.next().unwrap().unwrap();
    assert_eq!(question.data, "how many?");
    question.responder.unwrap().ok(42).unwrap();
    assert_eq!(asked.wait(), Ok(42));
    let asked = client.emit::<_, u32>("ask", "really?");
    questions.next().unwrap().unwrap().responder.unwrap().error(ScError::new("NoError", "no"));
    let error = asked.wait().unwrap_err();
    assert_eq!((error.name(), error.message()), (Some("AskedError"), "no"));
}

#[test]
fn tokens_live_in_their_store_and_files_are_for_their_owner_only() {
    let server = server();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.json");
    let client = quick(&server).token_file(&path).connect().unwrap();
    let mut private = client.subscribe_with::<u8>(
        "private.x",
        SubscribeOptions { wait_for_auth: true, ..SubscribeOptions::default() },
        Capacity::default(),
    );
    let _: Data = client.emit("login", "ann").wait().unwrap();
    private.subscribed().wait().unwrap();
    client.publish("private.x", 7).wait().unwrap();
    assert_eq!(private.next(), Some(Ok(7)));
    assert!(client.is_authenticated());
    drop(private);
    client.close().wait().unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);

    let client = quick(&server).token_file(&path).connect().unwrap();
    client.connected().wait().unwrap();
    assert!(client.is_authenticated(), "the next start has the token");
    let token = client.token().unwrap();
    client.deauthenticate();
    let _: Data = client.emit("echo", 0).wait().unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}");

    let store = Arc::new(MemoryStore::default());
    let other = quick(&server).token_store(store.clone()).token_name("mine").connect().unwrap();
    assert_eq!(other.authenticate("a.b.c").wait().unwrap_err().name(), Some("AuthTokenInvalidError"));
    other.authenticate(token.clone()).wait().unwrap();
    assert_eq!(store.load("mine"), Some(token));
}

#[test]
fn closing_sends_what_was_to_be_sent_and_ends_the_rest() {
    let server = server();
    let mut events = Client::connect(&server.url()).unwrap().subscribe::<u8>("out");
    let client = Client::connect(&server.url()).unwrap();
    events.subscribed().wait().unwrap();
    let other = client.clone();
    client.publish("out", 9).forget();
    client.close().wait().unwrap();
    assert_eq!(events.next(), Some(Ok(9)), "a subscription keeps its client alive");
    let error = other.emit::<_, Data>("echo", 0).wait().unwrap_err();
    assert_eq!(error.name(), Some("BadConnectionError"));
    assert_eq!(other.subscribe::<Data>("x").next(), None);

    // Dropping does the same, and an answer that is awaited keeps the connection.
    let pending = Client::connect(&server.url()).unwrap().emit::<_, u8>("echo", 3);
    assert_eq!(pending.wait(), Ok(3));
}

#[test]
fn a_client_without_a_server_says_so_and_comes_when_there_is_one() {
    let address = server().address;
    let url = format!("ws://{address}/");
    let client = Client::builder(&url).reconnect(None).connect().unwrap();
    let error = client.connected().wait().unwrap_err();
    assert_eq!(error.name(), Some("SocketProtocolError"), "{error}");
    assert_eq!(client.connected().wait().unwrap_err(), error, "who asks later gets the same answer");
    let nowhere =
        Client::builder("ws://localhost/").unix_socket("/there/is/no/such.sock").reconnect(None).connect().unwrap();
    assert!(nowhere.connected().wait().is_err());

    let delay = Duration::from_millis(20);
    let backoff = Backoff { initial_delay: delay, randomness: delay, multiplier: 1.0, max_delay: delay };
    let waits = Client::builder(&url).reconnect(Some(backoff)).connect().unwrap();
    let mut events = waits.events();
    let call = waits.emit::<_, u8>("echo", 1);
    until(&mut events, |event| matches!(event, Event::Disconnected(end) if !end.was_open));
    let _server = Server::start_at(address, ServerConfig::default(), application);
    assert_eq!(call.wait(), Ok(1));
    waits.disconnect(CloseCode(4242), "enough");
    until(
        &mut events,
        |event| matches!(event, Event::Disconnected(end) if end.code.0 == 4242 && end.retry_in.is_none()),
    );
}

#[test]
fn headers_query_and_credentials_reach_the_server() {
    let server = server();
    let url = format!("ws://ann:secret@{}/socketcluster/?a=1", server.address);
    let builder = Client::builder(&url).query("b&c", "d e").header("X-Own", "yes");
    assert!(!format!("{builder:?}").contains("secret"));
    let client = builder.connect().unwrap();
    client.connected().wait().unwrap();
    let head = server.heads().remove(0);
    assert!(head.starts_with("/socketcluster/?a=1&b%26c=d%20e "), "{head}");
    assert!(head.contains("X-Own: yes") && head.contains("Authorization: Basic YW5uOnNlY3JldA=="), "{head}");
}

#[test]
fn unix_sockets_carry_the_same() {
    let server = server();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sc.sock");
    server.listen_unix(&path);
    let client = Client::connect(&format!("ws+unix:{}:/socketcluster/", path.display())).unwrap();
    assert_eq!(client.emit::<_, u8>("echo", 5).wait(), Ok(5));
    let client = Client::builder("ws://localhost/").unix_socket(&path).connect().unwrap();
    assert_eq!(client.emit::<_, u8>("echo", 6).wait(), Ok(6));
}

#[test]
fn more_than_the_network_takes_waits_and_arrives_in_order() {
    let server = server();
    let client = Client::builder(&server.url()).max_backpressure(64 << 10).connect().unwrap();
    let big = "x".repeat(100_000);
    let calls: Vec<_> = (0..50).map(|number| client.emit::<_, Value>("echo", (number, &big))).collect();
    for (number, call) in calls.into_iter().enumerate() {
        let answer = call.wait().unwrap();
        assert_eq!((answer[0].as_u64(), answer[1].as_str().map(str::len)), (Some(number as u64), Some(big.len())));
    }
}

#[test]
fn one_thread_serves_many_clients_and_ends_with_them() {
    let server = server();
    let driver = Driver::new().unwrap();
    let clients: Vec<_> = (0..100).map(|_| quick(&server).driver(&driver).connect().unwrap()).collect();
    let calls: Vec<_> = clients.iter().map(|client| client.emit::<_, String>("echo", "all")).collect();
    assert!(calls.into_iter().all(|call| call.wait().is_ok_and(|text| text == "all")));
    assert_eq!(server.clients(), 100);
    let last: Vec<_> = clients.into_iter().map(Client::close).collect();
    assert!(last.into_iter().all(|closed| closed.wait().is_ok()));
    let left = Arc::new(Mutex::new(server.clients()));
    assert_eq!(*left.lock().unwrap(), 0);
}
