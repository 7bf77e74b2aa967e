//! What a worker inside a sandbox is asked to do, and what it reports.
//!
//! A worker is a fork of `init` for one [`Job`]. It writes [`Record`]s, one JSON document per line, to the first
//! descriptor of its request and ends. The last record is [`Record::End`] or [`Record::Failed`]; without one the worker
//! was ended from outside.

use serde::{Deserialize, Serialize};

use crate::wire::Failure;

/// Longest record, bytes: a path and a text, of which JSON may make six times as much.
pub const RECORD_MAX: usize = 64 * 1024;

/// Longest text of a line that is reported, bytes. Of a longer line, the part around the match is.
pub const TEXT_MAX: usize = 2048;

/// Directories inside each other that a search or an archive goes into: beyond what people make, and one descriptor each.
pub const DEPTH_MAX: usize = 256;

/// Longest path that is gone into, bytes: no call could name what is below.
pub const PATH_MAX: usize = 4096;

/// How much longer than its deadline a worker may take before the kernel ends it, seconds: it looks at the clock between
/// two files, so that only one that takes long to read, or that does not answer, needs this.
pub const KILL_AFTER: u32 = 5;

/// What to do. Paths are those of the sandbox; relative ones start at `/home/user`. Users are named as in
/// `run_config.user`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Job {
    /// Report an [`Entry`] for whatever matches, by path.
    Glob {
        /// The directory to start in.
        path: String,
        /// A [`Pattern`](crate::pattern::Pattern).
        pattern: String,
        /// Most entries.
        limit: usize,
    },
    /// Report lines of text files, by path.
    Grep {
        /// The directory to start in, or one file.
        path: String,
        /// What lines are to contain.
        pattern: String,
        /// Which files: a [`Pattern`](crate::pattern::Pattern); one without a slash is for names at any depth.
        glob: Option<String>,
        /// Most lines.
        limit: usize,
    },
    /// Report what is in a directory, by name.
    List {
        /// The directory.
        path: String,
        /// Entries to pass over.
        offset: usize,
        /// Most entries.
        limit: usize,
    },
    /// Report an [`Entry`] or [`Record::Missing`] for each path, not following links.
    Stat {
        /// The paths.
        paths: Vec<String>,
    },
    /// Make a directory.
    MakeDirectory {
        /// Where.
        path: String,
        /// Permission bits, else 0755.
        mode: Option<u32>,
        /// Make missing parents; one that is there already is no failure.
        parents: bool,
        /// Who owns what is made.
        owner: String,
    },
    /// Rename within one file system; a regular file also to another one.
    Move {
        /// What.
        from: String,
        /// The new name.
        to: String,
        /// Replace what is there.
        overwrite: bool,
    },
    /// Remove a file, a link, or an empty directory.
    Remove {
        /// What.
        path: String,
        /// With all that is in it.
        recursive: bool,
    },
    /// Write a tar archive of a directory or a file to the second descriptor, after [`Record::Ready`].
    Pack {
        /// What; names in the archive are below it.
        path: String,
    },
    /// Extract a tar archive from the second descriptor.
    Unpack {
        /// The directory, which is made if it is missing.
        path: String,
        /// Who owns what is made.
        owner: String,
    },
}

/// What a worker reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Record {
    /// Something in the file system.
    Entry(Entry),
    /// A line that contains the pattern.
    Line {
        /// The file. Bytes that are not UTF-8 are U+FFFD, here and in all that is reported.
        path: String,
        /// Counted from one.
        line: u64,
        /// What it says, at most [`TEXT_MAX`] bytes.
        text: String,
    },
    /// A path of [`Job::Stat`] that can't be looked at.
    Missing {
        /// The path.
        path: String,
        /// Why.
        failure: Failure,
    },
    /// The path is there; data follows.
    Ready,
    /// Done.
    End {
        /// Whether there is more than was reported.
        truncated: bool,
    },
    /// It could not be done, or not further.
    Failed(Failure),
}

/// Something in the file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its path; its name in a list.
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds since the epoch.
    pub modified: i64,
    /// Modification time: nanoseconds beyond the second.
    pub modified_nanos: u32,
    /// Where a link leads.
    pub target: Option<String>,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A fifo, socket or device.
    Other,
}
