//! The server's end of what a command reads and writes: a pipe, or the master of its pseudo-terminal.
//!
//! A master is both ends in one, hence the shared descriptor; it is closed, and a terminal with it hung up, when the
//! last user is done. The other end is hostile: it may fill, empty, close and reopen its terminal as it likes. After a
//! hang-up the runtime reports readiness for ever, so that nothing to read or no room is then the end, and no reason
//! to try again at once.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::io::{AsyncWrite, Interest};

use super::requests::WindowSize;

#[derive(Clone)]
pub(super) struct Channel(Arc<AsyncFd<OwnedFd>>);

impl Channel {
    /// The end of a pipe, or both ends of a terminal. Whatever `init` sent as one: what can't be waited for is refused.
    #[expect(deprecated, reason = "for types that may change their descriptor, which an OwnedFd never does")]
    pub(super) fn new(fd: impl Into<OwnedFd>, interest: Interest) -> io::Result<Self> {
        let fd = fd.into();
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self(Arc::new(AsyncFd::with_interest(fd, interest)?)))
    }

    /// Waits until there is something to read, or the end.
    pub(super) async fn readable(&self) -> io::Result<Readable<'_>> {
        self.0.readable().await.map(Readable)
    }

    /// Sets the size of the terminal's window, which tells the programs in its foreground.
    pub(super) fn resize(&self, size: WindowSize) {
        let size = Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
        if let Err(error) = tcsetwinsize(&*self.0, size) {
            tracing::debug!(%error, "window not resized");
        }
    }
}

/// A channel with something to read.
pub(super) struct Readable<'a>(AsyncFdReadyGuard<'a, OwnedFd>);

impl Readable<'_> {
    /// Reads what is there: 0 at the end, `WouldBlock` if there is nothing after all.
    pub(super) fn read(mut self, space: &mut [u8]) -> io::Result<usize> {
        let hung_up = self.0.ready().is_read_closed();
        match self.0.try_io(|fd| Ok(rustix::io::read(fd, space)?)) {
            // Nobody has the terminal open any more.
            Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => Ok(0),
            Ok(read) => read,
            Err(_) if hung_up => Ok(0),
            Err(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl AsyncWrite for Channel {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(context))?;
            let hung_up = ready.ready().is_write_closed();
            match ready.try_io(|fd| Ok(rustix::io::write(fd, bytes)?)) {
                Ok(written) => return Poll::Ready(written),
                Err(_) if hung_up => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                Err(_) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
    use tokio::io::AsyncWriteExt;

    const FLAGS: OpenptFlags = OpenptFlags::RDWR.union(OpenptFlags::NOCTTY);

    fn terminal() -> (Channel, OwnedFd, OwnedFd) {
        let master = openpt(FLAGS).unwrap();
        unlockpt(&master).unwrap();
        let slave = ioctl_tiocgptpeer(&master, FLAGS).unwrap();
        let copy = master.try_clone().unwrap();
        (Channel::new(master, Interest::READABLE | Interest::WRITABLE).unwrap(), copy, slave)
    }

    async fn read(channel: &Channel) -> io::Result<Vec<u8>> {
        let mut space = [0; 64];
        let size = channel.readable().await?.read(&mut space)?;
        Ok(space[..size].to_vec())
    }

    #[tokio::test]
    async fn a_terminal_ends_when_nobody_has_it_open() {
        let (channel, _copy, slave) = terminal();
        rustix::io::write(&slave, b"last").unwrap();
        drop(slave);
        assert_eq!(read(&channel).await.unwrap(), b"last");
        assert_eq!(read(&channel).await.unwrap(), b"");
    }

    #[tokio::test]
    async fn one_that_is_opened_again_after_its_end_has_ended() {
        let (mut channel, copy, slave) = terminal();
        drop(slave);
        channel.readable().await.unwrap();
        let slave = ioctl_tiocgptpeer(&copy, FLAGS).unwrap();
        assert_eq!(read(&channel).await.unwrap(), b"", "or it would be asked again and again");
        let full = channel.write_all(&[b'x'; 1 << 20]).await.unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::BrokenPipe);
        drop(slave);
    }

    #[tokio::test]
    async fn what_cant_be_waited_for_is_no_channel() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        assert!(Channel::new(file, Interest::READABLE).is_err());
    }
}
