//! What handlers and middleware answer.

use std::borrow::Cow;
use std::marker::PhantomData;

use sc_protocol::ScError;

use crate::data::{Data, Payload};
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
    /// An error together with data, `respond(error, data)`: protocol 1 sends both, protocol 2 the error only. Made by
    /// [`Reply::refuse_with`].
    Refused(Box<(ScError, Data<'static>)>),
    /// The answer comes later.
    Later(Ticket<Answer>),
}

impl Reply {
    /// An ack with a value as data; [`Data`] is sent as it came, absent data as an ack without any. Error: the value
    /// cannot be written as JSON.
    pub fn data(value: impl Payload) -> Answer {
        Ok(match Data::of(&value)?.json() {
            Some(json) => Self::Json(json.to_owned()),
            None => Self::Empty,
        })
    }

    /// An error that has data with it, which only clients of protocol 1 get. Error: the value cannot be written as JSON.
    pub fn refuse_with(error: ScError, data: impl Payload) -> Answer {
        Ok(Self::Refused(Box::new((error, Data::of(&data)?))))
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
#[must_use = "return it from the handler, or say detach()"]
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

impl Ticket<()> {
    /// Says that nobody waits: what was deferred runs all the same.
    pub fn detach(self) {}
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

/// So that a handler can end with `cx.later(…).into()`.
impl From<Ticket<Self>> for Answer {
    fn from(ticket: Ticket<Self>) -> Self {
        Ok(Reply::Later(ticket))
    }
}

/// So that middleware can end with `cx.later(…).into()`.
impl From<Ticket<Self>> for Verdict {
    fn from(ticket: Ticket<Self>) -> Self {
        Ok(Pass::Later(ticket))
    }
}

/// Errors that are nobody's business but the operator's: `database.find(id).internal()?`.
///
/// There is no way for another error to become an [`ScError`] by itself, for its message would go to the client.
///
/// ```
/// use sc_server::{Internal, ScError};
///
/// fn load() -> Result<u32, ScError> {
///     "secret".parse::<u32>().internal()
/// }
/// let error = load().unwrap_err();
/// assert_eq!(error.to_json(), r#"{"message":"Internal server error","name":"InternalError"}"#);
/// assert_eq!(error.cause(), Some("invalid digit found in string"));
/// ```
pub trait Internal<T> {
    /// The value, or an `InternalError` for the client and the cause for the log.
    fn internal(self) -> Result<T, ScError>;
}

impl<T, E: std::fmt::Display> Internal<T> for Result<T, E> {
    fn internal(self) -> Result<T, ScError> {
        self.map_err(ScError::internal_because)
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
