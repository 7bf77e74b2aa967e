//! What the machine gives, found once by trying.

use std::fs;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use sandwire_protocol::{IdMapping, Isolation, Mode};

use crate::base::{Base, make_dir, remove};
use crate::cgroup::Cgroups;
use crate::ids::Ids;
use crate::sandbox::load_program;
use crate::{Error, Limits, Sandbox, SandboxSpec, seccomp, sys};

/// Remembers, in the state directory, where the server's cgroups are.
const CGROUP_RECORD: &str = "cgroups";

const RANGE_REMEDY: &str = "install newuidmap (package uidmap) and give the user 65536 ids in /etc/subuid and \
     /etc/subgid, or run as root";
const SANDBOX_REMEDY: &str = "run `sandwired doctor` for what this machine lacks";

/// Where a server keeps its things.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// The server's own directory; no other server may use it.
    pub state_dir: PathBuf,
    /// The `sandwire-init` program.
    pub init_path: PathBuf,
}

/// Removes what a server that was killed left outside its state directory. Nobody may use the directory; its
/// sandboxes died with the server.
pub fn clean(state_dir: &Path) {
    Cgroups::clean(&state_dir.join(CGROUP_RECORD));
}

/// A machine on which sandboxes can be made. One per server.
#[derive(Debug)]
pub struct Host {
    mode: Mode,
    ids: Ids,
    base: Base,
    cgroups: Cgroups,
    program: OwnedFd,
    null: OwnedFd,
    seccomp: Vec<u64>,
    isolation: Isolation,
}

impl Host {
    /// Finds what the machine gives and prepares what all sandboxes share. [`crate::enter`] came before and said
    /// the mode. Proves that it works by making one sandbox.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the remedy where a sandbox can't be fully isolated.
    pub fn prepare(config: &HostConfig, mode: Mode) -> Result<Self, Error> {
        let base_dir = config.state_dir.join("base");
        make_dir(&base_dir, 0o700).map_err(Error::path("create", &base_dir))?;
        let ids = Ids::find().map_err(Error::host("read the id maps"))?;
        let program = load_program(&config.init_path)?;
        let null: OwnedFd = File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map_err(Error::host("/dev/null"))?
            .into();
        let namespace = match ids.users.mapping() {
            IdMapping::Range => Some(id_namespace(ids, program.as_fd(), null.as_fd())?),
            IdMapping::Single => None,
        };
        let base = Base::prepare(&base_dir, ids, namespace.as_ref())?;
        let cgroups = Cgroups::prepare(config.state_dir.join(CGROUP_RECORD))?;
        let isolation = describe(mode, ids, &base, &cgroups);
        let host = Self { mode, ids, base, cgroups, program, null, seccomp: seccomp::program(), isolation };
        host.prove(config)?;
        Ok(host)
    }

    /// The isolation of every sandbox made here.
    #[must_use]
    pub fn isolation(&self) -> &Isolation {
        &self.isolation
    }

    /// Makes a sandbox. Takes milliseconds and blocks.
    ///
    /// # Errors
    /// [`Error::LimitUnavailable`] for a limit that can't be kept here; otherwise the step that failed.
    pub fn create(&self, spec: &SandboxSpec) -> Result<Sandbox, Error> {
        Sandbox::create(self, spec)
    }

    /// Puts other limits on a running sandbox; what is absent stays as it is.
    ///
    /// # Errors
    /// [`Error::LimitUnavailable`] for a limit that can't be kept here; [`Error::Host`] where the kernel refuses.
    pub fn limit(&self, id: &str, limits: &Limits) -> Result<(), Error> {
        self.cgroups.change(id, limits)
    }

    /// The ids that stand outside for ids inside, as `fchown` wants them.
    #[must_use]
    pub fn outside_ids(&self, uid: u32, gid: u32) -> (u32, u32) {
        (self.ids.users.outside(uid), self.ids.groups.outside(gid))
    }

