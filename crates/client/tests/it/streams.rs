//! Healthy servers, however they phrase it.

use bytes::Bytes;
use sandwire_client::{Call, CommandOutcome, Data, StreamOptions, Want};
use sandwire_protocol::limits::OUTPUT_ACK_BYTES;
use sandwire_protocol::{CommandSpec, StreamKind};
use sandwire_testkit::{EXTENSION, Server};
use serde_json::{Value, json};

use crate::support::{chunks, client, options, run, string, target, text};

#[tokio::test]
async fn a_command_runs_to_its_end() {
    let server = Server::start(async |peer| {
        assert_eq!((peer.method.as_str(), peer.target.as_str()), ("GET", "/sb/execute/ws"));
        assert_eq!(peer.headers["x-api-key"], "key");
        assert_eq!(peer.headers["x-team"], "red", "the call's headers win");
        assert!(!peer.headers.contains_key("sec-websocket-extensions"));
        let mut exec = peer.accept().await.unwrap();
        let opening = exec.start().await.unwrap();
        assert_eq!(opening["type"], "execute");
        assert_eq!((&opening["command"], &opening["close_stdin"]), (&json!("ls"), &json!(true)));
        assert_eq!(opening["command_id"].as_str().unwrap().len(), 36);
        exec.output("stdout", "a\n", 0).await.unwrap();
        exec.output("stderr", "é🙂", 0).await.unwrap();
        exec.output("stdout", "b\n", 2).await.unwrap();
        exec.exit(3).await.unwrap();
        assert!(exec.drained().await.is_empty());
    })
    .await
    .unwrap();
    let call = Call {
        headers: sandwire_client::header_map(&[("x-team".to_owned(), "red".to_owned())]).unwrap(),
        ..Call::default()
    };
    let options = StreamOptions { close_input: true, ..options() };
    let spec = CommandSpec::new("ls");
    let result = client(&server).run_to_end(&target(&server), spec, options, &call).await.unwrap();
    assert_eq!((result.exit_code, result.outcome), (Some(3), CommandOutcome::Exited));
    assert_eq!((string(result.stdout.text()), string(result.stderr.text())), ("a\nb\n".into(), "é🙂".into()));
    assert_eq!((result.stdout.total(), result.stderr.total()), (4, 6));
    server.finish().await;
}

#[tokio::test]
async fn chunks_come_as_they_were_sent_then_the_end_then_nothing() {
    let server = Server::start(async |peer| {
        let mut exec = peer.accept().await.unwrap();
        exec.start().await.unwrap();
        exec.output("stdout", "one", 0).await.unwrap();
        exec.output("stdout", "два", 3).await.unwrap();
        exec.exit(0).await.unwrap();
        exec.drained().await;
    })
    .await
    .unwrap();
    let command = run(&server).await;
    assert_eq!(command.pid(), Some(42));
    let mut all = Vec::new();
    while let Some(batch) = command.next_batch(Want::All).await.unwrap() {
        all.extend(chunks(batch));
    }
    assert_eq!(all.iter().map(|chunk| chunk.offset).collect::<Vec<_>>(), [0, 3]);
    assert_eq!(all[0].data, Data::Latin1(Bytes::from_static(b"one")));
    assert!(matches!(&all[1].data, Data::Utf16(units) if units.len() == 3));
    assert_eq!(command.position(StreamKind::Stdout), 9);
    assert!(command.next_batch(Want::All).await.unwrap().is_none());
    assert_eq!(command.result().await.unwrap().exit_code, Some(0));
    assert!(!command.kill().await.unwrap(), "it is over");
    assert!(!command.send_input("x".into()).await.unwrap());
    server.finish().await;
}

