//! What is said: by children to the master, by the application on either side, and in the log.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use sc_protocol::ipc::Control;
use sc_server::{Data, Reply, ScError, read_reply};

use super::{
    Master,
    api::{Event, LogEntry, MasterCx, Origin, ProcessStatus, Then},
};
use crate::{
    cluster::ClusterReady,
    control::Role,
    log::{self, Severity},
    supervisor::{ChildKey, ClusterEvent},
};

/// Answers of children that are awaited, at most.
const CALLS_MAX: usize = 1024;

/// Something a child said that is not for the supervisor.
#[derive(Debug)]
pub(super) enum Said {
    Report(String),
    Status(String),
    Message { id: u64, json: String },
    Reply { id: u64, json: String },
}

impl Said {
    pub(super) fn of(message: &Control<'_>) -> Option<Self> {
        match *message {
            Control::Report(json) => Some(Self::Report(json.to_owned())),
            Control::Status(json) => Some(Self::Status(json.to_owned())),
            Control::Message { id, json } => Some(Self::Message { id, json: json.to_owned() }),
            Control::Reply { id, json } => Some(Self::Reply { id, json: json.to_owned() }),
            _ => None,
        }
    }
}

/// An answer that is awaited.
pub(super) struct Call {
    child: ChildKey,
    deadline: Instant,
    then: Then,
}

impl Master {
    pub(super) fn hear(&mut self, now: Instant, key: ChildKey, said: Said) {
        let Some(origin) = self.origin(key) else { return };
        match said {
            Said::Report(json) => {
                if let Ok(report) = serde_json::from_str::<log::Report>(&json) {
                    let log::Report { level, text, name, unix_ms } = report;
                    self.log(now, level, LogEntry { origin, unix_ms, name, text });
                }
            }
            Said::Status(json) => {
                if let (Some(process), Ok(status)) = (self.processes.get_mut(&key), serde_json::from_str(&json)) {
                    process.status = status;
                }
            }
            Said::Message { id, json } => self.answer(now, key, origin, id, &json),
            Said::Reply { id, json } => {
                if self.calls.get(&id).is_some_and(|call| call.child == key) {
                    self.resolve(now, id, read_reply(&json));
                }
            }
        }
    }

    pub(super) fn origin(&self, key: ChildKey) -> Option<Origin> {
        let process = self.processes.get(&key)?;
        Some(Origin::child(process.role, process.id, Some(process.child.id())))
    }

    /// A message of a child for the application.
    fn answer(&mut self, now: Instant, key: ChildKey, origin: Origin, id: u64, json: &str) {
        let hook = self.hooks.message.take();
        let answer = hook.map(|mut hook| {
            let answer = self.guard(now, |cx| hook(&origin, Data::from_json(json), cx));
            self.hooks.message.get_or_insert(hook);
            answer.unwrap_or_else(|| Err(ScError::internal()))
        });
        let json_reply = match answer {
            Some(Ok(Reply::Json(json))) => format!("{{\"data\":{json}}}"),
            Some(Ok(Reply::Refused(refused))) => format!("{{\"error\":{}}}", refused.0.to_json()),
            Some(Ok(_)) => "{}".to_owned(),
            Some(Err(error)) => format!("{{\"error\":{}}}", error.to_json()),
            None => {
                let error = ScError::new("InvalidActionError", "The master takes no messages");
                format!("{{\"error\":{}}}", error.to_json())
            }
        };
        if id != 0 {
            self.send(now, key, &Control::Reply { id, json: &json_reply }, &[]);
        }
        self.emit(now, || Event::Message { origin, data: Data::from_json(json).into_owned() });
    }

    pub(super) fn send_message(
        &mut self,
        now: Instant,
        role: Role,
        number: u32,
        data: &Data<'_>,
        then: Option<Then>,
    ) -> Result<(), ScError> {
        // Of two with one number the older is about to end.
        let of_it = self.processes.iter().filter(|(_, process)| (process.role, process.id) == (role, number));
        let Some(key) = of_it.map(|(key, _)| *key).next_back() else {
            return Err(ScError::new("InvalidArgumentsError", format!("There is no {role} {number}")));
        };
        let json = data.json().unwrap_or("null");
        let mut id = 0;
        if let Some(then) = then {
            if self.calls.len() >= CALLS_MAX {
                return Err(ScError::resource_limit("Too many answers of processes are awaited"));
            }
            self.next_call += 1;
            id = self.next_call;
            let deadline = now + Duration::from_millis(self.options.ack_timeout_ms);
            self.calls.insert(id, Call { child: key, deadline, then });
        }
        let message = Control::Message { id, json };
        if !message.fits() {
            self.calls.remove(&id);
            return Err(ScError::new("InvalidArgumentsError", "The message is too long"));
        }
        self.send(now, key, &message, &[]);
        Ok(())
    }

