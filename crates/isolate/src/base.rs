//! The default base: the host's own userland, read-only, with everything personal left out.
//!
//! It is an allow list. `/usr`, `/opt` and, where they are not links into `/usr`, `/bin`, `/lib*` and `/sbin` are
//! lower layers of their own; everything else comes from a skeleton that is written fresh at every start: empty
//! homes and state directories, and an `/etc` of what programs need, without passwords, keys, host names,
//! package sources or configuration that could hold a secret.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};

use crate::Error;
use crate::ids::Ids;
use crate::overlay::directory;
use crate::sys;

const USERLAND: &[&str] = &["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "opt"];

/// Keeps its owners, so that what only the host's root may read there root inside may not either: applications put
/// their keys beside their programs.
const FOREIGN: &str = "opt";

/// Directory, mode. Owned by root inside, but for the home of `user`.
const DIRECTORIES: &[(&str, u32)] = &[
    ("boot", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("home/user", 0o755),
    ("media", 0o755),
    ("mnt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("run/lock", 0o1777),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("var", 0o755),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/spool", 0o755),
    ("var/tmp", 0o1777),
];

/// What programs read in `/etc`; directories with all that anybody may read in them. A star at the end stands for
/// any rest of the name, such as a version.
const ETC: &[&str] = &[
    "alternatives",
    "bash.bashrc",
    "ca-certificates",
    "ca-certificates.conf",
    "debian_version",
    "ethertypes",
    "fonts",
    "gai.conf",
    "host.conf",
    "inputrc",
    "java-*",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "locale.conf",
    "localtime",
    "login.defs",
    "lsb-release",
    "magic",
    "magic.mime",
    "mime.types",
    "networks",
    "nsswitch.conf",
    "os-release",
    "pam.conf",
    "pam.d",
    "perl",
    "pki/tls/certs",
    "pki/ca-trust/extracted",
    "postgresql-common",
    "profile",
    "profile.d",
    "protocols",
    "python3*",
    "rpc",
    "security",
    "services",
    "shells",
    "skel",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
    "vim",
    "xattr.conf",
];

const USER_ID: u32 = 1000;

/// A place of the base: where it is mounted and what lies under the sandbox's own layer there.
#[derive(Debug)]
pub(crate) struct Place {
    /// Absolute path inside.
    pub(crate) target: String,
    /// Name of the sandbox's own layer for it.
    pub(crate) name: String,
    lower: OwnedFd,
}

impl Place {
    pub(crate) fn lowers(&self) -> [BorrowedFd<'_>; 1] {
        [self.lower.as_fd()]
    }
}

/// The base, ready to be stacked on.
#[derive(Debug)]
pub(crate) struct Base {
    places: Vec<Place>,
    id_mapped: bool,
    lowers: PathBuf,
}

impl Drop for Base {
    fn drop(&mut self) {
        self.detach();
    }
}

impl Base {
    /// Writes the skeleton under `dir` and opens the host's userland.
    pub(crate) fn prepare(dir: &Path, ids: Ids, user_namespace: Option<&OwnedFd>) -> Result<Self, Error> {
        let skeleton = dir.join("skeleton");
        let lowers = dir.join("lower");
        remove(&skeleton).map_err(Error::path("remove", &skeleton))?;
        for fresh in [&skeleton, &lowers] {
            make_dir(fresh, 0o755).map_err(Error::path("create", fresh))?;
        }
        let userland = write_skeleton(&skeleton, ids).map_err(Error::path("write", &skeleton))?;
        let root = directory(&skeleton).map_err(Error::path("open", &skeleton))?;
        let mut places = vec![Place { target: "/".to_owned(), name: "root".to_owned(), lower: root }];
        let mut id_mapped = user_namespace.is_some();
        for name in userland {
            let host = Path::new("/").join(name);
            let mapped = match user_namespace {
                Some(namespace) if name != FOREIGN => id_mapped_at(&host, &lowers.join(name), namespace).ok(),
                _ => None,
            };
            id_mapped &= mapped.is_some() || name == FOREIGN;
            let lower = match mapped {
                Some(mapped) => mapped,
                None => directory(&host).map_err(Error::path("open", &host))?,
            };
            places.push(Place { target: format!("/{name}"), name: name.to_owned(), lower });
        }
        Ok(Self { places, id_mapped, lowers })
    }

    pub(crate) fn places(&self) -> &[Place] {
        &self.places
    }

    /// Detaches the userland's copies, so that the directory can be removed. New sandboxes can't be made then.
    pub(crate) fn detach(&self) {
        for place in &self.places {
            let at = self.lowers.join(&place.name);
            // Where there was no copy there is nothing to detach.
            let _ = unmount(&at, UnmountFlags::DETACH);
        }
    }

    /// Whether the userland's files belong to root inside.
    pub(crate) fn id_mapped(&self) -> bool {
        self.id_mapped
    }
}

/// Mounts a copy of `host` at `at`, seen with the ids of the sandboxes. Overlayfs of older kernels takes only
/// layers that are mounted somewhere; this server's mount namespace is its own.
fn id_mapped_at(host: &Path, at: &Path, user_namespace: &OwnedFd) -> io::Result<OwnedFd> {
    make_dir(at, 0o755)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let copy = open_tree(CWD, host, flags)?;
    sys::set_id_map(copy.as_fd(), user_namespace.as_fd())?;
    move_mount(&copy, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    directory(at)
}

/// Writes the skeleton; gives the names of the userland's real directories.
fn write_skeleton(skeleton: &Path, ids: Ids) -> io::Result<Vec<&'static str>> {
    for (name, mode) in DIRECTORIES {
        make_dir(&skeleton.join(name), *mode)?;
    }
    write_etc(&skeleton.join("etc"))?;
    let mut userland = Vec::new();
    for name in USERLAND {
        let host = Path::new("/").join(name);
        match fs::symlink_metadata(&host) {
            Ok(metadata) if metadata.is_symlink() => symlink(fs::read_link(&host)?, skeleton.join(name))?,
            Ok(metadata) if metadata.is_dir() => {
                make_dir(&skeleton.join(name), 0o755)?;
                userland.push(*name);
            }
            _ => {}
        }
    }
    own(skeleton, ids.root())?;
    let home = skeleton.join("home/user");
    chown(&home, Some(ids.users.outside(USER_ID)), Some(ids.groups.outside(USER_ID)))?;
    Ok(userland)
}

fn write_etc(etc: &Path) -> io::Result<()> {
    for name in ETC.iter().flat_map(|pattern| matching(pattern)) {
        let (from, to) = (Path::new("/etc").join(&name), etc.join(&name));
        if fs::symlink_metadata(&from).is_ok() {
            fs::create_dir_all(to.parent().unwrap_or(etc))?;
            copy(&from, &to)?;
        }
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let group = fs::read_to_string("/etc/group").unwrap_or_default();
    fs::write(
        etc.join("passwd"),
        format!("{}user:*:{USER_ID}:{USER_ID}::/home/user:/bin/bash\n", accounts(&passwd)),
    )?;
    fs::write(etc.join("group"), format!("{}user:x:{USER_ID}:\n", groups(&group)))?;
    fs::write(etc.join("hostname"), "sandbox\n")?;
    fs::write(etc.join("hosts"), "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")?;
    fs::write(etc.join("resolv.conf"), "")?;
    symlink("/proc/self/mounts", etc.join("mtab"))
}

fn matching(pattern: &str) -> Vec<String> {
    let Some(start) = pattern.strip_suffix('*') else { return vec![pattern.to_owned()] };
    let entries = fs::read_dir("/etc").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with(start)).collect()
}

/// System accounts of a `passwd` file, without comments that could name people. Nobody has a password, and saying so
/// here keeps PAM from looking for a shadow file.
fn accounts(passwd: &str) -> String {
    let system = |line: &&str| system_id(line) && !line.starts_with("user:");
    let rebuilt = passwd.lines().filter(system).filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, shell] = fields.as_slice() else { return None };
        Some(format!("{name}:*:{uid}:{gid}::{home}:{shell}\n"))
    });
    rebuilt.collect()
}

