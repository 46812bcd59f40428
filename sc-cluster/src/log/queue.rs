//! What a child has to say and has not sent yet. Any thread adds to it; the loop takes it out in each turn.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::ThreadId,
    time::{SystemTime, UNIX_EPOCH},
};

use mio::Waker;

use super::{Report, Severity};

/// Bytes of texts that wait, at most; what is beyond is counted.
const WAITING_BYTES_MAX: usize = 256 * 1024;

/// Bytes of one text, at most: the rest is cut off.
pub(crate) const TEXT_MAX: usize = 16 * 1024;

static QUEUE: Mutex<Queue> = Mutex::new(Queue { waiting: VecDeque::new(), bytes: 0, missed: 0, loop_: None });

struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    missed: u64,
    /// The thread that takes it out in each of its turns, and what begins one.
    loop_: Option<(ThreadId, Arc<Waker>)>,
}

struct Waiting {
    report: Report,
    /// It is a panic of that thread, at that place. Whoever catches it may have more to say about it.
    panic: Option<(ThreadId, String)>,
}

/// Panics while it is held cannot happen; were one to, the queue is still whole.
fn lock() -> MutexGuard<'static, Queue> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn add(level: Severity, name: Option<String>, mut text: String, panic: Option<(ThreadId, String)>) {
    cut(&mut text);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let unix_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let mut queue = lock();
    if queue.bytes + text.len() > WAITING_BYTES_MAX {
        queue.missed += 1;
        return;
    }
    queue.bytes += text.len();
    queue.waiting.push_back(Waiting { report: Report { level, text, name, unix_ms }, panic });
    if let (1, Some((thread, waker))) = (queue.waiting.len(), &queue.loop_)
        && *thread != std::thread::current().id()
    {
        // A loop that is gone needs no turn.
        let _ = waker.wake();
    }
}

/// What other threads say from now on begins a turn of the loop that this thread runs.
pub(crate) fn wake_this_thread(waker: Arc<Waker>) {
    lock().loop_ = Some((std::thread::current().id(), waker));
}

pub(crate) fn push(level: Severity, name: Option<String>, text: String) {
    add(level, name, text, None);
}

/// A panic, before anybody has caught it.
pub(super) fn push_panic(text: &str, place: String) {
    let thread = std::thread::current();
    let named = thread.name().filter(|name| *name != "main").map_or_else(String::new, |name| format!(" in {name}"));
    let text = format!("panic at {place}{named}: {text}");
    add(Severity::Error, Some("PanicError".to_owned()), text, Some((thread.id(), place)));
}

/// The place of the first panic of this thread that nobody has told about; whoever asks will.
pub(crate) fn take_panic() -> Option<String> {
    let me = std::thread::current().id();
    let mut queue = lock();
    let is_mine = |waiting: &Waiting| waiting.panic.as_ref().is_some_and(|(thread, _)| *thread == me);
    let at = queue.waiting.iter().position(is_mine)?;
    let taken = queue.waiting.remove(at)?;
    queue.bytes -= taken.report.text.len();
    taken.panic.map(|(_, place)| place)
}

/// Everything that waits, and how much was not kept.
pub(crate) fn take() -> (Vec<Report>, u64) {
    let mut queue = lock();
    queue.bytes = 0;
    let reports = queue.waiting.drain(..).map(|waiting| waiting.report).collect();
    (reports, std::mem::take(&mut queue.missed))
}

/// Shortens a text to what is sent at once.
pub(crate) fn cut(text: &mut String) {
    if text.len() > TEXT_MAX {
        let end = (0..=TEXT_MAX).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push('\u{2026}');
    }
}
