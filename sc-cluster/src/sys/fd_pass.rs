//! Whole messages with descriptors between two processes: a non-blocking `SOCK_SEQPACKET` pair.
//!
//! Seqpacket, since a datagram pair shows neither end of file nor an event when the peer dies, and a stream has no message
//! boundaries (and drops descriptors sent with an empty payload without a word).

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    os::unix::net::UnixStream,
};

use mio::{Interest, Registry, Token, event::Source, unix::SourceFd};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use sc_protocol::limits::CONTROL_FDS_MAX;

/// Room for [`CONTROL_FDS_MAX`] descriptors, and for the few more that the kernel may fit into the alignment of it.
const ANCILLARY_SPACE: usize = rustix::cmsg_space!(ScmRights(CONTROL_FDS_MAX));

/// One end of a pair. Never blocks; made for edge-triggered polling, so both directions are to be used until
/// [`io::ErrorKind::WouldBlock`].
#[derive(Debug)]
pub(crate) struct SeqPacket(OwnedFd);

/// What came with one message.
#[derive(Debug)]
pub(crate) struct Message {
    /// Bytes of the message, at the start of the buffer that was lent. 0: the peer has closed.
    pub(crate) len: usize,
    /// The kernel had more descriptors for us than this process may open: the rest of them is lost.
    pub(crate) descriptors_lost: bool,
}

impl SeqPacket {
    /// Two connected ends, close-on-exec.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (a, b) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self(a), Self(b)))
    }

    /// Takes a descriptor that another process left us, if it is such a socket.
    pub(crate) fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        if rustix::net::sockopt::socket_type(&fd)? != SocketType::SEQPACKET {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a seqpacket socket"));
        }
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self(fd))
    }

    /// Sends one message, wholly or not at all. `data` may not be empty, since an empty message reads as end of file.
    pub(crate) fn send(&self, data: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        debug_assert!(!data.is_empty() && fds.len() <= CONTROL_FDS_MAX);
        let mut space = [MaybeUninit::uninit(); ANCILLARY_SPACE];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        loop {
            match rustix::net::sendmsg(&self.0, &[IoSlice::new(data)], &mut ancillary, flags) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Receives one message into `buf`, and its descriptors, close-on-exec, behind what `fds` holds.
    pub(crate) fn recv(&self, buf: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<Message> {
        let mut space = [MaybeUninit::uninit(); ANCILLARY_SPACE];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = loop {
            match rustix::net::recvmsg(&self.0, &mut [IoSliceMut::new(&mut *buf)], &mut ancillary, flags) {
                Ok(received) => break received,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a control message is longer than allowed"));
        }
        Ok(Message { len: received.bytes, descriptors_lost: received.flags.contains(ReturnFlags::CTRUNC) })
    }

    /// Waits until a message (or the end) can be read; `false` after `millis` without one.
    pub(crate) fn wait_readable(&self, millis: u32) -> io::Result<bool> {
        use rustix::event::{PollFd, PollFlags, Timespec};
        let timeout = Timespec { tv_sec: (millis / 1000).into(), tv_nsec: (millis % 1000 * 1_000_000).into() };
        loop {
            match rustix::event::poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout)) {
                Ok(n) => return Ok(n > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Gives up the wrapper, for the standard input of a child.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.0
    }
}

impl AsFd for SeqPacket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Source for SeqPacket {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).deregister(registry)
    }
}

/// The two ends of a link between a worker and a broker: a non-blocking byte stream.
pub(crate) fn stream_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (a, b) = UnixStream::pair()?;
    a.set_nonblocking(true)?;
    b.set_nonblocking(true)?;
    Ok((a.into(), b.into()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn messages_keep_their_boundaries_and_descriptors_arrive_open() {
        let (a, b) = SeqPacket::pair().unwrap();
        let pairs: Vec<_> = (0..CONTROL_FDS_MAX).map(|_| UnixStream::pair().unwrap()).collect();
        let lent: Vec<_> = pairs.iter().map(|(near, _)| near.as_fd()).collect();
        a.send(b"one", &lent).unwrap();
        a.send(b"second", &[]).unwrap();
        let (mut buf, mut fds) = ([0; 64], Vec::new());
        assert_eq!(b.recv(&mut buf, &mut fds).unwrap().len, 3);
        assert_eq!((&buf[..3], fds.len()), (&b"one"[..], CONTROL_FDS_MAX));
        let got = b.recv(&mut buf, &mut fds).unwrap();
        assert_eq!((&buf[..got.len], got.descriptors_lost), (&b"second"[..], false));
        assert_eq!(fds.len(), CONTROL_FDS_MAX);
        let mut near = UnixStream::from(fds.pop().unwrap());
        near.write_all(b"x").unwrap();
        let mut far = &pairs[CONTROL_FDS_MAX - 1].1;
        let mut byte = [0];
        far.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
        assert!(rustix::io::fcntl_getfd(&near).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    }

    #[test]
    fn nothing_to_read_and_the_end_are_told_apart() {
        let (a, b) = SeqPacket::pair().unwrap();
        let mut buf = [0; 8];
        assert_eq!(b.recv(&mut buf, &mut Vec::new()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(a);
        assert_eq!(b.recv(&mut buf, &mut Vec::new()).unwrap().len, 0);
        assert_eq!(b.send(b"x", &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_message_that_does_not_fit_is_an_error() {
        let (a, b) = SeqPacket::pair().unwrap();
        a.send(&[1; 100], &[]).unwrap();
        assert_eq!(b.recv(&mut [0; 8], &mut Vec::new()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn another_kind_of_socket_is_refused() {
        let (stream, _far) = UnixStream::pair().unwrap();
        assert!(SeqPacket::from_fd(stream.into()).is_err());
        assert!(SeqPacket::from_fd(std::fs::File::open("/dev/null").unwrap().into()).is_err());
    }
}
