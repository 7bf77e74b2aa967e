//! The server's end of a sandbox's `init` socket.
//!
//! Requests may be sent from any task: a packet is written whole or not at all. One task, the sandbox's, runs
//! [`Link::run`], which takes every answer to whoever waits for it. When `init` is gone all waiters learn it by
//! their channel being closed, and later requests fail at once. Whoever finds that `init` does not do what it must
//! gives it up by [`Link::give_up`]; the sandbox's task then ends it.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use sandwire_isolate::wire::{Event, Failure, Request, Spawn, Used};
use sandwire_isolate::{CommandGroups, socket};
use sandwire_protocol::ErrorType;
use sandwire_protocol::limits::{ARCHIVE_WORKERS_MAX, WORKER_TURN, WORKERS_MAX};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, SetOnce, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::fault::Fault;
use super::lock::lock;

/// What `init` answered to a request that has one answer.
pub(super) type Answer = Result<(Event, Vec<OwnedFd>), Failure>;

/// Why a command does not run.
pub(super) struct NotStarted {
    pub(super) failure: Failure,
    /// Whether it had begun all the same.
    pub(super) begun: bool,
}

/// The right to run a worker.
#[derive(Debug)]
pub(super) struct WorkerTurn {
    _archive: Option<OwnedSemaphorePermit>,
    _worker: OwnedSemaphorePermit,
}

/// Where a command's reports arrive. Both are closed without a value if `init` dies first.
pub(super) struct Reports {
    pub(super) started: oneshot::Receiver<Result<Started, NotStarted>>,
    pub(super) exited: oneshot::Receiver<Exited>,
}

/// A main process that runs.
pub(super) struct Started {
    pub(super) pid: i32,
    /// The master of its terminal, if it has one.
    pub(super) master: Option<OwnedFd>,
}

/// How a main process ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exited {
    /// Exit code, or 128 + signal number.
    pub(super) code: i32,
    pub(super) signal: Option<i32>,
    pub(super) used: Used,
}

pub(super) struct Link {
    /// A SEQPACKET socket; all that is used of the type is its registration with the runtime.
    socket: UnixDatagram,
    /// Where the sandbox's commands get cgroups from, if they can have any.
    groups: Option<Arc<CommandGroups>>,
    waiting: Mutex<Waiting>,
    numbers: AtomicU64,
    closed: CancellationToken,
    workers: Arc<Semaphore>,
    archives: Arc<Semaphore>,
    /// Why `init` is beyond help.
    given_up: SetOnce<String>,
}

#[derive(Default)]
struct Waiting {
    starts: HashMap<u64, oneshot::Sender<Result<Started, NotStarted>>>,
    exits: HashMap<u64, oneshot::Sender<Exited>>,
    answers: HashMap<u64, oneshot::Sender<Answer>>,
    closed: bool,
}

impl Link {
    /// Takes over a non-blocking socket.
    pub(super) fn new(control: BorrowedFd<'_>, groups: Option<Arc<CommandGroups>>) -> io::Result<Self> {
        Ok(Self {
            groups,
            socket: UnixDatagram::from_std(control.try_clone_to_owned()?.into())?,
            waiting: Mutex::default(),
            numbers: AtomicU64::new(1),
            closed: CancellationToken::new(),
            workers: Arc::new(Semaphore::new(WORKERS_MAX)),
            archives: Arc::new(Semaphore::new(ARCHIVE_WORKERS_MAX)),
            given_up: SetOnce::new(),
        })
    }

    /// Makes cgroups for commands.
    pub(super) fn groups(&self) -> Option<&Arc<CommandGroups>> {
        self.groups.as_ref()
    }

    /// A number that names a command or a request of this sandbox.
    pub(super) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits until another worker may run, one for an archive or for something else, but not for ever.
    pub(super) async fn worker_turn(&self, archive: bool) -> Result<WorkerTurn, Fault> {
        let turn = async {
            let archive = match archive {
                true => Some(Arc::clone(&self.archives).acquire_owned().await?),
                false => None,
            };
            Ok(WorkerTurn { _archive: archive, _worker: Arc::clone(&self.workers).acquire_owned().await? })
        };
        tokio::select! {
            turn = timeout(WORKER_TURN, turn) => match turn {
                Ok(turn) => turn.map_err(|_: AcquireError| Fault::left()),
                Err(_) => Err(Fault::new(ErrorType::ServiceUnavailable, "the sandbox has other file work to do")),
            },
            () = self.closed() => Err(Fault::left()),
        }
    }

    /// Ends when `init` is gone.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Whether `init` is gone, or about to be.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Has the sandbox ended, as its `init` is beyond help.
    pub(super) fn give_up(&self, reason: &str) {
        let _was_given_up = self.given_up.set(reason.to_owned());
    }