    fn resolve(&mut self, now: Instant, id: u64, result: Result<Data<'static>, ScError>) {
        if let Some(call) = self.calls.remove(&id) {
            self.guard(now, |cx| (call.then)(result, cx));
        }
    }

    /// When the first awaited answer is late; they are numbered in this order.
    pub(super) fn calls_due(&self) -> Option<Instant> {
        self.calls.values().next().map(|call| call.deadline)
    }

    pub(super) fn expire_calls(&mut self, now: Instant) {
        while let Some((&id, _)) = self.calls.iter().next().filter(|(_, call)| call.deadline <= now) {
            self.resolve(now, id, Err(ScError::new("TimeoutError", "The process did not answer in time")));
        }
    }

    /// A process is gone: it will not answer.
    pub(super) fn fail_calls(&mut self, now: Instant, key: ChildKey) {
        let lost: Vec<_> = self.calls.iter().filter(|(_, call)| call.child == key).map(|(id, _)| *id).collect();
        for id in lost {
            let error = ScError::new("BadConnectionError", "The process ended before it answered");
            self.resolve(now, id, Err(error));
        }
    }

    pub(super) fn status(&self) -> Vec<ProcessStatus> {
        let status = |(key, process): (&ChildKey, &super::Process)| {
            Some(ProcessStatus {
                origin: self.origin(*key)?,
                memory_bytes: crate::sys::limits::resident_bytes(process.child.id()),
                counters: process.status.0.clone(),
            })
        };
        self.processes.iter().filter_map(status).collect()
    }

    pub(super) fn tell(&mut self, now: Instant, event: ClusterEvent) {
        match event {
            ClusterEvent::Ready => {
                log::active(&self.active_line());
                let port = self.port;
                if let Some(ready) = self.hooks.ready.take() {
                    ready(&ClusterReady { pid: std::process::id(), port });
                }
                self.emit(now, || Event::Ready { port });
            }
            ClusterEvent::Start { role, id, pid, respawn } => {
                let again = if respawn { " again" } else { "" };
                self.news(now, Severity::Info, format!("{role} {id} (pid {pid}) is started{again}"));
                self.emit(now, || Event::Start { origin: Origin::child(role, id, Some(pid)), respawn });
            }
            ClusterEvent::Exit { role, id, pid, exit, expected, respawn_in } => {
                let next = match respawn_in {
                    Some(pause) if pause.is_zero() => "; it is replaced".to_owned(),
                    Some(pause) => format!("; it is replaced in {} ms", pause.as_millis()),
                    None => String::new(),
                };
                let text = format!("{role} {id} (pid {}) ended: {exit}{next}", pid.unwrap_or(0));
                self.news(now, if expected { Severity::Info } else { Severity::Warning }, text);
                self.emit(now, || Event::Exit { origin: Origin::child(role, id, pid), exit, expected });
            }
            ClusterEvent::Warning(text) => self.news(now, Severity::Warning, text),
            ClusterEvent::Fail(text) => self.news(now, Severity::Error, text),
            ClusterEvent::Info(text) => self.news(now, Severity::Info, text),
        }
    }

    /// Something that the master itself has to say.
    fn news(&mut self, now: Instant, level: Severity, text: String) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.log(now, level, LogEntry { origin: Origin::master(), unix_ms, name: None, text });
    }

    fn log(&mut self, now: Instant, level: Severity, entry: LogEntry) {
        log::entry(level, &entry);
        match level {
            Severity::Error => self.emit(now, || Event::Fail(entry)),
            Severity::Warning => self.emit(now, || Event::Warning(entry)),
            Severity::Info => self.emit(now, || Event::Info(entry)),
            Severity::Debug => {}
        }
    }

    fn emit(&mut self, now: Instant, event: impl FnOnce() -> Event) {
        if let Some(mut hook) = self.hooks.event.take() {
            let event = event();
            self.guard(now, |cx| hook(&event, cx));
            self.hooks.event.get_or_insert(hook);
        }
    }

    /// A panic of the application must not end the cluster. The hook for panics has said it.
    fn guard<R>(&mut self, now: Instant, call: impl FnOnce(&mut MasterCx<'_>) -> R) -> Option<R> {
        let mut cx = MasterCx { master: self, now };
        catch_unwind(AssertUnwindSafe(|| call(&mut cx))).ok()
    }

    fn active_line(&self) -> String {
        let host = match self.options.host.as_deref() {
            None | Some("0.0.0.0" | "::") => "localhost".to_owned(),
            Some(host) if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
            Some(host) => host.to_owned(),
        };
        let (version, port, pid) = (env!("CARGO_PKG_VERSION"), self.port, std::process::id());
        let count = |n: u32, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let (workers, brokers) = (count(self.options.workers(), "worker"), count(self.options.brokers(), "broker"));
        format!("SocketCluster {version} at http://{host}:{port}/ ({workers}, {brokers}, master {pid})")
    }
}
