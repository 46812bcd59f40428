//! What the processes of a cluster say to each other: framing and messages, without the sockets.
//!
//! ```text
//!   worker ◄── link: LinkMsg, a byte stream ──► broker        one link per worker and broker
//!   master ◄── control: Control, whole messages ──► child     one socket pair per child, may carry descriptors
//! ```
//!
//! A link carries every publish, so its messages are binary, and the JSON inside them is copied, never parsed. The
//! broker reads a channel's name and nothing else of a payload. [`LinkReader`] lends messages out of the bytes it was
//! given; it copies only a message that came in more than one piece.
//!
//! A link frame is `u32 length | u8 kind | body`, the length being that of kind and body; all numbers are big-endian.
//! A control message is `u8 kind | body`: the socket keeps its boundaries.

use bytes::{BufMut, BytesMut};

use crate::limits::{CONTROL_MESSAGE_MAX, LINK_BUFFER_KEPT_MAX, LINK_MESSAGE_MAX};

mod call;

pub use call::CallKind;

/// The version of the messages on links, in every [`LinkMsg::Hello`]. A broker refuses a worker of another version.
pub const LINK_VERSION: u8 = 2;

/// A message between a worker and a broker.
///
/// `data` is JSON text as it came from the publisher; `None` means that the publish had no `data` member, which is not
/// the same as `null`. An empty text is no JSON and is read back as `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkMsg<'a> {
    /// Worker to broker, first on every link.
    Hello {
        /// [`LINK_VERSION`] of the worker.
        version: u8,
        /// Number of the worker in its cluster.
        worker: u32,
        /// Its process id, for reports.
        pid: u32,
    },
    /// Worker to broker, behind what it asks for when a link begins: the broker knows all that this worker is subscribed to.
    Synced,
    /// Worker to broker: this worker wants the channel's messages. Answered by `Ack { deliver: false }` or `Nack`.
    Subscribe {
        /// The worker's number of this request.
        cid: u64,
        /// The channel.
        channel: &'a str,
    },
    /// Worker to broker: no more messages of the channel, please. Not answered.
    Unsubscribe {
        /// The channel.
        channel: &'a str,
    },
    /// Worker to broker: a message for everybody subscribed to the channel. Answered by `Ack` or `Nack`.
    Publish {
        /// The worker's number of this request.
        cid: u64,
        /// The channel.
        channel: &'a str,
        /// Raw JSON text.
        data: Option<&'a str>,
    },
    /// Broker to worker: somebody else published.
    Deliver {
        /// The channel.
        channel: &'a str,
        /// Raw JSON text.
        data: Option<&'a str>,
    },
    /// Broker to the worker that asked.
    Ack {
        /// The number of the request.
        cid: u64,
        /// This is the place of the worker's own publish `cid` in the channel's order: deliver it to the subscribers
        /// of this worker now.
        deliver: bool,
    },
    /// Broker to the worker that asked: refused.
    Nack {
        /// The number of the request.
        cid: u64,
        /// JSON text of an [`ScError`](crate::ScError).
        error: &'a str,
    },
    /// Worker to broker: something is to be done with the shared data, or by the application's code in the broker. Answered
    /// by `Answer` or `Nack`.
    Call {
        /// The worker's number of this request.
        cid: u64,
        /// What is to be done.
        what: CallKind,
        /// What it is done to: see [`CallKind`].
        key: &'a str,
        /// Raw JSON text.
        data: Option<&'a str>,
    },
    /// Broker to the worker that called.
    Answer {
        /// The number of the request.
        cid: u64,
        /// Raw JSON text; `None` is JavaScript's `undefined`.
        data: Option<&'a str>,
    },
}

