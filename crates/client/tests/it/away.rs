//! What a caller does while the connection is lost: it travels with the next one, in order; and a handle that is given
//! up leaves nothing behind.

use std::sync::Arc;
use std::time::Duration;

use sandwire_client::{
    Backoff, Call, Client, Command, CommandOutcome, Config, ConfigOptions, StreamOptions, Want,
};
use sandwire_protocol::CommandSpec;
use sandwire_testkit::{Peer, Recording, Server, Until};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::{bounded, client, each, options, run, target};

/// A gate that stays open once it is opened.
#[derive(Clone)]
struct Gate(Arc<Semaphore>);

impl Gate {
    fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    fn open(&self) {
        self.0.add_permits(1);
    }

    async fn pass(&self) {
        self.0.acquire().await.unwrap().forget();
        self.open();
    }
}

fn printing() -> Recording {
    Recording::new().stdout("up")
}

/// A server whose first connection is lost and whose second one waits for the gate before it is accepted; `away` opens
/// as soon as that one has come.
async fn losing<F>(
    away: &Gate,
    back: &Gate,
    recording: Recording,
    then: impl Fn(Recording, Peer) -> F + Clone + Send + Sync + 'static,
) -> Server
where
    F: Future<Output = ()> + Send + 'static,
{
    let (away, back) = (away.clone(), back.clone());
    Server::start(move |peer| {
        let (away, back, recording, then) = (away.clone(), back.clone(), recording.clone(), then.clone());
        async move {
            if peer.index == 0 {
                return drop(recording.play_until(peer, Until::Output(1)).await.unwrap());
            }
            away.open();
            back.pass().await;
            then(recording, peer).await;
        }
    })
    .await
    .unwrap()
}

/// Frames of the second connection without the opening one, up to the first of type `last`.
async fn frames_until(exec: &mut sandwire_testkit::Exec, last: &str) -> Vec<Value> {
    let mut frames = Vec::new();
    while let Some(frame) = exec.recv().await {
        let over = frame["type"] == last;
        frames.push(frame);
        if over {
            break;
        }
    }
    frames
}

#[tokio::test]
async fn input_and_its_end_travel_with_the_next_connection_in_order() {
    let (away, back) = (Gate::closed(), Gate::closed());
    let server = losing(&away, &back, printing(), |recording, peer| async move {
        let mut exec = recording.play_until(peer, Until::Started).await.unwrap();
        let frames = frames_until(&mut exec, "close_stdin").await;
        let input = |data: &str| json!({"type": "input", "data": data});
        assert_eq!(frames, [input("one "), input("two "), input("дві"), json!({"type": "close_stdin"})]);
        exec.exit(0).await.unwrap();
        exec.drained().await;
    })
    .await;
    let command = run(&server).await;
    bounded(away.pass()).await;
    let (one, two, three, closed, ()) = bounded(async {
        tokio::join!(
            command.send_input("one ".into()),
            command.send_input("two ".into()),
            command.send_input("дві".into()),
            command.close_input(),
            async { back.open() },
        )
    })
    .await;
    assert_eq!([one, two, three, closed].map(Result::unwrap), [true; 4]);
    assert_eq!(bounded(command.result()).await.unwrap().exit_code, Some(0));
    server.finish().await;
}

/// A server of the extension whose first connection is lost after it has read all input, of which it took three bytes.
async fn forgetful(peer: Peer) {
    let first = peer.index == 0;
    let mut exec = peer.accept_as(Some(sandwire_testkit::EXTENSION)).await.unwrap();
    let opening = exec.opening().await.unwrap();
    assert!(opening["writer"].as_str().is_some_and(|writer| (1..=64).contains(&writer.len())), "{opening}");
    exec.started(json!({ "stdin_offset": if first { 0 } else { 3 } })).await.unwrap();
    let (mut taken, end) = (if first { 0 } else { 3 }, if first { "a".len() + 9 } else { 12 });
    let mut text = String::new();
    while taken < end {
        let frame = exec.recv().await.unwrap();
        assert_eq!(frame["type"], "stdin", "{frame}");
        assert_eq!(frame["offset"], taken, "{frame}");
        let data = frame["data"].as_str().unwrap();
        taken += data.len();
        text.push_str(data);
    }
    if first {
        assert_eq!(text, "abcdefghij");
        return;
    }
    assert_eq!(text, "defghijkl");
    exec.send(json!({ "type": "stdin_ack", "offset": taken })).await.unwrap();
    assert_eq!(exec.recv().await.unwrap(), json!({"type": "close_stdin"}));
    exec.send(json!({"type": "exit", "exit_code": 0, "stdout_bytes": 0, "stderr_bytes": 0})).await.unwrap();
    exec.drained().await;
}