    /// Delivers answers until `init` is gone or given up; says why.
    pub(super) async fn run(&self) -> String {
        tokio::select! {
            reason = self.deliver_all() => reason,
            reason = self.given_up.wait() => reason.clone(),
        }
    }

    async fn deliver_all(&self) -> String {
        loop {
            match self.receive().await {
                Ok(Some((event, fds))) => self.deliver(event, fds),
                Ok(None) => return "init ended".to_owned(),
                Err(error) => return format!("init can't be understood: {error}"),
            }
        }
    }

    /// Fails everything that waits, and everything to come.
    pub(super) fn close(&self) {
        *lock(&self.waiting) = Waiting { closed: true, ..Waiting::default() };
        self.closed.cancel();
    }

    async fn receive(&self) -> io::Result<Option<(Event, Vec<OwnedFd>)>> {
        self.socket.async_io(Interest::READABLE, || socket::recv(self.socket.as_fd())).await
    }

    async fn send(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.socket.async_io(Interest::WRITABLE, || socket::send(self.socket.as_fd(), request, fds)).await
    }

    fn deliver(&self, event: Event, fds: Vec<OwnedFd>) {
        let mut waiting = lock(&self.waiting);
        match event {
            Event::Spawned { id, pid } => {
                let started = Started { pid, master: fds.into_iter().next() };
                answer(waiting.starts.remove(&id), Ok(started));
            }
            Event::SpawnFailed { id, failure, begun } => {
                waiting.exits.remove(&id);
                answer(waiting.starts.remove(&id), Err(NotStarted { failure, begun }));
            }
            Event::Exited { id, code, signal, used } => {
                answer(waiting.exits.remove(&id), Exited { code, signal, used });
            }
            Event::UserFound { req, .. }
            | Event::FileOpened { req, .. }
            | Event::FileCreated { req, .. }
            | Event::Connecting { req }
            | Event::Done { req } => {
                answer(waiting.answers.remove(&req), Ok((event, fds)));
            }
            Event::Failed { req, failure } => answer(waiting.answers.remove(&req), Err(failure)),
            Event::Ready | Event::SetupFailed(_) => tracing::warn!(?event, "init speaks out of turn"),
        }
    }

    /// Starts a command with these stdin, stdout and stderr, or none of them for one with a terminal, and then the
    /// entrance of its cgroup if it has one.
    pub(super) async fn spawn(&self, spawn: Spawn, fds: &[BorrowedFd<'_>]) -> Result<Reports, Fault> {
        let (id, (start, started), (exit, exited)) = (spawn.id, oneshot::channel(), oneshot::channel());
        {
            let mut waiting = lock(&self.waiting);
            if waiting.closed {
                return Err(Fault::gone());
            }
            waiting.starts.insert(id, start);
            waiting.exits.insert(id, exit);
        }
        match self.send(&Request::Spawn(spawn), fds).await {
            Ok(()) => Ok(Reports { started, exited }),
            Err(error) => {
                let mut waiting = lock(&self.waiting);
                waiting.starts.remove(&id);
                waiting.exits.remove(&id);
                Err(Fault::command(format!("the command can't be handed to the sandbox: {error}")))
            }
        }
    }

    /// Kills a command's process tree.
    pub(super) async fn kill(&self, id: u64) {
        self.tell(&Request::Kill { id }).await;
    }

    /// Sends a signal to a command's process group.
    pub(super) async fn signal(&self, id: u64, number: i32) {
        self.tell(&Request::Signal { id, number }).await;
    }

    /// Sends what is not answered. If `init` is gone there is nothing left that it could be about.
    async fn tell(&self, request: &Request) {
        if let Err(error) = self.send(request, &[]).await {
            tracing::debug!(%error, ?request, "not delivered");
        }
    }

    /// Sends a request that has one answer, with these descriptors, and waits for it; `request` is made with the
    /// number that the answer bears.
    pub(super) async fn ask(
        &self,
        request: impl FnOnce(u64) -> Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Answer, Fault> {
        let req = self.number();
        let (sender, answer) = oneshot::channel();
        {
            let mut waiting = lock(&self.waiting);
            if waiting.closed {
                return Err(Fault::left());
            }
            waiting.answers.insert(req, sender);
        }
        // Also when the caller leaves meanwhile: what was not sent is never answered.
        let _asked = Asked { link: self, req };
        if let Err(error) = self.send(&request(req), fds).await {
            return Err(Fault::command(format!("the sandbox can't be asked: {error}")));
        }
        answer.await.map_err(|_| Fault::left())
    }
}

/// A request whose answer somebody waits for.
struct Asked<'a> {
    link: &'a Link,
    req: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        lock(&self.link.waiting).answers.remove(&self.req);
    }
}

/// A waiter that left no longer wants its answer.
fn answer<T>(waiter: Option<oneshot::Sender<T>>, value: T) {
    let _unwanted = waiter.map(|waiter| waiter.send(value));
}

#[cfg(test)]
mod tests;
