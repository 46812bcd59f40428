//! Futures of tokio, run beside the worker's loop: feature `tokio`.

use std::future::Future;
use std::io;
use std::sync::OnceLock;
use std::thread;

use sc_server::{Completer, Cx, Level, Outcome, Ticket};
use tokio::runtime::{Builder, Handle};

/// One runtime on one thread for the whole process, begun by the first future.
static RUNTIME: OnceLock<Option<Handle>> = OnceLock::new();

/// `cx.spawn`: with it `sqlx`, `reqwest` and whatever else lives on tokio are one line away.
///
/// ```
/// use sc_cluster::prelude::*;
/// use std::time::Duration;
///
/// async fn lookup(id: u32) -> Result<String, std::io::Error> {
///     tokio::time::sleep(Duration::from_millis(1)).await;
///     Ok(format!("user {id}"))
/// }
///
/// let worker = Worker::new(()).on("who", |(), cx, request| {
///     cx.spawn(lookup(request.data()?), |(), _cx, found| Reply::data(found.internal()?)).into()
/// });
/// # let _ = worker;
/// ```
pub trait Spawn<S, P> {
    /// Runs a future on the process' tokio runtime, a thread of its own, and `then` with its output here. As with
    /// [`later`](Cx::later), the answer or verdict is what `then` gives, and a `TimeoutError` if the future takes longer than
    /// `ackTimeout`. One that panics is an `InternalError`.
    fn spawn<F, R>(
        &mut self,
        future: F,
        then: impl FnOnce(&mut S, &mut Cx<'_, S, P>, F::Output) -> R + Send + 'static,
    ) -> Ticket<R>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
        R: Outcome;
}

impl<S: 'static, P: 'static> Spawn<S, P> for Cx<'_, S, P> {
    fn spawn<F, R>(
        &mut self,
        future: F,
        then: impl FnOnce(&mut S, &mut Cx<'_, S, P>, F::Output) -> R + Send + 'static,
    ) -> Ticket<R>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
        R: Outcome,
    {
        let (ticket, done): (_, Completer<F::Output>) = self.park(then);
        let runtime = RUNTIME.get_or_init(|| match start() {
            Ok(handle) => Some(handle),
            Err(error) => {
                self.log(Level::Error, "Error", &format!("tokio's runtime does not start: {error}"));
                None
            }
        });
        // Without a runtime `done` is dropped, and whoever waits gets an error.
        if let Some(runtime) = runtime {
            runtime.spawn(async move { done.complete(future.await) });
        }
        ticket
    }
}

fn start() -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new().name("tokio".to_owned()).spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}
