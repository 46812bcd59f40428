//! How busy a worker is: SC's `getStatus()`.

use crate::cx::Cx;
use crate::engine::Engine;

/// SC's `worker.getStatus()`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Status {
    /// Clients that completed their `#handshake`, now. SC: `clientCount`.
    pub clients: u64,
    /// HTTP requests per minute, upgrades not counted, in the last `workerStatusInterval`. SC: `httpRPM`.
    pub http_per_minute: f64,
    /// Messages of clients per minute, in the last `workerStatusInterval`. SC: `wsRPM`.
    pub ws_per_minute: f64,
}

impl<S, P> Engine<S, P> {
    /// The rates of the last interval, which only the driver can tell: for [`Cx::status`].
    pub const fn set_rates(&mut self, http_per_minute: f64, ws_per_minute: f64) {
        self.core.rates = (http_per_minute, ws_per_minute);
    }
}

impl<S, P> Cx<'_, S, P> {
    /// How busy this worker is. The rates are 0 until the first `workerStatusInterval` is over.
    pub const fn status(&self) -> Status {
        let (http_per_minute, ws_per_minute) = self.core.rates;
        Status { clients: self.core.counters.clients, http_per_minute, ws_per_minute }
    }
}