impl LinkMsg<'_> {
    /// Appends the message as one frame. A message that does not [fit](Self::fits) would end the link, so nothing is
    /// written for it: refuse it before.
    pub fn write(&self, out: &mut BytesMut) {
        let length = self.frame_len();
        if length > LINK_MESSAGE_MAX {
            debug_assert!(false, "the caller asks fits() before it writes something large");
            return;
        }
        out.reserve(4 + length);
        let before = out.len();
        out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        match *self {
            Self::Hello { version, worker, pid } => {
                out.put_u8(HELLO);
                out.put_u8(version);
                out.put_u32(worker);
                out.put_u32(pid);
            }
            Self::Synced => out.put_u8(SYNCED),
            Self::Subscribe { cid, channel } => {
                out.put_u8(SUBSCRIBE);
                out.put_u64(cid);
                out.put_slice(channel.as_bytes());
            }
            Self::Unsubscribe { channel } => {
                out.put_u8(UNSUBSCRIBE);
                out.put_slice(channel.as_bytes());
            }
            Self::Publish { cid, channel, data } => {
                out.put_u8(PUBLISH);
                out.put_u64(cid);
                put_message(out, channel, data);
            }
            Self::Deliver { channel, data } => {
                out.put_u8(DELIVER);
                put_message(out, channel, data);
            }
            Self::Ack { cid, deliver } => {
                out.put_u8(ACK);
                out.put_u64(cid);
                out.put_u8(u8::from(deliver));
            }
            Self::Nack { cid, error } => {
                out.put_u8(NACK);
                out.put_u64(cid);
                out.put_slice(error.as_bytes());
            }
            Self::Call { cid, what, key, data } => {
                out.put_u8(CALL);
                out.put_u64(cid);
                out.put_u8(what.to_wire());
                put_message(out, key, data);
            }
            Self::Answer { cid, data } => {
                out.put_u8(ANSWER);
                out.put_u64(cid);
                out.put_slice(data.unwrap_or_default().as_bytes());
            }
        }
        debug_assert_eq!(out.len() - before, 4 + length);
    }

    /// Whether the message is within [`LINK_MESSAGE_MAX`]. Ask before a publish is accepted: only texts
    /// can make a message too long.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.frame_len() <= LINK_MESSAGE_MAX
    }

    /// Bytes of kind and body.
    fn frame_len(&self) -> usize {
        let body = match *self {
            Self::Hello { .. } => 1 + 4 + 4,
            Self::Synced => 0,
            Self::Subscribe { channel, .. } => 8 + channel.len(),
            Self::Unsubscribe { channel } => channel.len(),
            Self::Publish { channel, data, .. } => 8 + 4 + channel.len() + data.map_or(0, str::len),
            Self::Deliver { channel, data } => 4 + channel.len() + data.map_or(0, str::len),
            Self::Ack { .. } => 8 + 1,
            Self::Nack { error, .. } => 8 + error.len(),
            Self::Call { key, data, .. } => 8 + 1 + 4 + key.len() + data.map_or(0, str::len),
            Self::Answer { data, .. } => 8 + data.map_or(0, str::len),
        };
        1 + body
    }
}

/// The receive half of a link: takes the stream's bytes in any pieces, gives whole messages.
///
/// ```
/// use sc_protocol::ipc::{LinkMsg, LinkReader};
///
/// let mut stream = bytes::BytesMut::new();
/// LinkMsg::Subscribe { cid: 1, channel: "news" }.write(&mut stream);
///
/// let (head, tail) = stream.split_at(3);
/// let mut reader = LinkReader::new();
/// reader.handle_bytes(head, |_| unreachable!("not whole yet")).unwrap();
/// reader.handle_bytes(tail, |msg| assert_eq!(msg, LinkMsg::Subscribe { cid: 1, channel: "news" })).unwrap();
/// ```
#[derive(Debug, Default)]
pub struct LinkReader {
    /// The beginning of a message whose end has not come.
    tail: Vec<u8>,
}

impl LinkReader {
    /// Owns no buffer yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { tail: Vec::new() }
    }

    /// Gives every message that is whole with `data` to `sink`, in order.
    ///
    /// # Errors
    /// The stream is not one of [`LinkMsg`]s. Nothing after the broken message can be read: drop the link.
    pub fn handle_bytes(&mut self, mut data: &[u8], mut sink: impl FnMut(LinkMsg<'_>)) -> Result<(), IpcError> {
        while !self.tail.is_empty() && !data.is_empty() {
            let wanted = frame_end(&self.tail)?.unwrap_or(4);
            let (now, later) = data.split_at(data.len().min(wanted - self.tail.len()));
            self.tail.extend_from_slice(now);
            data = later;
            if frame_end(&self.tail)? == Some(self.tail.len()) {
                sink(parse_frame(&self.tail[4..])?);
                self.tail.clear();
                self.tail.shrink_to(LINK_BUFFER_KEPT_MAX);
            }
        }
        while let Some(end) = frame_end(data)? {
            let Some((frame, rest)) = data.split_at_checked(end) else { break };
            sink(parse_frame(&frame[4..])?);
            data = rest;
        }
        self.tail.extend_from_slice(data);
        Ok(())
    }

    /// Bytes held of a message that has not ended.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.tail.len()
    }
}

