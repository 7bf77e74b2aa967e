//! Pseudo-terminals, from the sandbox's own devpts: they have a name inside, and no other sandbox can open them.
//!
//! The master goes to the server and to nobody else: it is never inherited, and this process, whose descriptors are
//! out of reach for commands, keeps no copy. The slave belongs to the command's user.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use sandwire_init::wire::{Failure, WindowSize};

use crate::failure::check;

/// Nobody inside can put another file in its place: devpts knows no removal, and its mount point can't be moved.
const MULTIPLEXER: &std::ffi::CStr = c"/dev/pts/ptmx";

/// Both ends of a pseudo-terminal.
pub(crate) struct Terminal {
    /// For the server: it does not block.
    pub(crate) master: OwnedFd,
    /// For the command.
    pub(crate) slave: OwnedFd,
}

impl Terminal {
    /// Opens a new one for a user.
    pub(crate) fn open(size: WindowSize, uid: u32, gid: u32) -> Result<Self, Failure> {
        // This process leads a session without a terminal, and must not get one.
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        // SAFETY: a NUL-terminated literal.
        let master = new(unsafe { libc::open(MULTIPLEXER.as_ptr(), flags | libc::O_NONBLOCK) })?;
        let size = libc::winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
        let unlocked: libc::c_int = 0;
        // SAFETY: each request takes what it is given: a live struct, a live int, a scalar.
        let slave = unsafe {
            check(libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size), "size the terminal")?;
            check(
                libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked),
                "unlock the terminal",
            )?;
            // By descriptor rather than by name: whatever happens to the names, it is the other end.
            new(libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags))?
        };
        let terminal = Self { master, slave };
        terminal.expect_text()?;
        if (uid, gid) != (0, 0) {
            // SAFETY: takes scalars.
            check(unsafe { libc::fchown(terminal.slave.as_raw_fd(), uid, gid) }, "own the terminal")?;
        }
        Ok(terminal)
    }

    /// Has a backspace erase a character, not a byte of it.
    fn expect_text(&self) -> Result<(), Failure> {
        let slave = self.slave.as_raw_fd();
        // SAFETY: termios is plain data, valid as zeroes, and live.
        unsafe {
            let mut modes: libc::termios = std::mem::zeroed();
            check(libc::tcgetattr(slave, &raw mut modes), "read the terminal's modes")?;
            modes.c_iflag |= libc::IUTF8;
            check(libc::tcsetattr(slave, libc::TCSANOW, &raw const modes), "set the terminal's modes")?;
        }
        Ok(())
    }
}

fn new(fd: RawFd) -> Result<OwnedFd, Failure> {
    let fd = check(fd, "open a pseudo-terminal")?;
    // SAFETY: the kernel just gave it to this process.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