#[tokio::test]
async fn binary_json_and_unknown_frames_are_understood() {
    let server = Server::start(async |peer| {
        let mut exec = peer.accept().await.unwrap();
        exec.send(json!({"type": "queued", "position": 3})).await.unwrap();
        exec.start().await.unwrap();
        exec.binary(br#"{"type":"stdout","data":"bin\u0061ry","offset":0}"#).await.unwrap();
        exec.send(json!({"type": "metrics", "cpu": 1})).await.unwrap();
        exec.send(json!({"type": "started", "command_id": "of somebody else"})).await.unwrap();
        exec.binary(br#"{"type":"exit","exit_code":0,"new":[]}"#).await.unwrap();
        exec.drained().await;
    })
    .await
    .unwrap();
    let command = run(&server).await;
    assert_eq!(text(command.next_batch(Want::All).await.unwrap().unwrap())[0], "binary");
    assert_eq!(command.result().await.unwrap().exit_code, Some(0));
    server.finish().await;
}

#[tokio::test]
async fn output_can_be_bytes() {
    let server = Server::start(async |peer| {
        let mut exec = peer.accept().await.unwrap();
        exec.start().await.unwrap();
        exec.output("stdout", "é", 0).await.unwrap();
        exec.exit(0).await.unwrap();
        exec.drained().await;
    })
    .await
    .unwrap();
    let options = StreamOptions { raw: true, ..options() };
    let command = client(&server)
        .run(&target(&server), CommandSpec::new("x"), options, &Call::default())
        .await
        .unwrap();
    let batch = command.next_batch(Want::All).await.unwrap().unwrap();
    assert_eq!(chunks(batch)[0].data, Data::Bytes("é".into()));
    server.finish().await;
}

#[tokio::test]
async fn reconnect_asks_for_what_is_missing_and_gaps_are_recorded() {
    let server = Server::start(async |peer| {
        let mut exec = peer.accept().await.unwrap();
        let opening = exec.start().await.unwrap();
        let expected: Value =
            json!({"type": "reconnect", "command_id": "c9", "stdout_offset": 10, "stderr_offset": 2});
        assert_eq!(opening, expected);
        exec.output("stdout", "old", 7).await.unwrap();
        exec.output("stdout", "later", 20).await.unwrap();
        exec.exit(0).await.unwrap();
        exec.drained().await;
    })
    .await
    .unwrap();
    let command = client(&server)
        .reconnect(&target(&server), "c9", [10, 2], options(), &Call::default())
        .await
        .unwrap();
    let result = command.result().await.unwrap();
    assert_eq!(string(result.stdout.text()), "later");
    let gaps = serde_json::to_value(&result.gaps).unwrap();
    assert_eq!(gaps, json!([{"stream": "stdout", "from": 10, "to": 20}]));
    server.finish().await;
}

#[tokio::test]
async fn output_of_the_extension_is_acknowledged_and_that_of_others_never() {
    const CHUNK: usize = 64 * 1024;
    const CHUNKS: usize = 64;
    for extended in [true, false] {
        let server = Server::start(move |peer| async move {
            assert!(peer.offers(EXTENSION));
            let mut exec = peer.accept_as(extended.then_some(EXTENSION)).await.unwrap();
            exec.start().await.unwrap();
            assert_eq!(exec.acknowledged(), extended.then_some([0, 0]), "before anything came");
            let chunk = "x".repeat(CHUNK);
            for n in 0..CHUNKS {
                match extended {
                    true => exec.bytes(0, chunk.as_bytes(), (n * CHUNK) as u64).await.unwrap(),
                    false => exec.output("stdout", &chunk, n * CHUNK).await.unwrap(),
                }
            }
            exec.exit(0).await.unwrap();
            exec.drained().await;
            let Some([stdout, stderr]) = exec.acknowledged() else { return assert!(!extended) };
            assert_eq!(stderr, 0);
            let all = (CHUNK * CHUNKS) as u64;
            assert!(stdout <= all && all - stdout <= 2 * OUTPUT_ACK_BYTES, "{stdout}");
        })
        .await
        .unwrap();
        let command = run(&server).await;
        assert_eq!(command.result().await.unwrap().stdout.total(), (CHUNK * CHUNKS) as u64);
        drop(command);
        server.finish().await;
    }
}
