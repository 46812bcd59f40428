//! A broker's named socket: for programs that are not of the cluster, who have to prove that they know its secret.
//!
//! ```text
//!   peer                                        broker
//!     │ ◄───────────── challenge, 32 random bytes ─┤
//!     ├─ HMAC-SHA256(secretKey, label, challenge) ─► compared in constant time
//!     ├─ Hello, …: as on any link ────────────────►
//! ```
//!
//! The secret itself never crosses the socket, and a proof is of use once.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry};
use sc_protocol::Entropy;
use slab::Slab;

use crate::event_loop::Source;
use crate::sys::entropy::SystemEntropy;

/// Peers that have not proved anything yet, at most; one more is turned away.
pub const SOCKET_PEERS_MAX: usize = 64;

/// How long a peer may take for its proof.
const PATIENCE: Duration = Duration::from_secs(5);

const LABEL: &[u8] = b"socketcluster broker link";
const CHALLENGE_LEN: usize = 32;
const PROOF_LEN: usize = 32;

/// The listening socket, and those who have not proved the secret yet.
pub(crate) struct BrokerSocket {
    listener: UnixListener,
    path: PathBuf,
    key: hmac::Key,
    entropy: SystemEntropy,
    peers: Slab<Peer>,
    more: bool,
}

struct Peer {
    stream: UnixStream,
    challenge: [u8; CHALLENGE_LEN],
    proof: [u8; PROOF_LEN],
    len: usize,
    deadline: Instant,
}

/// What became of a peer.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// It has proved the secret: its link.
    Link(OwnedFd),
    /// It has not, for the log.
    Refused(&'static str),
}

impl BrokerSocket {
    /// Listens at `b0`, `b1` and so on in `root`, which is made (for this user alone) if it is not there. The file is for this
    /// user alone. One that a dead broker left is removed.
    pub(crate) fn bind(root: &Path, broker: u32, secret: &str) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        let path = root.join(format!("b{broker}"));
        remove_stale(&path)?;
        // Under its name the file has its mode from the first moment.
        let begun = root.join(format!(".b{broker}.{}", std::process::id()));
        let listener = net::UnixListener::bind(&begun)?;
        let ready = fs::set_permissions(&begun, Permissions::from_mode(0o600)).and_then(|()| fs::rename(&begun, &path));
        if let Err(error) = ready {
            let _ = fs::remove_file(&begun);
            return Err(error);
        }
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener: UnixListener::from_std(listener),
            path,
            key: key(secret),
            entropy: SystemEntropy::new(),
            peers: Slab::new(),
            more: false,
        })
    }

    pub(crate) fn register(&mut self, registry: &Registry) -> io::Result<()> {
        registry.register(&mut self.listener, Source::Listener(0).token(), Interest::READABLE)
    }

    /// Whether there may be more to accept though no edge comes.
    pub(crate) fn has_more(&self) -> bool {
        self.more && self.peers.len() < SOCKET_PEERS_MAX
    }

    /// Somebody has connected. Who comes while there are too many waits in the kernel's queue.
    pub(crate) fn accept(&mut self, now: Instant, registry: &Registry) {
        self.more = true;
        while self.peers.len() < SOCKET_PEERS_MAX {
            match self.listener.accept() {
                // One that is gone again is no loss.
                Ok((stream, _)) => drop(self.challenge(now, stream, registry)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Nobody is there; or descriptors have run out, and the next event is the next try.
                Err(_) => {
                    self.more = false;
                    return;
                }
            }
        }
    }

    fn challenge(&mut self, now: Instant, mut stream: UnixStream, registry: &Registry) -> io::Result<()> {
        let mut challenge = [0; CHALLENGE_LEN];
        self.entropy.fill(&mut challenge);
        // 32 bytes fit into the buffer of a new socket.
        stream.write_all(&challenge)?;
        let slot = self.peers.vacant_key() as u32;
        registry.register(&mut stream, Source::Conn { slot, generation: 0 }.token(), Interest::READABLE)?;
        self.peers.insert(Peer { stream, challenge, proof: [0; PROOF_LEN], len: 0, deadline: now + PATIENCE });
        Ok(())
    }

    /// Something came from a peer. `None`: its proof is not complete.
    pub(crate) fn read(&mut self, slot: u32, registry: &Registry) -> Option<Arrival> {
        let peer = self.peers.get_mut(slot as usize)?;
        while peer.len < PROOF_LEN {
            // Not a byte more: what follows is for the link.
            match peer.stream.read(&mut peer.proof[peer.len..]) {
                Ok(0) => {
                    self.peers.remove(slot as usize);
                    return Some(Arrival::Refused("left without a proof of secretKey"));
                }
                Ok(n) => peer.len += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.peers.remove(slot as usize);
                    return Some(Arrival::Refused("left without a proof of secretKey"));
                }
            }
        }
        let mut peer = self.peers.remove(slot as usize);
        // In constant time.
        if hmac::verify(&self.key, &message(&peer.challenge), &peer.proof).is_err() {
            return Some(Arrival::Refused("does not know secretKey"));
        }
        let _ = registry.deregister(&mut peer.stream);
        Some(Arrival::Link(net::UnixStream::from(peer.stream).into()))
    }

    /// When the next peer has taken too long.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.peers.iter().map(|(_, peer)| peer.deadline).min()
    }

    /// Drops those who took too long; answers how many.
    pub(crate) fn expire(&mut self, now: Instant) -> usize {
        let before = self.peers.len();
        self.peers.retain(|_, peer| peer.deadline > now);
        before - self.peers.len()
    }
}

