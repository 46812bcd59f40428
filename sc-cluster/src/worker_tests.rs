//! The loop of a worker against real sockets, with a brain that echoes in the place of the engine.

use std::any::Any;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sc_protocol::http::RequestHead;
use sc_protocol::ipc::{Control, IpcError};
use sc_protocol::ws::CloseCode;

use crate::brain::Brain;
use crate::child::Ended;
use crate::control::{ControlLink, Received};
use crate::letters::LetterBox;
use crate::net::NetConfig;
use crate::pages::Pages;
use crate::sys::fd_pass::{SeqPacket, stream_pair};
use crate::worker_proc::{WorkerConfig, WorkerLoop};
use sc_server::{Letter, Output, TicketId, Time};

/// Accepts every upgrade, sends back what comes, and obeys a few words.
#[derive(Default)]
struct Echo {
    out: VecDeque<Output>,
    open: Vec<u32>,
    /// What came from brokers.
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Brain for Echo {
    fn open(&mut self, _: Time, slot: u32, remote: Option<IpAddr>, _: &RequestHead<'_, '_>) {
        assert_eq!(remote, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        assert!(!self.open.contains(&slot), "a slot is free when it is opened");
        self.open.push(slot);
        self.out.push_back(Output::Transmit(slot, Bytes::from_static(b"open ")));
    }

    fn handle_bytes(&mut self, _: Time, slot: u32, data: &mut [u8]) {
        assert!(self.open.contains(&slot));
        match &*data {
            b"close" => {
                self.out.push_back(Output::Transmit(slot, Bytes::from(vec![b'.'; 3_000_000])));
                self.out.push_back(Output::Close(slot));
            }
            b"abort" => self.out.push_back(Output::Abort(slot)),
            b"all" => self.out.push_back(Output::Fanout(Bytes::from_static(b"all "), self.open.clone())),
            _ => self.out.push_back(Output::Transmit(slot, Bytes::copy_from_slice(data))),
        }
    }

    fn closed(&mut self, _: Time, slot: u32) {
        let before = self.open.len();
        self.open.retain(|&open| open != slot);
        assert_eq!(self.open.len() + 1, before, "told once of each open slot");
    }

    fn is_settled(&self) -> bool {
        true
    }

    fn counters(&self) -> sc_server::Counters {
        sc_server::Counters::default()
    }

    fn set_rates(&mut self, _: f64, _: f64) {}

    fn drain(&mut self, _: Time, _: Duration, code: CloseCode) {
        for &slot in &self.open {
            self.out.push_back(Output::Transmit(slot, Bytes::from(format!("bye {}", code.0))));
            self.out.push_back(Output::Close(slot));
        }
    }

    fn link_up(&mut self, _: Time, _: u32) {}
    fn link_down(&mut self, _: Time, _: u32) {}
    fn handle_link(&mut self, _: Time, _: u32, data: &[u8]) -> Result<(), IpcError> {
        self.heard.lock().unwrap().extend_from_slice(data);
        Ok(())
    }
    fn link_queued(&mut self, _: u32, _: usize) {}
    fn handle_done(&mut self, _: Time, _: TicketId, _: Box<dyn Any + Send>) {}
    fn handle_failed(&mut self, _: Time, _: TicketId) {}
    fn handle_letter(&mut self, _: Time, _: Letter) {}
    fn handle_master(&mut self, _: Time, _: u64, _: &str) {}
    fn handle_master_reply(&mut self, _: Time, _: u64, _: &str) {}
    fn handle_timeout(&mut self, _: Time) {}
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }
    fn poll_link(&mut self) -> Option<(u32, Bytes)> {
        None
    }
    fn recycle(&mut self, _: Vec<u32>) {}
}

/// A worker's loop on a thread, and the master's end of its control channel.
struct Rig {
    control: ControlLink,
    address: SocketAddr,
    listener: TcpListener,
    thread: JoinHandle<Ended>,
}

fn rig(pages: Pages, max_backpressure: usize, head_timeout: Duration) -> Rig {
    let (mine, theirs) = SeqPacket::pair().unwrap();
    let net = NetConfig {
        paths: Some(vec!["/ws/".to_owned()]),
        max_backpressure,
        backpressure_policy: crate::BackpressurePolicy::Disconnect,
        head_timeout,
    };
    let config = WorkerConfig {
        net,
        brokers: 0,
        term_timeout: Duration::from_secs(10),
        status_interval: Duration::from_secs(10),
        letters: LetterBox::default(),
    };
    let thread = std::thread::spawn(move || {
        let brain = Box::new(Echo::default());
        let mut worker = WorkerLoop::new(config, ControlLink::new(theirs), brain, Arc::new(pages)).unwrap();
        worker.run().unwrap()
    });
    let mut control = ControlLink::new(mine);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    control.send(&Control::Listener { listener: 0 }, &[listener.as_fd()]).unwrap();
    Rig { control, address: listener.local_addr().unwrap(), listener, thread }
}

fn plain_rig() -> Rig {
    rig(Pages::new().text("/", "page").text("/b", "b"), 64 << 20, Duration::from_secs(60))
}

impl Rig {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    fn open(&self) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(b"GET /ws/ HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n").unwrap();
        assert_eq!(read(&mut stream, 5), "open ");
        stream
    }

