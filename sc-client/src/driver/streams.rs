//! What comes from the server, as iterators that block and as streams.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_core::Stream;
use sc_protocol::ScError;

use super::feed::{Receiver, TimedOut};
use super::handle::Handle;
use super::link::Op;
use super::pending::{Pending, pending};
use crate::data::{Data, FromData, Payload, Token};
use crate::output::{ChannelChange, Connected, Disconnected, Raw, ReplyId};

/// Something that happened to a client.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A connection is being made.
    Connecting,
    /// It is open.
    Connected(Connected),
    /// It ended, or could not be made; `retry_in` says when the next try comes.
    Disconnected(Disconnected),
    /// The client has become authenticated (or has another token), or is not any more.
    AuthState(Option<Token>),
    /// What became of a channel.
    Channel {
        /// Its name.
        channel: Arc<str>,
        /// The news.
        change: ChannelChange,
    },
    /// A message that is no packet.
    Raw(Raw),
}

/// An event that the server emitted.
#[derive(Debug)]
pub struct Incoming<T = Data> {
    /// Its name.
    pub name: Box<str>,
    /// Its data.
    pub data: T,
    /// The server waits for an answer. Dropping it sends none: the server's own timeout fires.
    pub responder: Option<Responder>,
}

/// Answers a call of the server's.
#[derive(Debug)]
pub struct Responder {
    handle: Arc<Handle>,
    reply: ReplyId,
}

impl Responder {
    /// Answers with data.
    ///
    /// # Errors
    /// It cannot be JSON; the server gets no answer then.
    pub fn ok(self, data: impl Payload) -> Result<(), ScError> {
        let json = data.to_json()?;
        self.send(Ok(json));
        Ok(())
    }

    /// Answers with an error.
    pub fn error(self, error: ScError) {
        self.send(Err(error));
    }

    pub(super) fn into_parts(self) -> (Arc<Handle>, ReplyId) {
        (self.handle, self.reply)
    }
}

/// What the driver puts into a listener's queue.
#[derive(Debug, Clone)]
pub(super) struct Arrived {
    pub(super) name: Box<str>,
    pub(super) data: Data,
    pub(super) reply: Option<ReplyId>,
}

macro_rules! reading {
    ([$($decl:tt)*] $type:ty, $item:ty, $name:literal) => {
        impl<$($decl)*> $type {
            /// Waits for the next one. `None`: nothing more comes.
            pub async fn recv(&mut self) -> Option<$item> {
                std::future::poll_fn(|cx| self.poll(cx)).await
            }

            /// Blocks until the next one is there, but no longer than that. `None`: nothing more comes.
            ///
            /// # Errors
            /// Nothing came in time.
            pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<$item>, TimedOut> {
                let taken = self.receiver.wait(Some(Instant::now() + timeout))?;
                Ok(taken.map(|taken| self.item(taken)))
            }

            /// The next one if it is there already.
            pub fn try_next(&mut self) -> Option<$item> {
                self.receiver.try_take().map(|taken| self.item(taken))
            }

            fn poll(&mut self, cx: &Context<'_>) -> Poll<Option<$item>> {
                self.receiver.poll(cx).map(|taken| taken.map(|taken| self.item(taken)))
            }
        }

        impl<$($decl)*> Iterator for $type {
            type Item = $item;

            /// Blocks until the next one is there.
            fn next(&mut self) -> Option<$item> {
                // Without a deadline it does not time out.
                self.receiver.wait(None).ok().flatten().map(|taken| self.item(taken))
            }
        }

        impl<$($decl)*> Stream for $type {
            type Item = $item;

            fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<$item>> {
                self.poll(cx)
            }
        }

        impl<$($decl)*> fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct($name).finish_non_exhaustive()
            }
        }
    };
}

/// The messages of a channel. An item is an error where messages were lost because they were not read in time
/// (`LaggedError`), where one is not a `T` (`InvalidMessageError`), and last, if the server ended the subscription: its own
/// error, or a `KickedOutError`.
pub struct Subscription<T = Data> {
    receiver: Receiver<Data>,
    channel: Arc<str>,
    number: u64,
    handle: Arc<Handle>,
    item: PhantomData<fn() -> T>,
}

impl<T> Subscription<T> {
    pub(super) const fn new(receiver: Receiver<Data>, channel: Arc<str>, number: u64, handle: Arc<Handle>) -> Self {
        Self { receiver, channel, number, handle, item: PhantomData }
    }

    /// The channel's name.
    #[must_use]
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// Waits until the server has taken the subscription; its error if it has not.
    pub fn subscribed(&self) -> Pending<()> {
        let (resolver, answer) = pending(|_| Ok(()), Some(self.handle.clone()));
        let op = Op::AwaitChannel { channel: self.channel.clone(), resolver };
        self.handle.driver.control(self.handle.id, op);
        answer
    }

    /// Takes everybody of this client off the channel, not only this subscription.
    pub fn unsubscribe(self) {
        self.handle.driver.control(self.handle.id, Op::Unsubscribe { channel: self.channel.clone(), number: None });
    }
}

impl<T: FromData> Subscription<T> {
    #[expect(clippy::unused_self, reason = "its type says what an item is")]
    fn item(&self, taken: Result<Data, ScError>) -> Result<T, ScError> {
        taken.and_then(T::from_data)
    }
}

impl<T> Drop for Subscription<T> {
    fn drop(&mut self) {
        let op = Op::Unsubscribe { channel: self.channel.clone(), number: Some(self.number) };
        self.handle.driver.control(self.handle.id, op);
    }
}

reading!([T: FromData] Subscription<T>, Result<T, ScError>, "Subscription");

/// Events that the server emits. Errors as for [`Subscription`].
pub struct Listener<T = Data> {
    receiver: Receiver<Arrived>,
    handle: Arc<Handle>,
    item: PhantomData<fn() -> T>,
}

impl<T> Listener<T> {
    pub(super) const fn new(receiver: Receiver<Arrived>, handle: Arc<Handle>) -> Self {
        Self { receiver, handle, item: PhantomData }
    }
}

impl<T: FromData> Listener<T> {
    fn item(&self, taken: Result<Arrived, ScError>) -> Result<Incoming<T>, ScError> {
        let Arrived { name, data, reply } = taken?;
        let responder = reply.map(|reply| Responder { handle: self.handle.clone(), reply });
        Ok(Incoming { name, data: T::from_data(data)?, responder })
    }
}

reading!([T: FromData] Listener<T>, Result<Incoming<T>, ScError>, "Listener");

/// What happens to a client. It is read from the moment it was made; a `LaggedError` stands for events that were not read in
/// time.
pub struct Events {
    receiver: Receiver<Event>,
    _handle: Arc<Handle>,
}

impl Events {
    pub(super) const fn new(receiver: Receiver<Event>, handle: Arc<Handle>) -> Self {
        Self { receiver, _handle: handle }
    }

    #[expect(clippy::unused_self, reason = "as for the others")]
    fn item(&self, taken: Result<Event, ScError>) -> Result<Event, ScError> {
        taken
    }
}

reading!([] Events, Result<Event, ScError>, "Events");
