//! The master as its children see it: what it orders, and what it is told.

use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::event::Event;
use mio::{Interest, Registry};
use sc_protocol::ipc::Control;

use crate::control::{ControlLink, Received};
use crate::event_loop::Source;
use crate::log;
use sc_server::{Level, Report};

/// How often a child gives a sign of life.
pub(crate) const BEAT: Duration = Duration::from_secs(1);

/// Reports sent between two beats; what is beyond is counted and told of with the next beat.
const REPORTS_MAX: u32 = 100;

/// Why a child's loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Ended {
    /// The master asked for it.
    Terminated,
    /// The master is gone, so nobody needs this process.
    MasterGone,
    /// A handler panicked and `crashWorkerOnError` is on.
    Crashed,
}

/// What a master tells a child to do.
#[derive(Debug)]
pub(crate) enum Order {
    /// Serve these connections; so many were sent.
    Conns(Vec<OwnedFd>, usize),
    /// Accept from this listener.
    Listener(u32, OwnedFd),
    /// Use this link to the broker, or the worker, of that number.
    Link(u32, OwnedFd),
    /// All workers that there are have links.
    Linked,
    /// Send the clients away over this time, then end.
    Drain(Duration),
    /// End.
    Terminate,
    /// JSON for the application.
    Message {
        /// The number for the answer; 0: none is wanted.
        id: u64,
        /// The message.
        json: String,
    },
    /// The answer to a message.
    Reply {
        /// The number of the message.
        id: u64,
        /// An object with `data`, or with `error`.
        json: String,
    },
}

/// A child's end of its control channel.
#[derive(Debug)]
pub(crate) struct Master {
    control: ControlLink,
    more: bool,
    gone: bool,
    beat_at: Instant,
    reports: u32,
    /// Answers to messages that could not be sent.
    undelivered: Vec<(u64, String)>,
}

impl Master {
    pub(crate) fn new(mut control: ControlLink, registry: &Registry, now: Instant) -> io::Result<Self> {
        registry.register(&mut control, Source::Control.token(), Interest::READABLE | Interest::WRITABLE)?;
        // Something may have come before the registration: what is read then needs no edge.
        Ok(Self { control, more: true, gone: false, beat_at: now + BEAT, reports: 0, undelivered: Vec::new() })
    }

    /// Notes what an event says.
    pub(crate) fn note(&mut self, event: &Event) {
        self.gone |= event.is_error();
        if event.is_writable() {
            self.flush();
        }
    }

    /// Reads orders, up to the channel's budget.
    pub(crate) fn read(&mut self) -> Vec<Order> {
        let undelivered = std::mem::take(&mut self.undelivered);
        let mut orders: Vec<_> = undelivered.into_iter().map(|(id, json)| Order::Reply { id, json }).collect();
        let received = self.control.recv(|message, mut fds| {
            orders.extend(match message {
                Control::Conns { count, .. } => Some(Order::Conns(fds, count as usize)),
                Control::Listener { listener } => fds.pop().map(|fd| Order::Listener(listener, fd)),
                Control::Link { peer } => fds.pop().map(|fd| Order::Link(peer, fd)),
                Control::Linked => Some(Order::Linked),
                Control::Drain { millis } => Some(Order::Drain(Duration::from_millis(millis.into()))),
                Control::Terminate => Some(Order::Terminate),
                Control::Message { id, json } => Some(Order::Message { id, json: json.to_owned() }),
                Control::Reply { id, json } => Some(Order::Reply { id, json: json.to_owned() }),
                // The rest is what children say.
                _ => None,
            });
        });
        self.more = matches!(received, Ok(Received::Budget));
        self.gone |= !matches!(received, Ok(Received::Budget | Received::Drained));
        orders
    }

    /// Whether the last read stopped at its budget.
    pub(crate) fn has_more(&self) -> bool {
        self.more || !self.undelivered.is_empty()
    }

    /// The channel has ended.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Sends a message, now or when there is room for it.
    pub(crate) fn send(&mut self, message: &Control<'_>) {
        self.gone |= self.control.send(message, &[]).is_err();
    }

