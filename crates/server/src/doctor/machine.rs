//! The machine and the account that the server runs on.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{Resource, getrlimit};
use rustix::system::uname;
use sandwire_isolate::Check;
use sandwire_protocol::limits::OPEN_FILES_WANTED;

use super::judged;

/// The first kernel whose overlays and mounts do everything that the server can use: idmapped layers.
const KERNEL_WANTED: (u32, u32) = (5, 19);

pub(super) fn kernel() -> Check {
    let release = uname().release().to_string_lossy().into_owned();
    let old = version(&release).is_some_and(|version| version < KERNEL_WANTED);
    let remedy = "from 5.19 on everything is there; with an older one see the checks below for what is not";
    judged("kernel", release, old.then_some(remedy))
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The server raises its soft limit to the hard one.
pub(super) fn open_files() -> Check {
    let most = getrlimit(Resource::Nofile).maximum;
    let few = most.is_some_and(|most| most < OPEN_FILES_WANTED);
    let detail = most.map_or_else(|| "no limit".to_owned(), |most| format!("{most} at most"));
    let remedy = "a sandbox takes two or three descriptors, a running command three or more: raise LimitNOFILE= in the \
         unit, or `nofile` in /etc/security/limits.conf";
    judged("open files", detail, few.then_some(remedy))
}

pub(super) fn key_file(path: &Path) -> Check {
    let shown = path.display();
    match path.metadata() {
        Ok(metadata) if metadata.mode() & 0o077 == 0 => {
            judged("key file", format!("{shown} is private"), None)
        }
        Ok(metadata) => {
            let detail = format!("{shown} has mode {:o}", metadata.mode() & 0o777);
            judged("key file", detail, Some("others can read it: chmod 600"))
        }
        Err(error) => judged("key file", format!("{shown}: {error}"), Some("put the API key into it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandwire_isolate::Verdict;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn versions_are_read() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("5.10"), Some((5, 10)));
        assert_eq!(version("unknown"), None);
    }

    #[test]
    fn a_key_that_others_can_read_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        assert_eq!(key_file(&path).verdict, Verdict::Degraded);
        fs::write(&path, "secret").unwrap();
        for (mode, verdict) in [(0o644, Verdict::Degraded), (0o600, Verdict::Ok)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(key_file(&path).verdict, verdict);
        }
    }
}
