//! From other threads into the engine: values for tickets that wait, and closures to be run on the state.
//!
//! The driver gives a [`Mailbox`], into which any thread drops a [`Letter`]; the driver takes the letters out on its own
//! thread and gives them to [`Engine::handle_letter`].

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sc_protocol::ScError;

use crate::core::Core;
use crate::cx::Cx;
use crate::engine::Engine;
use crate::output::TicketId;
use crate::reply::{Outcome, Ticket};
use crate::tickets::{Awaits, erase};

/// Where letters for an engine are left; the driver makes one. It is called on any thread.
///
/// ```
/// use sc_server::{Config, Mailbox};
///
/// let (sender, letters) = std::sync::mpsc::channel();
/// let config = Config { mailbox: Mailbox::new(move |letter| drop(sender.send(letter))), ..Config::default() };
/// // The loop is to be woken by each letter; then: while let Ok(letter) = letters.try_recv() { engine.handle_letter(at, letter) }
/// # let _ = (config, letters);
/// ```
#[derive(Clone)]
pub struct Mailbox(Arc<dyn Fn(Letter) + Send + Sync>);

impl Mailbox {
    /// A mailbox that does this with each letter. It must not block, and a letter must not be lost as long as the engine
    /// lives. How many there are is bounded: by [`deferred_max`](crate::Config::deferred_max) and
    /// [`remote_max`](crate::Config::remote_max).
    pub fn new(post: impl Fn(Letter) + Send + Sync + 'static) -> Self {
        Self(Arc::new(post))
    }

    fn post(&self, content: Content) {
        (self.0)(Letter(content));
    }
}

/// None: letters are dropped, and what waits for them fails at its deadline.
impl Default for Mailbox {
    fn default() -> Self {
        Self::new(drop)
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mailbox")
    }
}

/// Something from another thread, for [`Engine::handle_letter`].
pub struct Letter(Content);

enum Content {
    Done(TicketId, Box<dyn Any + Send>),
    /// Nobody will complete it any more.
    Abandoned(TicketId),
    /// A [`Posted`] of the engine's types.
    Run(Box<dyn Any + Send>),
}

impl fmt::Debug for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Content::Done(ticket, _) => f.debug_tuple("Done").field(ticket).finish_non_exhaustive(),
            Content::Abandoned(ticket) => f.debug_tuple("Abandoned").field(ticket).finish(),
            Content::Run(_) => f.debug_tuple("Run").finish_non_exhaustive(),
        }
    }
}

type Posted<S, P> = Box<dyn FnOnce(&mut S, &mut Cx<'_, S, P>) + Send>;

/// The other end of a ticket of [`Cx::park`]: takes the value, on any thread. Dropped without one, it fails the ticket with an
/// `InternalError`.
#[must_use = "dropped, it fails what waits for it"]
pub struct Completer<T> {
    mailbox: Mailbox,
    ticket: Option<TicketId>,
    value: PhantomData<fn(T)>,
}

impl<T: Send + 'static> Completer<T> {
    /// Gives the value. It has no effect if the ticket's deadline was earlier.
    pub fn complete(mut self, value: T) {
        if let Some(ticket) = self.ticket.take() {
            self.mailbox.post(Content::Done(ticket, Box::new(value)));
        }
    }
}

impl<T> Drop for Completer<T> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.mailbox.post(Content::Abandoned(ticket));
        }
    }
}

impl<T> fmt::Debug for Completer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Completer").field(&self.ticket).finish()
    }
}

/// Runs closures on the worker's state, from any thread. Made by [`Cx::remote`]; cheap to clone.
pub struct Remote<S, P = ()> {
    mailbox: Mailbox,
    waiting: Arc<AtomicUsize>,
    max: usize,
    types: PhantomData<fn(&mut S, &mut P)>,
}

impl<S: 'static, P: 'static> Remote<S, P> {
    /// Has `f` run by the worker, behind what was posted before from this thread. Error: a `ResourceLimitError` if
    /// [`remote_max`](crate::Config::remote_max) of them wait already. If the worker has ended, nothing happens.
    pub fn run(&self, f: impl FnOnce(&mut S, &mut Cx<'_, S, P>) + Send + 'static) -> Result<(), ScError> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.max {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(ScError::resource_limit("Too many closures wait for the worker"));
        }
        let posted: Posted<S, P> = Box::new(f);
        self.mailbox.post(Content::Run(Box::new(posted)));
        Ok(())
    }
}

impl<S, P> Clone for Remote<S, P> {
    fn clone(&self) -> Self {
        Self { mailbox: self.mailbox.clone(), waiting: Arc::clone(&self.waiting), max: self.max, types: PhantomData }
    }
}

impl<S, P> fmt::Debug for Remote<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

impl<S: 'static, P: 'static> Cx<'_, S, P> {
    /// A ticket that any thread, of any runtime, resolves: give the [`Completer`] away, and `then` runs here with the value that it
    /// is given. Without one within `ackTimeout` the ticket resolves to a `TimeoutError`.
    ///
    /// ```
    /// use sc_server::{Reply, Worker};
    ///
    /// let worker = Worker::new(()).on("sum", |(), cx, request| {
    ///     let (a, b): (u32, u32) = request.data()?;
    ///     let (ticket, done) = cx.park(|(), _cx, sum: u32| Reply::data(sum));
    ///     std::thread::spawn(move || done.complete(a + b));
    ///     ticket.into()
    /// });
    /// # let _ = worker;
    /// ```
    pub fn park<T: Send + 'static, R: Outcome>(
        &mut self,
        then: impl FnOnce(&mut S, &mut Cx<'_, S, P>, T) -> R + Send + 'static,
    ) -> (Ticket<R>, Completer<T>) {
        let deadline = self.core.config.ack_timeout;
        let (ticket, taken) = self.ticket(Awaits::Job, deadline, erase(then));
        let mailbox = self.core.config.mailbox.clone();
        let completer = Completer { mailbox, ticket: taken.then_some(ticket.id), value: PhantomData };
        (ticket, completer)
    }

    /// A handle with which other threads have closures run on this worker's state.
    ///
    /// ```
    /// use sc_server::Worker;
    ///
    /// let worker = Worker::new(0_u32).on_start(|_count, cx| {
    ///     let remote = cx.remote();
    ///     std::thread::spawn(move || {
    ///         remote.run(|count, cx| {
    ///             *count += 1;
    ///             let _ = cx.publish("count", count);
    ///         })
    ///     });
    /// });
    /// # let _ = worker;
    /// ```
    pub fn remote(&self) -> Remote<S, P> {
        let Core { config, remote_waiting, .. } = &*self.core;
        Remote {
            mailbox: config.mailbox.clone(),
            waiting: Arc::clone(remote_waiting),
            max: config.remote_max,
            types: PhantomData,
        }
    }
}

impl<S: Send + 'static, P: Default + Send + 'static> Engine<S, P> {
    /// A letter that was left in the [`Mailbox`].
    pub fn handle_letter(&mut self, at: crate::Time, letter: Letter) {
        self.core.at = at;
        match letter.0 {
            Content::Done(ticket, value) => self.resolve(ticket, value),
            Content::Abandoned(ticket) => self.fail(ticket, ScError::internal_because("a Completer was dropped")),
            Content::Run(posted) => {
                self.core.remote_waiting.fetch_sub(1, Ordering::Relaxed);
                // A letter of another engine, with other types, is dropped.
                if let Ok(posted) = posted.downcast::<Posted<S, P>>() {
                    self.guard(None, "remote", |_, state, core| posted(state, &mut Cx::new(core)));
                    self.apply_after();
                }
            }
        }
        self.settle();
    }
}
