//! An address that stays while the server behind it is started anew on another port, and a network that can go silent.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Where the server is; 0: nowhere.
    target: AtomicU16,
    /// What comes from the server does not arrive.
    silent: AtomicBool,
    ended: AtomicBool,
    /// Bytes carried, both ways together.
    carried: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl Relay {
    pub(crate) fn start() -> Result<Self, String> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        let port = listener.local_addr().map_err(|error| error.to_string())?.port();
        let shared = Arc::new(Shared::default());
        let accepting = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.ended.load(Ordering::Acquire) {
                    return;
                }
                let target = accepting.target.load(Ordering::Acquire);
                // Without a server the connection is dropped.
                if target != 0
                    && let Ok(server) = TcpStream::connect(("127.0.0.1", target))
                {
                    accepting.carry(&client, &server);
                }
            }
        });
        Ok(Self { port, shared })
    }

    /// The server is there from now on.
    pub(crate) fn set_target(&self, port: u16) {
        self.shared.target.store(port, Ordering::Release);
    }

    /// Bytes carried so far, both ways together.
    pub(crate) fn carried(&self) -> u64 {
        self.shared.carried.load(Ordering::Acquire)
    }

    /// While it is on, everything from the server is lost. Connections that lost something are cut when it is off again.
    pub(crate) fn set_silent(&self, on: bool) {
        if self.shared.silent.swap(on, Ordering::AcqRel) && !on {
            self.shared.cut();
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        self.shared.cut();
        // The listener goes with the connection that it accepts last.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn carry(self: &Arc<Self>, client: &TcpStream, server: &TcpStream) {
        let copy = |stream: &TcpStream| stream.try_clone();
        let (Ok(client_in), Ok(client_out), Ok(server_in), Ok(server_out)) =
            (copy(client), copy(client), copy(server), copy(server))
        else {
            return;
        };
        for stream in [&client_in, &server_in] {
            let _ = stream.set_nodelay(true);
        }
        if let (Ok(client), Ok(server)) = (copy(client), copy(server)) {
            self.open.lock().unwrap_or_else(PoisonError::into_inner).extend([client, server]);
        }
        let (inwards, outwards) = (self.clone(), self.clone());
        thread::spawn(move || inwards.pump(client_in, server_out, false));
        thread::spawn(move || outwards.pump(server_in, client_out, true));
    }

    fn cut(&self) {
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream, from_server: bool) {
        let mut buffer = [0; 16 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            self.carried.fetch_add(read as u64, Ordering::AcqRel);
            let lost = from_server && self.silent.load(Ordering::Acquire);
            if !lost && to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}
