//! PID 1 of a sandbox.
//!
//! `sandwired` starts this program inside fresh namespaces with nothing but a socket at
//! [`CONTROL_FD`](sandwire_init::wire::CONTROL_FD). It builds the file system view it is told, locks itself
//! down, and then does three things until the socket closes: start commands, reap whatever dies, and open
//! files by paths that only make sense inside. It never talks to the sandbox's processes and holds nothing of
//! the host, so that taking it over would give an attacker no more than the sandbox itself.
//! What takes long (searches, archives, whole trees) is done by a fork of it, a [`worker`].
//!
//! One thread, blocking calls, no allocation between `vfork` and `execve`.

mod commands;
mod connect;
mod failure;
mod files;
mod lockdown;
mod mounts;
mod spawn;
mod terminal;
mod tree;
mod users;
mod worker;

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::process::ExitCode;

use sandwire_init::socket::{recv, send};
use sandwire_init::wire::{CONTROL_FD, Event, Failure, Request, Setup};

use commands::Commands;

fn main() -> ExitCode {
    // SAFETY: the server put the socket there and nothing else in this process knows of it. It came through an
    // exec; no command may inherit it, for whoever holds it speaks as this process.
    let control = unsafe {
        libc::fcntl(CONTROL_FD, libc::F_SETFD, libc::FD_CLOEXEC);
        OwnedFd::from_raw_fd(CONTROL_FD)
    };
    // It was executed from a memory file, whose name would show as its own.
    // SAFETY: a NUL-terminated literal.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"sandwire-init".as_ptr()) };
    match run(&control) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(control: &OwnedFd) -> io::Result<()> {
    let Some((Request::Setup(setup), fds)) = recv(control.as_fd())? else {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    };
    let signals = match build(&setup, fds) {
        Ok(signals) => signals,
        Err(failure) => return send(control.as_fd(), &Event::SetupFailed(failure), &[]),
    };
    drop(setup);
    // SAFETY: takes a scalar. What building took is not needed again, and there are many of this process.
    unsafe { libc::malloc_trim(0) };
    send(control.as_fd(), &Event::Ready, &[])?;
    serve(control, &signals)
}

fn build(setup: &Setup, mut mounts: Vec<OwnedFd>) -> Result<OwnedFd, Failure> {
    let cgroups = mounts.split_off(setup.mounts.len().min(mounts.len()));
    lockdown::become_root()?;
    lockdown::join_cgroups(cgroups, setup.leaf)?;
    mounts::build(setup, mounts)?;
    lockdown::bring_up(&setup.hostname)?;
    let signals = commands::block_signals()?;
    lockdown::drop_privileges(&setup.seccomp)?;
    Ok(signals)
}

fn serve(control: &OwnedFd, signals: &OwnedFd) -> io::Result<()> {
    let mut commands = Commands::default();
    loop {
        let mut ready = [poll_entry(control), poll_entry(signals)];
        // SAFETY: `ready` is an array of that many entries.
        if unsafe { libc::poll(ready.as_mut_ptr(), ready.len() as libc::nfds_t, -1) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let [request, signal] = ready;
        if signal.revents != 0 {
            commands::drain(signals);
            for event in commands.reap() {
                send(control.as_fd(), &event, &[])?;
            }
        }
        if request.revents != 0 {
            let Some((request, fds)) = recv(control.as_fd())? else { return Ok(()) };
            answer(control, &mut commands, request, fds)?;
        }
    }
}

fn answer(control: &OwnedFd, commands: &mut Commands, request: Request, fds: Vec<OwnedFd>) -> io::Result<()> {
    let (event, fd) = match request {
        Request::Setup(_) => return Err(io::Error::from(io::ErrorKind::InvalidData)),
        Request::Spawn(spawn) => {
            let (event, master) = commands.spawn(&spawn, &fds);
            (Some(event), master)
        }
        Request::FindUser { req, user } => (Some(users::find(req, &user)), None),
        Request::Signal { id, number } => {
            commands.signal(id, number);
            (None, None)
        }
        Request::Kill { id } => {
            commands.kill(id);
            (None, None)
        }
        Request::OpenFile { req, path } => files::open(req, &path),
        Request::CreateFile { req, path, mode, owner } => files::create(req, &path, mode, &owner),
        Request::CommitFile { req, temp, dest } => {
            (Some(files::commit(req, &temp, &dest, fds.into_iter().next())), None)
        }
        Request::Connect { req, loopback, port } => connect::connect(req, loopback, port),
        Request::Work { req, job, seconds } => (Some(worker::start(req, job, seconds, fds)), None),
        Request::DiscardFile { req, temp } => (Some(files::discard(req, &temp)), None),
    };
    match (event, fd) {
        (None, _) => Ok(()),
        (Some(event), None) => send(control.as_fd(), &event, &[]),
        (Some(event), Some(fd)) => match send(control.as_fd(), &event, &[fd.as_fd()]) {
            // The kernel may refuse to pass a descriptor for what others did; that must not end the sandbox.
            Err(error) if error.raw_os_error() == Some(libc::ETOOMANYREFS) => {
                send(control.as_fd(), &refused(commands, event, &error), &[])
            }
            result => result,
        },
    }
}

/// What to answer when the descriptor of `event` could not be passed.
fn refused(commands: &mut Commands, event: Event, error: &io::Error) -> Event {
    let Event::Spawned { id, .. } = event else { return files::refused(&event, error) };
    commands.take_back(id);
    Event::SpawnFailed { id, failure: failure::from_io("pass the terminal", error), begun: true }
}

fn poll_entry(fd: &OwnedFd) -> libc::pollfd {
    libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 }
}
