//! Bounded queues from the driver's thread to whoever reads: by blocking, or as a stream on any executor.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use sc_protocol::ScError;

/// What happens to a message for which the reader has no room, because it is slower than the server.
///
/// In each case the reader learns of it: what was lost is reported as a `LaggedError` with the member `missed`, at the place
/// where it is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// The oldest message that was not read yet makes room: the reader has the latest ones. The default.
    #[default]
    DropOldest,
    /// It is dropped itself: the reader has the earliest ones.
    DropNewest,
    /// The queue ends, after what is in it: the reader knows that it has everything up to there.
    End,
}

/// A queue's limit and what happens beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Messages that may wait to be read. Default 1024, at least 1.
    pub limit: usize,
    /// What happens beyond it.
    pub overflow: Overflow,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { limit: 1024, overflow: Overflow::default() }
    }
}

#[derive(Debug)]
struct Inner<T> {
    /// Values, and between them how many are missing.
    queue: VecDeque<Result<T, u64>>,
    values: usize,
    /// Nothing more comes.
    ended: bool,
    /// Why, to be told once, behind the rest.
    error: Option<ScError>,
    /// Nobody reads.
    gone: bool,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Shared<T> {
    inner: Mutex<Inner<T>>,
    changed: Condvar,
    capacity: Capacity,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        // Whoever panicked while it held the lock left the queue in order: no step of ours can panic halfway.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self, mut inner: MutexGuard<'_, Inner<T>>) {
        let waker = inner.waker.take();
        drop(inner);
        self.changed.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The driver's end.
#[derive(Debug)]
pub(super) struct Sender<T>(Arc<Shared<T>>);

/// The reader's end.
#[derive(Debug)]
pub(super) struct Receiver<T>(Arc<Shared<T>>);

pub(super) fn feed<T>(capacity: Capacity) -> (Sender<T>, Receiver<T>) {
    let capacity = Capacity { limit: capacity.limit.max(1), ..capacity };
    let inner = Inner { queue: VecDeque::new(), values: 0, ended: false, error: None, gone: false, waker: None };
    let shared = Arc::new(Shared { inner: Mutex::new(inner), changed: Condvar::new(), capacity });
    (Sender(shared.clone()), Receiver(shared))
}

impl<T> Sender<T> {
    /// Whether anybody still reads.
    pub(super) fn send(&self, value: T) -> bool {
        let mut inner = self.0.lock();
        if inner.gone || inner.ended {
            return false;
        }
        if inner.values >= self.0.capacity.limit {
            match self.0.capacity.overflow {
                Overflow::DropOldest => inner.drop_oldest(),
                Overflow::DropNewest => {
                    inner.drop_newest();
                    return true;
                }
                Overflow::End => {
                    inner.ended = true;
                    inner.error = Some(lagged(1));
                    self.0.notify(inner);
                    return false;
                }
            }
        }
        inner.values += 1;
        inner.queue.push_back(Ok(value));
        self.0.notify(inner);
        true
    }

    /// Nothing more comes, because of an error or in the order of things.
    pub(super) fn end(&self, error: Option<ScError>) {
        let mut inner = self.0.lock();
        if !inner.ended {
            inner.ended = true;
            inner.error = error;
            self.0.notify(inner);
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.0.lock().gone
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.end(None);
    }
}

impl<T> Inner<T> {
    fn drop_oldest(&mut self) {
        let mut missed = 1;
        while let Some(Err(before)) = self.queue.pop_front() {
            missed += before;
        }
        self.values -= 1;
        if let Some(Err(behind)) = self.queue.front() {
            missed += *behind;
            self.queue.pop_front();
        }
        self.queue.push_front(Err(missed));
    }

    fn drop_newest(&mut self) {
        match self.queue.back_mut() {
            Some(Err(missed)) => *missed += 1,
            _ => self.queue.push_back(Err(1)),
        }
    }

    /// `None`: nothing is there yet.
    fn take(&mut self) -> Option<Option<Result<T, ScError>>> {
        match self.queue.pop_front() {
            Some(Ok(value)) => {
                self.values -= 1;
                return Some(Some(Ok(value)));
            }
            Some(Err(missed)) => return Some(Some(Err(lagged(missed)))),
            None => {}
        }
        self.ended.then(|| self.error.take().map(Err))
    }
}

impl<T> Receiver<T> {
    /// Waits for the next value, until `deadline` at most: `Err` then.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> Result<Option<Result<T, ScError>>, TimedOut> {
        let mut inner = self.0.lock();
        loop {
            if let Some(taken) = inner.take() {
                return Ok(taken);
            }
            inner = match deadline {
                None => self.0.changed.wait(inner).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left == Duration::ZERO {
                        return Err(TimedOut);
                    }
                    self.0.changed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<Option<Result<T, ScError>>> {
        let mut inner = self.0.lock();
        match inner.take() {
            Some(taken) => Poll::Ready(taken),
            None => {
                if !inner.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    inner.waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    /// What is there, without waiting.
    pub(super) fn try_take(&self) -> Option<Result<T, ScError>> {
        self.0.lock().take().flatten()
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.gone = true;
        inner.queue = VecDeque::new();
    }
}

/// Nothing came in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nothing came in time")]
pub struct TimedOut;

fn lagged(missed: u64) -> ScError {
    let text = format!("{missed} messages were dropped because they were not read in time");
    ScError::new("LaggedError", text).with("missed", missed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(receiver: &Receiver<u32>) -> Vec<Result<u32, u64>> {
        let missed = |error: ScError| error.get("missed").and_then(serde_json::Value::as_u64).unwrap_or(0);
        std::iter::from_fn(|| receiver.try_take()).map(|item| item.map_err(missed)).collect()
    }

    #[test]
    fn each_policy_says_what_is_missing_and_where() {
        for (overflow, expected) in [
            (Overflow::DropOldest, vec![Err(2), Ok(2), Ok(3), Ok(4)]),
            (Overflow::DropNewest, vec![Ok(0), Ok(1), Ok(2), Err(2)]),
            (Overflow::End, vec![Ok(0), Ok(1), Ok(2), Err(1)]),
        ] {
            let (sender, receiver) = feed(Capacity { limit: 3, overflow });
            for value in 0..5 {
                sender.send(value);
            }
            assert_eq!(drain(&receiver), expected, "{overflow:?}");
            assert_eq!(sender.send(9), overflow != Overflow::End);
        }
        let (sender, receiver) = feed(Capacity { limit: 1, overflow: Overflow::DropNewest });
        assert!((0..3).all(|value| sender.send(value)));
        assert!(receiver.try_take().is_some());
        assert!((3..5).all(|value| sender.send(value)));
        assert_eq!(drain(&receiver), [Err(2), Ok(3), Err(1)], "each gap has its place");
    }

    #[test]
    fn the_end_comes_behind_what_is_queued_and_its_reason_once() {
        let (sender, receiver) = feed(Capacity::default());
        sender.send(1);
        sender.end(Some(ScError::text("why")));
        assert_eq!(receiver.wait(None), Ok(Some(Ok(1))));
        assert_eq!(receiver.wait(None), Ok(Some(Err(ScError::text("why")))));
        assert_eq!(receiver.wait(None), Ok(None));
        assert_eq!(receiver.wait(None), Ok(None));
    }

    #[test]
    fn waiting_ends_with_its_time_and_sending_with_its_reader() {
        let (sender, receiver) = feed::<u32>(Capacity::default());
        assert_eq!(receiver.wait(Some(Instant::now())), Err(TimedOut));
        drop(receiver);
        assert!(sender.is_gone());
        assert!(!sender.send(1));
    }
}