/// A message between the master and one of its children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control<'a> {
    /// Master to child, first: role, options and secrets as JSON.
    Init(&'a str),
    /// Master to worker: the connections whose descriptors travel with this message, at most
    /// [`CONTROL_FDS_MAX`](crate::limits::CONTROL_FDS_MAX).
    Conns {
        /// Number of the listener that accepted them.
        listener: u32,
        /// How many were sent: a child at its limit of descriptors receives fewer.
        count: u32,
    },
    /// Master to worker: a listening socket travels with this message.
    Listener {
        /// Its number.
        listener: u32,
    },
    /// Master to child: one end of a link travels with this message.
    Link {
        /// The other end's owner: for a worker the broker's number, for a broker the worker's.
        peer: u32,
    },
    /// Master to broker, behind the first links: every worker that there is has one.
    Linked,
    /// Master to child: finish and exit.
    Terminate,
    /// Master to worker: take no more connections, send your clients away evenly over this time, then exit.
    Drain {
        /// The time, in milliseconds.
        millis: u32,
    },
    /// Either way: JSON from the application's code in the one process for that in the other.
    Message {
        /// The sender's number of this message, which is in its answer; 0: no answer is wanted.
        id: u64,
        /// JSON text.
        json: &'a str,
    },
    /// Either way: the answer to a `Message`.
    Reply {
        /// The number of the message.
        id: u64,
        /// JSON text: an object with `data`, or with `error`.
        json: &'a str,
    },
    /// Child to master: initialised, send work.
    Ready,
    /// Worker to master, once per drained message and before the first read of those connections.
    ConnsTaken {
        /// All connections taken since the start.
        total: u64,
    },
    /// Worker to master: the next so many connections that it was sent got lost on the way, since it may not open more
    /// descriptors. They count as not given.
    ConnsLost {
        /// How many.
        count: u32,
    },
    /// Broker to master: it has dropped its link to this worker, which has not read it for too long or sent what makes no sense. The
    /// worker is of no use without it.
    Unlinked {
        /// The worker's process id.
        pid: u32,
    },
    /// Child to master: alive.
    Beat {
        /// Connections open now.
        connections: u32,
    },
    /// Child to master: a line for the log, as JSON.
    Report(&'a str),
    /// Child to master: what it has counted, as JSON.
    Status(&'a str),
}

impl<'a> Control<'a> {
    /// Appends the message. It must stay within [`CONTROL_MESSAGE_MAX`] to be read: whoever puts an application's text
    /// in asks [`Control::fits`] before.
    pub fn write(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Init(json) => put_text(out, INIT, json),
            Self::Conns { listener, count } => {
                put_number(out, CONNS, listener);
                out.extend_from_slice(&count.to_be_bytes());
            }
            Self::Listener { listener } => put_number(out, LISTENER, listener),
            Self::Link { peer } => put_number(out, LINK, peer),
            Self::Linked => out.push(LINKED),
            Self::Terminate => out.push(TERMINATE),
            Self::Drain { millis } => put_number(out, DRAIN, millis),
            Self::Message { id, json } => put_numbered(out, MESSAGE, id, json),
            Self::Reply { id, json } => put_numbered(out, REPLY, id, json),
            Self::Ready => out.push(READY),
            Self::ConnsTaken { total } => {
                out.push(CONNS_TAKEN);
                out.extend_from_slice(&total.to_be_bytes());
            }
            Self::ConnsLost { count } => put_number(out, CONNS_LOST, count),
            Self::Unlinked { pid } => put_number(out, UNLINKED, pid),
            Self::Beat { connections } => put_number(out, BEAT, connections),
            Self::Report(json) => put_text(out, REPORT, json),
            Self::Status(json) => put_text(out, STATUS, json),
        }
    }

    /// Whether the message is within [`CONTROL_MESSAGE_MAX`].
    #[must_use]
    pub fn fits(&self) -> bool {
        match *self {
            Self::Init(json) | Self::Report(json) | Self::Status(json) => json.len() < CONTROL_MESSAGE_MAX,
            Self::Message { json, .. } | Self::Reply { json, .. } => json.len() < CONTROL_MESSAGE_MAX - 8,
            _ => true,
        }
    }

    /// Reads one whole message.
    ///
    /// # Errors
    /// The other end is not of this version: the child (or the master) is of no use.
    pub fn parse(msg: &'a [u8]) -> Result<Self, IpcError> {
        if msg.len() > CONTROL_MESSAGE_MAX {
            return Err(IpcError::TooLong { len: msg.len(), max: CONTROL_MESSAGE_MAX });
        }
        let mut body = Body(msg);
        let kind = body.u8()?;
        let control = match kind {
            INIT => Self::Init(body.rest()?),
            CONNS => Self::Conns { listener: body.u32()?, count: body.u32()? },
            LISTENER => Self::Listener { listener: body.u32()? },
            LINK => Self::Link { peer: body.u32()? },
            LINKED => Self::Linked,
            TERMINATE => Self::Terminate,
            DRAIN => Self::Drain { millis: body.u32()? },
            MESSAGE => Self::Message { id: body.u64()?, json: body.rest()? },
            REPLY => Self::Reply { id: body.u64()?, json: body.rest()? },
            READY => Self::Ready,
            CONNS_TAKEN => Self::ConnsTaken { total: body.u64()? },
            CONNS_LOST => Self::ConnsLost { count: body.u32()? },
            UNLINKED => Self::Unlinked { pid: body.u32()? },
            BEAT => Self::Beat { connections: body.u32()? },
            REPORT => Self::Report(body.rest()?),
            STATUS => Self::Status(body.rest()?),
            kind => return Err(IpcError::UnknownKind(kind)),
        };
        body.end()?;
        Ok(control)
    }
}

/// Why bytes of another process make no sense: it is of another version, or the stream is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IpcError {
    /// A message is longer than both ends agreed on.
    #[error("a message of {len} bytes is over the limit of {max}")]
    TooLong {
        /// Its length.
        len: usize,
        /// [`LINK_MESSAGE_MAX`] or [`CONTROL_MESSAGE_MAX`].
        max: usize,
    },
    /// No message has this kind.
    #[error("unknown kind of message: {0}")]
    UnknownKind(u8),
    /// No call has this number.
    #[error("unknown call: {0}")]
    UnknownCall(u8),
    /// The body is shorter or longer than its kind says.
    #[error("the body of a message has the wrong length")]
    WrongLength,
    /// A channel or JSON text that is not UTF-8.
    #[error("text in a message is not UTF-8")]
    NotUtf8,
}

