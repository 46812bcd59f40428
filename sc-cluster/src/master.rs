//! The master's loop: sockets, processes and signals around the [`Supervisor`], which decides.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Child, ExitStatus},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpListener};
use sc_protocol::ipc::{Control, LINK_VERSION};
use slab::Slab;

use crate::{
    control::{ControlLink, Init, Received, Role},
    event_loop::earlier,
    log,
    options::Options,
    schedule::SchedulingPolicy,
    supervisor::{ChildKey, ConnKey, ExitInfo, SupConfig, SupIn, SupOut, Supervisor},
    sys::{
        self,
        signal::{Caught, Signals},
        spawn::Mark,
        user::Ids,
    },
};

pub(crate) mod api;
mod talk;

use api::{Hooks, Status};
use talk::{Call, Said};

/// Connections accepted in one turn, so that signals and children are heard in between.
const ACCEPT_BUDGET: usize = 64;
/// Descriptors that a worker needs for other things than connections, at most.
const DESCRIPTORS_RESERVED: u64 = 64;
const EVENTS_PER_TURN: usize = 256;

const LISTENER: Token = Token(0);
const SIGNALS: Token = Token(1);
const FIRST_CHILD: usize = 2;

/// Why a cluster did not start. Its text is one line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("{0}")]
    Options(#[from] crate::InvalidOptionsError),
    #[error("port {port} is in use already: another program listens on {host}")]
    PortInUse { host: String, port: u16 },
    #[error("cannot listen on {host} port {port}: {error}")]
    Listen { host: String, port: u16, error: io::Error },
    #[error("{option} {path}: {error}")]
    Executable { option: &'static str, path: String, error: io::Error },
    #[error("downgradeToUser {user}: {error}")]
    User { user: String, error: io::Error },
    #[error(
        "a cluster cannot be started from a test: its processes would be this test again; name the program to start in workerExecutable"
    )]
    InTest,
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// Runs the cluster until it ends; answers the exit code.
pub(crate) fn run(mut options: Options, hooks: Hooks) -> Result<u8, StartError> {
    for oddity in options.validate()? {
        log::warning(oddity);
    }
    find_programs(&mut options)?;
    let user = options
        .downgrade_to_user
        .as_ref()
        .map(|user| sys::user::find(user).map_err(|error| StartError::User { user: user.to_string(), error }));
    let user = user.transpose()?;
    // Before anything is started: a signal that comes early must not leave half a cluster.
    let signals = Signals::of_master()?;
    let listener = listen(&options)?;
    let descriptors = sys::limits::raise_open_files();
    let mut entropy = sys::entropy::SystemEntropy::new();
    if options.auth_key.is_none() && options.auth_private_key.is_none() {
        log::info("authKey is not set: tokens are signed with a random key and do not survive a restart");
        options.auth_key = Some(entropy.hex(32).into());
    }
    // A key that does not work is found here, not by each worker again and again.
    crate::roles::auth(&options).map_err(crate::InvalidOptionsError)?;
    let port = listener.local_addr()?.port();
    let config = SupConfig::new(&options, descriptors.saturating_sub(DESCRIPTORS_RESERVED).max(1));
    let poll = Poll::new()?;
    let sizes_due = options.kill_worker_memory_threshold.map(|_| Instant::now());
    let mut master = Master {
        user,
        supervisor: Supervisor::new(config, Instant::now()),
        nonce: entropy.hex(16),
        poll,
        signals,
        listener: Some(listener),
        port,
        options,
        conns: Slab::new(),
        processes: BTreeMap::new(),
        is_paused: true,
        may_accept: false,
        hooks,
        calls: BTreeMap::new(),
        next_call: 0,
        sizes_due,
        exit: None,
    };
    master.register()?;
    Ok(master.run()?)
}