impl Drop for BrokerSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Connects to the named socket of a broker: `b0`, `b1` and so on in the folder of the option `socketRoot`. What comes back
/// is a link to that broker, blocking: an [`Exchange`](sc_broker::Exchange) speaks on it, as in a worker.
///
/// # Errors
/// Nobody listens there. That the secret is the wrong one shows when the link ends at the first read.
///
/// ```no_run
/// use std::io::Write;
/// use sc_cluster::broker::Exchange;
///
/// let mut link = sc_cluster::connect_to_broker("/run/chat/b0", "the secretKey of the cluster")?;
/// let mut exchange: Exchange<(), ()> = Exchange::new(1, Default::default(), 42);
/// exchange.link_up(0, u32::MAX, std::process::id());
/// exchange.publish("news", Some("\"from outside\""), ()).expect("there is room");
/// while let Some((_, bytes)) = exchange.poll_link() {
///     link.write_all(&bytes)?;
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn connect_to_broker(socket: impl AsRef<Path>, secret_key: &str) -> io::Result<net::UnixStream> {
    let mut stream = net::UnixStream::connect(socket)?;
    let mut challenge = [0; CHALLENGE_LEN];
    stream.read_exact(&mut challenge)?;
    stream.write_all(hmac::sign(&key(secret_key), &message(&challenge)).as_ref())?;
    Ok(stream)
}

fn key(secret: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())
}

fn message(challenge: &[u8]) -> Vec<u8> {
    [LABEL, challenge].concat()
}

