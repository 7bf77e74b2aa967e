//! Commands over HTTP and over the exec socket.

use std::fs;
use std::sync::Arc;

use bytes::BytesMut;
use sandwire_protocol::limits::{
    EXECUTE_OUTPUT_MAX, EXECUTES_AT_ONCE, EXECUTES_OF_SANDBOX, EXPIRED_COMMANDS_MAX, STDIN_BUFFER_MAX,
};
use sandwire_protocol::{CommandSpec, ErrorType, SandboxStatus};
use sandwire_server::engine::{End, Form, Step};
use serde_json::json;
use tokio::sync::Barrier;

use crate::fake::{KEY, SILENT, UNDYING, server};
use crate::socket::{error_type, execute, fixture, listen, next, say};

#[tokio::test]
async fn over_http() {
    let fixture = fixture().await;
    let run = async |command: &str| fixture.post(json!({"command": command, "shell": "/bin/sh"})).await;
    let answer = run("echo out; echo err >&2; exit 3").await;
    assert_eq!(answer, (200, json!({"stdout": "out\n", "stderr": "err\n", "exit_code": 3})));
    assert_eq!(run("cat").await.1["exit_code"], 0, "stdin is at its end");
    assert_eq!(run("no-such-program").await.1["exit_code"], 127);
    let (status, error) = fixture.post(json!({"command": "true", "shell": "/no/shell"})).await;
    assert_eq!((status, &error["detail"]["error"]), (400, &json!("CommandError")));
    assert!(error["detail"]["message"].as_str().unwrap().contains("/no/shell"));
    let (status, error) =
        fixture.post(json!({"command": "sleep 60", "shell": "/bin/sh", "timeout": 1})).await;
    assert_eq!((status, &error["detail"]["error"]), (408, &json!("CommandError")));
}

#[tokio::test]
async fn calls_wait_for_their_turn_and_collect_so_much() {
    let fixture = fixture().await;
    let all = u32::try_from(EXECUTES_AT_ONCE).unwrap();
    let turns = fixture.server.app.executes.acquire_many(all).await.unwrap();
    let waiting = fixture.post(json!({"command": "echo turn", "shell": "/bin/sh"}));
    let mut waiting = std::pin::pin!(waiting);
    let soon = std::time::Duration::from_millis(50);
    assert!(tokio::time::timeout(soon, waiting.as_mut()).await.is_err());
    drop(turns);
    assert_eq!(waiting.await.1["stdout"], "turn\n");
    let much = format!("head -c {} /dev/zero", EXECUTE_OUTPUT_MAX + 1);
    let (status, error) = fixture.post(json!({"command": much, "shell": "/bin/sh"})).await;
    assert_eq!((status, &error["detail"]["error"]), (400, &json!("CommandError")));
    assert_eq!(fixture.server.app.executes.available_permits(), EXECUTES_AT_ONCE);
}

#[tokio::test]
async fn one_sandbox_does_not_take_the_turns_of_all() {
    let fixture = fixture().await;
    let command = json!({"command": "echo turn", "shell": "/bin/sh"});
    let id = fixture.sandbox.trim_start_matches("/sandboxes/").parse().unwrap();
    let own = u32::try_from(EXECUTES_OF_SANDBOX).unwrap();
    let turns = fixture.server.app.executes_of.of(id).acquire_many_owned(own).await.unwrap();
    let other = fixture.server.sandbox().await;
    let (status, _) = fixture.server.call("POST", &format!("{other}/execute"), command.to_string()).await;
    assert_eq!(status, 200);
    tokio::time::pause();
    let (status, error) = fixture.post(command.clone()).await;
    tokio::time::resume();
    assert_eq!((status, &error["detail"]["error"]), (503, &json!("ServiceUnavailable")));
    drop(turns);
    assert_eq!(fixture.post(command).await.0, 200);
}

