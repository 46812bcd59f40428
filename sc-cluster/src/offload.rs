//! The pool of threads that runs what must not run on the loop.
//!
//! Threads are started when there is work for them and none is free, up to a bound. The queue is bounded too: what does not
//! fit is handed back to the caller. Results wait until the loop fetches them; the loop is woken once for however many are ready.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use mio::Waker;

/// Jobs that may wait for a thread.
pub(crate) const QUEUE_MAX: usize = 1024;

/// What a job makes: the engine knows the type behind it.
pub(crate) type Value = Box<dyn Any + Send>;

/// Work for a thread of the pool.
pub(crate) type Job = Box<dyn FnOnce() -> Value + Send>;

/// How a job ended: with its value, or with the message of its panic.
pub(crate) type Outcome = Result<Value, String>;

/// A bounded pool; `K` names a job to its owner.
pub(crate) struct Pool<K> {
    shared: Arc<Shared<K>>,
    threads_max: usize,
}

struct Shared<K> {
    state: Mutex<State<K>>,
    work: Condvar,
    waker: Arc<Waker>,
}

struct State<K> {
    waiting: VecDeque<(K, Job)>,
    done: Vec<(K, Outcome)>,
    threads: usize,
    idle: usize,
    ended: bool,
}

impl<K> fmt::Debug for Pool<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("threads_max", &self.threads_max).finish_non_exhaustive()
    }
}

impl<K: Send + 'static> Pool<K> {
    /// A pool without threads so far. `waker` wakes the loop that will call [`Pool::take_done`].
    pub(crate) fn new(waker: Arc<Waker>, threads_max: usize) -> Self {
        let state = State { waiting: VecDeque::new(), done: Vec::new(), threads: 0, idle: 0, ended: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), work: Condvar::new(), waker });
        Self { shared, threads_max: threads_max.max(1) }
    }

    /// Queues a job. With [`QUEUE_MAX`] waiting, or if no thread can be started, it comes back.
    pub(crate) fn run(&self, key: K, job: Job) -> Result<(), (K, Job)> {
        let mut state = self.shared.lock();
        if state.waiting.len() >= QUEUE_MAX {
            return Err((key, job));
        }
        let start = state.idle <= state.waiting.len() && state.threads < self.threads_max;
        if start && self.start_thread(state.threads).is_ok() {
            state.threads += 1;
        }
        if state.threads == 0 {
            return Err((key, job));
        }
        state.waiting.push_back((key, job));
        self.shared.work.notify_one();
        Ok(())
    }

    /// Moves what has been done since the last call to the end of `into`.
    pub(crate) fn take_done(&self, into: &mut Vec<(K, Outcome)>) {
        into.append(&mut self.shared.lock().done);
    }

    fn start_thread(&self, number: usize) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        thread::Builder::new().name(format!("offload {number}")).spawn(move || shared.serve()).map(drop)
    }
}

/// Jobs that wait are dropped and the threads end; one that runs ends with its job.
impl<K> Drop for Pool<K> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.ended = true;
        state.waiting.clear();
        self.shared.work.notify_all();
    }
}

impl<K> Shared<K> {
    /// Jobs run outside the lock and their panics are caught, so a poisoned lock cannot happen; were it to, the state is still whole.
    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self) {
        let mut state = self.lock();
        loop {
            if state.ended {
                return;
            }
            let Some((key, job)) = state.waiting.pop_front() else {
                state.idle += 1;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                continue;
            };
            drop(state);
            let outcome = panic::catch_unwind(AssertUnwindSafe(job)).map_err(|panic| {
                let text = panic_message(&*panic);
                crate::log::queue::take_panic().map_or_else(|| text.clone(), |place| format!("{text} (at {place})"))
            });
            state = self.lock();
            let first = state.done.is_empty();
            state.done.push((key, outcome));
            if first && self.waker.wake().is_err() {
                // The loop is gone, and with it everybody who could want a result.
                return;
            }
        }
    }
}

/// The text of a caught panic.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "a panic without a message".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use mio::{Events, Poll, Token};

    use super::*;

    fn pool(threads_max: usize) -> (Poll, Pool<u32>) {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        (poll, Pool::new(waker, threads_max))
    }

    fn wait_for(poll: &mut Poll, pool: &Pool<u32>, count: usize) -> Vec<(u32, Outcome)> {
        let mut events = Events::with_capacity(4);
        let mut done = Vec::new();
        while done.len() < count {
            poll.poll(&mut events, None).unwrap();
            pool.take_done(&mut done);
        }
        done.sort_by_key(|&(key, _)| key);
        done
    }

    #[test]
    fn results_come_back_under_their_keys() {
        let (mut poll, pool) = pool(3);
        for key in 0..100 {
            pool.run(key, Box::new(move || Box::new(key * 2))).map_err(|_| "full").unwrap();
        }
        for (key, outcome) in wait_for(&mut poll, &pool, 100) {
            assert_eq!(outcome.unwrap().downcast_ref::<u32>(), Some(&(key * 2)));
        }
    }

    #[test]
    fn a_panic_costs_only_its_job() {
        let (mut poll, pool) = pool(1);
        pool.run(0, Box::new(|| panic!("no {}", "luck"))).map_err(|_| "full").unwrap();
        pool.run(1, Box::new(|| Box::new(1_u32))).map_err(|_| "full").unwrap();
        let done = wait_for(&mut poll, &pool, 2);
        assert_eq!(done[0].1.as_ref().err().map(String::as_str), Some("no luck"));
        assert!(done[1].1.is_ok());
    }

    #[test]
    fn a_full_queue_hands_the_job_back() {
        let (mut poll, pool) = pool(1);
        let (started, has_started) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let block: Job = Box::new(move || {
            started.send(()).unwrap();
            released.recv().unwrap();
            Box::new(())
        });
        pool.run(0, block).map_err(|_| "full").unwrap();
        has_started.recv().unwrap();
        for key in 1..=QUEUE_MAX as u32 {
            pool.run(key, Box::new(|| Box::new(()))).map_err(|_| "full").unwrap();
        }
        let refused = pool.run(9999, Box::new(|| Box::new(())));
        assert_eq!(refused.err().map(|(key, _)| key), Some(9999));
        release.send(()).unwrap();
        assert_eq!(wait_for(&mut poll, &pool, QUEUE_MAX + 1).len(), QUEUE_MAX + 1);
    }
}
