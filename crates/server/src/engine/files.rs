//! Files of a sandbox: `init` resolves the path and hands out the descriptor, the server moves the bytes.
//!
//! The server never resolves a path that the sandbox controls, and takes only regular files from `init`: anything else
//! could block the thread that reads or writes it for ever.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use sandwire_isolate::wire::{Event, Failure, Request};
use sandwire_protocol::limits::FILE_PATH_MAX;
use tokio_util::task::TaskTracker;

use super::fault::Fault;
use super::link::Link;
use super::sandbox::Sandbox;

/// Why a file call failed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Inside the sandbox, with the kernel's error number.
    #[error(transparent)]
    Inside(#[from] Failure),
    /// The worker reached its deadline.
    #[error("it took longer than it may")]
    Late,
    /// Before it.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Sandbox {
    /// Opens a regular file for reading, at its start.
    ///
    /// # Errors
    /// See [`FileError`].
    pub async fn open_file(&self, path: String) -> Result<File, FileError> {
        check_path(&path)?;
        match self.link()?.ask(|req| Request::OpenFile { req, path }, &[]).await?? {
            (Event::FileOpened { .. }, fds) => regular(fds),
            (event, _) => Err(unexpected(&event).into()),
        }
    }

    /// Starts to write a file of the default user. It appears under its name with [`Upload::commit`], whole. Without a
    /// mode it has that of the file that it replaces, else 0644.
    ///
    /// # Errors
    /// See [`FileError`].
    pub async fn create_file(&self, path: String, mode: Option<u32>) -> Result<Upload, FileError> {
        check_path(&path)?;
        let link = self.link()?;
        let tasks = self.resources.tasks.clone();
        let owner = self.default_user();
        // A task of its own, because a caller that leaves half-way would leave a temporary file behind: the upload that
        // nobody takes is dropped, which removes it.
        let created = self.resources.tasks.spawn(async move {
            match link.ask(|req| Request::CreateFile { req, path, mode, owner }, &[]).await?? {
                (Event::FileCreated { temp, dest, .. }, fds) => {
                    // Before the file is looked at: one that is of no use is removed again.
                    let mut upload = Upload { file: None, temp, dest, link, tasks, done: false };
                    upload.file = Some(Arc::new(regular(fds)?));
                    Ok(upload)
                }
                (event, _) => Err(unexpected(&event).into()),
            }
        });
        created.await.unwrap_or_else(|error| Err(Fault::command(error.to_string()).into()))
    }

    /// Who owns what is made by file calls, as `run_config.user` has it.
    pub fn default_user(&self) -> String {
        self.settings().run_config.user.clone().unwrap_or_else(|| "root".to_owned())
    }
}

/// A file that is being written. Dropped before its commit, it leaves nothing behind.
pub struct Upload {
    file: Option<Arc<File>>,
    temp: String,
    dest: String,
    link: Arc<Link>,
    tasks: TaskTracker,
    done: bool,
}

impl Upload {
    /// The file, open for writing.
    pub fn file(&self) -> Option<Arc<File>> {
        self.file.clone()
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// See [`FileError`].
    pub async fn commit(mut self) -> Result<(), FileError> {
        let file = self.file.take().ok_or_else(|| Fault::inside("the file was put in its place before"))?;
        let closed = closed(&file).map_err(|error| Fault::inside(format!("hold the file: {error}")))?;
        drop(file);
        let (temp, dest) = (self.temp.clone(), self.dest.clone());
        let fds = [closed.as_fd()];
        let (_done, _no_fds) = self.link.ask(|req| Request::CommitFile { req, temp, dest }, &fds).await??;
        self.done = true;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let (link, temp) = (Arc::clone(&self.link), std::mem::take(&mut self.temp));
        self.tasks.spawn(async move {
            if let Ok(Err(failure)) = link.ask(|req| Request::DiscardFile { req, temp }, &[]).await {
                tracing::warn!(%failure, "temporary file not removed");
            }
        });
    }
}

/// What still leads to a file, but is not open: a program that is open for writing can't be run.
fn closed(file: &File) -> rustix::io::Result<OwnedFd> {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::open(link, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

fn regular(fds: Vec<OwnedFd>) -> Result<File, FileError> {
    let file = fds.into_iter().next().map(File::from);
    let file = file.ok_or_else(Fault::no_descriptor)?;
    if file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Ok(file);
    }
    tracing::error!("init sent something else than a regular file");
    Err(Failure { step: "not a regular file".into(), errno: libc::EIO }.into())
}

fn unexpected(event: &Event) -> Fault {
    tracing::error!(?event, "init answered something else");
    Fault::command("the sandbox gave an unexpected answer")
}

/// Whether a path of a file call can be one at all.
pub(crate) fn check_path(path: &str) -> Result<(), Fault> {
    if path.is_empty() || path.contains('\0') || path.len() > FILE_PATH_MAX {
        return Err(Fault::invalid(format!("path must have 1 to {FILE_PATH_MAX} bytes and no NUL")));
    }
    Ok(())
}