#[tokio::test]
async fn a_command_is_streamed_and_can_be_attached_again() {
    let fixture = fixture().await;
    let first = fixture.talk(&[execute("echo out; echo err >&2; exit 4", json!({"command_id": "c"}))]).await;
    assert_eq!((first.stdout.as_str(), first.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!((&first.last, first.close), (&json!({"type": "exit", "exit_code": 4}), Some(1000)));
    assert_eq!(first.started.as_ref().unwrap()["command_id"], "c");
    let repeated = fixture.talk(&[execute("echo something else", json!({"command_id": "c"}))]).await;
    assert_eq!(repeated, first);
    let reconnect = json!({"type": "reconnect", "command_id": "c", "stdout_offset": 2, "stderr_offset": 99});
    let late = fixture.talk(&[reconnect]).await;
    assert_eq!((late.stdout.as_str(), late.stderr.as_str(), &late.last), ("t\n", "", &first.last));
}

#[tokio::test]
async fn two_at_the_same_instant_share_one_process() {
    let fixture = fixture().await;
    let frame = [execute("echo $$; read line; echo $line", json!({"command_id": "c", "close_stdin": false}))];
    let (mut one, mut two) = tokio::join!(fixture.open(&frame), fixture.open(&frame));
    let (first, second) = tokio::join!(next(&mut one), next(&mut two));
    assert_eq!(first, second);
    say(&mut two, &json!({"type": "input", "data": "hello\n"})).await;
    let (one, two) = tokio::join!(listen(one), listen(two));
    assert!(one.stdout.ends_with("\nhello\n"));
    assert_eq!(one, two);
}

/// The journal needs to be shortened and can't be.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_command_that_cant_be_noted_ends_for_all_who_asked_for_it() {
    let fixture = fixture().await;
    let sandbox = fixture.server.app.engine.get(fixture.sandbox.trim_start_matches("/sandboxes/")).unwrap();
    let journal = fixture.server.state_dir().join("commands").join(sandbox.id().to_string());
    fs::write(&journal, "\"old\"\n".repeat(2 * EXPIRED_COMMANDS_MAX + 1)).unwrap();
    fs::create_dir(journal.with_extension("new")).unwrap();
    for round in 0..500 {
        let spec = CommandSpec { command_id: Some(round.to_string()), ..CommandSpec::new("true") };
        let together = Arc::new(Barrier::new(4));
        let asked: Vec<_> = (0..4)
            .map(|_| {
                let (spec, sandbox, together) = (spec.clone(), Arc::clone(&sandbox), Arc::clone(&together));
                tokio::spawn(async move {
                    together.wait().await;
                    let mut attachment = sandbox.execute(&spec, Form::Text).ok()?;
                    Some(attachment.next(&mut BytesMut::new()).await)
                })
            })
            .collect();
        for asked in asked {
            if let Some(step) = asked.await.unwrap() {
                assert!(
                    matches!(&step, Step::End(End::Failed(fault)) if fault.kind == ErrorType::InternalError)
                );
            }
        }
    }
}

#[tokio::test]
async fn control_frames_before_the_opening_frame_are_kept() {
    let fixture = fixture().await;
    let mut first =
        fixture.open(&[execute("cat; echo end", json!({"command_id": "c", "close_stdin": false}))]).await;
    next(&mut first).await.unwrap();
    let early = [
        json!({"type": "input", "data": "kept\n"}),
        json!({"type": "close_stdin"}),
        json!({"type": "reconnect", "command_id": "c"}),
    ];
    assert_eq!(fixture.talk(&early).await.stdout, "kept\nend\n");
}

#[tokio::test]
async fn kill_takes_the_tree() {
    let fixture = fixture().await;
    let mut socket = fixture.open(&[execute("sleep 1000 & sleep 1000", json!({}))]).await;
    next(&mut socket).await.unwrap();
    say(&mut socket, &json!({"type": "kill"})).await;
    assert_eq!(listen(socket).await.last, json!({"type": "exit", "exit_code": 137}));
}

#[tokio::test]
async fn a_kill_is_seen_behind_unread_input() {
    let fixture = fixture().await;
    let spec = json!({"close_stdin": false});
    let mut socket = fixture.open(&[execute("sleep 1000", spec)]).await;
    next(&mut socket).await.unwrap();
    for _ in 0..3 {
        say(&mut socket, &json!({"type": "input", "data": "x".repeat(STDIN_BUFFER_MAX / 3)})).await;
    }
    say(&mut socket, &json!({"type": "kill"})).await;
    assert_eq!(listen(socket).await.last["exit_code"], 137);
}

#[tokio::test]
async fn a_kill_takes_what_the_main_process_left() {
    let fixture = fixture().await;
    let command = "while :; do echo x; sleep 0.01; done & echo $! >&2; exit 3";
    let mut socket = fixture.open(&[execute(command, json!({}))]).await;
    let pid = loop {
        let frame = next(&mut socket).await.unwrap();
        if frame["type"] == "stderr" {
            break frame["data"].as_str().unwrap().trim().to_owned();
        }
    };
    say(&mut socket, &json!({"type": "kill"})).await;
    assert_eq!(listen(socket).await.last["type"], "exit");
    crate::fake::until(async || !alive(&pid)).await;
}

/// Nobody may have collected it yet.
fn alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

#[tokio::test]
async fn the_time_of_a_start_is_told() {
    let fixture = fixture().await;
    let request = axum::http::Request::builder().method("POST").uri(format!("{}/execute", fixture.sandbox));
    let body = json!({"command": "true", "shell": "/bin/sh"}).to_string();
    let (_, headers, _) =
        fixture.server.raw(request.header("x-api-key", KEY).body(body.into()).unwrap()).await;
    let timing = headers["server-timing"].to_str().unwrap().strip_prefix("spawn;dur=").unwrap();
    assert!(timing.parse::<f64>().unwrap() > 0.0);
}

#[tokio::test]
async fn a_timeout_is_repeated_and_a_session_expires() {
    let fixture = fixture().await;
    let spec = json!({"command_id": "c", "timeout_seconds": 1, "ttl_seconds": 1});
    let first = fixture.talk(&[execute("echo out; sleep 1000", spec)]).await;
    assert_eq!((first.stdout.as_str(), error_type(&first)), ("out\n", ErrorType::CommandTimeout));
    let reconnect = [json!({"type": "reconnect", "command_id": "c"})];
    assert_eq!(fixture.talk(&reconnect).await, first);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(error_type(&fixture.talk(&reconnect).await), ErrorType::SessionExpired);
    let unknown = fixture.talk(&[json!({"type": "reconnect", "command_id": "never"})]).await;
    assert_eq!((error_type(&unknown), unknown.close), (ErrorType::CommandNotFound, Some(1000)));
}

#[tokio::test]
async fn the_longest_times_are_long() {
    let fixture = fixture().await;
    let longest = json!({
        "command_id": "c", "timeout_seconds": u64::MAX, "idle_timeout_seconds": i64::MAX, "ttl_seconds": i64::MAX,
    });
    let mut socket = fixture.open(&[execute("sleep 0.2; echo out", longest)]).await;
    next(&mut socket).await.unwrap();
    drop(socket);
    let reconnect = [json!({"type": "reconnect", "command_id": "c"})];
    let first = fixture.talk(&reconnect).await;
    assert_eq!((first.stdout.as_str(), &first.last["exit_code"]), ("out\n", &json!(0)));
    // Whether it has expired is what the sweeper asks as well.
    assert_eq!(fixture.talk(&reconnect).await, first);
    let answer = fixture.post(json!({"command": "true", "shell": "/bin/sh", "timeout": u64::MAX})).await;
    assert_eq!(answer.0, 200);
}

#[tokio::test]
async fn leaving_kills_when_asked_to() {
    let fixture = fixture().await;
    for spec in [json!({"kill_on_disconnect": true}), json!({"idle_timeout_seconds": 0})] {
        let mut spec = spec;
        spec["command_id"] = json!(spec.to_string());
        let mut socket = fixture.open(&[execute("sleep 1000", spec.clone())]).await;
        next(&mut socket).await.unwrap();
        drop(socket);
        crate::fake::until(async || {
            let reconnect = json!({"type": "reconnect", "command_id": spec["command_id"]});
            let mut socket = fixture.open(&[reconnect]).await;
            next(&mut socket).await.unwrap();
            let soon = tokio::time::timeout(std::time::Duration::from_millis(50), next(&mut socket)).await;
            matches!(soon, Ok(Some(frame)) if frame["exit_code"] == 137)
        })
        .await;
    }
}

#[tokio::test]
async fn bad_frames_get_an_error_frame() {
    let fixture = fixture().await;
    let running = execute("sleep 1000", json!({}));
    for frames in [
        vec![json!(7)],
        vec![json!({"type": "dance"})],
        vec![json!({"type": "execute"})],
        vec![running.clone(), running.clone()],
        vec![running.clone(), json!({"type": "input"})],
        vec![execute(&"x".repeat(5 << 20), json!({}))],
        vec![json!({"type": "kill"}); 20],
        vec![execute("true", json!({"command_id": ""}))],
        vec![execute("true", json!({"cwd": "/", "run_config": {}}))],
    ] {
        let said = fixture.talk(&frames).await;
        assert_eq!((error_type(&said), said.close), (ErrorType::InvalidRequest, Some(1000)));
    }
    let shell = fixture.talk(&[execute("true", json!({"shell": "/no/shell", "command_id": "again"}))]).await;
    assert_eq!((error_type(&shell), &shell.started), (ErrorType::CommandError, &None));
    let again = fixture.talk(&[execute("true", json!({"command_id": "again"}))]).await;
    assert_eq!(again.last["exit_code"], 0, "an id that never ran is free");
}

#[tokio::test]
async fn characters_stay_whole_and_the_stream_too() {
    let fixture = fixture().await;
    let command = "i=0; while [ $i -lt 40000 ]; do echo é€🙂; i=$((i+1)); done; printf '\\377'";
    let mut socket = fixture.open(&[execute(command, json!({"command_id": "c"}))]).await;
    let mut bytes = 0;
    while bytes < 100_000 {
        let frame = next(&mut socket).await.unwrap();
        if frame["type"] == "stdout" {
            assert_eq!(frame["offset"], bytes);
            bytes += frame["data"].as_str().unwrap().len();
        }
    }
    drop(socket);
    let rest = fixture.talk(&[json!({"type": "reconnect", "command_id": "c", "stdout_offset": bytes})]).await;
    let whole = "é€🙂\n".repeat(40_000) + "\u{FFFD}";
    assert!(whole.get(bytes..) == Some(rest.stdout.as_str()));
}

#[tokio::test]
async fn what_is_no_text_counts_as_what_is_sent() {
    let fixture = fixture().await;
    let command = "printf 'a\\377\\376'; sleep 0.1; printf 'abc\\342\\202'; sleep 0.1; printf '\\254\\342'; \
                   read go; printf 'x\\300\\360\\237'; sleep 0.1; printf '\\231\\202\\360'";
    let spec = json!({"command_id": "c", "close_stdin": false});
    let mut socket = fixture.open(&[execute(command, spec)]).await;
    let mut seen = String::new();
    while !seen.ends_with('€') {
        let frame = next(&mut socket).await.unwrap();
        if frame["type"] == "stdout" {
            assert_eq!(frame["offset"], seen.len());
            seen.push_str(frame["data"].as_str().unwrap());
        }
    }
    say(&mut socket, &json!({"type": "input", "data": "\n"})).await;
    drop(socket);
    let from = async |offset: usize| {
        fixture.talk(&[json!({"type": "reconnect", "command_id": "c", "stdout_offset": offset})]).await.stdout
    };
    let rest = from(seen.len()).await;
    let whole =
        String::from_utf8_lossy(b"a\xff\xfeabc\xe2\x82\xac\xe2x\xc0\xf0\x9f\x99\x82\xf0").into_owned();
    assert_eq!(seen + &rest, whole);
    for offset in 0..=whole.len() {
        let boundary = (offset..).find(|at| whole.is_char_boundary(*at)).unwrap();
        assert_eq!(Some(from(offset).await.as_str()), whole.get(boundary..), "from {offset}");
    }
}

#[tokio::test]
async fn what_stays_in_the_background_lives_on() {
    let fixture = fixture().await;
    let said = fixture.talk(&[execute("(sleep 0.4; echo late; touch alive) & echo main", json!({}))]).await;
    assert_eq!((said.stdout.as_str(), &said.last["exit_code"]), ("main\n", &json!(0)));
    let path = format!("{}/download?path=/alive", fixture.sandbox);
    crate::fake::until(async || fixture.server.call("GET", &path, "").await.0 == 200).await;
}

#[tokio::test]
async fn the_death_of_init_ends_everything_with_an_error() {
    let fixture = fixture().await;
    let mut running = fixture.open(&[execute("echo here; sleep 1000", json!({}))]).await;
    next(&mut running).await.unwrap();
    assert_eq!(next(&mut running).await.unwrap()["data"], "here\n");
    let died = fixture.talk(&[execute("DIE", json!({}))]).await;
    assert_eq!(error_type(&died), ErrorType::CommandError);
    let running = listen(running).await;
    assert_eq!((running.stdout.as_str(), error_type(&running)), ("", ErrorType::CommandError));
    let (status, error) = fixture.post(json!({"command": "true"})).await;
    assert_eq!((status, &error["detail"]["error"]), (400, &json!("NotReady")));
}

#[tokio::test]
async fn an_init_that_does_not_do_its_work_is_ended() {
    for (command, message) in [(SILENT, "init does not answer"), (UNDYING, "a killed command does not end")] {
        let server = server();
        let path = server.sandbox().await;
        let sandbox = server.app.engine.get(path.trim_start_matches("/sandboxes/")).unwrap();
        let spec = CommandSpec { timeout_seconds: Some(1), ..CommandSpec::new(command) };
        let mut attachment = sandbox.execute(&spec, Form::Text).unwrap();
        if command == UNDYING {
            attachment.started().await.unwrap();
        }
        tokio::time::pause();
        let step = attachment.next(&mut BytesMut::new()).await;
        assert!(
            matches!(&step, Step::End(End::Failed(fault)) if fault.kind == ErrorType::CommandError),
            "{step:?}"
        );
        crate::fake::until(async || sandbox.status().0 == SandboxStatus::Failed).await;
        assert_eq!(sandbox.status().1.unwrap(), message);
        tokio::time::resume();
        let (status, error) =
            server.call("POST", &format!("{path}/execute"), json!({"command": "true"}).to_string()).await;
        assert_eq!((status, &error["detail"]["error"]), (400, &json!("NotReady")));
    }
}

#[tokio::test]
async fn the_end_of_the_server_asks_clients_to_come_back() {
    let fixture = fixture().await;
    let mut socket = fixture.open(&[execute("sleep 1000", json!({}))]).await;
    next(&mut socket).await.unwrap();
    fixture.server.app.stopping.cancel();
    assert_eq!(listen(socket).await.close, Some(1001));
    fixture.server.app.sockets.close();
    fixture.server.app.sockets.wait().await;
    fixture.server.app.engine.shutdown().await;
}