    /// Everything that comes back for these bytes until the worker ends the connection.
    fn ask(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap();
        all
    }

    /// Ends the worker as a master does.
    fn terminate(mut self) {
        self.control.send(&Control::Terminate, &[]).unwrap();
        assert_eq!(self.thread.join().unwrap(), Ended::Terminated);
    }
}

fn read(stream: &mut TcpStream, len: usize) -> String {
    let mut data = vec![0; len];
    stream.read_exact(&mut data).unwrap();
    String::from_utf8(data).unwrap()
}

#[test]
fn requests_are_answered_in_order_however_they_come() {
    let rig = plain_rig();
    let requests = "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /none HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let whole = rig.ask(requests);
    let order: Vec<Option<usize>> =
        ["\r\n\r\npage", "404 Not Found\n", "\r\n\r\nb"].iter().map(|text| whole.find(text)).collect();
    assert!(order.is_sorted() && order[0].is_some() && whole.ends_with("\r\n\r\nb"), "{whole}");
    let mut stream = rig.connect();
    for byte in requests.as_bytes() {
        stream.write_all(&[*byte]).unwrap();
    }
    let mut split = String::new();
    stream.read_to_string(&mut split).unwrap();
    let without_dates =
        |text: &str| text.lines().filter(|line| !line.starts_with("Date")).collect::<Vec<_>>().join("\n");
    assert_eq!(without_dates(&split), without_dates(&whole));
    rig.terminate();
}

#[test]
fn what_is_no_request_gets_the_status_for_it() {
    let rig = plain_rig();
    for (request, status) in [
        ("\x16\x03\x01\x02\r\n\r\n".to_owned(), "400"),
        ("GET / HTTP/2.0\r\nHost: x\r\n\r\n".to_owned(), "505"),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(20_000)), "431"),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc".to_owned(), "405"),
        ("GET /other HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n".to_owned(), "400"),
    ] {
        let answer = rig.ask(&request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?} got {answer:?}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    }
    let answer = rig.ask("GET /ws/?a=b HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{answer}");
    assert!(answer.contains("\r\nConnection: close, Upgrade\r\n") && answer.contains("\r\nUpgrade: websocket\r\n"));
    rig.terminate();
}

#[test]
fn a_head_that_does_not_come_ends_the_connection() {
    let rig = rig(Pages::new(), 1 << 20, Duration::from_millis(20));
    assert_eq!(rig.ask(""), "");
    let late = rig.ask("GET / HTTP/1.1\r\nHost:");
    assert!(late.starts_with("HTTP/1.1 408 "), "{late}");
    rig.terminate();
}

#[test]
fn bytes_behind_the_upgrade_are_the_sockets() {
    let rig = plain_rig();
    let mut stream = rig.connect();
    stream.write_all(b"GET /ws/?a=b HTTP/1.1\r\nHost: x\r\nUpgrade: WebSocket\r\n\r\nfirst").unwrap();
    assert_eq!(read(&mut stream, 10), "open first");
    stream.write_all(b"second").unwrap();
    assert_eq!(read(&mut stream, 6), "second");
    rig.terminate();
}

#[test]
fn more_than_the_kernel_takes_arrives_whole_and_in_order() {
    let rig = plain_rig();
    let mut stream = rig.open();
    let all: Vec<u8> = (0..12_000_000_u32).map(|i| b'a' + (i % 23) as u8).collect();
    let mut writer = stream.try_clone().unwrap();
    let sent = all.clone();
    let writing = std::thread::spawn(move || writer.write_all(&sent).unwrap());
    // All is written before anything is read, so most of it has to wait in the worker.
    writing.join().unwrap();
    let mut got = vec![0; all.len()];
    stream.read_exact(&mut got).unwrap();
    assert!(got == all);
    rig.terminate();
}

#[test]
fn who_does_not_read_is_dropped_and_others_are_not() {
    let rig = rig(Pages::new(), 1_000_000, Duration::from_secs(60));
    let mut good = rig.open();
    let mut slow = rig.open();
    let chunk = vec![b'x'; 1 << 20];
    let refused = (0..1000).any(|_| slow.write_all(&chunk).is_err());
    assert!(refused, "the worker hung up");
    good.write_all(b"hello").unwrap();
    assert_eq!(read(&mut good, 5), "hello");
    rig.terminate();
}

#[test]
fn a_close_loses_nothing_that_was_queued() {
    let rig = plain_rig();
    let mut stream = rig.open();
    stream.write_all(b"close").unwrap();
    let mut first = [0; 1];
    stream.read_exact(&mut first).unwrap();
    // Unread input at the worker must not turn its end into a reset.
    stream.write_all(&[b'x'; 100_000]).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len() + 1, 3_000_000);
    let mut other = rig.open();
    other.write_all(b"abort").unwrap();
    let mut end = Vec::new();
    let _ = other.read_to_end(&mut end);
    assert!(end.is_empty());
    rig.terminate();
}

