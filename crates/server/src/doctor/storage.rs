//! The file system of the state directory: whether it is one to keep sandboxes on.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{XattrFlags, major, minor, setxattr, statvfs};
use sandwire_isolate::Check;
use sandwire_protocol::limits::FREE_SPACE_WANTED;

use super::judged;

/// Types that overlays can't write to, or that lose what they promise.
const UNFIT: [&str; 8] = ["nfs", "nfs4", "cifs", "9p", "vfat", "exfat", "overlay", "ecryptfs"];

/// `wanted` is the state directory, `near` an empty directory on the same file system.
pub(super) fn checks(wanted: Option<&Path>, near: &Path) -> Vec<Check> {
    let shown = wanted.unwrap_or(near).display().to_string();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let device = near.metadata().map(|metadata| metadata.dev()).unwrap_or_default();
    let mut checks: Vec<_> =
        mount(&mounts, device).map(|mount| file_system(&shown, &mount)).into_iter().collect();
    checks.push(attributes(near));
    checks.extend(space(near));
    checks
}

/// The mount of a device.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    kind: String,
    source: String,
}

fn mount(mountinfo: &str, device: u64) -> Option<Mount> {
    let wanted = format!("{}:{}", major(device), minor(device));
    let line = mountinfo.lines().find(|line| line.split(' ').nth(2) == Some(&wanted))?;
    let mut rest = line.split_once(" - ")?.1.split(' ');
    Some(Mount { kind: rest.next()?.to_owned(), source: rest.next()?.to_owned() })
}

fn file_system(shown: &str, Mount { kind, source }: &Mount) -> Check {
    let remedy = if UNFIT.contains(&kind.as_str()) {
        Some("overlays can't be trusted to it: use a local ext4, xfs, btrfs or tmpfs")
    } else if kind == "ext4" && !has_journal(source) {
        Some(
            "without a journal deleting sandboxes is slow: `tune2fs -O has_journal` while it is not mounted, or use a \
             tmpfs, xfs or btrfs",
        )
    } else {
        None
    };
    judged("state directory", format!("{shown} on {kind}"), remedy)
}

/// The kernel has a directory for every journal, named by the device. Where it has none for any, nobody knows.
fn has_journal(source: &str) -> bool {
    let device =
        Path::new(source).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let Ok(journals) = fs::read_dir("/proc/fs/jbd2") else { return true };
    let mut names = journals.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.any(|name| name.rsplit_once('-').is_some_and(|(of, _)| of == device))
}

/// Overlays keep theirs in `trusted`, which only root can write, or in `user`.
fn attributes(near: &Path) -> Check {
    let set = |name: &str| setxattr(near, name, b"1", XattrFlags::empty());
    match set("trusted.sandwired").or_else(|_| set("user.sandwired")) {
        Ok(()) => judged("extended attributes", "can be set".to_owned(), None),
        Err(error) => {
            let remedy = "renaming directories inside sandboxes may fail: use ext4, xfs or btrfs, or a tmpfs of Linux 6.6";
            judged("extended attributes", error.to_string(), Some(remedy))
        }
    }
}

fn space(near: &Path) -> Option<Check> {
    let space = statvfs(near).ok()?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let remedy = "sandboxes share it: make room, or put the state directory elsewhere";
    let scarce = free < FREE_SPACE_WANTED;
    Some(judged("free space", format!("{} MiB", free >> 20), scarce.then_some(remedy)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandwire_isolate::Verdict;

    #[test]
    fn the_mount_of_a_device_is_found() {
        let mountinfo =
            "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 0:25 / /dev/shm rw shared:4 - tmpfs tmpfs rw\n";
        let device = rustix::fs::makedev(0, 25);
        let wanted = Mount { kind: "tmpfs".into(), source: "tmpfs".into() };
        assert_eq!(mount(mountinfo, device), Some(wanted));
        assert_eq!(mount(mountinfo, rustix::fs::makedev(9, 9)), None);
    }

    #[test]
    fn what_overlays_can_not_use_is_told() {
        let check =
            |kind: &str| file_system("/d", &Mount { kind: kind.into(), source: "none".into() }).verdict;
        assert_eq!(
            (check("nfs4"), check("tmpfs"), check("xfs")),
            (Verdict::Degraded, Verdict::Ok, Verdict::Ok)
        );
    }

    #[test]
    fn a_real_directory_is_judged_whole() {
        let dir = tempfile::tempdir().unwrap();
        let checks = checks(None, dir.path());
        assert!(checks.iter().any(|check| check.name == "free space"));
        assert!(checks.iter().all(|check| !check.required && !check.detail.is_empty()));
    }
}
