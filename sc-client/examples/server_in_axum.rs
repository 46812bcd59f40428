//! A SocketCluster server as a route of an axum application, on tokio: the engine and the broker are state machines, and this
//! is the driver of both.
//!
//! `cargo run -p sc-client --example server_in_axum`, then `socketcluster client ws://127.0.0.1:8000/ emit echo 1`

#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    unreachable_pub,
    reason = "a driver, which the tests run too"
)]

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use axum::routing::any;
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use sc_auth::{JwtConfig, JwtEngine, Key};
use sc_broker::{Broker, BrokerLimits, LinkId};
use sc_protocol::http::HeadReader;
use sc_server::{Config, Engine, Output, Reply, Time, Worker};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};

/// Messages that may wait for one socket; beyond it the socket is dropped.
const QUEUE_MAX: usize = 1024;

struct Hub {
    engine: Engine<()>,
    broker: Broker,
    link: LinkId,
    sockets: HashMap<u32, mpsc::Sender<Bytes>>,
    next: u32,
}

/// The hub, and a word to the task that keeps its time.
#[derive(Clone)]
struct Shared(Arc<(Mutex<Hub>, Notify)>);

fn time() -> Time {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time { now: Instant::now(), unix_ms: unix.as_millis() as u64 }
}

impl Shared {
    fn new(worker: Worker<()>) -> Result<Self, Box<dyn Error>> {
        let auth = JwtEngine::new(JwtConfig::new(Key::shared("a secret of your own")?))?;
        let entropy = Box::new(Urandom(std::fs::File::open("/dev/urandom")?));
        let mut broker = Broker::new(BrokerLimits::default(), 1);
        let link = broker.attach(Instant::now());
        let mut engine = Engine::new(worker, Config::default(), Box::new(auth), entropy, time());
        engine.link_up(time(), 0);
        let hub = Hub { engine, broker, link, sockets: HashMap::new(), next: 0 };
        Ok(Self(Arc::new((Mutex::new(hub), Notify::new()))))
    }

    /// Does something with the hub, and carries out what follows from it.
    fn act<R>(&self, act: impl FnOnce(&mut Hub) -> R) -> R {
        let mut hub = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(&mut hub);
        hub.settle();
        drop(hub);
        self.0.1.notify_one();
        result
    }

    async fn keep_time(self) {
        loop {
            let next = self.0.0.lock().unwrap_or_else(PoisonError::into_inner).engine.poll_timeout();
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => self.act(|hub| hub.engine.handle_timeout(time())),
                () = self.0.1.notified() => {}
            }
        }
    }
}

impl Hub {
    fn settle(&mut self) {
        loop {
            let mut busy = false;
            while let Some((_, bytes)) = self.engine.poll_link() {
                busy = true;
                self.broker.handle_bytes(Instant::now(), self.link, &bytes).expect("the engine speaks its language");
            }
            while let Some((link, bytes)) = self.broker.poll_transmit() {
                busy = true;
                let bytes = bytes.to_vec();
                self.broker.wrote(link, bytes.len());
                self.engine.handle_link(time(), 0, &bytes).expect("so does the broker");
            }
            while self.broker.poll_event().is_some() {}
            while let Some(output) = self.engine.poll_output() {
                busy = true;
                match output {
                    Output::Transmit(slot, bytes) => self.transmit(slot, bytes),
                    Output::Fanout(bytes, slots) => {
                        slots.iter().for_each(|slot| self.transmit(*slot, bytes.clone()));
                        self.engine.recycle(slots);
                    }
                    // The task of the socket writes what is queued, then ends and says so.
                    Output::Close(slot) | Output::Abort(slot) => drop(self.sockets.remove(&slot)),
                    Output::Offload(ticket, job) => self.engine.handle_done(time(), ticket, job()),
                    _ => {}
                }
            }
            if !busy {
                return;
            }
        }
    }

    fn transmit(&mut self, slot: u32, bytes: Bytes) {
        if self.sockets.get(&slot).is_some_and(|socket| socket.try_send(bytes).is_err()) {
            self.sockets.remove(&slot);
        }
    }
}

/// The route: the engine decides, axum answers, and a task carries the bytes.
async fn socket(State(shared): State<Shared>, mut request: Request) -> Result<Response<Body>, StatusCode> {
    let mut head = format!("{} {} HTTP/1.1\r\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        head.push_str(&format!("{name}: {}\r\n", value.to_str().map_err(|_| StatusCode::BAD_REQUEST)?));
    }
    head.push_str("\r\n");
    let (sender, mut outgoing) = mpsc::channel(QUEUE_MAX);
    let (slot, opened) = shared.act(|hub| {
        hub.next += 1;
        let slot = hub.next;
        hub.sockets.insert(slot, sender);
        (slot, HeadReader::new().request(head.as_bytes(), |head| hub.engine.open(time(), slot, None, head)).is_ok())
    });
    let answer = outgoing.recv().await.filter(|_| opened).ok_or(StatusCode::BAD_REQUEST)?;
    let read = HeadReader::new().response(&answer, |head| {
        let headers = head.headers().filter(|(name, _)| !name.eq_ignore_ascii_case("content-length"));
        headers.fold(Response::builder().status(head.status), |response, (name, value)| response.header(name, value))
    });
    let Ok(Some((response, used))) = read else { return Err(StatusCode::INTERNAL_SERVER_ERROR) };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(stream) = upgrade.await {
            carry(&shared, slot, TokioIo::new(stream), outgoing).await;
        }
        shared.act(|hub| hub.engine.closed(time(), slot));
    });
    response.body(Body::from(answer.slice(used..))).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

async fn carry(
    shared: &Shared,
    slot: u32,
    mut stream: TokioIo<hyper::upgrade::Upgraded>,
    mut outgoing: mpsc::Receiver<Bytes>,
) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        tokio::select! {
            read = stream.read(&mut buffer) => match read {
                Ok(read @ 1..) => shared.act(|hub| hub.engine.handle_bytes(time(), slot, &mut buffer[..read])),
                _ => return,
            },
            bytes = outgoing.recv() => match bytes {
                Some(bytes) if stream.write_all(&bytes).await.is_ok() => {}
                _ => return drop(stream.shutdown().await),
            },
        }
    }
}

/// Serves until the listener fails.
pub async fn serve(listener: TcpListener) -> Result<(), Box<dyn Error>> {
    let worker = Worker::new(()).on("echo", |(), _cx, request| Reply::data(request.data::<serde_json::Value>()?));
    let shared = Shared::new(worker)?;
    tokio::spawn(shared.clone().keep_time());
    let app = Router::new().route("/socketcluster/", any(socket)).with_state(shared);
    Ok(axum::serve(listener, app).await?)
}

struct Urandom(std::fs::File);

impl sc_protocol::Entropy for Urandom {
    fn fill(&mut self, buf: &mut [u8]) {
        std::io::Read::read_exact(&mut self.0, buf).expect("the system has random bytes");
    }
}

#[allow(dead_code, reason = "the tests call what it calls")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    serve(TcpListener::bind("127.0.0.1:8000").await?).await
}