const HELLO: u8 = 1;
const SUBSCRIBE: u8 = 2;
const UNSUBSCRIBE: u8 = 3;
const PUBLISH: u8 = 4;
const DELIVER: u8 = 5;
const ACK: u8 = 6;
const NACK: u8 = 7;
const SYNCED: u8 = 16;
const CALL: u8 = 8;
const ANSWER: u8 = 9;

const INIT: u8 = 1;
const CONNS: u8 = 2;
const LISTENER: u8 = 3;
const LINK: u8 = 4;
const TERMINATE: u8 = 5;
const MESSAGE: u8 = 6;
const DRAIN: u8 = 7;
const REPLY: u8 = 8;
const LINKED: u8 = 9;
const READY: u8 = 65;
const CONNS_TAKEN: u8 = 66;
const BEAT: u8 = 67;
const REPORT: u8 = 68;
const STATUS: u8 = 69;
const CONNS_LOST: u8 = 70;
const UNLINKED: u8 = 71;

/// Where the frame that begins `data` ends, as soon as its length is there. The end is always beyond the length field.
fn frame_end(data: &[u8]) -> Result<Option<usize>, IpcError> {
    let Some(length) = data.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    match length {
        0 => Err(IpcError::WrongLength),
        1..=LINK_MESSAGE_MAX => Ok(Some(4 + length)),
        _ => Err(IpcError::TooLong { len: length, max: LINK_MESSAGE_MAX }),
    }
}

