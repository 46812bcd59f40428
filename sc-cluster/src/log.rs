//! One log: lines on standard error, from the master for all processes.
//!
//! A line is `[Warning] 2026-11-22T21:39:59.123456Z worker 1 (pid 4711): text`. What a client does wrong is no warning; what an
//! operator may want to act on is.

use std::{
    fmt,
    io::{IsTerminal, Write},
    panic::PanicHookInfo,
};

use serde::{Deserialize, Serialize};
use tracing::{Event, Level, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

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
}

/// Sends this process' `tracing` events to standard error, unless the application has set up its own log.
pub(crate) fn init(log_level: u8, origin: &str) {
    let filter = match log_level {
        0 => LevelFilter::OFF,
        1 => LevelFilter::ERROR,
        2 => LevelFilter::WARN,
        3 => LevelFilter::INFO,
        _ => LevelFilter::TRACE,
    };
    let format = Lines { origin: origin.to_owned(), is_coloured: std::io::stderr().is_terminal() };
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(filter)
        .with_writer(std::io::stderr)
        .with_ansi(format.is_coloured)
        .event_format(format)
        .finish();
    // Fails if the application was first: its log it is, then.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Says a panic in one line, with its place. The standard hook would, with `RUST_BACKTRACE` set, load the symbol tables for good:
/// 35 MiB in each process that ever caught a panic.
pub(crate) fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let payload = info.payload();
        let owned = payload.downcast_ref::<String>().map(String::as_str);
        let text = payload.downcast_ref::<&str>().copied().or(owned).unwrap_or("a panic without a text");
        match info.location() {
            Some(place) => error(format_args!("panic at {}:{}: {text}", place.file(), place.line())),
            None => error(format_args!("panic: {text}")),
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

/// Logs what another process reported.
pub(crate) fn report(origin: impl fmt::Display, report: &Report) {
    let Report { level, text, name } = report;
    let (name, colon) = name.as_deref().map_or(("", ""), |name| (name, ": "));
    match level {
        Severity::Error => tracing::error!("{origin}: {name}{colon}{text}"),
        Severity::Warning => tracing::warn!("{origin}: {name}{colon}{text}"),
        Severity::Info => tracing::info!("{origin}: {name}{colon}{text}"),
        Severity::Debug => tracing::debug!("{origin}: {name}{colon}{text}"),
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

struct Lines {
    origin: String,
    is_coloured: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let (tag, colour) = match *event.metadata().level() {
            Level::ERROR => ("Error", 31),
            Level::WARN => ("Warning", 33),
            Level::INFO => ("Info", 36),
            _ => ("Debug", 90),
        };
        if self.is_coloured {
            write!(out, "\x1b[{colour}m[{tag}]\x1b[0m ")?;
        } else {
            write!(out, "[{tag}] ")?;
        }
        SystemTime.format_time(&mut out)?;
        if self.origin.is_empty() {
            out.write_char(' ')?;
        } else {
            write!(out, " {}: ", self.origin)?;
        }
        ctx.format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_json_with_few_members() {
        let report = Report { level: Severity::Warning, text: "slow".to_owned(), name: None };
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(json, r#"{"level":"warning","text":"slow"}"#);
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }
}