/// Removes a socket that nobody listens on. Anything else at its place stays, and is an error.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "there is a file in place of the broker's socket"));
        }
        Ok(_) => {}
    }
    match net::UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(ErrorKind::AddrInUse, "the broker of another cluster listens there")),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use mio::{Events, Poll};

    use super::*;

    const SECRET: &str = "a secret";

    fn socket(root: &Path) -> (BrokerSocket, Poll) {
        let poll = Poll::new().unwrap();
        let mut socket = BrokerSocket::bind(root, 0, SECRET).unwrap();
        socket.register(poll.registry()).unwrap();
        (socket, poll)
    }

    /// Drives the socket until one peer has arrived, or been refused.
    fn arrival(socket: &mut BrokerSocket, poll: &mut Poll) -> Arrival {
        let mut events = Events::with_capacity(8);
        loop {
            poll.poll(&mut events, Some(Duration::from_secs(30))).unwrap();
            assert!(!events.is_empty(), "somebody comes");
            for event in &events {
                match Source::from_token(event.token()) {
                    Source::Listener(0) => socket.accept(Instant::now(), poll.registry()),
                    Source::Conn { slot, .. } => {
                        if let Some(arrival) = socket.read(slot, poll.registry()) {
                            return arrival;
                        }
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    #[test]
    fn who_knows_the_secret_gets_a_link() {
        let root = tempfile::tempdir().unwrap();
        let (mut socket, mut poll) = socket(root.path());
        let path = root.path().join("b0");
        let peer = std::thread::spawn(move || {
            let mut stream = connect_to_broker(path, SECRET).unwrap();
            stream.write_all(b"hello").unwrap();
            let mut answer = [0; 3];
            stream.read_exact(&mut answer).unwrap();
            answer
        });
        let Arrival::Link(fd) = arrival(&mut socket, &mut poll) else { panic!("it knows the secret") };
        let mut link = net::UnixStream::from(fd);
        link.set_nonblocking(false).unwrap();
        let mut text = [0; 5];
        link.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"hello", "nothing of the link is lost in the proof");
        link.write_all(b"yes").unwrap();
        assert_eq!(&peer.join().unwrap(), b"yes");
    }

    #[test]
    fn who_does_not_is_turned_away() {
        let root = tempfile::tempdir().unwrap();
        let (mut socket, mut poll) = socket(root.path());
        let path = root.path().join("b0");
        let peer = std::thread::spawn({
            let path = path.clone();
            move || connect_to_broker(path, "another secret").unwrap().read(&mut [0]).unwrap_or(0)
        });
        assert!(matches!(arrival(&mut socket, &mut poll), Arrival::Refused("does not know secretKey")));
        assert_eq!(peer.join().unwrap(), 0, "its link ends");
        let peer = std::thread::spawn(move || {
            let mut challenge = [0; CHALLENGE_LEN];
            net::UnixStream::connect(path).unwrap().read_exact(&mut challenge).unwrap();
        });
        assert!(matches!(arrival(&mut socket, &mut poll), Arrival::Refused("left without a proof of secretKey")));
        peer.join().unwrap();
    }

    #[test]
    fn who_says_nothing_does_not_stay() {
        let root = tempfile::tempdir().unwrap();
        let (mut socket, mut poll) = socket(root.path());
        let _silent = net::UnixStream::connect(root.path().join("b0")).unwrap();
        poll.poll(&mut Events::with_capacity(8), Some(Duration::from_secs(30))).unwrap();
        socket.accept(Instant::now(), poll.registry());
        let due = socket.poll_timeout().expect("its time is bounded");
        assert_eq!((socket.expire(due - Duration::from_millis(1)), socket.expire(due)), (0, 1));
        assert_eq!(socket.poll_timeout(), None);
    }

    #[test]
    fn no_more_than_so_many_wait_to_prove_something() {
        let root = tempfile::tempdir().unwrap();
        let (mut socket, poll) = socket(root.path());
        let path = root.path().join("b0");
        let _peers: Vec<_> = (0..=SOCKET_PEERS_MAX).map(|_| net::UnixStream::connect(&path).unwrap()).collect();
        socket.accept(Instant::now(), poll.registry());
        assert_eq!((socket.peers.len(), socket.has_more()), (SOCKET_PEERS_MAX, false), "no busy loop while it is full");
        socket.expire(socket.poll_timeout().unwrap() + PATIENCE);
        assert!(socket.has_more(), "the last one's turn has come");
        socket.accept(Instant::now(), poll.registry());
        assert_eq!((socket.peers.len(), socket.has_more()), (1, false));
    }

    #[test]
    fn a_proof_is_good_for_one_challenge() {
        let proof = hmac::sign(&key(SECRET), &message(&[1; CHALLENGE_LEN]));
        assert!(hmac::verify(&key(SECRET), &message(&[1; CHALLENGE_LEN]), proof.as_ref()).is_ok());
        assert!(hmac::verify(&key(SECRET), &message(&[2; CHALLENGE_LEN]), proof.as_ref()).is_err());
        assert!(hmac::verify(&key("other"), &message(&[1; CHALLENGE_LEN]), proof.as_ref()).is_err());
    }

    #[test]
    fn the_file_is_for_its_user_and_goes_with_the_broker() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("made");
        let path = folder.join("b0");
        let (socket, _poll) = socket(&folder);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(BrokerSocket::bind(&folder, 0, SECRET).err().map(|error| error.kind()), Some(ErrorKind::AddrInUse));
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_dead_broker_left_is_removed_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("b0");
        // A listener that is closed leaves its file, as a process does that is killed.
        drop(net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(BrokerSocket::bind(root.path(), 0, SECRET).unwrap());
        fs::write(&path, "precious").unwrap();
        assert!(BrokerSocket::bind(root.path(), 0, SECRET).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