    /// Gives back what is not the process's own. Every sandbox must be destroyed before.
    ///
    /// # Errors
    /// [`Error::Host`] when a cgroup can't be removed.
    pub fn shutdown(&self) -> Result<(), Error> {
        self.base.detach();
        self.cgroups.remove()
    }

    pub(crate) fn ids(&self) -> Ids {
        self.ids
    }

    pub(crate) fn base(&self) -> &Base {
        &self.base
    }

    pub(crate) fn cgroups(&self) -> &Cgroups {
        &self.cgroups
    }

    pub(crate) fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }

    pub(crate) fn null(&self) -> BorrowedFd<'_> {
        self.null.as_fd()
    }

    pub(crate) fn seccomp(&self) -> &[u64] {
        &self.seccomp
    }

    pub(crate) fn is_rootless(&self) -> bool {
        self.mode == Mode::Rootless
    }

    fn prove(&self, config: &HostConfig) -> Result<(), Error> {
        let dir = config.state_dir.join("proof");
        // A server that was killed at this point left one that can't be mounted again.
        remove(&dir).map_err(Error::path("remove", &dir))?;
        make_dir(&dir, 0o700).map_err(Error::path("create", &dir))?;
        let spec = SandboxSpec {
            id: "proof".to_owned(),
            dir: dir.clone(),
            hostname: "proof".to_owned(),
            limits: Limits::default(),
            disposable: true,
        };
        let proven = self.create(&spec).and_then(Sandbox::destroy);
        let removed = fs::remove_dir_all(&dir);
        if let Err(error) = proven {
            // Leave nothing behind for a server that never was.
            let _ = self.shutdown();
            return Err(Error::unsupported("an isolated sandbox", SANDBOX_REMEDY)(io::Error::other(error)));
        }
        removed.map_err(Error::path("remove", &dir))
    }
}

/// A user namespace with the sandboxes' ids, for mounts. It needs a process to be born, but not to live.
fn id_namespace(ids: Ids, program: BorrowedFd<'_>, null: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(io::Error::from)
        .map_err(Error::host("socketpair"))?;
    let init = sys::spawn_init(libc::CLONE_NEWUSER, program, theirs.as_fd(), null)
        .map_err(Error::unsupported("a user namespace for a sandbox", SANDBOX_REMEDY))?;
    drop(theirs);
    let namespace = ids.apply(init.pid).and_then(|()| File::open(format!("/proc/{}/ns/user", init.pid)));
    // The end of the socket is the end of the process.
    drop(ours);
    sys::reap(&init);
    Ok(namespace.map_err(Error::host("map ids"))?.into())
}

fn describe(mode: Mode, ids: Ids, base: &Base, cgroups: &Cgroups) -> Isolation {
    let mapping = ids.users.mapping();
    let mut warnings = Vec::new();
    if mapping == IdMapping::Single {
        warnings.push(format!("sandboxes have a single user id, the server's own; {RANGE_REMEDY}"));
    }
    if !base.id_mapped() {
        warnings.push(
            "files of the host's userland belong to nobody inside, so its directories (/usr, /opt) are not \
             writable there; run as root on a file system with idmapped mounts, or use an image"
                .to_owned(),
        );
    }
    let limits = cgroups.limits();
    let missing: Vec<&str> =
        [("memory", limits.memory), ("processes", limits.pids), ("processor time", limits.cpu)]
            .into_iter()
            .filter_map(|(name, kept)| (!kept).then_some(name))
            .collect();
    if !missing.is_empty() {
        warnings.push(format!("no limits on {}; {}", missing.join(", "), Cgroups::remedy()));
    }
    Isolation {
        mode,
        namespaces: ["user", "mount", "pid", "net", "ipc", "uts", "cgroup"].map(str::to_owned).into(),
        ids: mapping,
        idmapped_base: base.id_mapped(),
        seccomp: true,
        no_new_privs: true,
        cgroup: cgroups.version(),
        limits,
        warnings,
    }
}
