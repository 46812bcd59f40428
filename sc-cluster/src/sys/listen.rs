//! The listening socket of the cluster.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    os::fd::OwnedFd,
};

use mio::net::TcpListener;
use rustix::net::SocketFlags;
use socket2::{Domain, Protocol, Socket, Type};

/// How many connections the kernel finishes and keeps for us while we do not accept; what Node takes.
pub(crate) const BACKLOG: u32 = 511;

/// Binds and listens: on `host`, or without one on every address of both families (`[::]`), and where the system has no
/// IPv6 on `0.0.0.0`.
pub(crate) fn listen(host: Option<&str>, port: u16, backlog: u32) -> io::Result<TcpListener> {
    let Some(host) = host else {
        return match bind((IpAddr::V6(Ipv6Addr::UNSPECIFIED), port).into(), backlog) {
            Err(error) if no_ipv6(&error) => bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), port).into(), backlog),
            answer => answer,
        };
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    // Addresses of the other family may not exist on this machine: the first that can be bound serves.
    for address in (host.trim_start_matches('[').trim_end_matches(']'), port).to_socket_addrs()? {
        match bind(address, backlog) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Takes the next connection, non-blocking and close-on-exec, without asking for the peer's address: the worker does.
pub(crate) fn accept(listener: &TcpListener) -> io::Result<OwnedFd> {
    loop {
        match rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(fd) => return Ok(fd),
            // The peer was gone before we came: not an event of the listener.
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED | rustix::io::Errno::PROTO) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn no_ipv6(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

fn bind(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it, which saves a system call on each. A turn's packets leave in one write, so Nagle's
    // delay could only hold back the last of them.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(TcpListener::from_std(socket.into()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn no_host_serves_both_families_and_nagle_is_off() {
        let listener = listen(None, 0, BACKLOG).unwrap();
        let port = listener.local_addr().unwrap().port();
        let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let accepted = TcpStream::from(accept(&listener).unwrap());
        assert!(accepted.nodelay().unwrap());
        assert_eq!(accept(&listener).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn names_and_addresses_can_be_hosts() {
        for host in ["localhost", "127.0.0.1"] {
            let listener = listen(Some(host), 0, BACKLOG).unwrap();
            assert!(listener.local_addr().unwrap().ip().is_loopback(), "{host}");
        }
        assert!(listen(Some("no such host"), 0, BACKLOG).is_err());
    }

    #[test]
    fn a_port_in_use_is_said_as_such() {
        let first = listen(Some("127.0.0.1"), 0, BACKLOG).unwrap();
        let port = first.local_addr().unwrap().port();
        assert_eq!(listen(Some("127.0.0.1"), port, BACKLOG).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