#[tokio::test]
async fn input_that_a_lost_connection_took_along_is_sent_again_once() {
    let server = Server::start(forgetful).await.unwrap();
    let options = StreamOptions { input: Some("abcde".into()), ..options() };
    let command = client(&server)
        .run(&target(&server), CommandSpec::new("x"), options, &Call::default())
        .await
        .unwrap();
    let sent = bounded(async {
        tokio::join!(
            command.send_input("fghij".into()),
            async { command.send_input("kl".into()).await },
            command.close_input(),
        )
    });
    let (one, two, closed) = sent.await;
    assert_eq!([one, two, closed].map(Result::unwrap), [true; 3]);
    assert_eq!(bounded(command.result()).await.unwrap().exit_code, Some(0));
    server.finish().await;
}

#[tokio::test]
async fn a_kill_travels_with_the_next_connection() {
    for extended in [false, true] {
        let recording = if extended { printing().extended() } else { printing() };
        let (away, back) = (Gate::closed(), Gate::closed());
        let server = losing(&away, &back, recording, |recording, peer| async move {
            let mut exec = recording.play_until(peer, Until::Started).await.unwrap();
            assert_eq!(exec.recv().await.unwrap()["type"], "kill");
            exec.exit(137).await.unwrap();
            exec.drained().await;
        })
        .await;
        let command = run(&server).await;
        bounded(away.pass()).await;
        let (killed, ()) = bounded(async { tokio::join!(command.kill(), async { back.open() }) }).await;
        assert!(killed.unwrap());
        let result = bounded(command.result()).await.unwrap();
        assert_eq!((result.outcome, result.exit_code), (CommandOutcome::Killed, Some(137)));
        server.finish().await;
    }
}

#[tokio::test]
async fn a_kill_does_not_depend_on_output_that_nobody_takes() {
    for reset in [false, true] {
        let server = Server::start(move |peer| async move {
            let much = (0..64).fold(Recording::new(), |all, _| all.stdout(vec![b'x'; 64 * 1024])).extended();
            if peer.index == 0 {
                let exec = much.play_until(peer, Until::Output(24)).await.unwrap();
                return if reset { exec.reset().unwrap() } else { drop(exec) };
            }
            let mut exec = much.play_until(peer, Until::Started).await.unwrap();
            assert_eq!(exec.recv().await.unwrap()["type"], "kill");
            exec.exit(137).await.unwrap();
            exec.drained().await;
        })
        .await
        .unwrap();
        let command = run(&server).await;
        while !command.is_ready(Want::All) {
            tokio::task::yield_now().await;
        }
        assert!(bounded(command.kill()).await.unwrap());
        let result = bounded(command.result()).await.unwrap();
        assert_eq!((result.outcome, result.exit_code), (CommandOutcome::Killed, Some(137)), "{reset}");
        server.finish().await;
    }
}

#[tokio::test]
async fn a_kill_does_not_wait_for_a_pause() {
    let server = Server::start(async |peer| match peer.index {
        0 => drop(printing().play_until(peer, Until::Output(1)).await.unwrap()),
        _ => {
            let mut exec = printing().play_until(peer, Until::Started).await.unwrap();
            assert_eq!(exec.recv().await.unwrap()["type"], "kill");
            exec.exit(137).await.unwrap();
            exec.drained().await;
        }
    })
    .await
    .unwrap();
    let command = run_with_pauses(&server, Duration::from_secs(1000)).await;
    let mut server = server;
    bounded(server.deserted()).await;
    assert!(bounded(command.kill()).await.unwrap());
    assert_eq!(bounded(command.result()).await.unwrap().outcome, CommandOutcome::Killed);
    server.finish().await;
}

#[tokio::test]
async fn a_kill_that_no_connection_takes_ends_unconfirmed() {
    let (away, back) = (Gate::closed(), Gate::closed());
    let mut server = losing(&away, &back, printing(), |_, peer| async move {
        peer.answer(503, &[], "").await.unwrap_or_default();
    })
    .await;
    let command = run(&server).await;
    bounded(away.pass()).await;
    // Whether it could be handed over is not known; that it does not hang is.
    let (_, ()) = bounded(async { tokio::join!(command.kill(), async { back.open() }) }).await;
    let result = bounded(command.result()).await.unwrap();
    assert_eq!((result.outcome, result.exit_code), (CommandOutcome::Lost, Some(-1)));
    bounded(server.deserted()).await;
    server.finish().await;
}

/// How a server falls silent.
#[derive(Debug, Clone, Copy)]
enum Silence {
    InsideAFrame,
    BetweenFrames,
}

