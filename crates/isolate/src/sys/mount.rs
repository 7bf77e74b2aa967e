//! `mount_setattr`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

const ATTR_IDMAP: u64 = 0x0010_0000;

/// Makes a detached mount show its files under the ids of a user namespace, read-only: the server's own mistakes
/// must not reach the host's files through it.
pub(crate) fn set_id_map(mount: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: ATTR_IDMAP | libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        attr_clr: 0,
        propagation: 0,
        userns_fd: user_namespace.as_raw_fd() as u64,
    };
    // SAFETY: an empty path with AT_EMPTY_PATH means the descriptor; `attr` is live and of the stated size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
