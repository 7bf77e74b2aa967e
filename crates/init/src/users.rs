//! Users and groups by their names, from the sandbox's own `/etc/passwd` and `/etc/group`.
//!
//! Both files belong to hostile code: they are read as far as a bound, only if they are regular files outside of
//! `/proc` (some of whose files make a reader wait), and a line that is no entry is passed over.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use sandwire_init::wire::{Account, Event, Failure};

use crate::failure::from_io;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// Largest file that is read, bytes: tens of thousands of entries.
const FILE_MAX: u64 = 1024 * 1024;

/// Longest user name, bytes: as long as the kernel's own bound for login names.
const NAME_MAX: usize = 256;

/// Groups that a user may be in: far beyond what accounts have.
const GROUPS_MAX: usize = 256;

/// Looks up `name`, `uid`, `name:group` or `uid:gid`.
pub(crate) fn find(req: u64, user: &str) -> Event {
    match read(PASSWD).and_then(|passwd| account(user, &passwd, &read(GROUP)?)) {
        Ok(mut account) => {
            account.home = account.home.filter(|home| fs::metadata(home).is_ok_and(|home| home.is_dir()));
            Event::UserFound { req, account }
        }
        Err(failure) => Event::Failed { req, failure },
    }
}

/// As container runtimes do it: the group of a number without an entry is 0, and whoever names a group is in no other.
fn account(user: &str, passwd: &str, group: &str) -> Result<Account, Failure> {
    let (user, own_group) = user.split_once(':').map_or((user, None), |(user, group)| (user, Some(group)));
    let number = number(user);
    let entry = entries(passwd).find(|fields| match number {
        Some(uid) => id(fields, 2) == Some(uid),
        None => fields.first() == Some(&user) && id(fields, 2).is_some(),
    });
    let uid = number.or_else(|| id(entry.as_ref()?, 2));
    let uid = uid.ok_or_else(|| unknown(format!("no user {user:?} in {PASSWD}")))?;
    let field = |n: usize| entry.as_ref().and_then(|fields| fields.get(n)).map(|text| (*text).to_owned());
    let name = field(0).filter(|name| name.len() <= NAME_MAX && !name.contains('\0'));
    let (gid, groups) = match own_group {
        Some(own) => (group_id(own, group)?, Vec::new()),
        None => (
            entry.as_ref().and_then(|fields| id(fields, 3)).unwrap_or(0),
            name.as_deref().map_or(Ok(Vec::new()), |name| memberships(name, group))?,
        ),
    };
    Ok(Account { uid, gid, groups, name, home: field(5).filter(|home| home.starts_with('/')) })
}

fn group_id(name: &str, group: &str) -> Result<u32, Failure> {
    let named =
        || entries(group).find(|fields| fields.first() == Some(&name)).and_then(|fields| id(&fields, 2));
    number(name).or_else(named).ok_or_else(|| unknown(format!("no group {name:?} in {GROUP}")))
}

/// The groups that list a user as their member.
fn memberships(name: &str, group: &str) -> Result<Vec<u32>, Failure> {
    let lists =
        |fields: &Vec<&str>| fields.get(3).is_some_and(|members| members.split(',').any(|m| m == name));
    let mut groups: Vec<u32> = entries(group).filter(lists).filter_map(|fields| id(&fields, 2)).collect();
    groups.sort_unstable();
    groups.dedup();
    if groups.len() > GROUPS_MAX {
        let step = format!("user {name:?} is in more than {GROUPS_MAX} groups of {GROUP}");
        return Err(Failure { step, errno: libc::E2BIG });
    }
    Ok(groups)
}

fn entries(file: &str) -> impl Iterator<Item = Vec<&str>> {
    file.lines().map(|line| line.split(':').collect())
}

fn id(fields: &[&str], n: usize) -> Option<u32> {
    fields.get(n).and_then(|text| number(text))
}

/// Digits only: `parse` would take a sign.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// A name that is not there; its number is what tells it from other failures.
fn unknown(step: String) -> Failure {
    Failure { step, errno: libc::ENOENT }
}

