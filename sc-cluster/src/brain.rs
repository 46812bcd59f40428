//! What the loop of a worker asks of the engine.
//!
//! The engine is generic over the application's types. The loop sees it through this trait, as a `dyn`, so that the loop is compiled once and not
//! for each application; the calls are one per read and one per output, never one per recipient of a fan-out.

use std::any::Any;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sc_protocol::http::RequestHead;
use sc_protocol::ipc::IpcError;
use sc_protocol::ws::CloseCode;
use sc_server::{Counters, Engine, Letter, Output, TicketId, Time};

/// The worker brain as the loop sees it. The methods are those of the engine, and documented there.
pub(crate) trait Brain {
    fn open(&mut self, at: Time, slot: u32, remote: Option<IpAddr>, head: &RequestHead<'_, '_>);
    fn handle_bytes(&mut self, at: Time, slot: u32, data: &mut [u8]);
    fn closed(&mut self, at: Time, slot: u32);
    fn drain(&mut self, at: Time, over: Duration, code: CloseCode);
    fn is_settled(&self) -> bool;
    fn counters(&self) -> Counters;
    fn set_rates(&mut self, http_per_minute: f64, ws_per_minute: f64);
    fn link_up(&mut self, at: Time, shard: u32);
    fn link_down(&mut self, at: Time, shard: u32);
    fn handle_link(&mut self, at: Time, shard: u32, data: &[u8]) -> Result<(), IpcError>;
    fn link_queued(&mut self, shard: u32, bytes: usize);
    fn handle_done(&mut self, at: Time, ticket: TicketId, value: Box<dyn Any + Send>);
    fn handle_failed(&mut self, at: Time, ticket: TicketId);
    fn handle_letter(&mut self, at: Time, letter: Letter);
    fn handle_master(&mut self, at: Time, id: u64, json: &str);
    fn handle_master_reply(&mut self, at: Time, id: u64, json: &str);
    fn handle_timeout(&mut self, at: Time);
    fn poll_timeout(&self) -> Option<Instant>;
    fn poll_output(&mut self) -> Option<Output>;
    fn poll_link(&mut self) -> Option<(u32, Bytes)>;
    fn recycle(&mut self, slots: Vec<u32>);
}

impl<S: Send + 'static, P: Default + Send + 'static> Brain for Engine<S, P> {
    fn open(&mut self, at: Time, slot: u32, remote: Option<IpAddr>, head: &RequestHead<'_, '_>) {
        Self::open(self, at, slot, remote, head);
    }

    fn handle_bytes(&mut self, at: Time, slot: u32, data: &mut [u8]) {
        Self::handle_bytes(self, at, slot, data);
    }

    fn closed(&mut self, at: Time, slot: u32) {
        Self::closed(self, at, slot);
    }

    fn drain(&mut self, at: Time, over: Duration, code: CloseCode) {
        Self::drain(self, at, over, code);
    }

    fn is_settled(&self) -> bool {
        Self::is_settled(self)
    }

    fn counters(&self) -> Counters {
        *Self::counters(self)
    }

    fn set_rates(&mut self, http_per_minute: f64, ws_per_minute: f64) {
        Self::set_rates(self, http_per_minute, ws_per_minute);
    }

    fn link_up(&mut self, at: Time, shard: u32) {
        Self::link_up(self, at, shard);
    }

    fn link_down(&mut self, at: Time, shard: u32) {
        Self::link_down(self, at, shard);
    }

    fn handle_link(&mut self, at: Time, shard: u32, data: &[u8]) -> Result<(), IpcError> {
        Self::handle_link(self, at, shard, data)
    }

    fn link_queued(&mut self, shard: u32, bytes: usize) {
        Self::link_queued(self, shard, bytes);
    }

    fn handle_done(&mut self, at: Time, ticket: TicketId, value: Box<dyn Any + Send>) {
        Self::handle_done(self, at, ticket, value);
    }

    fn handle_failed(&mut self, at: Time, ticket: TicketId) {
        Self::handle_failed(self, at, ticket);
    }

    fn handle_letter(&mut self, at: Time, letter: Letter) {
        Self::handle_letter(self, at, letter);
    }

    fn handle_master(&mut self, at: Time, id: u64, json: &str) {
        Self::handle_master(self, at, id, json);
    }

    fn handle_master_reply(&mut self, at: Time, id: u64, json: &str) {
        Self::handle_master_reply(self, at, id, json);
    }

    fn handle_timeout(&mut self, at: Time) {
        Self::handle_timeout(self, at);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Self::poll_timeout(self)
    }

    fn poll_output(&mut self) -> Option<Output> {
        Self::poll_output(self)
    }

    fn poll_link(&mut self) -> Option<(u32, Bytes)> {
        Self::poll_link(self)
    }

    fn recycle(&mut self, slots: Vec<u32>) {
        Self::recycle(self, slots);
    }
}
