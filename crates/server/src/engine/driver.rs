//! The task of one command: it starts the process ([`mod@start`]), moves its bytes ([`mod@pump`]), watches its limits
//! ([`watch`]) and says its last word.
//!
//! What the main process left in the background lives on, so its output goes on being read, and dropped, until nobody
//! holds the pipes: a closed pipe would kill a daemon that logs. An `init` that neither starts nor kills is beyond help,
//! and the sandbox ends with it.

use std::pin::pin;

use sandwire_isolate::wire::Account;
use sandwire_protocol::StreamKind;
use sandwire_protocol::limits::KILL_GRACE;
use tokio::time::{Instant, timeout};

use self::pump::pump;
use self::start::{Names, StartError, look_up, start};
use self::watch::Watch;
use super::command::{Command, End};
use super::fault::Fault;
use super::group::Group;
use super::launch::Launch;
use super::link::Link;
use super::stdio::Stdio;

mod pump;
mod start;
mod watch;

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
        Err(StartError::Useless(fault)) => {
            kill(&group, link, number).await;
            command.finish(End::Failed(fault));
            return true;
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
    let mut pumps = pin!(pumps);
    let watch = Watch::new(command, link, &group, number, started_at, window);
    let (end, drained) = watch.until_over(exited, pumps.as_mut(), pin!(feed)).await;
    command.finish(end);
    if !drained {
        tokio::select! {
            () = pumps => {}
            () = link.closed() => {}
        }
    }
    true
}

/// Kills a command's process tree.
async fn kill(group: &Group, link: &Link, number: u64) {
    if !group.kill().await {
        // One that does not even take the message is found out by what does not follow.
        let _taken = timeout(KILL_GRACE, link.kill(number)).await;
    }
}
