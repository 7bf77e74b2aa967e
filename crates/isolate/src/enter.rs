//! Where the server lives: mounts of its own, and, without root, a user namespace in which it is root.
//!
//! Everything that is mounted later exists only for this process and its children, so that it disappears with
//! them however they end. After [`enter`] the rest of the crate needs no second path for ordinary users: it has
//! the rights of root over what it may touch.

use std::fs;
use std::io;
use std::process::{Command, Stdio};

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{getegid, geteuid};
use sandwire_protocol::Mode;

use crate::Error;
use crate::sys;

/// Subordinate ids that a sandbox needs: all that Linux distributions assume to exist.
const RANGE: u32 = 65_536;

const USERNS_REMEDY: &str = "allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, \
     user.max_user_namespaces > 0, kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile that \
     permits them; in a container also its seccomp profile), or run as root";

/// Moves this process into namespaces of its own. Must come first in `main`: no thread may exist yet.
///
/// # Errors
/// [`Error::Unsupported`] where neither root's rights nor user namespaces are to be had.
pub fn enter() -> Result<Mode, Error> {
    let mode = if geteuid().is_root() && sys::unshare(libc::CLONE_NEWNS).is_ok() {
        Mode::Root
    } else {
        enter_user_namespace()?;
        Mode::Rootless
    };
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(io::Error::from)
        .map_err(Error::unsupported("a mount namespace", USERNS_REMEDY))?;
    Ok(mode)
}

fn enter_user_namespace() -> Result<(), Error> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let parent = std::process::id();
    let ranges = subordinate_ranges(uid);
    let mapper = match ranges {
        Some(ranges) => Some(
            sys::before_namespaces(move || write_ranges(parent, uid, gid, ranges))
                .map_err(Error::host("fork"))?,
        ),
        None => None,
    };
    sys::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS)
        .map_err(Error::unsupported("a user namespace", USERNS_REMEDY))?;
    let mapped = match mapper {
        Some(mapper) => mapper.run().map_err(Error::host("map ids"))?,
        None => false,
    };
    if mapped {
        Ok(())
    } else {
        write_single(uid, gid).map_err(Error::unsupported("an id map", USERNS_REMEDY))
    }
}

/// First ids of this user's subordinate ranges, where both are as large as a sandbox needs.
fn subordinate_ranges(uid: u32) -> Option<(u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    let range = |file| range_of(&fs::read_to_string(file).ok()?, name.as_deref(), uid);
    Some((range("/etc/subuid")?, range("/etc/subgid")?))
}

fn range_of(table: &str, name: Option<&str>, uid: u32) -> Option<u32> {
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let (start, count) = (fields.next()?.parse().ok()?, fields.next()?.parse::<u32>().ok()?);
        let ours = Some(owner) == name || owner.parse() == Ok(uid);
        (ours && count >= RANGE).then_some(start)
    })
}

/// Only the set-uid helpers may map ids that are not the user's own, and only from outside the new namespace.
fn write_ranges(process: u32, uid: u32, gid: u32, (users, groups): (u32, u32)) -> io::Result<()> {
    for (helper, own, range) in [("newuidmap", uid, users), ("newgidmap", gid, groups)] {
        let map = [0, own, 1, 1, range, RANGE].map(|number| number.to_string());
        let status = Command::new(helper)
            .arg(process.to_string())
            .args(map)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if !status.success() {
            return Err(io::Error::other(helper));
        }
    }
    Ok(())
}

fn write_single(uid: u32, gid: u32) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_or_id_and_must_be_large() {
        let table = "other:1:65536\nme:100000:10\nme:200000:65536\n1000:300000:70000\n";
        assert_eq!(range_of(table, Some("me"), 1000), Some(200_000));
        assert_eq!(range_of(table, Some("nobody"), 1000), Some(300_000));
        assert_eq!(range_of(table, None, 7), None);
        assert_eq!(range_of("me:x:y\n\n:::", Some("me"), 1), None);
    }
}