/// The text of a file; one that is not there is empty.
fn read(path: &str) -> Result<String, Failure> {
    match open(path).and_then(text) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(from_io(format!("read {path}"), &error)),
    }
}

fn open(path: &str) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC)
        .open(path)?;
    // SAFETY: statfs is plain data, valid as zeroes, and live.
    let of_proc = unsafe {
        let mut system: libc::statfs = std::mem::zeroed();
        libc::fstatfs(file.as_raw_fd(), &raw mut system) < 0 || system.f_type == libc::PROC_SUPER_MAGIC
    };
    if of_proc || !file.metadata()?.is_file() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    Ok(file)
}

fn text(file: File) -> io::Result<String> {
    let mut bytes = Vec::new();
    if file.take(FILE_MAX + 1).read_to_end(&mut bytes)? as u64 > FILE_MAX {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/bash\n\nbroken\nada:x:1000:1000::/home/ada:/bin/sh\n\
        big:x:99999999999:1::/:\n7:x:70:71::relative:/bin/sh\n";
    const GROUPS: &str =
        "root:x:0:\nada:x:1000:\naudio:x:29:bob,ada\nvideo:x:44:ada,\nempty:x:5:\naudio:x:29:ada\n";

    fn find(user: &str) -> Result<(u32, u32, Vec<u32>), String> {
        account(user, USERS, GROUPS)
            .map(|account| (account.uid, account.gid, account.groups))
            .map_err(|failure| failure.step)
    }

    #[test]
    fn all_forms_are_found() {
        assert_eq!(find("ada"), Ok((1000, 1000, vec![29, 44])));
        assert_eq!(find("1000"), Ok((1000, 1000, vec![29, 44])), "a number with an entry");
        assert_eq!(find("ada:empty"), Ok((1000, 5, vec![])), "whoever names a group is in no other");
        assert_eq!(find("ada:44"), Ok((1000, 44, vec![])));
        assert_eq!(find("1234"), Ok((1234, 0, vec![])));
        assert_eq!(find("1234:audio"), Ok((1234, 29, vec![])));
        assert_eq!(find("1:2"), Ok((1, 2, vec![])));
        assert_eq!(find("7"), Ok((7, 0, vec![])), "a name of digits is a number");
    }

    #[test]
    fn what_is_unknown_is_named() {
        assert_eq!(find("eve").unwrap_err(), "no user \"eve\" in /etc/passwd");
        assert_eq!(find("ada:staff").unwrap_err(), "no group \"staff\" in /etc/group");
        assert_eq!(find("big").unwrap_err(), "no user \"big\" in /etc/passwd", "its number is none");
        for nonsense in ["", ":", "ada:", ":0", "+1", "-1", "broken", "ada:x:1"] {
            assert!(find(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn homes_are_absolute() {
        let home = |user: &str| account(user, USERS, GROUPS).unwrap().home;
        assert_eq!(home("1000").as_deref(), Some("/home/ada"));
        assert_eq!(account("70", USERS, GROUPS).unwrap().name.as_deref(), Some("7"));
        assert_eq!(home("70"), None);
    }

    #[test]
    fn names_that_no_environment_should_hold_are_none() {
        let name = |name: &str| account("9", &format!("{name}:x:9:9::/:/bin/sh\n"), "").unwrap().name;
        let longest = "n".repeat(NAME_MAX);
        assert_eq!(name(&longest), Some(longest.clone()));
        assert_eq!(name(&format!("{longest}n")), None);
        assert_eq!(name("a\0b"), None);
    }

    #[test]
    fn groups_are_bounded() {
        let many: String = (0..=GROUPS_MAX).map(|gid| format!("g{gid}:x:{gid}:ada\n")).collect();
        assert_eq!(account("ada", USERS, &many).unwrap_err().errno, libc::E2BIG);
    }

    #[test]
    fn only_regular_files_are_read() {
        let error = |path: &str| open(path).and_then(text).unwrap_err().raw_os_error();
        assert_eq!(error("/dev/zero"), Some(libc::EINVAL));
        assert_eq!(error("/proc/self/status"), Some(libc::EINVAL));
        assert_eq!(error("/dev"), Some(libc::EINVAL));
        assert_eq!(read("/none").unwrap(), "");
    }
}
