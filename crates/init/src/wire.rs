//! The messages between `sandwired` and a sandbox's `init`.
//!
//! One SEQPACKET socket per sandbox; one JSON document per packet, file descriptors beside it as ancillary data.
//! The server speaks first ([`Request::Setup`]) and owns every id; `init` only answers. A document larger than
//! [`INLINE_MAX`] travels in a sealed memfd that is the packet's first descriptor, because a packet is limited
//! by the socket buffer, which an unprivileged server can't raise.

use serde::{Deserialize, Serialize};

use crate::job::Job;

/// The descriptor number at which `init` finds its socket.
pub const CONTROL_FD: i32 = 3;

/// Largest document that is sent inside the packet itself, in bytes. The default socket buffer of Linux is
/// 208 KiB and charges bookkeeping on top, so several messages of this size always fit.
pub const INLINE_MAX: usize = 32 * 1024;

/// Largest document at all, in bytes: twice the kernel's usual `ARG_MAX` of 2 MiB, and a bound on what a
/// receiver allocates.
pub const DOCUMENT_MAX: usize = 4 * 1024 * 1024;

/// Most descriptors in one packet. The kernel's own limit is 253; the largest user is `Setup` with its mounts.
pub const FDS_MAX: usize = 64;

/// A message from the server to `init`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// Build the sandbox. The first message, sent once; descriptors: one detached mount per entry of
    /// [`Setup::mounts`], then the files by which a task joins the sandbox's cgroups. Answered by [`Event::Ready`] or [`Event::SetupFailed`].
    Setup(Setup),
    /// Start a command. Descriptors: its stdin, stdout and stderr, or none for one that gets a pseudo-terminal; then
    /// what [`Spawn::joins`] says.
    /// Answered by [`Event::Spawned`] or [`Event::SpawnFailed`], later by [`Event::Exited`].
    Spawn(Spawn),
    /// Look up a user. Answered by [`Event::UserFound`] or [`Event::Failed`], with `ENOENT` for an unknown name.
    FindUser {
        /// Chosen by the server, echoed in the answer.
        req: u64,
        /// `name`, `uid`, `name:group` or `uid:gid`.
        user: String,
    },
    /// Send a signal to a command's process group. Not answered; nothing happens once its main process has ended.
    Signal {
        /// The id given in [`Spawn::id`].
        id: u64,
        /// The signal's number.
        number: i32,
    },
    /// Kill a command's whole process tree with SIGKILL. Not answered; [`Event::Exited`] follows if the main
    /// process was still alive.
    Kill {
        /// The id given in [`Spawn::id`].
        id: u64,
    },
    /// Open an existing regular file for reading. Answered by [`Event::FileOpened`] with one descriptor, or
    /// [`Event::Failed`].
    OpenFile {
        /// Chosen by the server, echoed in the answer.
        req: u64,
        /// Path inside the sandbox; a relative one starts at `/home/user`.
        path: String,
    },
    /// Create a file for `path`, with missing parents: one without a name, or a temporary one beside it. Answered by [`Event::FileCreated`] with one
    /// descriptor open for writing, or [`Event::Failed`].
    CreateFile {
        /// Chosen by the server, echoed in the answer.
        req: u64,
        /// Path inside the sandbox; a relative one starts at `/home/user`.
        path: String,
        /// Permission bits; `None` for those of the file that is replaced, else 0644.
        mode: Option<u32>,
        /// Who owns it and the parents that are made, as `run_config.user` names users.
        owner: String,
    },
    /// Put a file in its place, replacing what is there. One descriptor: the file, which has no name yet if the file system
    /// allows that. Answered by [`Event::Done`] or [`Event::Failed`].
    CommitFile {
        /// Chosen by the server, echoed in the answer.
        req: u64,
        /// From [`Event::FileCreated`].
        temp: String,
        /// From [`Event::FileCreated`].
        dest: String,
    },
    /// Remove a temporary file. Answered by [`Event::Done`] or [`Event::Failed`].
    DiscardFile {
        /// Chosen by the server, echoed in the answer.
        req: u64,
        /// From [`Event::FileCreated`].
        temp: String,
    },
    /// Start a worker. Descriptors: where it reports, and for archives a pipe for their bytes. Answered by
    /// [`Event::Done`] or [`Event::Failed`] at once; all else comes by the reports.
    Work {
        /// Chosen by the server, echoed in the answer.
        req: u64,
        /// What to do.
        job: Job,
        /// After which it is to end.
        seconds: u32,
    },
    /// Begin to connect to a port inside. Answered by [`Event::Connecting`] with one descriptor, or
    /// [`Event::Failed`].
    Connect {
        /// Chosen by the server, echoed in the answer.
        req: u64,
        /// Which address of the loopback interface.
        loopback: Loopback,
        /// The port.
        port: u16,
    },
}

