//! The start of every process: what an application's `main` builds, and which part of it this process is.

use std::{fmt, path::PathBuf, process::ExitCode, sync::Arc};

use sc_protocol::ipc::LINK_VERSION;
use sc_server::{Answer, Data};

use crate::{
    broker_controller::{Application, BrokerStart, IntoBroker},
    child,
    control::{ControlLink, Init, Role},
    log,
    master::{
        self,
        api::{Event, Hooks, MasterCx, Origin},
    },
    options::{InvalidOptionsError, LogFormat, Options},
    pages::Pages,
    roles::{self, IntoWorker, WorkerStart},
    supervisor::WRONG_VERSION,
    sys::{self, fd_pass::SeqPacket, spawn::Mark},
};

/// How long a child waits for its options, in milliseconds: the master sends them right after the spawn.
const INIT_PATIENCE_MS: u32 = 10_000;

/// The main part of a worker.
type WorkerMain = Box<dyn Fn(ControlLink, Init, &Arc<Pages>) -> ExitCode>;

/// Makes the application's code of a broker.
pub(crate) type BrokerMake = Box<dyn Fn(&BrokerStart) -> Result<Box<dyn Application>, String>>;

/// What is to be done in the master once all workers serve.
pub(crate) type ReadyHook = Box<dyn FnOnce(&ClusterReady)>;

/// A cluster whose workers all accept connections.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterReady {
    /// The master's process id: to end the cluster, send SIGTERM there.
    pub pid: u32,
    /// The port it listens on, also where the options say 0.
    pub port: u16,
}

/// A cluster: a master, which accepts connections, workers, which serve them, and brokers, which carry messages between workers.
///
/// Each process is this program again, so `main` runs in all of them, and [`Cluster::run`] finds out which one this is.
/// What is to be done once only (opening files, printing) belongs into the worker's closure or behind `run`.
///
/// ```no_run
/// use sc_cluster::{Cluster, prelude::*};
///
/// fn main() -> std::process::ExitCode {
///     Cluster::from_env()
///         .page("/", "text/plain", "Hello")
///         .worker(|_start| {
///             Worker::new(0_u64).on("count", |count, _cx, _request| {
///                 *count += 1;
///                 Reply::data(*count)
///             })
///         })
///         .run()
/// }
/// ```
pub struct Cluster {
    options: Result<Options, InvalidOptionsError>,
    pages: Pages,
    init: Option<Box<dyn Fn(Role)>>,
    worker: Option<WorkerMain>,
    broker: Option<BrokerMake>,
    hooks: Hooks,
}

