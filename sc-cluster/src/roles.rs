//! The main part of each kind of child: an engine and its loop for a worker, a broker and its loop for a broker.

use std::{
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::Arc,
};

use sc_auth::{Algorithm, JwtConfig, JwtEngine, Key, VerifyKey};
use sc_broker::{BrokerLimits, StoreLimits};
use sc_protocol::{Entropy, heartbeat::Policy};
use sc_server::{Config, Engine, Origins, Worker};

use crate::{
    brain::Brain,
    broker_controller::BrokerStart,
    broker_proc::{BrokerConfig, BrokerLoop},
    broker_socket::BrokerSocket,
    child::{self, Ended},
    cluster::BrokerMake,
    control::{ControlLink, Init},
    event_loop::Clock,
    letters::LetterBox,
    log,
    net::NetConfig,
    options::{Options, ProtocolVersion, Secret},
    pages::Pages,
    sys::entropy::SystemEntropy,
    worker_proc::{WorkerConfig, WorkerLoop},
};

/// How a child ends that could not begin: nothing it does again will help, but the master tries, with pauses.
const FAILED: u8 = 1;

/// What a worker's closure is told of the process it runs in.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct WorkerStart {
    /// The worker's number, from 0. The one that replaces a worker has its number.
    pub id: u32,
    /// Its process id.
    pub pid: u32,
    /// Whether it replaces one that ended.
    pub respawn: bool,
    /// How many workers the cluster has.
    pub workers: u32,
    /// How many brokers the cluster has.
    pub brokers: u32,
    /// The port that the cluster listens on, also where the options say 0.
    pub port: u16,
    /// The options in effect, the application's own keys in [`extra`](Options::extra) among them.
    pub options: Options,
}

impl WorkerStart {
    /// Worker 0 is the leader: the place for what is to be done once in a cluster.
    #[must_use]
    pub const fn is_leader(&self) -> bool {
        self.id == 0
    }
}

/// What a worker's closure may return: a [`Worker`], or a `Result` of one.
///
/// An error is logged, and ends the worker with exit code 1; the master starts it anew, later and later.
pub trait IntoWorker {
    /// The state of the worker.
    type State: Send + 'static;
    /// The state of each of its sockets.
    type Session: Default + Send + 'static;

    /// The worker, or why there is none.
    ///
    /// # Errors
    /// The text for the log.
    fn into_worker(self) -> Result<Worker<Self::State, Self::Session>, String>;
}

impl<S: Send + 'static, P: Default + Send + 'static> IntoWorker for Worker<S, P> {
    type State = S;
    type Session = P;

    fn into_worker(self) -> Result<Self, String> {
        Ok(self)
    }
}

impl<S: Send + 'static, P: Default + Send + 'static, E: fmt::Display> IntoWorker for Result<Worker<S, P>, E> {
    type State = S;
    type Session = P;

    fn into_worker(self) -> Result<Worker<S, P>, String> {
        self.map_err(|error| error.to_string())
    }
}

/// Runs a worker to its end.
pub(crate) fn run_worker<W: IntoWorker>(
    control: ControlLink,
    init: Init,
    pages: &Arc<Pages>,
    make: &dyn Fn(&WorkerStart) -> W,
) -> ExitCode {
    let pid = std::process::id();
    let start = WorkerStart {
        id: init.id,
        pid,
        respawn: init.respawn,
        workers: init.workers,
        brokers: init.brokers,
        port: init.port,
        options: init.options,
    };
    let letters = LetterBox::default();
    // A panic in there ends the process, but not without a word.
    let made = catch_unwind(AssertUnwindSafe(|| make(&start)));
    let Ok(made) = made else {
        child::say_last(control);
        return ExitCode::from(FAILED);
    };
    let brain = made.into_worker().and_then(|worker| engine(worker, &start, &letters));
    let brain = match brain {
        Ok(brain) => brain,
        Err(error) => {
            log::error(format_args!("it cannot begin: {error}"));
            child::say_last(control);
            return ExitCode::from(FAILED);
        }
    };
    let config = WorkerConfig {
        net: NetConfig {
            paths: paths(&start.options),
            max_backpressure: start.options.max_backpressure,
            backpressure_policy: start.options.backpressure_policy,
            head_timeout: start.options.handshake_timeout(),
        },
        brokers: start.brokers,
        term_timeout: start.options.process_term_timeout(),
        status_interval: Options::millis(start.options.worker_status_interval_ms),
        letters,
    };
    exit_code(WorkerLoop::new(config, control, brain, Arc::clone(pages)).and_then(|mut worker| worker.run()))
}

