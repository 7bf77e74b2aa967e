//! The task of one command: it starts the process, moves its bytes, watches its limits and says its last word.
//!
//! A command is over when its main process died and its pipes are drained: at EOF, or quiet for
//! [`DRAIN_QUIET`] with nothing held back. What it left in the background lives on, so its output goes on being
//! read, and dropped, until nobody holds the pipes: a closed pipe would kill a daemon that logs. All of this holds for
//! a terminal as well, whose output is stdout; stderr ends at once.
//! A kill, from whatever cause, takes the whole tree, daemons included. An `init` that neither starts nor kills is
//! beyond help, and the sandbox ends with it.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;

use sandwire_isolate::wire::{Account, Event, Failure, Request, Spawn};
use sandwire_protocol::StreamKind;
use sandwire_protocol::limits::{DRAIN_MAX, DRAIN_QUIET, KILL_GRACE, ORPHAN_DRAIN, START_DEADLINE};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::channel::Channel;
use super::command::{Command, End, Idle, timed_out};
use super::fault::Fault;
use super::group::Group;
use super::launch::{Launch, check_ids, root};
use super::link::{Exited, Link, NotStarted, Reports, Started};
use super::requests;
use super::stdio::Stdio;
use super::stream::Room;

/// Bytes that one read takes: the default capacity of a pipe.
const READ_MAX: usize = 64 * 1024;

/// What `init` answers for a user that is not there.
const ENOENT: i32 = rustix::io::Errno::NOENT.raw_os_error();

thread_local! {
    /// Read and append happen without an await between them, so the tasks of a thread can share one buffer.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_MAX]);
}

/// Runs a command from its start to the end of the last process that holds its pipes. Returns whether a process may
/// have been started at all.
pub(super) async fn drive(
    command: &Command,
    link: &Link,
    launch: Launch,
    owner: impl Fn(&Account) -> Option<(u32, u32)>,
) -> bool {
    let (names, started_at) = (Names::of(&launch), Instant::now());
    let account = match look_up(link, launch.user()).await {
        Ok(account) => account,
        Err(fault) => {
            command.finish(End::Failed(fault));
            return false;
        }
    };
    let owner = owner(&account);
    let (group, entrance) = Group::take(link);
    let spawn = launch.spawn(account, entrance.is_some());
    let number = spawn.id;
    let (exited, stdio) = match start(command, link, spawn, owner, entrance).await {
        Ok(started) => started,
        Err(StartError::Refused(refused)) => {
            command.finish(End::Failed(names.explain(&refused.failure)));
            return refused.begun;
        }
        Err(StartError::NoChannels(error)) => {
            let message = format!("no pipes or terminal for the command: {error}");
            command.finish(End::Failed(Fault::command(message)));
            return false;
        }
        Err(StartError::Unknown(fault)) => {
            command.finish(End::Failed(fault));
            return true;
        }
    };
    let window = stdio.window();
    let Stdio { stdin, stdout, stderr } = stdio;
    let pumps = async {
        let stderr = async {
            match stderr {
                Some(stderr) => pump(command, StreamKind::Stderr, stderr).await,
                None => command.close_stream(StreamKind::Stderr),
            }
        };
        tokio::join!(pump(command, StreamKind::Stdout, stdout), stderr);
    };
    let feed = command.stdin().feed(stdin);
    let mut pumps = std::pin::pin!(pumps);
    let watch = Watch::new(command, link, &group, number, started_at, window);
    let (end, drained) = watch.until_over(exited, pumps.as_mut(), std::pin::pin!(feed)).await;
    command.finish(end);
    if !drained {
        tokio::select! {
            () = pumps => {}
            () = link.closed() => {}
        }
    }
    true
}