/// System groups of a `group` file, without members.
fn groups(group: &str) -> String {
    let system = |line: &&str| system_id(line) && !line.starts_with("user:");
    let rebuilt = group.lines().filter(system).filter_map(|line| {
        let mut fields = line.split(':');
        let (name, gid) = (fields.next()?, fields.nth(1)?);
        Some(format!("{name}:x:{gid}:\n"))
    });
    rebuilt.collect()
}

/// Whether the third field is an id below those of people, or nobody's.
fn system_id(line: &str) -> bool {
    let id = line.split(':').nth(2).and_then(|id| id.parse::<u32>().ok());
    id.is_some_and(|id| id < USER_ID || id == 65_534)
}

/// Copies what anybody may read; links stay links, anything special or private is left out.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(from)?;
    if metadata.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    let mode = metadata.permissions().mode();
    if mode & 0o004 == 0 {
        return Ok(());
    }
    if metadata.is_dir() {
        make_dir(to, mode & 0o755)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
    } else if metadata.is_file() {
        fs::copy(from, to)?;
    }
    Ok(())
}

fn own(path: &Path, (uid, gid): (u32, u32)) -> io::Result<()> {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid))?;
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            own(&entry?.path(), (uid, gid))?;
        }
    }
    Ok(())
}

/// Creates a directory with exactly this mode, whatever the umask.
pub(crate) fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Removes a tree of this program's own making.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The layers of one sandbox for one place.
pub(crate) struct Layers {
    pub(crate) upper: PathBuf,
    pub(crate) work: PathBuf,
}

