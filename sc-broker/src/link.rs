//! What an exchange keeps for one broker.

use std::collections::VecDeque;

use bytes::BytesMut;
use sc_protocol::ipc::{CallKind, LinkMsg, LinkReader};

use crate::limits::{ExchangeLimits, FRAMING};

/// The worker's end of the link to one broker, there or not.
pub(crate) struct Link<P> {
    pub(crate) up: bool,
    pub(crate) reader: LinkReader,
    /// What the driver has not taken yet.
    pub(crate) out: BytesMut,
    /// What the driver took and could not write yet.
    pub(crate) queued: usize,
    /// The `cid` of the first of `requests`.
    first: u64,
    /// Requests without an answer. A broker answers in order, so the window over them slides; `None` is one that was
    /// answered before an earlier one.
    requests: VecDeque<Option<Request<P>>>,
    waiting: VecDeque<Waiting<P>>,
    waiting_bytes: usize,
    /// Counts the ups and downs, so that a sink which ends a link does not get its reader back.
    pub(crate) lives: u64,
}

/// A request that the broker will answer.
pub(crate) enum Request<P> {
    Publish {
        pending: P,
        interest: Option<InterestId>,
    },
    Subscribe(InterestId),
    /// By the number that its maker gave.
    Call(u64),
}

/// One interest of the worker: what has the same key later is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InterestId {
    pub(crate) key: u32,
    pub(crate) serial: u64,
}

/// A publish or a call that has not gone out.
pub(crate) struct Waiting<P> {
    /// The channel, or the key.
    pub(crate) name: Box<str>,
    pub(crate) data: Option<Box<str>>,
    pub(crate) what: What<P>,
}

/// What waits.
pub(crate) enum What<P> {
    Publish(P),
    Call(CallKind, u64),
}

impl<P> Link<P> {
    pub(crate) fn new() -> Self {
        Self {
            up: false,
            reader: LinkReader::new(),
            out: BytesMut::new(),
            queued: 0,
            first: 1,
            requests: VecDeque::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            lives: 0,
        }
    }

    /// Whether a publish of that size may be sent now.
    pub(crate) fn takes(&self, bytes: usize, limits: &ExchangeLimits) -> bool {
        self.up
            && self.requests.len() < limits.in_flight_max
            && self.out.len() + self.queued + bytes <= limits.link_bytes_max
    }

    pub(crate) fn publish(&mut self, channel: &str, data: Option<&str>, interest: Option<InterestId>, pending: P) {
        let cid = self.ask(Request::Publish { pending, interest });
        LinkMsg::Publish { cid, channel, data }.write(&mut self.out);
    }

    pub(crate) fn subscribe(&mut self, channel: &str, interest: InterestId) {
        let cid = self.ask(Request::Subscribe(interest));
        LinkMsg::Subscribe { cid, channel }.write(&mut self.out);
    }

    pub(crate) fn call(&mut self, what: CallKind, key: &str, data: Option<&str>, number: u64) {
        let cid = self.ask(Request::Call(number));
        LinkMsg::Call { cid, what, key, data }.write(&mut self.out);
    }

    fn ask(&mut self, request: Request<P>) -> u64 {
        let cid = self.first + self.requests.len() as u64;
        self.requests.push_back(Some(request));
        cid
    }

    /// The request that is answered with this, if there is one.
    pub(crate) fn answered(&mut self, cid: u64) -> Option<Request<P>> {
        let index = usize::try_from(cid.checked_sub(self.first)?).ok()?;
        let request = self.requests.get_mut(index)?.take();
        while let Some(None) = self.requests.front() {
            self.requests.pop_front();
            self.first += 1;
        }
        request
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.requests.len()
    }

    pub(crate) fn unanswered(&self) -> impl Iterator<Item = &P> {
        let sent = self.requests.iter().flatten().filter_map(|request| match request {
            Request::Publish { pending, .. } => Some(pending),
            Request::Subscribe(_) | Request::Call(_) => None,
        });
        let waiting = self.waiting.iter().filter_map(|waiting| match &waiting.what {
            What::Publish(pending) => Some(pending),
            What::Call(..) => None,
        });
        sent.chain(waiting)
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) const fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    pub(crate) fn wait(&mut self, name: &str, data: Option<&str>, what: What<P>) {
        self.waiting_bytes += publish_bytes(name, data);
        self.waiting.push_back(Waiting { name: name.into(), data: data.map(Box::from), what });
    }

    /// What has waited longest, if it may be sent now.
    pub(crate) fn next_waiting(&mut self, limits: &ExchangeLimits) -> Option<Waiting<P>> {
        let first = self.waiting.front()?;
        let bytes = publish_bytes(&first.name, first.data.as_deref());
        if !self.takes(bytes, limits) {
            return None;
        }
        self.waiting_bytes -= bytes;
        self.waiting.pop_front()
    }

    /// Forgets what belonged to the connection, and answers its requests in order.
    pub(crate) fn down(&mut self) -> impl Iterator<Item = Request<P>> + use<P> {
        self.up = false;
        self.lives += 1;
        self.reader = LinkReader::new();
        self.out = BytesMut::new();
        self.queued = 0;
        self.first += self.requests.len() as u64;
        std::mem::take(&mut self.requests).into_iter().flatten()
    }
}

/// What a publish, or a call, counts against limits in bytes.
pub(crate) fn publish_bytes(channel: &str, data: Option<&str>) -> usize {
    FRAMING + channel.len() + data.map_or(0, str::len)
}