/// Runs a broker to its end.
pub(crate) fn run_broker(control: ControlLink, init: Init, make: Option<&BrokerMake>) -> ExitCode {
    let start = BrokerStart {
        id: init.id,
        pid: std::process::id(),
        respawn: init.respawn,
        workers: init.workers,
        brokers: init.brokers,
        options: init.options,
    };
    let application = match make.map(|make| make(&start)).transpose() {
        Ok(application) => application,
        Err(error) => {
            log::error(format_args!("it cannot begin: {error}"));
            child::say_last(control);
            return ExitCode::from(FAILED);
        }
    };
    let socket = match (&start.options.socket_root, &start.options.secret_key) {
        (Some(root), Some(secret)) => match BrokerSocket::bind(root, start.id, secret.text()) {
            Ok(socket) => Some(socket),
            Err(error) => {
                log::error(format_args!("broker {} cannot listen in {}: {error}", start.id, root.display()));
                return ExitCode::from(FAILED);
            }
        },
        _ => None,
    };
    let config = BrokerConfig {
        id: start.id,
        limits: BrokerLimits {
            link_bytes_max: start.options.broker_link_limit,
            store: StoreLimits { store_bytes_max: start.options.broker_data_limit, ..StoreLimits::default() },
            ..BrokerLimits::default()
        },
        hang_timeout: start.options.worker_hang_timeout(),
        respawn: start.respawn,
        seed: SystemEntropy::new().next_u64(),
    };
    exit_code(BrokerLoop::new(config, control, application, socket).and_then(|mut broker| broker.run()))
}

fn exit_code(ended: io::Result<Ended>) -> ExitCode {
    match ended {
        Ok(Ended::Terminated | Ended::MasterGone) => ExitCode::SUCCESS,
        Ok(Ended::Crashed) => ExitCode::from(FAILED),
        // It has been said.
        Err(_) => ExitCode::from(FAILED),
    }
}

/// The engine of a worker: its application, its options and its keys.
fn engine<S: Send + 'static, P: Default + Send + 'static>(
    worker: Worker<S, P>,
    start: &WorkerStart,
    letters: &LetterBox,
) -> Result<Box<dyn Brain>, String> {
    let auth = Box::new(auth(&start.options)?);
    let entropy = Box::new(SystemEntropy::new());
    let config = Config { mailbox: letters.mailbox(), ..config(start) };
    worker.check(&config).map_err(|error| error.to_string())?;
    Ok(Box::new(Engine::new(worker, config, auth, entropy, Clock::new().read())))
}

/// The signing and verifying of tokens that the options describe. The master calls it too, so that a key that does not work is
/// found before anything is started.
pub(crate) fn auth(options: &Options) -> Result<JwtEngine, String> {
    let key = Key::from_options(
        options.auth_key.as_ref().map(Secret::text),
        options.auth_private_key.as_ref().map(Secret::text),
        options.auth_public_key.as_deref(),
    );
    let key = key.map_err(|error| error.to_string())?.ok_or("there is no key to sign tokens with")?;
    let named = |name: &String| name.parse::<Algorithm>().map_err(|error| error.to_string());
    let algorithm = options.auth_algorithm.as_ref().map(named).transpose()?;
    let list = options.auth_verify_algorithms.as_ref();
    let verify_algorithms = list.map(|names| names.iter().map(named).collect()).transpose()?;
    let more = options.auth_verify_keys.iter().map(|key| {
        let is_pem = key.text().contains("-----BEGIN ");
        let key = if is_pem { VerifyKey::public(key.text()) } else { VerifyKey::shared(key.text()) };
        key.map_err(|error| format!("authVerifyKeys: {error}"))
    });
    JwtEngine::new(JwtConfig {
        algorithm,
        verify_algorithms,
        more_verify_keys: more.collect::<Result<_, _>>()?,
        default_expiry_secs: options.auth_default_expiry_secs,
        ..JwtConfig::new(key)
    })
    .map_err(|error| error.to_string())
}

