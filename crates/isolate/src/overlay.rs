//! Detached overlay mounts.

use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

/// What all overlays of a server have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    /// Keep overlayfs' own marks in `user.*` attributes: the only ones a server without root may write.
    pub(crate) user_attributes: bool,
    /// Never write the upper back to disk; for sandboxes that do not outlive the server.
    pub(crate) volatile: bool,
}

/// Makes an overlay of `lowers` (the first is the uppermost) below a private `upper`, attached nowhere yet.
///
/// Layers are named by descriptor: `/proc/self/mountinfo` inside then shows nothing of the host's paths, and no
/// character of a path needs escaping.
pub(crate) fn overlay(
    lowers: &[BorrowedFd<'_>],
    upper: &Path,
    work: &Path,
    style: Style,
) -> io::Result<OwnedFd> {
    let (upper, work) = (directory(upper)?, directory(work)?);
    let mut lower = String::new();
    for (nth, layer) in lowers.iter().enumerate() {
        let separator = if nth == 0 { "" } else { ":" };
        // Writing to a String can't fail.
        let _ = write!(lower, "{separator}{}", name(*layer));
    }
    let filesystem = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&filesystem, "lowerdir", lower)?;
    fsconfig_set_string(&filesystem, "upperdir", name(upper.as_fd()))?;
    fsconfig_set_string(&filesystem, "workdir", name(work.as_fd()))?;
    if style.user_attributes {
        fsconfig_set_flag(&filesystem, "userxattr")?;
    }
    if style.volatile {
        fsconfig_set_flag(&filesystem, "volatile")?;
    }
    fsconfig_create(&filesystem)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    Ok(fsmount(&filesystem, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Opens a directory as a layer.
pub(crate) fn directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn name(layer: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", layer.as_raw_fd())
}