/// Programs are started from any folder, so their paths are made absolute.
fn find_programs(options: &mut Options) -> Result<(), StartError> {
    let own = options.worker_executable.is_none()
        && (options.worker_controller.is_none() || options.broker_controller.is_none());
    if own && sys::spawn::is_test_harness() {
        return Err(StartError::InTest);
    }
    for (option, path) in [
        ("workerExecutable", &mut options.worker_executable),
        ("workerController", &mut options.worker_controller),
        ("brokerController", &mut options.broker_controller),
    ] {
        if let Some(path) = path {
            let absolute = sys::spawn::absolute(path);
            *path =
                absolute.map_err(|error| StartError::Executable { option, path: path.display().to_string(), error })?;
        }
    }
    Ok(())
}

struct Master {
    /// As whom children run.
    user: Option<Ids>,
    supervisor: Supervisor,
    options: Options,
    nonce: String,
    poll: Poll,
    signals: Signals,
    listener: Option<TcpListener>,
    port: u16,
    /// Our copies of the connections that no worker has taken yet.
    conns: Slab<OwnedFd>,
    processes: BTreeMap<ChildKey, Process>,
    is_paused: bool,
    /// The listener may have more connections; no edge will tell so again.
    may_accept: bool,
    /// The application's code.
    hooks: Hooks,
    /// Answers of children that are awaited, by number.
    calls: BTreeMap<u64, Call>,
    next_call: u64,
    /// When the workers' sizes are looked at next, if they have a limit.
    sizes_due: Option<Instant>,
    exit: Option<u8>,
}

struct Process {
    role: Role,
    id: u32,
    /// What it last said of itself.
    status: Status,
    child: Child,
    link: ControlLink,
    /// More messages may wait; no edge will tell so again.
    may_read: bool,
    /// The other end is closed: it ends, or has ended.
    is_closed: bool,
    /// Interest in writing is registered, which is only while something could not be written: else every message that
    /// the child reads would wake us.
    awaits_writable: bool,
}

impl Master {
    fn register(&mut self) -> io::Result<()> {
        let registry = self.poll.registry();
        registry.register(&mut self.signals, SIGNALS, Interest::READABLE)?;
        if let (Some(listener), true) = (&mut self.listener, self.options.scheduling_policy != SchedulingPolicy::None) {
            registry.register(listener, LISTENER, Interest::READABLE)?;
        }
        Ok(())
    }

    fn run(&mut self) -> io::Result<u8> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        self.act(Instant::now());
        loop {
            if let Some(code) = self.exit {
                return Ok(code);
            }
            match self.poll.poll(&mut events, self.patience()) {
                Ok(()) => {}
                // A signal: the loop reads it from its source.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            self.turn(&events);
        }
    }

    fn patience(&self) -> Option<Duration> {
        let is_busy = self.can_accept() || self.processes.values().any(|process| process.may_read);
        let own = earlier(self.calls_due(), self.sizes_due);
        match earlier(self.supervisor.poll_timeout(), own) {
            _ if is_busy => Some(Duration::ZERO),
            Some(at) => Some(at.saturating_duration_since(Instant::now())),
            None => None,
        }
    }

    /// One turn: what children said first, since it may free what is waited for; then new connections; then time.
    fn turn(&mut self, events: &Events) {
        let now = Instant::now();
        let mut has_signals = false;
        for event in events {
            match event.token() {
                LISTENER => self.may_accept = true,
                SIGNALS => has_signals = true,
                Token(token) => {
                    let key = ChildKey(u32::try_from(token - FIRST_CHILD).unwrap_or(u32::MAX));
                    if let Some(process) = self.processes.get_mut(&key) {
                        process.may_read |= event.is_readable() || event.is_read_closed();
                        if event.is_writable() && process.awaits_writable {
                            self.flush(now, key);
                        }
                    }
                }
            }
        }
        self.read_children(now);
        if has_signals {
            self.read_signals(now);
        }
        self.accept(now);
        if self.supervisor.poll_timeout().is_some_and(|at| at <= now) {
            self.supervisor.handle_timeout(now);
        }
        self.expire_calls(now);
        self.look_at_sizes(now);
        self.act(now);
    }

