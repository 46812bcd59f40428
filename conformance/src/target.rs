//! Where the server under test is, and how it is looked at.

use std::cell::Cell;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use sc_protocol::Version;

use crate::check::{Stop, Verdict};

/// A server under test.
#[derive(Debug, Clone)]
pub struct Target {
    /// Host and port, as in the `Host` header.
    pub host: String,
    /// The path of the WebSocket.
    pub path: String,
    /// As which version of the protocol it is checked.
    pub version: Version,
    /// How long an answer may take. Default 5 s.
    pub patience: Duration,
    /// How long a check may wait for a timeout of the server's to pass; those that take longer are skipped. Default 5 s.
    pub slow_max: Duration,
    seeds: Cell<u64>,
}

impl Target {
    /// From an address such as `ws://127.0.0.1:8000/socketcluster/`.
    ///
    /// # Errors
    /// It is none: [`Stop::Fail`] says why.
    ///
    /// ```
    /// use sc_conformance::{Target, Version};
    ///
    /// let target = Target::new("ws://127.0.0.1:8000/socketcluster/", Version::V2).unwrap();
    /// assert_eq!((&*target.host, &*target.path), ("127.0.0.1:8000", "/socketcluster/"));
    /// ```
    pub fn new(url: &str, version: Version) -> Verdict<Self> {
        let rest = url.strip_prefix("ws://").ok_or_else(|| Stop::fail("an address begins with ws://"))?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = if host.contains(':') && !host.ends_with(']') { host.to_owned() } else { format!("{host}:80") };
        let path = if path.is_empty() { "/socketcluster/" } else { path }.to_owned();
        let wait = Duration::from_secs(5);
        Ok(Self { host, path, version, patience: wait, slow_max: wait, seeds: Cell::new(1) })
    }

    /// Opens a TCP connection.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn dial(&self) -> Verdict<TcpStream> {
        let deadline = Instant::now() + self.patience;
        loop {
            match self.try_dial() {
                // A server may need a moment to start a worker in the place of one that ended.
                Err(_) if Instant::now() < deadline => std::thread::park_timeout(Duration::from_millis(20)),
                other => return other,
            }
        }
    }

    fn try_dial(&self) -> Verdict<TcpStream> {
        let mut last = None;
        for address in self.host.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, self.patience) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_write_timeout(Some(self.patience))?;
                    return Ok(stream);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or_else(|| Stop::fail("no such host"), Stop::from))
    }

    pub(crate) fn next_seed(&self) -> u64 {
        self.seeds.set(self.seeds.get() + 1);
        self.seeds.get()
    }
}
