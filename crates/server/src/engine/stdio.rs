//! What a command's stdin, stdout and stderr are: three pipes, or one terminal for all of them.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::fchown;

use tokio::io::Interest;

use super::channel::Channel;

/// The server's ends.
pub(super) struct Stdio {
    pub(super) stdin: Channel,
    pub(super) stdout: Channel,
    /// A terminal has none of its own.
    pub(super) stderr: Option<Channel>,
}

impl Stdio {
    /// New pipes; also gives the command's ends.
    pub(super) fn pipes(owner: Option<(u32, u32)>) -> io::Result<(Self, [OwnedFd; 3])> {
        let (child_in, stdin) = io::pipe()?;
        let (stdout, child_out) = io::pipe()?;
        let (stderr, child_err) = io::pipe()?;
        let children: [OwnedFd; 3] = [child_in.into(), child_out.into(), child_err.into()];
        // Lets the command's user open its own pipes again by `/dev/stdout` or `/proc/self/fd`.
        if let Some((uid, gid)) = owner {
            for child in &children {
                fchown(child, Some(uid), Some(gid))?;
            }
        }
        let ours = Self {
            stdin: Channel::new(stdin, Interest::WRITABLE)?,
            stdout: Channel::new(stdout, Interest::READABLE)?,
            stderr: Some(Channel::new(stderr, Interest::READABLE)?),
        };
        Ok((ours, children))
    }

    /// The terminal of this master.
    pub(super) fn terminal(master: OwnedFd) -> io::Result<Self> {
        let master = Channel::new(master, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { stdin: master.clone(), stdout: master, stderr: None })
    }

    /// The terminal, if it is one.
    pub(super) fn window(&self) -> Option<Channel> {
        self.stderr.is_none().then(|| self.stdout.clone())
    }
}