#[test]
fn what_came_before_the_end_of_the_peer_is_answered() {
    let rig = plain_rig();
    let mut stream = rig.connect();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    assert!(all.ends_with("\r\n\r\npage"), "{all}");
    let mut socket = rig.open();
    socket.write_all(b"last").unwrap();
    socket.shutdown(std::net::Shutdown::Write).unwrap();
    let mut all = String::new();
    socket.read_to_string(&mut all).unwrap();
    assert_eq!(all, "last");
    rig.terminate();
}

#[test]
fn a_fan_out_reaches_everybody_once() {
    let rig = plain_rig();
    let mut sockets: Vec<TcpStream> = (0..50).map(|_| rig.open()).collect();
    for at in 0..10 {
        sockets[at].write_all(b"all").unwrap();
        for socket in &mut sockets {
            assert_eq!(read(socket, 4), "all ");
        }
    }
    rig.terminate();
}

#[test]
fn a_large_file_comes_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let body: String = (0..300_000).map(|i| format!("{i} ")).collect();
    std::fs::write(dir.path().join("large.txt"), &body).unwrap();
    let rig = rig(Pages::new().serve_dir("/", dir.path()), 1 << 20, Duration::from_secs(60));
    let answer = rig.ask("GET /large.txt HTTP/1.1\r\nHost: x\r\n\r\n");
    let (head, got) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
    assert!(got == body);
    rig.terminate();
}

#[test]
fn connections_from_the_master_are_acknowledged_and_served() {
    let mut rig = plain_rig();
    rig.terminate_listener();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rig.address = listener.local_addr().unwrap();
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = rig.connect();
        client.write_all(b"GET /b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let (accepted, _) = listener.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        rig.control.send(&Control::Conns { listener: 0, count: 1 }, &[accepted.as_fd()]).unwrap();
        clients.push(client);
    }
    let mut taken = 0;
    while taken < 3 {
        let state = rig.control.recv(|message, _| {
            if let Control::ConnsTaken { total } = message {
                assert!(total > taken, "cumulative");
                taken = total;
            }
        });
        assert_ne!(state.unwrap(), Received::Closed);
        std::thread::yield_now();
    }
    for mut client in clients {
        let mut all = String::new();
        client.read_to_string(&mut all).unwrap();
        assert!(all.ends_with("\r\n\r\nb"), "{all}");
    }
    rig.terminate();
}

#[test]
fn what_a_broker_had_written_is_not_lost_with_its_link() {
    let (mine, theirs) = SeqPacket::pair().unwrap();
    let mut control = ControlLink::new(mine);
    // The first broker writes and dies, and its successor's link arrives before the first is looked at.
    let (near, far) = stream_pair().unwrap();
    std::fs::File::from(far).write_all(b"the last words").unwrap();
    control.send(&Control::Link { peer: 0 }, &[near.as_fd()]).unwrap();
    let (near, _far) = stream_pair().unwrap();
    control.send(&Control::Link { peer: 0 }, &[near.as_fd()]).unwrap();
    control.send(&Control::Terminate, &[]).unwrap();
    let net = NetConfig {
        paths: None,
        max_backpressure: 1 << 20,
        backpressure_policy: crate::BackpressurePolicy::Disconnect,
        head_timeout: Duration::from_secs(10),
    };
    let config = WorkerConfig {
        net,
        brokers: 1,
        term_timeout: Duration::from_secs(10),
        status_interval: Duration::from_secs(10),
        letters: LetterBox::default(),
    };
    let heard = Arc::default();
    let brain = Box::new(Echo { heard: Arc::clone(&heard), ..Echo::default() });
    let mut worker = WorkerLoop::new(config, ControlLink::new(theirs), brain, Arc::new(Pages::new())).unwrap();
    assert_eq!(worker.run().unwrap(), Ended::Terminated);
    assert_eq!(*heard.lock().unwrap(), b"the last words");
}

#[test]
fn the_end_of_the_process_is_polite_and_that_of_the_master_is_not() {
    let rig = plain_rig();
    let mut socket = rig.open();
    let Rig { mut control, thread, .. } = rig;
    control.send(&Control::Terminate, &[]).unwrap();
    let mut all = String::new();
    socket.read_to_string(&mut all).unwrap();
    assert_eq!(all, "bye 4001");
    drop(socket);
    assert_eq!(thread.join().unwrap(), Ended::Terminated);

    let Rig { control, thread, .. } = plain_rig();
    drop(control);
    assert_eq!(thread.join().unwrap(), Ended::MasterGone);
}

impl Rig {
    /// Its own copy of the listener, so that nobody can reach the worker that way by mistake.
    fn terminate_listener(&mut self) {
        self.listener = TcpListener::bind("127.0.0.1:0").unwrap();
    }
}
