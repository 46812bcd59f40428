//! One connection of the driver: a stream, TLS over it, a proxy's answer before it, and what waits to be written.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use bytes::{Buf, Bytes, BytesMut};
use mio::event::Source;
use mio::net::TcpStream;
#[cfg(unix)]
use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use rustls::ClientConnection;
use sc_protocol::http::HeadReader;
use sc_protocol::wheel::TimerId;

use super::pending::Resolver;

/// Most pieces of one vectored write.
const SLICES: usize = 32;

/// Plain bytes handed to TLS at once.
const TLS_PIECE: usize = 64 << 10;

#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

macro_rules! both {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self {
            Stream::Tcp($stream) => $call,
            #[cfg(unix)]
            Stream::Unix($stream) => $call,
        }
    };
}

impl Stream {
    /// Whether the connection is made; `WouldBlock`-like states are `Ok(false)`.
    fn is_connected(&self) -> io::Result<bool> {
        if let Some(error) = both!(self, stream => stream.take_error())? {
            return Err(error);
        }
        match self {
            Self::Tcp(stream) => match stream.peer_addr() {
                Ok(_) => {
                    // Packets are small and wanted at once. A failure costs time only.
                    let _ = stream.set_nodelay(true);
                    Ok(true)
                }
                Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
                Err(error) => Err(error),
            },
            #[cfg(unix)]
            Self::Unix(_) => Ok(true),
        }
    }

    fn shutdown(&self) -> io::Result<()> {
        both!(self, stream => stream.shutdown(Shutdown::Write))
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        both!(self, stream => stream.read(buf))
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        both!(self, stream => stream.write(buf))
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        both!(self, stream => stream.write_vectored(bufs))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for Stream {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        both!(self, stream => stream.register(registry, token, interests))
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        both!(self, stream => stream.reregister(registry, token, interests))
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        both!(self, stream => stream.deregister(registry))
    }
}

/// How far a connection is.
#[derive(Debug)]
pub(super) enum Stage {
    Connecting,
    /// The proxy has been asked for a tunnel.
    Proxy(Box<HeadReader>),
    /// Bytes are the core's (through TLS, if there is some).
    Open,
    /// Everything is the peer's to end: it gets what is queued, then the end of our half.
    Closing,
}

#[derive(Debug)]
pub(super) struct Transport {
    /// The client it belongs to; none once that has let go of it.
    pub(super) owner: Option<usize>,
    pub(super) stage: Stage,
    stream: Stream,
    tls: Option<Box<ClientConnection>>,
    out: VecDeque<Bytes>,
    out_len: usize,
    writable: bool,
    shut: bool,
    /// In the list of those that have something to read although no event will say so.
    pub(super) queued: bool,
    pub(super) timer: Option<TimerId>,
    /// Those who wait for its end.
    pub(super) on_end: Vec<Resolver>,
}

impl Transport {
    pub(super) fn new(stream: Stream, owner: usize) -> Self {
        Self {
            owner: Some(owner),
            stage: Stage::Connecting,
            stream,
            tls: None,
            out: VecDeque::new(),
            out_len: 0,
            writable: false,
            shut: false,
            queued: false,
            timer: None,
            on_end: Vec::new(),
        }
    }

    pub(super) const fn source(&mut self) -> &mut Stream {
        &mut self.stream
    }

    pub(super) fn is_connected(&self) -> io::Result<bool> {
        self.stream.is_connected()
    }

    pub(super) const fn set_writable(&mut self) {
        self.writable = true;
    }

    pub(super) fn start_tls(&mut self, connection: ClientConnection) {
        self.tls = Some(Box::new(connection));
    }

    pub(super) fn queue(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.out_len += bytes.len();
            self.out.push_back(bytes);
        }
    }

    /// Bytes that wait for the network.
    pub(super) const fn backlog(&self) -> usize {
        self.out_len
    }

    /// Bytes for the core; `None`: there are none at the moment. `Ok(Some(0))` is the end.
    pub(super) fn read(&mut self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        let Some(tls) = &mut self.tls else { return would_block(|| self.stream.read(buf)) };
        loop {
            match tls.reader().read(buf) {
                Ok(read) => return Ok(Some(read)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The peer ended TCP without saying so in TLS; what it owed us, WebSocket tells.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Some(0)),
                Err(error) => return Err(error),
            }
            match would_block(|| tls.read_tls(&mut self.stream))? {
                None => return Ok(None),
                Some(0) if tls.is_handshaking() => return Ok(Some(0)),
                Some(_) => {
                    if let Err(error) = tls.process_new_packets() {
                        // The alert that says why, as far as it goes.
                        let _ = tls.write_tls(&mut self.stream);
                        return Err(io::Error::other(error));
                    }
                }
            }
        }
    }

    /// Bytes that no TLS is around yet.
    pub(super) fn read_plain(&mut self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        would_block(|| self.stream.read(buf))
    }

    /// Writes what the socket takes. `Ok(true)`: everything is written.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        while self.writable {
            let Some(tls) = &mut self.tls else {
                if self.out.is_empty() {
                    break;
                }
                let slices: Vec<_> = self.out.iter().take(SLICES).map(|bytes| IoSlice::new(bytes)).collect();
                match would_block(|| self.stream.write_vectored(&slices))? {
                    None => self.writable = false,
                    Some(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Some(written) => self.wrote(written),
                }
                continue;
            };
            if tls.wants_write() {
                if would_block(|| tls.write_tls(&mut self.stream))?.is_none() {
                    self.writable = false;
                }
                continue;
            }
            let Some(front) = self.out.front() else { break };
            let piece = &front[..front.len().min(TLS_PIECE)];
            match tls.writer().write(piece)? {
                // Its buffer is full until the handshake is done, which reading brings about.
                0 => break,
                taken => self.wrote(taken),
            }
        }
        Ok(self.out.is_empty() && !self.tls.as_ref().is_some_and(|tls| tls.wants_write()))
    }

    fn wrote(&mut self, mut written: usize) {
        self.out_len -= written;
        while let Some(front) = self.out.front_mut() {
            if written < front.len() {
                front.advance(written);
                return;
            }
            written -= front.len();
            self.out.pop_front();
        }
        self.out = VecDeque::new();
    }

    /// Ends our half, once. `false`: the connection is broken.
    pub(super) fn end_half(&mut self) -> bool {
        if !std::mem::replace(&mut self.shut, true) {
            if let Some(tls) = &mut self.tls {
                tls.send_close_notify();
                let _ = tls.write_tls(&mut self.stream);
            }
            return self.stream.shutdown().is_ok();
        }
        true
    }

    /// A message of this size is rather for one buffer.
    pub(super) fn queue_small(&mut self, bytes: BytesMut) {
        self.queue(bytes.freeze());
    }
}

/// `None`: the socket has nothing, or no room, at the moment.
fn would_block(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<Option<usize>> {
    loop {
        match call() {
            Ok(done) => return Ok(Some(done)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
