//! What handlers and middleware answer.

use std::borrow::Cow;
use std::marker::PhantomData;

use serde::Serialize;

use sc_protocol::ScError;

use crate::data::to_json;
use crate::output::TicketId;

/// What an event handler returns: the ack, or the error in its place. SC's `respond(err, data)`.
pub type Answer = Result<Reply, ScError>;

/// What middleware returns: pass, or block.
pub type Verdict = Result<Pass, Block>;

/// The success side of an [`Answer`].
#[derive(Debug)]
pub enum Reply {
    /// An ack without data: `{"rid":5}`.
    Empty,
    /// An ack with this JSON text as its data.
    Json(String),
    /// No ack, ever: the caller's own ack timeout fires.
    Never,
    /// The answer comes later.
    Later(Ticket<Answer>),
}

impl Reply {
    /// An ack with a value as data. Error: the value cannot be written as JSON.
    pub fn data(value: impl Serialize) -> Answer {
        Ok(Self::Json(to_json(&value)?))
    }
}

/// The passing side of a [`Verdict`].
#[derive(Debug)]
pub enum Pass {
    /// Go on.
    Now,
    /// The verdict comes later; the action waits.
    Later(Ticket<Verdict>),
}

/// Why middleware blocks: SC's `next(err)` and `next(true)`.
#[derive(Debug)]
pub enum Block {
    /// The client gets this error.
    Error(ScError),
    /// The client gets a `SilentMiddlewareBlockedError`, and no warning is raised.
    Silent,
}

impl Block {
    /// Blocks with a plain message, as `next(new Error(message))`.
    pub fn error(message: impl Into<Cow<'static, str>>) -> Self {
        Self::Error(ScError::message_only(message))
    }

    /// Blocks with a named error.
    pub fn named(name: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::Error(ScError::new(name, message))
    }

    /// Blocks without a warning, as `next(true)`.
    pub const fn silent() -> Self {
        Self::Silent
    }
}

impl From<ScError> for Block {
    fn from(error: ScError) -> Self {
        Self::Error(error)
    }
}

/// Stands for an [`Answer`] or a [`Verdict`] that comes later. Made by [`Cx::later`](crate::Cx::later) and
/// [`Cx::after`](crate::Cx::after); it cannot be made up, answered twice or forgotten: what is not answered within
/// `ackTimeout` becomes a `TimeoutError`.
#[must_use = "return it with Reply::Later or Pass::Later"]
#[derive(Debug)]
pub struct Ticket<R> {
    pub(crate) id: TicketId,
    answers: PhantomData<fn(R)>,
}

impl<R> Ticket<R> {
    pub(crate) const fn new(id: TicketId) -> Self {
        Self { id, answers: PhantomData }
    }
}

impl From<Ticket<Answer>> for Reply {
    fn from(ticket: Ticket<Answer>) -> Self {
        Self::Later(ticket)
    }
}

impl From<Ticket<Verdict>> for Pass {
    fn from(ticket: Ticket<Verdict>) -> Self {
        Self::Later(ticket)
    }
}

/// What a deferred continuation gives: an [`Answer`], a [`Verdict`], or nothing.
pub trait Outcome: sealed::Sealed + Send + 'static {}

impl Outcome for Answer {}
impl Outcome for Verdict {}
impl Outcome for () {}

/// The same, without its type.
#[derive(Debug)]
pub enum AnyOutcome {
    Answer(Answer),
    Verdict(Verdict),
    Nothing,
}

mod sealed {
    use super::{Answer, AnyOutcome, ScError, Verdict};

    pub trait Sealed {
        fn erase(self) -> AnyOutcome;

        /// What stands in its place when there will be none.
        fn failed(error: ScError) -> AnyOutcome
        where
            Self: Sized,
        {
            AnyOutcome::Answer(Err(error))
        }
    }

    impl Sealed for Answer {
        fn erase(self) -> AnyOutcome {
            AnyOutcome::Answer(self)
        }
    }

    impl Sealed for Verdict {
        fn erase(self) -> AnyOutcome {
            AnyOutcome::Verdict(self)
        }
    }

    impl Sealed for () {
        fn erase(self) -> AnyOutcome {
            AnyOutcome::Nothing
        }
    }
}

pub(crate) use sealed::Sealed;
