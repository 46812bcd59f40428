//! The real engine and broker behind real sockets: a thread for each connection, since blocking is simple. Also a relay that
//! speaks TLS, and a proxy.

#![allow(clippy::disallowed_types, clippy::type_complexity, reason = "the part of the rig with sockets and threads")]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use sc_auth::{JwtConfig, JwtEngine, Key};
use sc_broker::{Broker, BrokerLimits, LinkId};
use sc_protocol::entropy::SeededEntropy;
use sc_protocol::http::HeadReader;
use sc_server::{Engine, Output, Time, Worker};

use super::ServerConfig;

/// A stream that two threads share.
pub trait Wire: Read + Write + Send + 'static {
    fn another(&self) -> Self;
    fn end(&self);
}

macro_rules! wire {
    ($type:ty) => {
        impl Wire for $type {
            fn another(&self) -> Self {
                self.try_clone().unwrap()
            }

            fn end(&self) {
                let _ = self.shutdown(Shutdown::Both);
            }
        }
    };
}
wire!(TcpStream);
wire!(UnixStream);

struct Peer {
    write: Box<dyn FnMut(&[u8]) + Send>,
    end: Box<dyn FnMut() + Send>,
}

struct State {
    engine: Engine<()>,
    broker: Broker,
    link: LinkId,
    peers: HashMap<u32, Peer>,
    next_slot: u32,
    stopped: bool,
    /// The heads of the upgrade requests that came.
    heads: Vec<String>,
}

pub struct Server {
    pub address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

fn time() -> Time {
    let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    Time { now: Instant::now(), unix_ms }
}

impl Server {
    pub fn start(config: ServerConfig, make: fn() -> Worker<()>) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), config, make)
    }

    /// On a certain address, which was free a moment ago.
    pub fn start_at(address: SocketAddr, config: ServerConfig, make: fn() -> Worker<()>) -> Self {
        let at = time();
        let mut broker = Broker::new(BrokerLimits::default(), 1);
        let link = broker.attach(at.now);
        let auth = JwtEngine::new(JwtConfig::new(Key::shared("test-secret-key").unwrap())).unwrap();
        let mut engine = Engine::new(make(), config, Box::new(auth), Box::new(SeededEntropy::new(at.unix_ms)), at);
        engine.link_up(at, 0);
        let (peers, heads) = (HashMap::new(), Vec::new());
        let mut state = State { engine, broker, link, peers, next_slot: 0, stopped: false, heads };
        state.settle();
        let state = Arc::new((Mutex::new(state), Condvar::new()));
        let listener = TcpListener::bind(address).unwrap();
        let server = Self { address: listener.local_addr().unwrap(), state: state.clone() };
        let timer = state.clone();
        thread::spawn(move || tick(&timer));
        let accepting = state;
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if accepting.0.lock().unwrap().stopped {
                    return;
                }
                serve(&accepting, stream);
            }
        });
        server
    }

    pub fn url(&self) -> String {
        format!("ws://{}/socketcluster/", self.address)
    }

    /// Also serves on a unix socket.
    pub fn listen_unix(&self, path: &Path) {
        let (listener, state) = (UnixListener::bind(path).unwrap(), self.state.clone());
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                serve(&state, stream);
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap()
    }

    pub fn heads(&self) -> Vec<String> {
        self.lock().heads.clone()
    }

    pub fn clients(&self) -> u64 {
        self.lock().engine.counters().clients
    }

    /// Cuts every connection.
    pub fn cut_all(&self) {
        let mut state = self.lock();
        let slots: Vec<u32> = state.peers.keys().copied().collect();
        slots.into_iter().for_each(|slot| state.end(slot));
        state.settle();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.cut_all();
        self.lock().stopped = true;
        self.state.1.notify_all();
        // The listener goes with the connection that it accepts last.
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn settle(&mut self) {
        loop {
            let mut busy = false;
            while let Some((_, bytes)) = self.engine.poll_link() {
                busy = true;
                self.broker.handle_bytes(Instant::now(), self.link, &bytes).unwrap();
            }
            while let Some((link, bytes)) = self.broker.poll_transmit() {
                busy = true;
                let bytes = bytes.to_vec();
                self.broker.wrote(link, bytes.len());
                self.engine.handle_link(time(), 0, &bytes).unwrap();
            }
            while self.broker.poll_event().is_some() {}
            while let Some(output) = self.engine.poll_output() {
                busy = true;
                self.carry_out(output);
            }
            if !busy {
                return;
            }
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Transmit(slot, bytes) => {
                if let Some(peer) = self.peers.get_mut(&slot) {
                    (peer.write)(&bytes);
                }
            }
            Output::Fanout(bytes, slots) => {
                for slot in &slots {
                    if let Some(peer) = self.peers.get_mut(slot) {
                        (peer.write)(&bytes);
                    }
                }
                self.engine.recycle(slots);
            }
            Output::Close(slot) | Output::Abort(slot) => self.end(slot),
            Output::Offload(ticket, job) => self.engine.handle_done(time(), ticket, job()),
            _ => {}
        }
    }

    fn end(&mut self, slot: u32) {
        if let Some(mut peer) = self.peers.remove(&slot) {
            (peer.end)();
            self.engine.closed(time(), slot);
        }
    }
}

