//! A result that is on its way.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use sc_protocol::ScError;

use super::feed::TimedOut;
use super::handle::Handle;
use crate::data::Data;

/// The answer to something that was asked of the server: block on it with [`wait`](Self::wait), or await it on any executor.
///
/// What was asked is under way without either; dropping this only means that nobody looks at the answer. It keeps the
/// connection, so a client may be dropped while answers are awaited.
#[must_use = "the answer may be an error; `.forget()` says that nobody wants to know"]
pub struct Pending<T> {
    slot: Arc<Slot>,
    convert: fn(Data) -> Result<T, ScError>,
    _handle: Option<Arc<Handle>>,
}

#[derive(Debug, Default)]
struct Slot {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    result: Option<Result<Data, ScError>>,
    waker: Option<Waker>,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The driver's end. Dropping it without a result is a `BadConnectionError` for whoever waits.
#[derive(Debug)]
pub(super) struct Resolver(Option<Arc<Slot>>);

pub(super) fn pending<T>(
    convert: fn(Data) -> Result<T, ScError>,
    handle: Option<Arc<Handle>>,
) -> (Resolver, Pending<T>) {
    let slot = Arc::new(Slot::default());
    (Resolver(Some(slot.clone())), Pending { slot, convert, _handle: handle })
}

impl Resolver {
    pub(super) fn resolve(mut self, result: Result<Data, ScError>) {
        self.put(result);
    }

    fn put(&mut self, result: Result<Data, ScError>) {
        let Some(slot) = self.0.take() else { return };
        let mut state = slot.lock();
        state.result = Some(result);
        let waker = state.waker.take();
        drop(state);
        slot.changed.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.put(Err(ScError::new("BadConnectionError", "The client is closed").with("type", "disconnect")));
    }
}

impl<T> Pending<T> {
    /// Blocks until the answer is there.
    ///
    /// # Errors
    /// The server's error, or one of the client's own: `TimeoutError`, `BadConnectionError`, `ResourceLimitError`,
    /// `InvalidArgumentsError` (what was to be sent is no JSON), `InvalidMessageError` (what came is not the expected type).
    pub fn wait(self) -> Result<T, ScError> {
        let mut state = self.slot.lock();
        loop {
            if let Some(result) = state.result.take() {
                drop(state);
                return result.and_then(self.convert);
            }
            state = self.slot.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Blocks until the answer is there, but no longer than that.
    ///
    /// # Errors
    /// [`TimedOut`] if it is not; the answer may still come, to nobody. Inside, the errors of [`wait`](Self::wait).
    pub fn wait_timeout(self, timeout: Duration) -> Result<Result<T, ScError>, TimedOut> {
        let deadline = Instant::now() + timeout;
        let mut state = self.slot.lock();
        loop {
            if let Some(result) = state.result.take() {
                drop(state);
                return Ok(result.and_then(self.convert));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return Err(TimedOut);
            }
            state = self.slot.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Lets it happen and looks at no answer.
    pub fn forget(self) {}
}

impl<T> Future for Pending<T> {
    type Output = Result<T, ScError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.slot.lock();
        match state.result.take() {
            Some(result) => {
                drop(state);
                Poll::Ready(result.and_then(self.convert))
            }
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("answered", &self.slot.lock().result.is_some()).finish_non_exhaustive()
    }
}
