//! A worker's end of a client's connection.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use sc_protocol::http::HeadReader;
use sc_server::Engine;

use crate::app::{Session, State};
use crate::env::Env;
use crate::fault::Fault;
use crate::net::{End, StreamId};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The head of the upgrade has not come.
    Http,
    /// The engine has it.
    Socket,
    /// It ends when all is written.
    Closing,
    /// All is written; the peer's end is awaited.
    Lingering,
}

#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) stream: StreamId,
    pub(crate) phase: Phase,
    head: HeadReader,
    pub(crate) out: VecDeque<u8>,
    pub(crate) reading: bool,
    pub(crate) attached: bool,
    pub(crate) eof: bool,
    pub(crate) dead: bool,
    pub(crate) freed: bool,
    pub(crate) deadline: Option<Instant>,
    /// A frame kept back by a fault, to be sent again or later.
    kept: Vec<u8>,
}

impl Conn {
    pub(crate) fn new(stream: StreamId, now: Instant) -> Self {
        Self {
            stream,
            phase: Phase::Http,
            head: HeadReader::new(),
            out: VecDeque::new(),
            reading: true,
            attached: false,
            eof: false,
            dead: false,
            freed: false,
            deadline: Some(now + Duration::from_secs(10)),
            kept: Vec::new(),
        }
    }

    pub(crate) fn reads(&self) -> bool {
        self.reading && !self.eof && !self.dead
    }

    pub(crate) fn wants_at(&self, env: &Env, now: Instant) -> Option<Instant> {
        if self.dead {
            return None;
        }
        let write = (!self.out.is_empty() && env.net.room(self.stream, End::Far) > 0).then_some(now);
        let read = if self.reads() { env.net.readable_at(self.stream, End::Far, now) } else { None };
        [write, read, self.deadline].into_iter().flatten().min()
    }

    /// Bytes of the client.
    pub(crate) fn handle(&mut self, env: &mut Env, slot: u32, data: &mut [u8], engine: &mut Engine<State, Session>) {
        let at = env.clock.time();
        match self.phase {
            Phase::Socket => engine.handle_bytes(at, slot, data),
            Phase::Http => match self.head.request(data, |head| engine.open(at, slot, None, head)) {
                Ok(None) => {}
                Ok(Some(((), used))) => {
                    self.phase = Phase::Socket;
                    self.attached = true;
                    self.deadline = None;
                    if used < data.len() {
                        engine.handle_bytes(at, slot, &mut data[used..]);
                    }
                }
                Err(error) => env.model.fail(format!("an upgrade request is refused: {error}")),
            },
            Phase::Closing | Phase::Lingering => {}
        }
    }

    /// Writes what the kernel takes. Answers false if the connection is broken.
    pub(crate) fn write(&mut self, env: &mut Env) -> bool {
        if self.out.is_empty() {
            return true;
        }
        let bytes = self.out.make_contiguous();
        let Some(n) = env.net.write(self.stream, End::Far, bytes, env.clock.now(), &mut env.rng) else { return false };
        self.out.drain(..n);
        true
    }

    /// Queues one frame of the engine, and lets the run's fault strike.
    pub(crate) fn queue(&mut self, env: &mut Env, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let answer = text.contains("{\"rid\":") && !text.contains("isAuthenticated");
        let delivery = text.contains("\"#publish\"");
        let fault = env.fault;
        match fault {
            Some(Fault::AnswerTwice) if answer && env.faulty(Fault::AnswerTwice) => self.out.extend(bytes),
            Some(Fault::LoseAnswer) if answer && env.faulty(Fault::LoseAnswer) => return,
            Some(Fault::StaleDelivery) if delivery => self.kept = bytes.to_vec(),
            Some(Fault::StaleDelivery) if !self.kept.is_empty() && env.faulty(Fault::StaleDelivery) => {
                self.out.extend(std::mem::take(&mut self.kept));
            }
            Some(Fault::AckBeforeEmits) if text.contains("\"tick\"") && env.faulty(Fault::AckBeforeEmits) => {
                self.kept = bytes.to_vec();
                return;
            }
            Some(Fault::AckBeforeEmits) if answer && !self.kept.is_empty() => {
                self.out.extend(bytes);
                self.out.extend(std::mem::take(&mut self.kept));
                return;
            }
            Some(Fault::SwapAckAndDelivery) if delivery && env.faulty(Fault::SwapAckAndDelivery) => {
                self.kept = bytes.to_vec();
                return;
            }
            Some(Fault::SwapAckAndDelivery) if !self.kept.is_empty() => {
                self.out.extend(bytes);
                self.out.extend(std::mem::take(&mut self.kept));
                return;
            }
            _ => {}
        }
        self.out.extend(bytes);
    }
}