fn tick(state: &(Mutex<State>, Condvar)) {
    let mut locked = state.0.lock().unwrap();
    while !locked.stopped {
        let next = locked.engine.poll_timeout();
        let wait = next.map(|next| next.saturating_duration_since(Instant::now()));
        locked = match wait {
            Some(wait) => state.1.wait_timeout(locked, wait).unwrap().0,
            None => state.1.wait(locked).unwrap(),
        };
        locked.engine.handle_timeout(time());
        locked.settle();
    }
}

fn serve(state: &Arc<(Mutex<State>, Condvar)>, mut stream: impl Wire) {
    let state = state.clone();
    thread::spawn(move || {
        let mut buffer = vec![0; 16 << 10];
        let mut head = HeadReader::new();
        let mut slot = None;
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            let data = &mut buffer[..read];
            let mut locked = state.0.lock().unwrap();
            let at = time();
            let slot = *slot.get_or_insert_with(|| {
                locked.next_slot += 1;
                locked.next_slot - 1
            });
            if !locked.peers.contains_key(&slot) {
                let (mut write, end) = (stream.another(), stream.another());
                let State { engine, heads, .. } = &mut *locked;
                let opened = head.request(data, |head| {
                    let lines =
                        head.headers().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)));
                    heads.push(format!("{} {}", head.target, lines.collect::<Vec<_>>().join("\n")));
                    engine.open(at, slot, None, head);
                });
                let Ok(Some(((), used))) = opened else { continue };
                let write = Box::new(move |bytes: &[u8]| drop(write.write_all(bytes)));
                locked.peers.insert(slot, Peer { write, end: Box::new(move || end.end()) });
                locked.engine.handle_bytes(at, slot, &mut data[used..]);
            } else {
                locked.engine.handle_bytes(at, slot, data);
            }
            locked.settle();
            drop(locked);
            state.1.notify_all();
        }
        let mut locked = state.0.lock().unwrap();
        if let Some(slot) = slot {
            locked.end(slot);
            locked.settle();
        }
    });
}

/// Accepts TLS and passes what is in it on to an address. Answers its own address.
pub fn tls_relay(config: Arc<rustls::ServerConfig>, to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((outside, _)) = listener.accept() {
            let Ok(inside) = TcpStream::connect(to) else { return };
            let tls = Arc::new(Mutex::new(rustls::ServerConnection::new(config.clone()).unwrap()));
            let (tls_out, mut inside_out, mut outside_out) = (tls.clone(), inside.another(), outside.another());
            thread::spawn(move || inwards(&tls, outside, inside));
            thread::spawn(move || {
                let mut buffer = vec![0; 16 << 10];
                while let Ok(read @ 1..) = inside_out.read(&mut buffer) {
                    let mut tls = tls_out.lock().unwrap();
                    tls.writer().write_all(&buffer[..read]).unwrap();
                    if tls.write_tls(&mut outside_out).is_err() {
                        break;
                    }
                }
                outside_out.end();
            });
        }
    });
    address
}

fn inwards(tls: &Mutex<rustls::ServerConnection>, mut outside: TcpStream, mut inside: TcpStream) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = outside.read(&mut buffer) {
        let mut tls = tls.lock().unwrap();
        let mut rest = &buffer[..read];
        let mut plain = Vec::new();
        while !rest.is_empty() {
            tls.read_tls(&mut rest).unwrap();
            let processed = tls.process_new_packets();
            while tls.wants_write() && tls.write_tls(&mut outside).is_ok() {}
            if processed.is_err() {
                inside.end();
                return outside.end();
            }
            let _ = tls.reader().read_to_end(&mut plain);
        }
        if inside.write_all(&plain).is_err() {
            break;
        }
    }
    inside.end();
}

/// A proxy that opens tunnels to whatever it is asked for, if asked with the right words. What it was asked is noted.
pub fn proxy(authorization: &'static str, asked: Arc<Mutex<Vec<String>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((mut outside, _)) = listener.accept() {
            let mut head = HeadReader::new();
            let mut buffer = [0; 1024];
            let request = loop {
                let Ok(read @ 1..) = outside.read(&mut buffer) else { break None };
                let found = head.request(&buffer[..read], |head| {
                    (head.target.to_owned(), head.header("proxy-authorization").map(str::to_owned))
                });
                if let Ok(Some((found, _))) = found {
                    break Some(found);
                }
            };
            let Some((target, given)) = request else { continue };
            asked.lock().unwrap().push(target.clone());
            if given.as_deref() != Some(authorization) {
                let _ = outside.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
                continue;
            }
            let inside = TcpStream::connect(&*target).unwrap();
            outside.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
            for (mut from, mut to) in [(outside.another(), inside.another()), (inside, outside)] {
                thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    to.end();
                });
            }
        }
    });
    address
}
