//! The driver: one thread with all sockets of any number of clients, and the handles to them.
//!
//! ```text
//!   Client, Subscription, Pending  ──ops──►  ┌ driver thread ────────────────────────────────────────┐
//!        ▲                                   │ poll ─► transports ─► cores ─► transports ─► one write │
//!        └──────── answers, messages ◄────── └───────────────────────────────────────────────────────┘
//! ```

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is the part with sockets, a clock and threads"
)]

mod builder;
mod entropy;
mod feed;
mod handle;
mod link;
mod pending;
mod resolve;
mod run;
mod store;
mod streams;
mod target;
mod tls;
mod transport;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;

use mio::Waker;
use sc_protocol::ScError;

pub use builder::{ClientBuilder, ProxyChoice};
pub use feed::{Capacity, Overflow, TimedOut};
pub use handle::Client;
pub use pending::Pending;
pub use store::{FileStore, MemoryStore, TokenStore};
pub use streams::{Event, Events, Incoming, Listener, Responder, Subscription};
pub use target::ConnectError;
pub use tls::{Tls, TlsBuilder};

use builder::Plan;
use handle::{Handle, View};
use link::Op;
use pending::Resolver;

/// Operations that may wait for the driver's thread, over all its clients; calls beyond it fail with a
/// `ResourceLimitError`. Those that end something always find room.
pub const WAITING_OPS_MAX: usize = 65_536;

/// A thread that serves any number of clients. Clones are the same driver; it ends when it and all its clients are gone.
///
/// A program with a few clients needs none: those that name no driver share one.
///
/// ```no_run
/// use sc_client::{Client, Driver};
///
/// let driver = Driver::new()?;
/// let clients: Result<Vec<_>, _> =
///     (0..10_000).map(|_| Client::builder("ws://localhost:8000/").driver(&driver).connect()).collect();
/// # Ok::<(), sc_client::ConnectError>(())
/// ```
#[derive(Clone)]
pub struct Driver(Arc<Inner>);

struct Inner {
    queue: Arc<Queue>,
    next: AtomicU64,
    system_tls: OnceLock<Tls>,
}

/// What waits for the thread.
struct Queue {
    waiting: Mutex<Waiting>,
    waker: Waker,
}

#[derive(Default)]
struct Waiting {
    commands: VecDeque<Command>,
    /// Nobody can give commands any more.
    ended: bool,
    /// Nobody takes them any more.
    dead: bool,
}

enum Command {
    Add {
        id: u64,
        plan: Box<Plan>,
        view: Arc<View>,
    },
    To(u64, Op),
    /// A name was looked up for an attempt of a client.
    Resolved {
        link: (usize, u64),
        attempt: u64,
        found: io::Result<Vec<SocketAddr>>,
    },
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Driver")
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The command comes back if there is no room, or nobody to take it.
    fn push(&self, command: Command, bounded: bool) -> Result<(), Command> {
        let mut waiting = self.lock();
        if waiting.dead || (bounded && waiting.commands.len() >= WAITING_OPS_MAX) {
            return Err(command);
        }
        waiting.commands.push_back(command);
        let first = waiting.commands.len() == 1;
        drop(waiting);
        if first {
            self.wake();
        }
        Ok(())
    }

    fn wake(&self) {
        // It fails only if the thread's poll is broken, and then the thread ends.
        let _ = self.waker.wake();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.lock().ended = true;
        self.queue.wake();
    }
}

impl Driver {
    /// A driver with a thread of its own.
    ///
    /// # Errors
    /// The system gives no poll or no thread.
    pub fn new() -> Result<Self, ConnectError> {
        let (queue, run) = run::Loop::new()?;
        thread::Builder::new().name("sc-client".to_owned()).spawn(move || run.run())?;
        Ok(Self(Arc::new(Inner { queue, next: AtomicU64::new(1), system_tls: OnceLock::new() })))
    }

    fn number(&self) -> u64 {
        self.0.next.fetch_add(1, Ordering::Relaxed)
    }

    fn system_tls(&self) -> Result<Tls, ConnectError> {
        if let Some(tls) = self.0.system_tls.get() {
            return Ok(tls.clone());
        }
        let tls = Tls::system()?;
        Ok(self.0.system_tls.get_or_init(|| tls).clone())
    }

    fn add(&self, plan: Plan) -> Result<Client, ConnectError> {
        let id = self.number();
        let view = Arc::new(View::default());
        let connecting = plan.connects;
        view.set(|known| known.connecting = connecting);
        let handle = Arc::new(Handle { id, driver: self.clone(), view: view.clone() });
        let ended = |_| io::Error::other("the driver's thread has ended");
        self.0.queue.push(Command::Add { id, plan: Box::new(plan), view }, false).map_err(ended)?;
        Ok(Client::new(handle))
    }

    /// For what has to happen.
    fn control(&self, id: u64, op: Op) {
        // Without a thread there is no client that could be concerned. Whoever waits learns it, as its resolver is dropped.
        let _ = self.0.queue.push(Command::To(id, op), false);
    }

    fn send(&self, id: u64, op: Op) -> Result<(), ScError> {
        self.0.queue.push(Command::To(id, op), true).map_err(|_| too_much())
    }

    fn ask(&self, id: u64, resolver: Resolver, op: impl FnOnce(Resolver) -> Op) {
        let refused = self.0.queue.push(Command::To(id, op(resolver)), true).err();
        if let Some(Command::To(
            _,
            Op::Call { resolver, .. } | Op::Publish { resolver, .. } | Op::Authenticate { resolver, .. },
        )) = refused
        {
            resolver.resolve(Err(too_much()));
        }
    }
}

fn too_much() -> ScError {
    ScError::resource_limit("Too many operations wait for the client's thread")
}

/// The driver of all clients that name none. It ends with the last of them.
fn shared_driver() -> Result<Driver, ConnectError> {
    static SHARED: Mutex<Weak<Inner>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(inner) = shared.upgrade() {
        return Ok(Driver(inner));
    }
    let driver = Driver::new()?;
    *shared = Arc::downgrade(&driver.0);
    Ok(driver)
}