/// The paths of WebSockets; `None`: any.
fn paths(options: &Options) -> Option<Vec<String>> {
    let more = options.protocol_paths().map(|(path, _)| path);
    options.path().map(|path| std::iter::once(path).chain(more).collect())
}

const fn policy(version: ProtocolVersion) -> Policy {
    match version {
        ProtocolVersion::Auto => Policy::Auto,
        ProtocolVersion::V1 => Policy::V1,
        ProtocolVersion::V2 => Policy::V2,
    }
}

fn config(start: &WorkerStart) -> Config {
    let options = &start.options;
    Config {
        worker_id: start.id,
        pid: start.pid,
        brokers: start.brokers,
        protocol_version: policy(options.protocol_version),
        protocol_paths: options.protocol_paths().map(|(path, version)| (path.into(), policy(version))).collect(),
        version_probe_timeout: Options::millis(options.version_probe_timeout_ms),
        ping_interval: Options::millis(options.ping_interval_ms),
        ping_timeout: options.ping_timeout_ms.map(Options::millis),
        ping_timeout_disabled: options.ping_timeout_disabled,
        pub_sub_batch_duration: Options::millis(options.pub_sub_batch_duration_ms.unwrap_or(0)),
        batch_on_handshake: options.batch_on_handshake,
        batch_on_handshake_duration: Options::millis(options.batch_on_handshake_duration_ms),
        batch_interval: Options::millis(options.batch_interval_ms),
        handshake_timeout: options.handshake_timeout(),
        ack_timeout: Options::millis(options.ack_timeout_ms),
        strict_handshake: options.strict_handshake,
        max_payload: options.max_payload,
        socket_channel_limit: options.socket_channel_limit.map_or(usize::MAX, |limit| limit as usize),
        allow_client_publish: options.allow_client_publish,
        origins: Origins::parse(&options.origins),
        middleware_emit_warnings: options.middleware_emit_warnings,
        crash_worker_on_error: options.crash_worker_on_error,
        ..Config::default()
    }
}

#[cfg(test)]
mod tests {
    use sc_auth::AuthEngine;

    use super::*;

    fn options(key: &str, verify: &[&str]) -> Options {
        let more = verify.iter().map(|key| Secret::from(*key)).collect();
        Options { auth_key: Some(key.into()), auth_verify_keys: more, ..Options::default() }
    }

    #[test]
    fn tokens_of_the_last_key_stay_good_while_it_is_named() {
        let old = auth(&options("old", &[])).unwrap().sign(&mut serde_json::Map::new(), None, 1000).unwrap();
        assert!(auth(&options("new", &["old"])).unwrap().verify(&old, 1001).is_ok());
        assert!(auth(&options("new", &[])).unwrap().verify(&old, 1001).is_err());
    }

    #[test]
    fn a_key_that_does_not_work_is_named() {
        let error = |options: Options| auth(&options).unwrap_err();
        assert!(error(options("new", &[""])).starts_with("authVerifyKeys: "));
        let algorithm = Options { auth_algorithm: Some("RS256".to_owned()), ..options("new", &[]) };
        assert!(error(algorithm).contains("RS256"));
        let unknown = Options { auth_algorithm: Some("none".to_owned()), ..options("new", &[]) };
        assert!(error(unknown).contains("none"));
    }
}
