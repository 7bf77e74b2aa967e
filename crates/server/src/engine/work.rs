//! Work inside a sandbox that takes long: a worker does it, a fork of `init`, and reports through a pipe.
//!
//! What it reports is bounded here too, in size and time: a worker sees files of hostile code, and hostile code can stop
//! or kill it. One that nobody listens to any more ends by itself.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::pipe::fcntl_setpipe_size;
use sandwire_isolate::job::{Job, RECORD_MAX, Record};
use sandwire_isolate::wire::Request;
use sandwire_protocol::limits::{ARCHIVE_DEADLINE, ARCHIVE_PIPE_BYTES, WORK_GRACE};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::time::{Instant, timeout_at};

use super::fault::Fault;
use super::files::FileError;
use super::link::{Link, WorkerTurn};
use super::sandbox::Sandbox;

/// A worker's reports.
pub struct Work {
    reports: BufReader<Receiver>,
    reported: usize,
    until: Instant,
    link: Arc<Link>,
    _turn: WorkerTurn,
}

impl Sandbox {
    /// Has a worker do something.
    ///
    /// # Errors
    /// See [`FileError`].
    pub async fn work(&self, job: Job, deadline: Duration) -> Result<Work, FileError> {
        self.start(job, deadline, None).await
    }

    /// Has a worker write an archive of a path to a pipe.
    ///
    /// # Errors
    /// See [`FileError`].
    pub async fn pack(&self, path: String) -> Result<(Work, Receiver), FileError> {
        let (ours, theirs) = io::pipe().map_err(broken)?;
        let ours = wide(ours.into(), Receiver::from_owned_fd)?;
        let work = self.start(Job::Pack { path }, ARCHIVE_DEADLINE, Some(theirs.into())).await?;
        Ok((work, ours))
    }

    /// Has a worker extract an archive, which is written to a pipe, below a path. What is made is the default user's.
    ///
    /// # Errors
    /// See [`FileError`].
    pub async fn unpack(&self, path: String) -> Result<(Work, Sender), FileError> {
        let (theirs, ours) = io::pipe().map_err(broken)?;
        let ours = wide(ours.into(), Sender::from_owned_fd)?;
        let job = Job::Unpack { path, owner: self.default_user() };
        let work = self.start(job, ARCHIVE_DEADLINE, Some(theirs.into())).await?;
        Ok((work, ours))
    }

    async fn start(&self, job: Job, deadline: Duration, data: Option<OwnedFd>) -> Result<Work, FileError> {
        let link = self.link()?;
        let turn = link.worker_turn(data.is_some()).await?;
        let until = Instant::now() + deadline + WORK_GRACE;
        let seconds = u32::try_from(deadline.as_secs()).unwrap_or(u32::MAX);
        let (ours, theirs) = io::pipe().map_err(broken)?;
        let reports = Receiver::from_owned_fd(ours.into()).map_err(broken)?;
        let fds: Vec<_> =
            [Some(theirs.as_fd()), data.as_ref().map(AsFd::as_fd)].into_iter().flatten().collect();
        let (_done, _no_fds) = link.ask(|req| Request::Work { req, job, seconds }, &fds).await??;
        Ok(Work { reports: BufReader::new(reports), reported: 0, until, link, _turn: turn })
    }
}

impl Work {
    /// Bytes of all reports so far, about what they take in memory and in an answer.
    pub fn reported(&self) -> usize {
        self.reported
    }

    /// The next report; after [`Record::End`] or [`Record::Failed`] there is none.
    ///
    /// # Errors
    /// [`FileError::Late`] at the deadline; `Fault` if the worker was ended from outside.
    pub async fn next(&mut self) -> Result<Record, FileError> {
        let mut line = Vec::new();
        let mut reports = (&mut self.reports).take(RECORD_MAX as u64);
        let read = timeout_at(self.until, reports.read_until(b'\n', &mut line)).await;
        read.map_err(|_| FileError::Late)?.map_err(broken)?;
        self.reported += line.len();
        if line.is_empty() {
            if self.link.is_closed() {
                return Err(Fault::left().into());
            }
            return Err(Fault::inside("the work was ended from outside: killed, or out of memory").into());
        }
        serde_json::from_slice(&line).map_err(|error| {
            tracing::error!(%error, "a worker can't be understood");
            Fault::inside("the sandbox gave an unexpected answer").into()
        })
    }

    /// The end of work that has nothing else to report.
    ///
    /// # Errors
    /// See [`FileError`].
    pub async fn done(&mut self) -> Result<(), FileError> {
        match self.next().await? {
            Record::End { truncated: false } => Ok(()),
            Record::Failed(failure) => Err(failure.into()),
            Record::End { truncated: true } => Err(FileError::Late),
            _ => Err(Fault::inside("the sandbox gave an unexpected answer").into()),
        }
    }
}

/// Our end of a pipe that carries much. That it can't be made wider is no failure.
fn wide<T>(ours: OwnedFd, register: impl FnOnce(OwnedFd) -> io::Result<T>) -> Result<T, FileError> {
    let _narrow = fcntl_setpipe_size(&ours, ARCHIVE_PIPE_BYTES);
    register(ours).map_err(broken)
}

fn broken(error: io::Error) -> FileError {
    Fault::inside(format!("pipe to the sandbox: {error}")).into()
}
