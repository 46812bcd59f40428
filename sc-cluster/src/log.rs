//! One log: lines on standard error, written by the master for all processes.
//!
//! A line is `[Warning] 2026-11-22T21:39:59.123456Z worker 1 (pid 4711): text`, or, with `logFormat: json`, an object with `time`,
//! `level`, `origin`, `pid`, `name` and `message`. What a client does wrong is no warning; what an operator may want to act on is.
//!
//! A child writes nothing itself: what it logs, and where it panics, is [queued](queue) and sent to the master.

use std::{
    fmt,
    io::{IsTerminal, Write},
    panic::PanicHookInfo,
    sync::atomic::{AtomicBool, Ordering},
};

use serde::{Deserialize, Serialize};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    Layer,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

use crate::{master::api::LogEntry, options::LogFormat};

pub(crate) mod queue;

/// How much something matters. `logLevel` is the highest number that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Severity {
    Error,
    Warning,
    Info,
    Debug,
}

/// Something a child wants to have logged: travels as JSON in `Control::Report`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    pub(crate) level: Severity,
    pub(crate) text: String,
    /// Name of the error, if it is one with a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// When, in milliseconds since 1970.
    #[serde(default)]
    pub(crate) unix_ms: u64,
}

/// This process is a child.
static IS_CHILD: AtomicBool = AtomicBool::new(false);

/// Sends the master's `tracing` events to standard error, unless the application has set up its own log.
pub(crate) fn init(log_level: u8, format: LogFormat) {
    let is_coloured = format == LogFormat::Text && std::io::stderr().is_terminal();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(filter(log_level))
        .with_writer(std::io::stderr)
        .with_ansi(is_coloured)
        .event_format(Lines { format, is_coloured })
        .finish();
    // Fails if the application was first: its log it is, then.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Sends a child's `tracing` events to the master, unless the application has set up its own log.
pub(crate) fn init_child(log_level: u8) {
    IS_CHILD.store(true, Ordering::Relaxed);
    let subscriber = tracing_subscriber::registry().with(ToMaster.with_filter(filter(log_level)));
    let _ = tracing::subscriber::set_global_default(subscriber);
}

fn filter(log_level: u8) -> LevelFilter {
    match log_level {
        0 => LevelFilter::OFF,
        1 => LevelFilter::ERROR,
        2 => LevelFilter::WARN,
        3 => LevelFilter::INFO,
        _ => LevelFilter::TRACE,
    }
}

/// Says a panic in one line, with its place. The standard hook would, with `RUST_BACKTRACE` set, load the symbol tables for good:
/// 35 MiB in each process that ever caught a panic.
pub(crate) fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let payload = info.payload();
        let owned = payload.downcast_ref::<String>().map(String::as_str);
        let text = payload.downcast_ref::<&str>().copied().or(owned).unwrap_or("a panic without a text");
        let place = info.location().map_or_else(String::new, |place| format!("{}:{}", place.file(), place.line()));
        if IS_CHILD.load(Ordering::Relaxed) {
            queue::push_panic(text, place);
        } else {
            error(format_args!("panic at {place}: {text}"));
        }
    }));
}

pub(crate) fn error(text: impl fmt::Display) {
    tracing::error!("{text}");
}

pub(crate) fn warning(text: impl fmt::Display) {
    tracing::warn!("{text}");
}

pub(crate) fn info(text: impl fmt::Display) {
    tracing::info!("{text}");
}

/// Logs something that may come from another process.
pub(crate) fn entry(level: Severity, entry: &LogEntry) {
    let LogEntry { origin, name, text, .. } = entry;
    let (origin, pid, name) = (origin.role.map(|_| origin.to_string()), origin.pid, name.as_deref());
    let (origin, pid) = (origin.as_deref(), origin.as_ref().map(|_| pid));
    match level {
        Severity::Error => tracing::error!(origin, pid, name, "{text}"),
        Severity::Warning => tracing::warn!(origin, pid, name, "{text}"),
        Severity::Info => tracing::info!(origin, pid, name, "{text}"),
        Severity::Debug => tracing::debug!(origin, pid, name, "{text}"),
    }
}

/// The line that says where the cluster is, on standard output, where programs that start it read it.
pub(crate) fn active(text: &str) {
    let mut out = std::io::stdout();
    let (on, off) = if out.is_terminal() { ("\x1b[32m", "\x1b[0m") } else { ("", "") };
    // Nobody may be reading; that is no reason to end.
    let _ = writeln!(out, "{on}[Active]{off} {text}").and_then(|()| out.flush());
}

/// Says why the process ends, also when nothing is set up and whatever is logged.
pub(crate) fn fatal(text: impl fmt::Display) {
    let _ = writeln!(std::io::stderr(), "[Error] {text}");
}