    /// Sends a message now or, answering `false`, not at all: the master has a lot to read.
    pub(crate) fn try_send(&mut self, message: &Control<'_>) -> bool {
        match self.control.try_send(message, &[]) {
            Ok(sent) => sent,
            Err(_) => {
                self.gone = true;
                false
            }
        }
    }

    /// Sends a message of the application, or an answer of it. One that is too long becomes an error for who waits for it.
    pub(crate) fn tell(&mut self, message: &Control<'_>) {
        if message.fits() {
            return self.send(message);
        }
        let error = r#"{"error":{"message":"The message is too long","name":"InvalidArgumentsError"}}"#;
        match *message {
            Control::Reply { id, .. } => self.send(&Control::Reply { id, json: error }),
            Control::Message { id, .. } => self.undelivered.push((id, error.to_owned())),
            _ => {}
        }
    }

    /// Tells what has been counted. It is told again: what does not fit now is of no use later.
    pub(crate) fn status(&mut self, json: &str) {
        self.gone |= self.control.try_send(&Control::Status(json), &[]).is_err();
    }

    /// Writes what waits.
    pub(crate) fn flush(&mut self) {
        let (reports, missed) = log::queue::take();
        for report in reports {
            self.report_now(&report);
        }
        self.reports = self.reports.saturating_add(u32::try_from(missed).unwrap_or(u32::MAX));
        if self.control.is_blocked() {
            self.gone |= self.control.flush().is_err();
        }
    }

    /// When the next sign of life is due.
    pub(crate) fn beat_at(&self) -> Instant {
        self.beat_at
    }

    /// Gives a sign of life if one is due.
    pub(crate) fn beat(&mut self, now: Instant, connections: usize) {
        if now < self.beat_at {
            return;
        }
        self.beat_at = now + BEAT;
        // A master that does not read has no use for a second beat behind the first.
        let connections = u32::try_from(connections).unwrap_or(u32::MAX);
        self.gone |= self.control.try_send(&Control::Beat { connections }, &[]).is_err();
        let missed = std::mem::take(&mut self.reports).saturating_sub(REPORTS_MAX);
        if missed > 0 {
            let text = format!("{missed} more reports within a second are not shown");
            self.send_report(&log::Report { level: log::Severity::Warning, text, name: None, unix_ms: unix_ms() });
        }
    }

    /// Sends a line for the log, unless there were too many of late.
    pub(crate) fn report(&mut self, report: &Report) {
        let level = match report.level {
            Level::Error => log::Severity::Error,
            Level::Warning => log::Severity::Warning,
            Level::Debug => log::Severity::Debug,
        };
        let mut text = report.message.clone();
        if report.name == "PanicError"
            && let Some(place) = log::queue::take_panic()
        {
            text = format!("{text} (at {place})");
        }
        log::queue::cut(&mut text);
        let name = Some(report.name.clone()).filter(|name| name != "Error");
        self.report_now(&log::Report { level, text, name, unix_ms: unix_ms() });
    }

    fn report_now(&mut self, report: &log::Report) {
        self.reports = self.reports.saturating_add(1);
        if self.reports <= REPORTS_MAX {
            self.send_report(report);
        }
    }

    fn send_report(&mut self, report: &log::Report) {
        let Ok(text) = serde_json::to_string(report) else { return };
        // One that does not fit is no reason to end: it is lost.
        let _ = self.control.try_send(&Control::Report(&text), &[]);
    }
}

/// Runs a loop to its end. A panic of the loop itself, and an error, are said with the last of the log.
pub(crate) fn catch_loop(run: impl FnOnce() -> io::Result<Ended>) -> io::Result<Ended> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Err(error)) => {
            log::error(&error);
            Err(error)
        }
        Ok(ended) => ended,
        // The hook for panics has put it into the log.
        Err(_) => Ok(Ended::Crashed),
    }
}

/// The last words of a child that ends before it has a loop.
pub(crate) fn say_last(mut control: ControlLink) {
    for report in log::queue::take().0 {
        if let Ok(text) = serde_json::to_string(&report) {
            let _ = control.try_send(&Control::Report(&text), &[]);
        }
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