/// The sandbox's own address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loopback {
    /// `127.0.0.1`.
    V4,
    /// `::1`.
    V6,
}

/// How to build the sandbox around `init`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// Absolute target paths, parents before children; the first is `/`. One descriptor each, in this order.
    pub mounts: Vec<String>,
    /// Host name inside.
    pub hostname: String,
    /// Size limit of `/tmp` and of `/dev/shm`, in bytes each. They are memory that no process can be killed for.
    pub tmp_bytes: u64,
    /// The seccomp filter: one BPF instruction per number, as [`encode_bpf`] packs it.
    pub seccomp: Vec<u64>,
    /// Whether the last file to join by is that of a leaf below the sandbox's own cgroup. It is joined after that
    /// cgroup became the root of what is seen.
    pub leaf: bool,
}

/// Packs a BPF instruction (operation, jump if true, jump if false, operand) into one number.
#[must_use]
pub fn encode_bpf(code: u16, jt: u8, jf: u8, k: u32) -> u64 {
    u64::from(code) << 48 | u64::from(jt) << 40 | u64::from(jf) << 32 | u64::from(k)
}

/// The inverse of [`encode_bpf`].
#[must_use]
pub fn decode_bpf(packed: u64) -> (u16, u8, u8, u32) {
    ((packed >> 48) as u16, (packed >> 40) as u8, (packed >> 32) as u8, packed as u32)
}

/// A command to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spawn {
    /// Chosen by the server, never reused.
    pub id: u64,
    /// Program and arguments. A program without a slash is looked up in the `PATH` of `env`.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Working directory inside the sandbox.
    pub cwd: String,
    /// User id inside the sandbox.
    pub uid: u32,
    /// Group id inside the sandbox.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Whether it gets a pseudo-terminal of the sandbox as its controlling terminal and stdio, and of what size.
    pub pty: Option<WindowSize>,
    /// Whether the last descriptor is the file by which it joins a cgroup of its own. Without one its main process
    /// adopts the orphans among its descendants, so that they can be found while it lives.
    pub joins: bool,
}

/// What the kernel tells when a process ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Processor time, microseconds.
    pub cpu_micros: u64,
    /// Most memory of one process at a time, bytes.
    pub peak_bytes: u64,
}

/// Who a command runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// User id inside the sandbox.
    pub uid: u32,
    /// Group id inside the sandbox.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Its name, if it has an entry.
    pub name: Option<String>,
    /// Its home, if its entry names a directory that exists.
    pub home: Option<String>,
}

/// The size of a terminal's window, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Width.
    pub cols: u16,
    /// Height.
    pub rows: u16,
}

/// A message from `init` to the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The sandbox is complete and locked down; commands may start.
    Ready,
    /// The sandbox can't be built; `init` exits.
    SetupFailed(Failure),
    /// A command runs. One descriptor if it was to get a pseudo-terminal: the master, which does not block.
    Spawned {
        /// The id given in [`Spawn::id`].
        id: u64,
        /// Its process id inside the sandbox.
        pid: i32,
    },
    /// A command could not be started.
    SpawnFailed {
        /// The id given in [`Spawn::id`].
        id: u64,
        /// Why.
        failure: Failure,
        /// Whether it had begun all the same, and was killed.
        begun: bool,
    },
    /// Answer to [`Request::FindUser`].
    UserFound {
        /// From the request.
        req: u64,
        /// Who it is.
        account: Account,
    },
    /// A command's main process ended.
    Exited {
        /// The id given in [`Spawn::id`].
        id: u64,
        /// Exit code, or 128 + signal number, as shells report it.
        code: i32,
        /// The signal that ended it, if one did.
        signal: Option<i32>,
        /// What it and the children that it waited for used.
        used: Used,
    },
    /// Answer to [`Request::OpenFile`]; one descriptor, at offset 0.
    FileOpened {
        /// From the request.
        req: u64,
    },
    /// Answer to [`Request::CreateFile`]; one descriptor.
    FileCreated {
        /// From the request.
        req: u64,
        /// The temporary file, or the name that it has for the moment of its commit.
        temp: String,
        /// Where [`Request::CommitFile`] is to put it: `path` with links resolved.
        dest: String,
    },
    /// Answer to [`Request::Connect`]; one descriptor: a TCP socket that does not block and may still be connecting.
    Connecting {
        /// From the request.
        req: u64,
    },
    /// The request succeeded.
    Done {
        /// From the request.
        req: u64,
    },
    /// The request failed.
    Failed {
        /// From the request.
        req: u64,
        /// Why.
        failure: Failure,
    },
}

/// What went wrong inside the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{step}: {}", std::io::Error::from_raw_os_error(*errno))]
pub struct Failure {
    /// The step that failed, with the path or name it was about.
    pub step: String,
    /// The kernel's error number.
    pub errno: i32,
}