    /// Asks the system how much memory each worker takes.
    fn look_at_sizes(&mut self, now: Instant) {
        let Some(max) = self.options.kill_worker_memory_threshold else { return };
        if self.sizes_due.is_some_and(|due| due > now) {
            return;
        }
        self.sizes_due = Some(now + Options::millis(self.options.worker_status_interval_ms));
        let workers = self.processes.iter().filter(|(_, process)| process.role == Role::Worker);
        let sizes: Vec<_> = workers.map(|(key, p)| (*key, sys::limits::resident_bytes(p.child.id()))).collect();
        for (key, bytes) in sizes.into_iter().filter(|(_, bytes)| *bytes > max) {
            self.supervisor.handle(now, SupIn::TooLarge(key, bytes));
        }
    }

    fn read_children(&mut self, now: Instant) {
        let ready: Vec<_> = self.processes.iter().filter(|(_, p)| p.may_read).map(|(key, _)| *key).collect();
        for key in ready {
            self.read(now, key);
        }
    }

    /// Reads what a child says. Descriptors it sends are of no use to us and are closed.
    fn read(&mut self, now: Instant, key: ChildKey) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        let supervisor = &mut self.supervisor;
        process.may_read = false;
        let mut said = Vec::new();
        let received = process.link.recv(|message, _| {
            said.extend(Said::of(&message));
            supervisor.handle(now, SupIn::Control(key, message));
        });
        for said in said {
            self.hear(now, key, said);
        }
        match received {
            Ok(Received::Drained) => {}
            Ok(Received::Budget) => {
                if let Some(process) = self.processes.get_mut(&key) {
                    process.may_read = true;
                }
            }
            // Its end is told by SIGCHLD; a child that closed the channel and lives on gives no sign of life any more.
            Ok(Received::Closed) => self.close(key),
            Err(error) => {
                self.close(key);
                self.supervisor.handle(now, SupIn::Broken(key, error.to_string()));
            }
        }
    }

    fn close(&mut self, key: ChildKey) {
        if let Some(process) = self.processes.get_mut(&key)
            && !process.is_closed
        {
            process.is_closed = true;
            let _ = self.poll.registry().deregister(&mut process.link);
        }
    }

    fn read_signals(&mut self, now: Instant) {
        let caught: Vec<_> = self.signals.pending().collect();
        for signal in caught {
            match signal {
                Caught::Child => self.reap(now),
                Caught::Terminate => self.supervisor.handle(now, SupIn::Terminate(15)),
                Caught::Interrupt => self.supervisor.handle(now, SupIn::Terminate(2)),
                Caught::Reload => self.supervisor.handle(now, SupIn::Reload),
                Caught::MoreWorkers => self.supervisor.handle(now, SupIn::AddWorker),
                Caught::FewerWorkers => self.supervisor.handle(now, SupIn::RemoveWorker),
            }
        }
    }

    /// Looks at every child: signals coalesce. What one had still sent is read before its end is told, since it may have
    /// acknowledged connections.
    fn reap(&mut self, now: Instant) {
        let ended: Vec<_> = self
            .processes
            .iter_mut()
            .filter_map(|(key, process)| match process.child.try_wait() {
                Ok(None) => None,
                Ok(Some(status)) => Some((*key, exit_info(status))),
                Err(_) => Some((*key, ExitInfo::default())),
            })
            .collect();
        for (key, exit) in ended {
            while self.processes.get(&key).is_some_and(|process| !process.is_closed) {
                self.read(now, key);
                if self.processes.get(&key).is_some_and(|process| !process.may_read) {
                    break;
                }
            }
            self.close(key);
            self.fail_calls(now, key);
            self.processes.remove(&key);
            self.supervisor.handle(now, SupIn::Exited(key, exit));
        }
    }

    fn can_accept(&self) -> bool {
        self.may_accept && !self.is_paused && self.listener.is_some()
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..ACCEPT_BUDGET {
            let Some(listener) = self.listener.as_ref().filter(|_| self.can_accept()) else { return };
            match sys::listen::accept(listener) {
                Ok(conn) => {
                    let key = ConnKey(self.conns.insert(conn));
                    self.supervisor.handle(now, SupIn::Accepted(key));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.may_accept = false,
                Err(error) => {
                    self.supervisor.handle(now, SupIn::AcceptFailed(error.to_string()));
                    return self.act(now);
                }
            }
            // The limit may just have been reached.
            if self.supervisor.pending() >= self.options.handoff_pending_max {
                self.act(now);
            }
        }
    }

    /// Does what the supervisor says.
    fn act(&mut self, now: Instant) {
        while let Some(output) = self.supervisor.poll_output() {
            match output {
                SupOut::Spawn { child, role, id, respawn } => self.spawn(now, child, role, id, respawn),
                SupOut::Link { worker, worker_id, broker, broker_id } => {
                    self.link(now, (worker, worker_id), (broker, broker_id));
                }
                SupOut::Linked(child) => self.send(now, child, &Control::Linked, &[]),
                SupOut::Listener(child) => self.share_listener(now, child),
                SupOut::Handoff(child, conns) => self.hand_off(now, child, conns),
                SupOut::Release(ConnKey(conn)) => drop(self.conns.try_remove(conn)),
                SupOut::Drain(child, over) => {
                    let millis = u32::try_from(over.as_millis()).unwrap_or(u32::MAX);
                    self.send(now, child, &Control::Drain { millis }, &[]);
                }
                SupOut::Terminate(child) => self.send(now, child, &Control::Terminate, &[]),
                SupOut::Kill(child) => {
                    if let Some(process) = self.processes.get_mut(&child) {
                        // Fails only when it is gone already.
                        let _ = process.child.kill();
                    }
                }
                SupOut::PauseAccept(is_paused) => self.is_paused = is_paused,
                SupOut::CloseListener => self.listener = None,
                SupOut::Event(event) => self.tell(now, event),
                SupOut::Exit(code) => self.exit = Some(code),
            }
        }
    }

    fn spawn(&mut self, now: Instant, key: ChildKey, role: Role, id: u32, respawn: bool) {
        let started = self.start(key, role, id, respawn);
        self.supervisor.handle(now, SupIn::Spawned(key, started.map_err(|error| error.to_string())));
    }

    fn start(&mut self, key: ChildKey, role: Role, id: u32, respawn: bool) -> io::Result<u32> {
        let master_pid = std::process::id();
        let mark = Mark { role, id, master_pid, nonce: self.nonce.clone(), version: LINK_VERSION };
        let init = Init {
            role,
            id,
            respawn,
            brokers: self.options.brokers(),
            workers: self.supervisor.workers(),
            port: self.port,
            master_pid,
            nonce: self.nonce.clone(),
            options: self.options.clone(),
        };
        let program = match role {
            Role::Worker => &self.options.worker_controller,
            Role::Broker => &self.options.broker_controller,
        };
        let program = program.as_ref().or(self.options.worker_executable.as_ref());
        let (child, socket) = sys::spawn::spawn(program.map(PathBuf::as_path), self.user, &mark)?;
        let pid = child.id();
        let link = ControlLink::new(socket);
        let status = Status::default();
        let mut process =
            Process { role, id, status, child, link, may_read: false, is_closed: false, awaits_writable: false };
        let started = serde_json::to_string(&init).map_err(io::Error::from).and_then(|json| {
            match process.link.send(&Control::Init(&json), &[]) {
                // It has ended already: its exit code says why.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                sent => drop(sent?),
            }
            self.poll.registry().register(&mut process.link, token(key), Interest::READABLE)
        });
        if let Err(error) = started {
            let _ = process.child.kill();
            let _ = process.child.wait();
            return Err(error);
        }
        self.processes.insert(key, process);
        Ok(pid)
    }

    fn link(&mut self, now: Instant, worker: (ChildKey, u32), broker: (ChildKey, u32)) {
        match sys::fd_pass::stream_pair() {
            Ok((near, far)) => {
                self.send(now, worker.0, &Control::Link { peer: broker.1 }, &[near.as_fd()]);
                self.send(now, broker.0, &Control::Link { peer: worker.1 }, &[far.as_fd()]);
            }
            // A worker without a link to a broker is of no use; its successor gets new ones.
            Err(error) => self.supervisor.handle(now, SupIn::Broken(worker.0, format!("no link to a broker: {error}"))),
        }
    }

    fn share_listener(&mut self, now: Instant, key: ChildKey) {
        let copy = self.listener.as_ref().map(|listener| listener.as_fd().try_clone_to_owned());
        match copy {
            Some(Ok(copy)) => self.send(now, key, &Control::Listener { listener: 0 }, &[copy.as_fd()]),
            Some(Err(error)) => self.supervisor.handle(now, SupIn::Broken(key, format!("no listener: {error}"))),
            None => {}
        }
    }

    fn hand_off(&mut self, now: Instant, key: ChildKey, conns: Vec<ConnKey>) {
        let sent = match self.processes.get_mut(&key) {
            Some(process) if !process.is_closed => {
                let lent: Vec<_> =
                    conns.iter().filter_map(|ConnKey(conn)| self.conns.get(*conn)).map(AsFd::as_fd).collect();
                debug_assert_eq!(lent.len(), conns.len());
                let count = u32::try_from(lent.len()).unwrap_or(u32::MAX);
                process.link.try_send(&Control::Conns { listener: 0, count }, &lent)
            }
            _ => Ok(false),
        };
        match sent {
            Ok(true) => {}
            Ok(false) => {
                self.supervisor.handle(now, SupIn::HandoffBlocked(key, conns));
                self.await_writable(key, true);
            }
            Err(error) => {
                self.supervisor.handle(now, SupIn::HandoffBlocked(key, conns));
                self.failed(now, key, &error);
            }
        }
    }

    fn send(&mut self, now: Instant, key: ChildKey, message: &Control<'_>, fds: &[BorrowedFd<'_>]) {
        let Some(process) = self.processes.get_mut(&key).filter(|process| !process.is_closed) else { return };
        match process.link.send(message, fds) {
            Ok(true) => {}
            Ok(false) => self.await_writable(key, true),
            Err(error) => self.failed(now, key, &error),
        }
    }

    fn flush(&mut self, now: Instant, key: ChildKey) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        match process.link.flush() {
            Ok(()) if process.link.is_blocked() => {}
            Ok(()) => {
                self.await_writable(key, false);
                self.supervisor.handle(now, SupIn::Writable(key));
            }
            Err(error) => self.failed(now, key, &error),
        }
    }

    fn await_writable(&mut self, key: ChildKey, wanted: bool) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        if process.is_closed || process.awaits_writable == wanted {
            return;
        }
        let interest = if wanted { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        if self.poll.registry().reregister(&mut process.link, token(key), interest).is_ok() {
            process.awaits_writable = wanted;
        }
    }

    /// Writing to a child failed. If it is gone, its end will be told; else it is of no use.
    fn failed(&mut self, now: Instant, key: ChildKey, error: &io::Error) {
        if !matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) {
            self.supervisor.handle(now, SupIn::Broken(key, error.to_string()));
        }
    }
}

fn listen(options: &Options) -> Result<TcpListener, StartError> {
    let backlog = options.tcp_syn_backlog.unwrap_or(sys::listen::BACKLOG);
    sys::listen::listen(options.host.as_deref(), options.port, backlog).map_err(|error| {
        let (host, port) = (options.host.clone().unwrap_or_else(|| "every address".to_owned()), options.port);
        match error.kind() {
            io::ErrorKind::AddrInUse => StartError::PortInUse { host, port },
            _ => StartError::Listen { host, port, error },
        }
    })
}

fn token(key: ChildKey) -> Token {
    // 64 bits on every platform that this crate is for, and keys are counted in 32.
    Token(FIRST_CHILD + key.0 as usize)
}

fn exit_info(status: ExitStatus) -> ExitInfo {
    ExitInfo { code: status.code(), signal: status.signal() }
}
