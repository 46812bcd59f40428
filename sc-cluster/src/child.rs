//! The master as its children see it: what it orders, and what it is told.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

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
}

/// A child's end of its control channel.
#[derive(Debug)]
pub(crate) struct Master {
    control: ControlLink,
    more: bool,
    gone: bool,
    beat_at: Instant,
    reports: u32,
}

impl Master {
    pub(crate) fn new(mut control: ControlLink, registry: &Registry, now: Instant) -> io::Result<Self> {
        registry.register(&mut control, Source::Control.token(), Interest::READABLE | Interest::WRITABLE)?;
        // Something may have come before the registration: what is read then needs no edge.
        Ok(Self { control, more: true, gone: false, beat_at: now + BEAT, reports: 0 })
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
        let mut orders = Vec::new();
        let received = self.control.recv(|message, mut fds| {
            orders.extend(match message {
                Control::Conns { count, .. } => Some(Order::Conns(fds, count as usize)),
                Control::Listener { listener } => fds.pop().map(|fd| Order::Listener(listener, fd)),
                Control::Link { peer } => fds.pop().map(|fd| Order::Link(peer, fd)),
                Control::Linked => Some(Order::Linked),
                Control::Drain { millis } => Some(Order::Drain(Duration::from_millis(millis.into()))),
                Control::Terminate => Some(Order::Terminate),
                Control::Message { id, json } => Some(Order::Message { id, json: json.to_owned() }),
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
        self.more
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

    /// Writes what waits.
    pub(crate) fn flush(&mut self) {
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
            let message = format!("{missed} more reports within a second are not shown");
            self.send_report(&Report { level: Level::Warning, name: "Warning".to_owned(), message });
        }
    }

    /// Sends a line for the log, unless there were too many of late.
    pub(crate) fn report(&mut self, report: &Report) {
        self.reports = self.reports.saturating_add(1);
        if self.reports <= REPORTS_MAX {
            self.send_report(report);
        }
    }

    fn send_report(&mut self, report: &Report) {
        let level = match report.level {
            Level::Error => log::Severity::Error,
            Level::Warning => log::Severity::Warning,
            Level::Debug => log::Severity::Debug,
        };
        let report = log::Report { level, text: report.message.clone(), name: Some(report.name.clone()) };
        let Ok(text) = serde_json::to_string(&report) else { return };
        // One that does not fit is no reason to end: it is lost.
        let _ = self.control.try_send(&Control::Report(&text), &[]);
    }
}
