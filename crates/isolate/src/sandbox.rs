//! One sandbox: its init process, its cgroup, and the way to both.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use sandwire_init::socket::{recv, send};
use sandwire_init::wire::{Event, Request, Setup};

use crate::Error;
use crate::base::Layers;
use crate::cgroup::{Cgroup, CommandGroups};
use crate::host::Host;
use crate::overlay::{Style, overlay};
use crate::sys::{self, Init};

/// How long init may take to build the sandbox. It takes a millisecond; a machine that swaps may take seconds.
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// Limit of `/tmp` and of `/dev/shm` in a sandbox without a memory limit.
const MEMORY_FILE_BYTES_DEFAULT: u64 = 1 << 30;

/// What a sandbox may use; absent means no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory in bytes, caches and files in memory included.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Thousandths of a processor.
    pub cpu_millis: Option<u32>,
}

/// What to make.
#[derive(Debug, Clone)]
pub struct SandboxSpec {
    /// Unique among the server's sandboxes; names the cgroup. One path component.
    pub id: String,
    /// A directory of the sandbox's own, which exists; its layers live below and are kept from earlier runs.
    pub dir: PathBuf,
    /// Host name inside.
    pub hostname: String,
    /// What it may use.
    pub limits: Limits,
    /// Its files need not survive the server: saves writing them back when it ends.
    pub disposable: bool,
}

/// A running sandbox.
#[derive(Debug)]
pub struct Sandbox {
    init: Init,
    control: OwnedFd,
    cgroup: Cgroup,
    groups: Option<Arc<CommandGroups>>,
    destroyed: bool,
}

impl Sandbox {
    /// Makes a sandbox; it is ready for commands when this returns.
    pub(crate) fn create(host: &Host, spec: &SandboxSpec) -> Result<Self, Error> {
        let mounts = layers(host, spec)?;
        let cgroup = host.cgroups().create(&spec.id, &spec.limits)?;
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(io::Error::from)
            .map_err(Error::host("socketpair"))?;
        let started = sys::spawn_init(sys::NAMESPACES, host.program(), theirs.as_fd(), host.null());
        let init = match started {
            Ok(init) => init,
            Err(error) => {
                cgroup.remove()?;
                return Err(Error::host("start init in new namespaces")(error));
            }
        };
        // From here on, dropping the value kills init and removes the cgroup.
        let mut sandbox = Self { init, control: ours, cgroup, groups: None, destroyed: false };
        drop(theirs);
        host.ids().apply(sandbox.init.pid).map_err(Error::host("map ids"))?;
        sandbox.set_up(host, spec, &mounts)?;
        sandbox.groups = sandbox.cgroup.commands().map(Arc::new);
        rustix::io::ioctl_fionbio(&sandbox.control, true)
            .map_err(io::Error::from)
            .map_err(Error::host("fionbio"))?;
        Ok(sandbox)
    }

    /// The non-blocking socket to init; see [`crate::wire`] for what to say and [`crate::socket`] for how.
    #[must_use]
    pub fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// Makes the cgroups of commands; `None` where there can't be any.
    #[must_use]
    pub fn groups(&self) -> Option<Arc<CommandGroups>> {
        self.groups.clone()
    }

    /// Kills everything inside, waits until it is gone, and removes the cgroup. Layers and mounts need no care:
    /// mounts end with the namespace, layers are the caller's.
    ///
    /// # Errors
    /// [`Error::Host`] when the cgroup can't be removed; everything inside is dead all the same.
    pub fn destroy(mut self) -> Result<(), Error> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Error> {
        if std::mem::replace(&mut self.destroyed, true) {
            return Ok(());
        }
        if let Some(groups) = &self.groups {
            groups.close();
        }
        // Init is PID 1: the kernel kills all others of the namespace and waits for them first.
        let _ = pidfd_send_signal(&self.init.pidfd, Signal::KILL);
        waitid(WaitId::PidFd(self.init.pidfd.as_fd()), WaitIdOptions::EXITED)
            .map_err(io::Error::from)
            .map_err(Error::host("wait for init"))?;
        self.cgroup.remove()
    }

    fn set_up(&self, host: &Host, spec: &SandboxSpec, mounts: &[OwnedFd]) -> Result<(), Error> {
        let setup = Setup {
            mounts: host.base().places().iter().map(|place| place.target.clone()).collect(),
            hostname: spec.hostname.clone(),
            tmp_bytes: memory_file_bytes(spec.limits.memory_bytes),
            seccomp: host.seccomp().to_vec(),
            leaf: self.cgroup.has_leaf(),
        };
        let entrances = self.cgroup.entrances()?;
        let fds: Vec<BorrowedFd<'_>> = mounts.iter().chain(&entrances).map(AsFd::as_fd).collect();
        send(self.control(), &Request::Setup(setup), &fds).map_err(Error::host("send the set-up to init"))?;
        let timeout = Timespec::try_from(READY_DEADLINE).ok();
        let ready = poll(&mut [PollFd::new(&self.control, PollFlags::IN)], timeout.as_ref())
            .map_err(io::Error::from)
            .map_err(Error::host("wait for init"))?;
        if ready == 0 {
            return Err(Error::Init("did not answer"));
        }
        match recv(self.control()).map_err(Error::host("read from init"))? {
            Some((Event::Ready, _)) => Ok(()),
            Some((Event::SetupFailed(failure), _)) => Err(Error::Inside(failure)),
            Some(_) => Err(Error::Init("sent nonsense")),
            None => Err(Error::Init("ended")),
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Nobody is left to tell; the next start removes a cgroup that remained.
        let _ = self.end();
    }
}

/// What `/tmp` and `/dev/shm` may take each: together at most half of the memory limit, so that a full one leaves
/// processes, init above all, room to live.
fn memory_file_bytes(limit: Option<u64>) -> u64 {
    limit.map_or(MEMORY_FILE_BYTES_DEFAULT, |bytes| bytes / 4)
}

fn layers(host: &Host, spec: &SandboxSpec) -> Result<Vec<OwnedFd>, Error> {
    let style = Style { user_attributes: host.is_rootless(), volatile: spec.disposable };
    let place_mounts = host.base().places().iter().map(|place| {
        let own = Layers::create(&spec.dir, place, host.ids())
            .map_err(Error::path("create layers in", &spec.dir))?;
        overlay(&place.lowers(), &own.upper, &own.work, style)
            .map_err(Error::host(format!("mount the overlay of {}", place.target)))
    });
    place_mounts.collect()
}

/// Reads the init program into a sealed memory file: no path leads from a sandbox to the host's copy, and no
/// later write to that copy changes what runs.
pub(crate) fn load_program(path: &std::path::Path) -> Result<OwnedFd, Error> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    let mut file = File::open(path).map_err(Error::path("open the init program", path))?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = memfd_create("sandwire-init", flags | MemfdFlags::EXEC)
        // Kernels before 6.3 don't know the flag and make every memory file executable.
        .or_else(|_| memfd_create("sandwire-init", flags))
        .map(File::from)
        .map_err(io::Error::from)
        .map_err(Error::host("memfd_create"))?;
    io::copy(&mut file, &mut copy).map_err(Error::path("read the init program", path))?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&copy, seals).map_err(io::Error::from).map_err(Error::host("seal the init program"))?;
    Ok(copy.into())
}
