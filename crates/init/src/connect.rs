//! Connections to what listens inside the sandbox, begun here and finished by the server.
//!
//! The socket must be made here, as a socket belongs to the network namespace it was made in. It does not block and is
//! handed over while it connects, so that nothing that listens, or fails to, can hold this process up.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use sandwire_init::wire::{Event, Loopback};

use crate::failure::from_io;

/// Begins to connect to a port of the sandbox's own loopback interface.
pub(crate) fn connect(req: u64, loopback: Loopback, port: u16) -> (Option<Event>, Option<OwnedFd>) {
    let begun = match loopback {
        Loopback::V4 => begin(libc::AF_INET, &v4(port)),
        Loopback::V6 => begin(libc::AF_INET6, &v6(port)),
    };
    match begun {
        Ok(socket) => (Some(Event::Connecting { req }), Some(socket)),
        Err(error) => {
            (Some(Event::Failed { req, failure: from_io(format!("connect to port {port}"), &error) }), None)
        }
    }
}

fn begin<T>(family: libc::c_int, address: &T) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: takes scalars.
    let fd = unsafe { libc::socket(family, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: `address` is a live socket address of the stated size.
    let result = unsafe {
        libc::connect(socket.as_raw_fd(), (&raw const *address).cast(), size_of::<T>() as libc::socklen_t)
    };
    match (result, io::Error::last_os_error()) {
        (0, _) => Ok(socket),
        (_, error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket),
        (_, error) => Err(error),
    }
}

fn v4(port: u16) -> libc::sockaddr_in {
    // SAFETY: plain data, zero is valid for all of it.
    let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    address.sin_family = libc::AF_INET as libc::sa_family_t;
    address.sin_port = port.to_be();
    address.sin_addr.s_addr = libc::INADDR_LOOPBACK.to_be();
    address
}

fn v6(port: u16) -> libc::sockaddr_in6 {
    // SAFETY: plain data, zero is valid for all of it.
    let mut address: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
    address.sin6_family = libc::AF_INET6 as libc::sa_family_t;
    address.sin6_port = port.to_be();
    address.sin6_addr.s6_addr = std::net::Ipv6Addr::LOCALHOST.octets();
    address
}