impl Cluster {
    /// A cluster with these options.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options: Ok(options),
            pages: Pages::new(),
            init: None,
            worker: None,
            broker: None,
            hooks: Hooks::default(),
        }
    }

    /// A cluster with the defaults, as the environment changes them ([`Options::from_env`]). What is wrong with the environment
    /// is said by [`run`](Self::run).
    #[must_use]
    pub fn from_env() -> Self {
        Self {
            options: Options::from_env(),
            pages: Pages::new(),
            init: None,
            worker: None,
            broker: None,
            hooks: Hooks::default(),
        }
    }

    /// The web pages that the workers serve beside WebSockets; those given before are forgotten.
    #[must_use]
    pub fn pages(mut self, pages: Pages) -> Self {
        self.pages = pages;
        self
    }

    /// Serves one page: see [`Pages::asset`].
    #[must_use]
    pub fn page(mut self, path: &str, content_type: &str, body: impl Into<bytes::Bytes>) -> Self {
        self.pages = self.pages.asset(path, content_type, body);
        self
    }

    /// Serves the files of a folder: see [`Pages::serve_dir`].
    #[must_use]
    pub fn serve_dir(mut self, prefix: &str, dir: impl Into<PathBuf>) -> Self {
        self.pages = self.pages.serve_dir(prefix, dir);
        self
    }

    /// The application. `make` runs in each worker process at its start, SC's `workerController`; it returns a
    /// [`Worker`](sc_server::Worker), or a `Result` of one.
    #[must_use]
    pub fn worker<W: IntoWorker + 'static>(mut self, make: impl Fn(&WorkerStart) -> W + 'static) -> Self {
        self.worker = Some(Box::new(move |control, init, pages| roles::run_worker(control, init, pages, &make)));
        self
    }

    /// The application's code in the brokers, SC's `brokerController`: `make` runs in each broker process at its start, and
    /// returns a [`BrokerController`](crate::BrokerController), or a `Result` of one. Without it, brokers carry messages and keep
    /// the shared data, and refuse queries.
    ///
    /// ```no_run
    /// use sc_cluster::{Cluster, prelude::*};
    ///
    /// fn main() -> std::process::ExitCode {
    ///     Cluster::from_env()
    ///         .broker(|_start| {
    ///             BrokerController::new(0_u64).query("next", |number, _cx, _data| {
    ///                 *number += 1;
    ///                 Data::of(&*number)
    ///             })
    ///         })
    ///         .worker(|_start| {
    ///             Worker::new(()).on("number", |_state, cx, _request| {
    ///                 cx.exchange().run("next", "number", &()).then(|_state, _cx, number| Reply::data(number?)).into()
    ///             })
    ///         })
    ///         .run()
    /// }
    /// ```
    #[must_use]
    pub fn broker<B: IntoBroker + 'static>(mut self, make: impl Fn(&BrokerStart) -> B + 'static) -> Self {
        self.broker = Some(Box::new(move |start| {
            make(start).into_broker().map(|controller| Box::new(controller) as Box<dyn Application>)
        }));
        self
    }

    /// Runs first in each worker and broker process, before their own code: SC's `initController`, for what both need (a log of one's
    /// own, the number of open files). What is to be done in the master too stands in `main`, which runs in all processes.
    #[must_use]
    pub fn init(mut self, init: impl Fn(Role) + 'static) -> Self {
        self.init = Some(Box::new(init));
        self
    }

    /// Runs once, in the master, when every worker accepts connections: SC's `ready` event.
    #[must_use]
    pub fn on_ready(mut self, hook: impl FnOnce(&ClusterReady) + 'static) -> Self {
        self.hooks.ready = Some(Box::new(hook));
        self
    }

    /// Runs in the master for everything that happens in the cluster: SC's events `fail`, `warning`, `info`, `ready`, `workerStart`,
    /// `workerExit`, `workerMessage`, `brokerMessage`. A panic in it is logged.
    ///
    /// ```no_run
    /// use sc_cluster::{Cluster, Event, Options};
    ///
    /// let mut crashes = 0;
    /// let cluster = Cluster::new(Options::default()).on_event(move |event, master| match event {
    ///     Event::Exit { expected: false, origin, .. } => {
    ///         crashes += 1;
    ///         println!("{origin} crashed, the {crashes}. crash so far");
    ///     }
    ///     Event::Ready { .. } => master.send_to_worker(0, "begin").unwrap(),
    ///     _ => {}
    /// });
    /// # let _ = cluster;
    /// ```
    #[must_use]
    pub fn on_event(mut self, hook: impl FnMut(&Event, &mut MasterCx<'_>) + 'static) -> Self {
        self.hooks.event = Some(Box::new(hook));
        self
    }

    /// Answers in the master what workers ([`send_to_master`](sc_server::Cx::send_to_master),
    /// [`call_master`](sc_server::Cx::call_master)) and brokers send. A [`Reply::Later`](sc_server::Reply::Later) is no answer here.
    #[must_use]
    pub fn on_message(mut self, hook: impl FnMut(&Origin, Data<'_>, &mut MasterCx<'_>) -> Answer + 'static) -> Self {
        self.hooks.message = Some(Box::new(hook));
        self
    }

    /// Runs this process' part of the cluster until its end, and answers the exit code for `main`.
    ///
    /// The master answers 0 when it was asked to end (SIGTERM, SIGINT), 1 when it could not start, and 128 and the
    /// signal's number when a second signal cut the end short. What went wrong is said in one line on standard error.
    #[must_use = "the exit code is for main to return"]
    pub fn run(self) -> ExitCode {
        log::install_panic_hook();
        match sys::spawn::inherited() {
            None => self.run_master(),
            Some(Ok((mark, socket))) => self.run_child(&mark, socket),
            // To go on as a master would start a cluster inside the cluster.
            Some(Err(error)) => {
                let name = sys::spawn::CHILD_ENV;
                log::fatal(format_args!("{name} is set, but this process is not a child of a cluster: {error}"));
                ExitCode::FAILURE
            }
        }
    }

    fn run_master(self) -> ExitCode {
        let (level, format) =
            self.options.as_ref().map_or((1, LogFormat::Text), |options| (options.log_level, options.log_format));
        log::init(level, format);
        let hooks = self.hooks;
        match self.options.map_err(Into::into).and_then(|options| master::run(options, hooks)) {
            Ok(code) => ExitCode::from(code),
            Err(error) => {
                log::fatal(error);
                ExitCode::FAILURE
            }
        }
    }

    fn run_child(self, mark: &Mark, socket: SeqPacket) -> ExitCode {
        if mark.version != LINK_VERSION {
            // The master says it, once and in the log.
            return ExitCode::from(WRONG_VERSION);
        }
        let control = ControlLink::new(socket);
        let init = match control.recv_init(INIT_PATIENCE_MS) {
            Ok(init) => init,
            Err(error) => {
                log::fatal(format_args!("{} {} got no options: {error}", mark.role, mark.id));
                return ExitCode::FAILURE;
            }
        };
        if (init.role, init.id, &init.nonce) != (mark.role, mark.id, &mark.nonce) {
            log::fatal(format_args!("{} {} was not started by this master", mark.role, mark.id));
            return ExitCode::FAILURE;
        }
        if let Err(error) = sys::signal::ignore_in_child() {
            log::fatal(error);
            return ExitCode::FAILURE;
        }
        log::init_child(init.options.log_level);
        if let Some(first) = &self.init {
            first(init.role);
        }
        match (init.role, self.worker) {
            (Role::Worker, Some(main)) => main(control, init, &Arc::new(self.pages)),
            (Role::Broker, _) => roles::run_broker(control, init, self.broker.as_ref()),
            (Role::Worker, None) => {
                log::error("this program has no worker: Cluster::worker was not called");
                child::say_last(control);
                ExitCode::FAILURE
            }
        }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("options", &self.options).finish_non_exhaustive()
    }
}
