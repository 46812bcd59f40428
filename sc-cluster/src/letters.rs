//! What other threads leave for the engine of a worker, until the loop comes by.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use mio::Waker;
use sc_server::{Letter, Mailbox};

/// Letters in the order in which they came. Clones are the same box. How many there can be is bounded by the engine.
#[derive(Debug, Clone, Default)]
pub(crate) struct LetterBox(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    letters: Mutex<Vec<Letter>>,
    /// Of the loop, once there is one.
    waker: OnceLock<Arc<Waker>>,
}

impl LetterBox {
    /// What the engine is given: each letter wakes the loop.
    pub(crate) fn mailbox(&self) -> Mailbox {
        let shared = Arc::clone(&self.0);
        Mailbox::new(move |letter| {
            let mut letters = shared.lock();
            letters.push(letter);
            if letters.len() == 1 {
                shared.wake();
            }
        })
    }

    /// The loop to be woken. It is woken at once if something waits already.
    pub(crate) fn attach(&self, waker: Arc<Waker>) {
        let letters = self.0.lock();
        debug_assert!(self.0.waker.get().is_none(), "a box has one loop");
        let _ = self.0.waker.set(waker);
        if !letters.is_empty() {
            self.0.wake();
        }
    }

    /// All that has come since the last call.
    pub(crate) fn take(&self) -> Vec<Letter> {
        mem::take(&mut self.0.lock())
    }
}

impl Shared {
    /// Nothing panics under the lock; were it to, the list is whole.
    fn lock(&self) -> MutexGuard<'_, Vec<Letter>> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            // Fails when the loop is gone, and with it everybody who could want the letter.
            let _ = waker.wake();
        }
    }
}