/// Plays what it prints and answers nothing any more; on every connection.
async fn silent(peer: Peer, silence: Silence) {
    let until = if peer.index == 0 { Until::Output(1) } else { Until::Started };
    let mut exec = printing().play_until(peer, until).await.unwrap();
    match silence {
        Silence::InsideAFrame => exec.stall_inside_a_frame().await.unwrap_or_default(),
        Silence::BetweenFrames => exec.outlast().await,
    }
}

#[tokio::test]
async fn a_kill_of_a_silent_server_ends_within_its_deadline() {
    each([Silence::InsideAFrame, Silence::BetweenFrames], async |silence| {
        let mut server = Server::start(move |peer| silent(peer, silence)).await.unwrap();
        let command = run(&server).await;
        let _ = command.kill().await;
        let result = command.result().await.unwrap();
        assert_eq!((result.outcome, result.exit_code), (CommandOutcome::Lost, Some(-1)));
        server.deserted().await;
        server.finish().await;
    })
    .await;
}

/// What a client waits for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wait {
    Output,
    RestOfAFrame,
    Upgrade,
    Acknowledgement,
    Pause,
}

/// Lets the client wait, and opens the gate when it does.
async fn let_wait(peer: Peer, wait: Wait, there: Gate) {
    let away = matches!(wait, Wait::Upgrade | Wait::Acknowledgement | Wait::Pause);
    if away && peer.index == 0 {
        drop(printing().play_until(peer, Until::Output(1)).await.unwrap());
        if wait == Wait::Pause {
            there.open();
        }
        return;
    }
    if away && wait != Wait::Acknowledgement {
        there.open();
        return peer.outlast().await;
    }
    let until = if wait == Wait::Acknowledgement { Until::Opening } else { Until::Output(1) };
    let mut exec = printing().play_until(peer, until).await.unwrap();
    there.open();
    match wait {
        Wait::RestOfAFrame => exec.stall_inside_a_frame().await.unwrap_or_default(),
        _ => exec.outlast().await,
    }
}

#[tokio::test]
async fn a_detached_handle_leaves_no_socket_and_no_task_whatever_it_waited_for() {
    for wait in [Wait::Output, Wait::RestOfAFrame, Wait::Upgrade, Wait::Acknowledgement, Wait::Pause] {
        let there = Gate::closed();
        let arrived = there.clone();
        let mut server = Server::start(move |peer| let_wait(peer, wait, arrived.clone())).await.unwrap();
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let pause = Duration::from_secs(if wait == Wait::Pause { 1000 } else { 0 });
        let command = run_with_pauses(&server, pause).await;
        bounded(there.pass()).await;
        command.detach();
        let error = bounded(command.result()).await.unwrap_err();
        assert_eq!(error.details().result.as_ref().unwrap().outcome, CommandOutcome::Lost, "{wait:?}");
        bounded(server.deserted()).await;
        bounded(no_more_tasks_than(tasks)).await;
        server.finish().await;
    }
}

async fn no_more_tasks_than(count: usize) {
    while tokio::runtime::Handle::current().metrics().num_alive_tasks() > count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn many_handles_that_are_dropped_anywhere_leave_nothing() {
    let mut server = Server::start(async |peer| match peer.index % 4 {
        0 => printing().play(peer).await,
        1 => drop(printing().play_until(peer, Until::Output(1)).await),
        2 => peer.answer(503, &[("Retry-After", "0")], "").await.unwrap_or_default(),
        _ => {
            if let Ok(mut exec) = printing().play_until(peer, Until::Started).await {
                exec.outlast().await;
            }
        }
    })
    .await
    .unwrap();
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    each(0..200, async |_| {
        let client = client(&server);
        if let Ok(command) =
            client.run(&target(&server), CommandSpec::new("x"), options(), &Call::default()).await
        {
            tokio::task::yield_now().await;
            drop(command);
        }
    })
    .await;
    bounded(server.deserted()).await;
    bounded(no_more_tasks_than(tasks)).await;
    server.finish().await;
}

/// Starts a command whose lost connection is made again after `pause`.
async fn run_with_pauses(server: &Server, pause: Duration) -> Command {
    let given = ConfigOptions {
        endpoint: server.url(),
        headers: Vec::new(),
        timeout: Duration::from_secs(10),
        max_retries: 3,
        max_concurrency: None,
    };
    let config = Config::new(given, None).unwrap().with_backoff(Backoff { base: pause, max: pause });
    let spec = CommandSpec { timeout_seconds: Some(0), ..CommandSpec::new("x") };
    Client::new(config).unwrap().run(&target(server), spec, options(), &Call::default()).await.unwrap()
}