impl Layers {
    /// Creates them under the sandbox's directory, owned so that root inside may write.
    pub(crate) fn create(dir: &Path, place: &Place, ids: Ids) -> io::Result<Self> {
        let own = dir.join(&place.name);
        let layers = Self { upper: own.join("upper"), work: own.join("work") };
        make_dir(&own, 0o700)?;
        make_dir(&layers.work, 0o700)?;
        make_dir(&layers.upper, 0o755)?;
        // The mark of an overlay that was not written back, against a mount after a crash of the machine. Nothing here
        // that has one outlives the machine's memory.
        remove(&layers.work.join("work/incompat"))?;
        let (uid, gid) = ids.root();
        chown(&layers.upper, Some(uid), Some(gid))?;
        Ok(layers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_and_their_names_are_left_out() {
        let passwd = "root:x:0:0:Jane Doe:/root:/bin/zsh\njane:x:1000:1000:Jane:/home/jane:/bin/sh\n\
             nobody:x:65534:65534:n:/nonexistent:/usr/sbin/nologin\nbroken\n";
        let kept = accounts(passwd);
        assert_eq!(
            kept,
            "root:*:0:0::/root:/bin/zsh\nnobody:*:65534:65534::/nonexistent:/usr/sbin/nologin\n"
        );
    }

    #[test]
    fn groups_lose_their_members() {
        assert_eq!(groups("sudo:x:27:jane,bob\njane:x:1000:\n"), "sudo:x:27:\n");
    }

    #[test]
    fn private_files_are_not_copied() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        make_dir(&from, 0o755).unwrap();
        for (name, mode) in [("public", 0o644), ("secret", 0o640)] {
            fs::write(from.join(name), name).unwrap();
            fs::set_permissions(from.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        symlink("/nowhere", from.join("link")).unwrap();
        let to = dir.path().join("to");
        copy(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("public")).unwrap(), "public");
        assert!(!to.join("secret").exists());
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/nowhere"));
    }

    #[test]
    fn the_skeleton_has_no_secrets() {
        assert!(!ETC.iter().any(|name| name.contains("shadow") || name.contains("private")));
    }
}