fn parse_frame(frame: &[u8]) -> Result<LinkMsg<'_>, IpcError> {
    let mut body = Body(frame);
    let kind = body.u8()?;
    let msg = match kind {
        HELLO => LinkMsg::Hello { version: body.u8()?, worker: body.u32()?, pid: body.u32()? },
        SYNCED => LinkMsg::Synced,
        SUBSCRIBE => LinkMsg::Subscribe { cid: body.u64()?, channel: body.rest()? },
        UNSUBSCRIBE => LinkMsg::Unsubscribe { channel: body.rest()? },
        PUBLISH => LinkMsg::Publish { cid: body.u64()?, channel: body.channel()?, data: body.data()? },
        DELIVER => LinkMsg::Deliver { channel: body.channel()?, data: body.data()? },
        ACK => LinkMsg::Ack { cid: body.u64()?, deliver: body.bool()? },
        NACK => LinkMsg::Nack { cid: body.u64()?, error: body.rest()? },
        CALL => LinkMsg::Call { cid: body.u64()?, what: body.call()?, key: body.channel()?, data: body.data()? },
        ANSWER => LinkMsg::Answer { cid: body.u64()?, data: body.data()? },
        kind => return Err(IpcError::UnknownKind(kind)),
    };
    // A Hello of a later version may carry more: its version is to be read and refused, not its length.
    if kind != HELLO {
        body.end()?;
    }
    Ok(msg)
}

fn put_message(out: &mut BytesMut, channel: &str, data: Option<&str>) {
    out.put_u32(u32::try_from(channel.len()).unwrap_or(u32::MAX));
    out.put_slice(channel.as_bytes());
    out.put_slice(data.unwrap_or_default().as_bytes());
}

fn put_numbered(out: &mut Vec<u8>, kind: u8, number: u64, text: &str) {
    out.push(kind);
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_text(out: &mut Vec<u8>, kind: u8, text: &str) {
    out.push(kind);
    out.extend_from_slice(text.as_bytes());
}

fn put_number(out: &mut Vec<u8>, kind: u8, number: u32) {
    out.push(kind);
    out.extend_from_slice(&number.to_be_bytes());
}

/// What has not been read of a message.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], IpcError> {
        let (now, later) = self.0.split_first_chunk::<N>().ok_or(IpcError::WrongLength)?;
        self.0 = later;
        Ok(*now)
    }

    fn u8(&mut self) -> Result<u8, IpcError> {
        Ok(u8::from_be_bytes(self.take()?))
    }

    fn u32(&mut self) -> Result<u32, IpcError> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, IpcError> {
        Ok(u64::from_be_bytes(self.take()?))
    }

    fn bool(&mut self) -> Result<bool, IpcError> {
        Ok(self.u8()? != 0)
    }

    fn call(&mut self) -> Result<CallKind, IpcError> {
        let number = self.u8()?;
        CallKind::from_wire(number).ok_or(IpcError::UnknownCall(number))
    }

    fn rest(&mut self) -> Result<&'a str, IpcError> {
        str::from_utf8(std::mem::take(&mut self.0)).map_err(|_| IpcError::NotUtf8)
    }

    fn channel(&mut self) -> Result<&'a str, IpcError> {
        let length = self.u32()? as usize;
        let (channel, rest) = self.0.split_at_checked(length).ok_or(IpcError::WrongLength)?;
        self.0 = rest;
        str::from_utf8(channel).map_err(|_| IpcError::NotUtf8)
    }

    fn data(&mut self) -> Result<Option<&'a str>, IpcError> {
        Ok(Some(self.rest()?).filter(|text| !text.is_empty()))
    }

    fn end(&self) -> Result<(), IpcError> {
        if self.0.is_empty() { Ok(()) } else { Err(IpcError::WrongLength) }
    }
}
