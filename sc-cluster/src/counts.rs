//! What a worker has counted, by the names under which it is known outside, and how fast it grows.

use std::time::{Duration, Instant};

use sc_server::Counters;
use serde_json::{Map, Value};

use crate::net::NetCounters;

/// The rates of a worker, and when they are due to be told.
#[derive(Debug)]
pub(crate) struct Rates {
    interval: Duration,
    since: Instant,
    due: Instant,
    responses: u64,
    messages: u64,
    dropped: u64,
}

/// What has happened in an interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Interval {
    pub(crate) http_per_minute: f64,
    pub(crate) ws_per_minute: f64,
    /// Messages dropped for slow clients.
    pub(crate) dropped: u64,
}

impl Rates {
    pub(crate) fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, since: now, due: now + interval, responses: 0, messages: 0, dropped: 0 }
    }

    pub(crate) const fn due(&self) -> Instant {
        self.due
    }

    /// Ends an interval, if it is over.
    pub(crate) fn end(&mut self, now: Instant, net: NetCounters, engine: Counters) -> Option<Interval> {
        if now < self.due {
            return None;
        }
        let minutes = now.saturating_duration_since(self.since).as_secs_f64() / 60.0;
        let rate = |count: u64| if minutes > 0.0 { count as f64 / minutes } else { 0.0 };
        let ended = Interval {
            http_per_minute: rate(net.responses_total - self.responses),
            ws_per_minute: rate(engine.messages_in_total - self.messages),
            dropped: net.dropped_total - self.dropped,
        };
        (self.since, self.due) = (now, now + self.interval);
        (self.responses, self.messages) = (net.responses_total, engine.messages_in_total);
        self.dropped = net.dropped_total;
        Some(ended)
    }
}

/// All counters of a worker. The README has the same names, with their meaning.
pub(crate) fn named(connections: usize, net: NetCounters, engine: Counters, rates: Interval) -> Map<String, Value> {
    let NetCounters { slow_closed_total, dropped_total, responses_total } = net;
    let counts = [
        ("sc_connections", connections as u64),
        ("sc_sockets", engine.sockets),
        ("sc_clients", engine.clients),
        ("sc_messages_in_total", engine.messages_in_total),
        ("sc_publishes_total", engine.publishes_total),
        ("sc_deliveries_total", engine.deliveries_total),
        ("sc_ping_timeouts_total", engine.ping_timeouts_total),
        ("sc_protocol_errors_total", engine.protocol_errors_total),
        ("sc_blocked_total", engine.blocked_total),
        ("sc_panics_total", engine.panics_total),
        ("sc_slow_closed_total", slow_closed_total),
        ("sc_slow_dropped_total", dropped_total),
        ("sc_http_responses_total", responses_total),
        ("clientCount", engine.clients),
    ];
    let rates = [("httpRPM", rates.http_per_minute), ("wsRPM", rates.ws_per_minute)];
    let counts = counts.into_iter().map(|(name, count)| (name.to_owned(), count.into()));
    counts.chain(rates.into_iter().map(|(name, rate)| (name.to_owned(), rate.into()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_interval() {
        let begin = Instant::now();
        let mut rates = Rates::new(Duration::from_secs(10), begin);
        let net = NetCounters { responses_total: 5, ..NetCounters::default() };
        let engine = Counters { messages_in_total: 100, ..Counters::default() };
        assert_eq!(rates.end(begin + Duration::from_secs(9), net, engine), None);
        let ended = rates.end(begin + Duration::from_secs(10), net, engine).unwrap();
        assert_eq!((ended.http_per_minute.round(), ended.ws_per_minute.round()), (30.0, 600.0));
        let ended = rates.end(begin + Duration::from_secs(20), net, engine).unwrap();
        assert_eq!((ended.http_per_minute, ended.ws_per_minute), (0.0, 0.0));
    }

    #[test]
    fn the_readme_names_every_counter() {
        let readme = include_str!("../README.md");
        let none = Interval { http_per_minute: 0.0, ws_per_minute: 0.0, dropped: 0 };
        for name in named(0, NetCounters::default(), Counters::default(), none).keys() {
            assert!(readme.contains(&format!("`{name}`")), "{name} is not in the README");
        }
    }
}
