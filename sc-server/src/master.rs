//! Messages between the application's code in this worker and that in the master: SC's `sendToMaster` and `masterMessage`,
//! with answers.

use std::sync::Arc;

use sc_protocol::{ScError, json};

use crate::cx::Cx;
use crate::data::{Data, Payload};
use crate::engine::Engine;
use crate::output::{Output, TicketId};
use crate::reply::{Answer, Outcome, Reply, Ticket};
use crate::tickets::{Awaits, Parked, erase};
use crate::timers::Timer;

impl<S: Send + 'static, P: Default + Send + 'static> Engine<S, P> {
    /// A message of the master; `id` is what [`Output::ReplyMaster`] gives back, 0 if no answer is wanted.
    pub fn handle_master(&mut self, at: crate::Time, id: u64, json: &str) {
        self.core.at = at;
        let routes = Arc::clone(&self.routes);
        let answer = match &routes.master {
            Some(handler) => {
                let data = Data::from_json(json);
                let answered =
                    self.guard(None, "on_master_message", |_, state, core| handler(state, &mut Cx::new(core), data));
                answered.unwrap_or_else(|| Err(ScError::internal()))
            }
            None => Err(ScError::new("InvalidActionError", "The worker takes no messages of the master")),
        };
        self.answer_master(id, answer);
        self.settle();
    }

    /// The answer to an [`Output::ToMaster`]: JSON text, an object with `data`, or with `error`.
    pub fn handle_master_reply(&mut self, at: crate::Time, id: u64, json: &str) {
        self.core.at = at;
        let id = TicketId(id);
        if self.core.tickets.awaits_master(id) {
            self.resolve(id, Box::new(read_reply(json)));
        }
        self.settle();
    }

    pub(crate) fn answer_master(&mut self, id: u64, answer: Answer) {
        let json = match answer {
            _ if id == 0 => return self.apply_after(),
            Ok(Reply::Never) => return self.apply_after(),
            Ok(Reply::Later(ticket)) => {
                self.park(ticket.id, Parked::Master { id });
                return self.apply_after();
            }
            Ok(Reply::Empty) => "{}".to_owned(),
            Ok(Reply::Json(json)) => format!("{{\"data\":{json}}}"),
            Ok(Reply::Refused(refused)) => error_reply(&refused.0),
            Err(error) => error_reply(&error),
        };
        self.core.out.push(Output::ReplyMaster { id, json });
        self.apply_after();
    }
}

impl<S, P> Cx<'_, S, P> {
    /// Whether this is worker 0: the place for what is to be done once in a cluster.
    pub const fn is_leader(&self) -> bool {
        self.worker_id() == 0
    }

    /// Sends data to the application's code in the master: SC's `sendToMaster`. Error: the data cannot be written.
    pub fn send_to_master(&mut self, data: &(impl Payload + ?Sized)) -> Result<(), ScError> {
        let json = written(data)?;
        self.core.out.push(Output::ToMaster { id: 0, json });
        Ok(())
    }
}

impl<S: 'static, P: 'static> Cx<'_, S, P> {
    /// Sends data to the application's code in the master, and runs `then` with its answer; with a `TimeoutError` after
    /// `ackTimeout`.
    pub fn call_master<R: Outcome>(
        &mut self,
        data: &(impl Payload + ?Sized),
        then: impl FnOnce(&mut S, &mut Cx<'_, S, P>, Result<Data<'static>, ScError>) -> R + Send + 'static,
    ) -> Ticket<R> {
        let id = self.core.tickets.reserve();
        let timer = self.core.later(self.core.config.ack_timeout, Timer::Ticket(id));
        self.core.tickets.insert(id, Awaits::Master, Some(timer), erase(then));
        match written(data) {
            Ok(json) => self.core.out.push(Output::ToMaster { id: id.0, json }),
            Err(error) => self.core.tasks.push_back(crate::core::Task::Answered(id, Err(error))),
        }
        Ticket::new(id)
    }
}

fn written(data: &(impl Payload + ?Sized)) -> Result<String, ScError> {
    Ok(Data::of(data)?.json().unwrap_or("null").to_owned())
}

fn error_reply(error: &ScError) -> String {
    format!("{{\"error\":{}}}", error.to_json())
}

/// What an answer between processes says: JSON text, an object with `data`, or with `error`. Absent data is `Data::absent`.
pub fn read_reply(reply: &str) -> Result<Data<'static>, ScError> {
    let [error, data] = json::object(reply, ["error", "data"]).unwrap_or_default();
    match error {
        Some(error) => Err(ScError::parse(error)),
        None => Ok(Data::from_raw(data).into_owned()),
    }
}