/// Who the command is to run as.
async fn look_up(link: &Link, user: Option<&str>) -> Result<Account, Fault> {
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

enum StartError {
    /// By `init`.
    Refused(NotStarted),
    /// Nothing was asked of `init` yet.
    NoChannels(io::Error),
    /// `init` was asked, and what came of it is not known.
    Unknown(Fault),
}

impl From<Fault> for StartError {
    fn from(fault: Fault) -> Self {
        Self::Unknown(fault)
    }
}

async fn start(
    command: &Command,
    link: &Link,
    spawn: Spawn,
    owner: Option<(u32, u32)>,
    entrance: Option<OwnedFd>,
) -> Result<(oneshot::Receiver<Exited>, Stdio), StartError> {
    let (number, terminal) = (spawn.id, spawn.pty.is_some());
    let pipes = if terminal { None } else { Some(Stdio::pipes(owner).map_err(StartError::NoChannels)?) };
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
    let stdio = match (pipes, master) {
        (Some((ours, _)), _) => Ok(ours),
        (None, Some(master)) => Stdio::terminal(master),
        (None, None) => Err(io::Error::other("init sent none")),
    };
    if stdio.is_err() {
        let _taken = timeout(KILL_GRACE, link.kill(number)).await;
    }
    let stdio = stdio.map_err(|error| Fault::command(format!("no terminal for the command: {error}")))?;
    command.started(pid, asked.elapsed());
    Ok((exited, stdio))
}

/// What a failed start is explained with.
struct Names {
    shell: String,
    cwd: String,
}

impl Names {
    fn of(launch: &Launch) -> Self {
        let (shell, cwd) = launch.names();
        Self { shell, cwd }
    }

    fn explain(&self, failure: &Failure) -> Fault {
        Fault::command(format!(
            "the command can't start (shell {:?}, cwd {:?}): {failure}",
            self.shell, self.cwd
        ))
    }
}

/// Moves one stream to the ring buffer; after the end, to nowhere.
async fn pump(command: &Command, kind: StreamKind, channel: Channel) {
    let mut held = false;
    loop {
        tokio::task::coop::consume_budget().await;
        let room = command.room(kind, Instant::now());
        if held != matches!(room, Room::HeldUntil(_)) {
            held = !held;
            command.hold(kind, held);
        }
        let room = match room {
            Room::Bytes(room) => room,
            Room::HeldUntil(until) => {
                let _either = timeout_at(until, command.space(kind).notified()).await;
                continue;
            }
        };
        let Ok(readable) = channel.readable().await else { break };
        let read = SCRATCH.with_borrow_mut(|scratch| {
            let space = scratch.get_mut(..room.min(READ_MAX)).unwrap_or_default();
            let size = readable.read(space)?;
            if size > 0 {
                command.append(kind, space.get(..size).unwrap_or_default());
            }
            Ok::<_, io::Error>(size)
        });
        match read {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    command.close_stream(kind);
}

/// The limits of a running command.
struct Watch<'a> {
    command: &'a Command,
    link: &'a Link,
    group: &'a Group,
    number: u64,
    /// Its terminal, if it has one.
    window: Option<Channel>,
    deadline: Option<Instant>,
    /// How and when its main process died.
    exit: Option<(Exited, Instant)>,
    /// Since when its output has been drained freely.
    draining: Instant,
    killed: Option<Instant>,
    /// Requests to kill it that were passed on.
    kills: u64,
    timed_out: bool,
}

impl<'a> Watch<'a> {
    fn new(
        command: &'a Command,
        link: &'a Link,
        group: &'a Group,
        number: u64,
        started_at: Instant,
        window: Option<Channel>,
    ) -> Self {
        let deadline = command.timeout().map(|timeout| started_at + timeout);
        Self {
            command,
            link,
            group,
            number,
            window,
            deadline,
            exit: None,
            draining: started_at,
            killed: None,
            kills: 0,
            timed_out: false,
        }
    }

    /// Waits for the end; also says whether the pipes are at EOF.
    async fn until_over(
        mut self,
        mut exited: oneshot::Receiver<Exited>,
        mut pumps: Pin<&mut impl Future<Output = ()>>,
        mut feed: Pin<&mut impl Future<Output = ()>>,
    ) -> (End, bool) {
        let (mut drained, mut fed) = (false, false);
        loop {
            let now = Instant::now();
            if let Some(end) = self.verdict(now, drained) {
                return (end, drained);
            }
            self.kill_if_due(now).await;
            self.pass_on().await;
            let wake = self.next_wake(now);
            tokio::select! {
                exit = &mut exited, if self.exit.is_none() => match exit {
                    Ok(exit) => {
                        // What the main process left is killed once more, if there is a reason to.
                        self.killed = None;
                        self.command.used(self.group.usage(exit.used));
                        self.draining = Instant::now();
                        self.exit = Some((exit, self.draining));
                    }
                    Err(_) => {
                        // Everything inside dies with init; what it said before is still in the pipes.
                        let drained = drained || timeout(ORPHAN_DRAIN, &mut pumps).await.is_ok();
                        return (End::Failed(Fault::gone()), drained);
                    }
                },
                () = &mut pumps, if !drained => drained = true,
                () = &mut feed, if !fed => fed = true,
                () = self.command.poke().notified() => {}
                () = sleep(wake), if wake.is_some() => {}
            }
        }
    }

    /// Once for every reason, and once for every request.
    async fn kill_if_due(&mut self, now: Instant) {
        let kills = self.command.kills();
        if kills > self.kills || (self.killed.is_none() && self.must_die(now)) {
            self.kills = kills;
            self.killed.get_or_insert(now);
            if !self.group.kill().await {
                // One that does not even take the message is found out by what does not follow.
                let _taken = timeout(KILL_GRACE, self.link.kill(self.number)).await;
            }
        }
    }

    /// What attachments ask for, in their order.
    async fn pass_on(&self) {
        for request in self.command.take_requests() {
            match (request, &self.window) {
                (requests::Request::Signal(signal), _) => {
                    let _taken = timeout(KILL_GRACE, self.link.signal(self.number, signal.number())).await;
                }
                (requests::Request::Resize(size), Some(window)) => window.resize(size),
                (requests::Request::Resize(_), None) => {}
            }
        }
    }

    /// Whether the process tree is to be killed now, and why.
    fn must_die(&mut self, now: Instant) -> bool {
        if self.exit.is_some() {
            return self.timed_out || self.command.kill_wanted();
        }
        self.timed_out = self.deadline.is_some_and(|deadline| now >= deadline);
        let idle = matches!(self.command.idle(), Idle::Until(until) if now >= until);
        self.timed_out || idle || self.command.kill_wanted()
    }

    fn verdict(&mut self, now: Instant, drained: bool) -> Option<End> {
        let Some((Exited { code, signal, .. }, died)) = self.exit else {
            let stuck = self.killed.is_some_and(|killed| now >= killed + KILL_GRACE);
            return stuck.then(|| {
                self.link.give_up("a killed command does not end");
                End::Failed(Fault::command(
                    "the command was killed and does not end; so the sandbox is ended",
                ))
            });
        };
        if self.command.quiet_since().is_none() {
            self.draining = now;
        }
        let over = drained || self.quiet_at(died, now) <= now || now >= self.draining + DRAIN_MAX;
        match self.command.timeout() {
            _ if !over => None,
            Some(limit) if self.timed_out => Some(timed_out(limit)),
            _ => Some(End::Exited { code, signal }),
        }
    }

    /// When the pipes will have been quiet for long enough, as things stand.
    fn quiet_at(&self, died: Instant, now: Instant) -> Instant {
        self.command.quiet_since().map_or(now, |since| since.max(died)) + DRAIN_QUIET
    }

    fn next_wake(&self, now: Instant) -> Option<Instant> {
        if let Some((_, died)) = self.exit {
            return Some(self.quiet_at(died, now).min(self.draining + DRAIN_MAX));
        }
        if let Some(killed) = self.killed {
            return Some(killed + KILL_GRACE);
        }
        let idle = match self.command.idle() {
            Idle::Never => None,
            Idle::Until(until) => Some(until),
        };
        self.deadline.into_iter().chain(idle).min()
    }
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}