/// What an event says, taken apart.
#[derive(Debug, Default)]
struct Said {
    message: String,
    origin: Option<String>,
    pid: Option<u64>,
    name: Option<String>,
    /// The application's own fields.
    rest: Vec<(&'static str, String)>,
}

impl Said {
    fn of(event: &Event<'_>) -> Self {
        let mut said = Self::default();
        event.record(&mut said);
        said
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.rest.push((name, format!("{value:?}"))),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            "origin" => self.origin = Some(value.to_owned()),
            "name" => self.name = Some(value.to_owned()),
            name => self.rest.push((name, value.to_owned())),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "pid" => self.pid = Some(value),
            name => self.rest.push((name, value.to_string())),
        }
    }
}

/// A child's events, on their way to the master.
struct ToMaster;

impl<S: Subscriber> Layer<S> for ToMaster {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let said = Said::of(event);
        let level = match *event.metadata().level() {
            Level::ERROR => Severity::Error,
            Level::WARN => Severity::Warning,
            Level::INFO => Severity::Info,
            _ => Severity::Debug,
        };
        let rest = said.rest.iter().map(|(name, value)| format!(" {name}={value}"));
        queue::push(level, said.name, rest.fold(said.message, |text, field| text + &field));
    }
}

struct Lines {
    format: LogFormat,
    is_coloured: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let said = Said::of(event);
        let level = *event.metadata().level();
        match self.format {
            LogFormat::Text => self.text(&mut out, level, &said),
            LogFormat::Json => json(&mut out, level, &said),
        }
    }
}

impl Lines {
    fn text(&self, out: &mut Writer<'_>, level: Level, said: &Said) -> fmt::Result {
        let (tag, colour) = match level {
            Level::ERROR => ("Error", 31),
            Level::WARN => ("Warning", 33),
            Level::INFO => ("Info", 36),
            _ => ("Debug", 90),
        };
        let (on, off) = if self.is_coloured { (format!("\x1b[{colour}m"), "\x1b[0m") } else { (String::new(), "") };
        write!(out, "{on}[{tag}]{off} ")?;
        SystemTime.format_time(out)?;
        if let (Some(origin), Some(pid)) = (&said.origin, said.pid) {
            write!(out, " {origin} (pid {pid}):")?;
        }
        if let Some(name) = &said.name {
            write!(out, " {name}:")?;
        }
        // A line is one line: what a client sent may stand in it.
        write!(out, " {}", said.message.replace(['\n', '\r'], "\u{23ce}"))?;
        for (name, value) in &said.rest {
            write!(out, " {name}={value}")?;
        }
        writeln!(out)
    }
}

fn json(out: &mut Writer<'_>, level: Level, said: &Said) -> fmt::Result {
    let mut time = String::new();
    SystemTime.format_time(&mut Writer::new(&mut time))?;
    let level = match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        _ => "debug",
    };
    let (origin, own_pid) = (said.origin.as_deref().unwrap_or("master"), u64::from(std::process::id()));
    let mut line = serde_json::json!({
        "time": time,
        "level": level,
        "origin": origin,
        "pid": said.pid.unwrap_or(own_pid),
        "message": said.message,
    });
    if let Some(name) = &said.name {
        line["name"] = name.as_str().into();
    }
    if !said.rest.is_empty() {
        let fields = said.rest.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into()));
        line["fields"] = serde_json::Value::Object(fields.collect());
    }
    writeln!(out, "{line}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_json_with_few_members() {
        let report = Report { level: Severity::Warning, text: "slow".to_owned(), name: None, unix_ms: 5 };
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(json, r#"{"level":"warning","text":"slow","unixMs":5}"#);
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }

    #[test]
    fn lines_are_one_line_and_json_has_its_members() {
        let said = Said {
            message: "a\nb".to_owned(),
            origin: Some("worker 1".to_owned()),
            pid: Some(7),
            name: Some("BrokerError".to_owned()),
            rest: vec![("user", "42".to_owned())],
        };
        let mut text = String::new();
        Lines { format: LogFormat::Text, is_coloured: false }
            .text(&mut Writer::new(&mut text), Level::WARN, &said)
            .unwrap();
        assert!(
            text.starts_with("[Warning] 2") && text.ends_with("Z worker 1 (pid 7): BrokerError: a\u{23ce}b user=42\n")
        );
        let mut line = String::new();
        json(&mut Writer::new(&mut line), Level::WARN, &said).unwrap();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&value["level"], &value["origin"], &value["pid"]),
            (&"warning".into(), &"worker 1".into(), &7.into())
        );
        assert_eq!((&value["message"], &value["fields"]["user"]), (&"a\nb".into(), &"42".into()));
        assert_eq!(line.matches('\n').count(), 1);
    }
}
