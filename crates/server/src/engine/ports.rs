//! Connections to programs that listen inside a sandbox.
//!
//! `init` makes the socket in the sandbox's network namespace and begins to connect; waiting is done here, so that
//! `init` never waits for what a hostile program does with its port.

use std::io;
use std::net::TcpStream as StdStream;
use std::os::fd::OwnedFd;

use sandwire_isolate::wire::{Event, Failure, Loopback, Request};
use sandwire_protocol::limits::PORT_CONNECT_DEADLINE;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::fault::Fault;
use super::sandbox::Sandbox;

/// Why a port can't be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing listens there, or what does takes no connection.
    #[error("port {port}: {source}")]
    Port {
        /// The port.
        port: u16,
        /// The kernel's word.
        source: io::Error,
    },
    /// The sandbox itself can't be asked.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Sandbox {
    /// Connects to a port of the sandbox's loopback interface, by IPv4 and then by IPv6.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(&self, port: u16) -> Result<TcpStream, ConnectError> {
        match self.connect_by(Loopback::V4, port).await {
            Err(ConnectError::Port { source, .. }) if source.kind() == io::ErrorKind::ConnectionRefused => {
                self.connect_by(Loopback::V6, port).await
            }
            result => result,
        }
    }

    async fn connect_by(&self, loopback: Loopback, port: u16) -> Result<TcpStream, ConnectError> {
        let failed = |source| ConnectError::Port { port, source };
        let answer = self.link()?.ask(|req| Request::Connect { req, loopback, port }, &[]).await?;
        let (event, fds) =
            answer.map_err(|Failure { errno, .. }| failed(io::Error::from_raw_os_error(errno)))?;
        if !matches!(event, Event::Connecting { .. }) {
            tracing::error!(?event, "init answered something else");
            return Err(Fault::command("the sandbox gave an unexpected answer").into());
        }
        let fd = fds.into_iter().next().ok_or_else(Fault::no_descriptor)?;
        match timeout(PORT_CONNECT_DEADLINE, established(fd)).await {
            Ok(result) => result.map_err(failed),
            Err(_) => Err(failed(io::ErrorKind::TimedOut.into())),
        }
    }
}

/// Whatever `init` sent: what is not a connected TCP socket is refused by one of these steps.
async fn established(fd: OwnedFd) -> io::Result<TcpStream> {
    let stream = StdStream::from(fd);
    stream.set_nonblocking(true)?;
    let stream = TcpStream::from_std(stream)?;
    stream.writable().await?;
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    stream.peer_addr()?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
