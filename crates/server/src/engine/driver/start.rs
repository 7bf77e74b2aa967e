//! The start of a command: who it is to run as, its pipes or terminal, and what `init` says to it.

use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use sandwire_isolate::wire::{Account, Event, Failure, Request, Spawn};
use sandwire_protocol::limits::START_DEADLINE;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use crate::engine::command::Command;
use crate::engine::fault::Fault;
use crate::engine::launch::{Launch, check_ids, root};
use crate::engine::link::{Exited, Link, NotStarted, Reports, Started};
use crate::engine::stdio::Stdio;

/// What `init` answers for a user that is not there.
const ENOENT: i32 = rustix::io::Errno::NOENT.raw_os_error();

/// Who the command is to run as.
pub(super) async fn look_up(link: &Link, user: Option<&str>) -> Result<Account, Fault> {
    let Some(user) = user else { return Ok(root()) };
    let request = |req| Request::FindUser { req, user: user.to_owned() };
    let Ok(answer) = timeout(START_DEADLINE, link.ask(request, &[])).await else {
        link.give_up("init does not answer");
        return Err(Fault::command("the user is not looked up; the sandbox is ended"));
    };
    match answer? {
        Ok((Event::UserFound { account, .. }, _)) => check_ids(&account).map(|()| account),
        Err(unknown) if unknown.errno == ENOENT => {
            Err(Fault::invalid(format!("run_config.user {user:?}: {}", unknown.step)))
        }
        Err(failure) => Err(Fault::command(format!("run_config.user {user:?}: {failure}"))),
        Ok(_) => Err(Fault::command("init answers something else")),
    }
}

pub(super) enum StartError {
    /// By `init`.
    Refused(NotStarted),
    /// Nothing was asked of `init` yet.
    NoChannels(io::Error),
    /// It runs, and can't be used: it is to be killed.
    Useless(Fault),
    /// `init` was asked, and what came of it is not known.
    Unknown(Fault),
}

impl From<Fault> for StartError {
    fn from(fault: Fault) -> Self {
        Self::Unknown(fault)
    }
}

pub(super) async fn start(
    command: &Command,
    link: &Link,
    spawn: Spawn,
    owner: Option<(u32, u32)>,
    entrance: Option<OwnedFd>,
) -> Result<(oneshot::Receiver<Exited>, Stdio), StartError> {
    let pipes =
        if spawn.pty.is_some() { None } else { Some(Stdio::pipes(owner).map_err(StartError::NoChannels)?) };
    let stdio = pipes.iter().flat_map(|(_, children)| children);
    let fds: Vec<_> = stdio.chain(&entrance).map(AsFd::as_fd).collect();
    let asked = Instant::now();
    let answered = timeout(START_DEADLINE, async {
        let Reports { started, exited } = link.spawn(spawn, &fds).await?;
        Ok::<_, Fault>((started.await.map_err(|_| Fault::gone())?, exited))
    });
    let Ok(answer) = answered.await else {
        link.give_up("init does not answer");
        return Err(Fault::command("the command's start is not answered; the sandbox is ended").into());
    };
    let (started, exited) = answer?;
    let Started { pid, master } = started.map_err(StartError::Refused)?;
    let no_terminal = |why: &dyn Display| {
        StartError::Useless(Fault::command(format!("no terminal for the command: {why}")))
    };
    let stdio = match (pipes, master) {
        (Some((ours, _)), _) => ours,
        (None, Some(master)) => Stdio::terminal(master).map_err(|error| no_terminal(&error))?,
        (None, None) => return Err(no_terminal(&Fault::no_descriptor())),
    };
    command.started(pid, asked.elapsed());
    Ok((exited, stdio))
}

/// What a failed start is explained with.
pub(super) struct Names {
    shell: String,
    cwd: String,
}

impl Names {
    pub(super) fn of(launch: &Launch) -> Self {
        let (shell, cwd) = launch.names();
        Self { shell, cwd }
    }

    pub(super) fn explain(&self, failure: &Failure) -> Fault {
        Fault::command(format!(
            "the command can't start (shell {:?}, cwd {:?}): {failure}",
            self.shell, self.cwd
        ))
    }
}
