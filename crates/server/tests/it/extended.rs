//! The exec socket with the extension of `docs/WIRE.md`.

use futures_util::{SinkExt, StreamExt};
use sandwire_protocol::extension::{SUBPROTOCOL, decode_output, encode_input_header};
use sandwire_protocol::limits::{FRAME_OUTPUT_MAX, RING_BUFFER_BYTES, STDIN_BUFFER_MAX, STDIN_WINDOW};
use sandwire_protocol::{ErrorType, StreamKind};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::socket::{Fixture, Socket, execute, fixture, say};

const HEADER: &str = "sec-websocket-protocol";

enum Said {
    Output(StreamKind, u64, Vec<u8>),
    Frame(Value),
    Closed(Option<u16>),
}

/// What a socket said until its end.
#[derive(Debug, Default, PartialEq)]
struct All {
    started: Value,
    output: [Vec<u8>; 2],
    taken: u64,
    last: Value,
    close: Option<u16>,
}

async fn offer(fixture: &Fixture, protocols: &'static str) -> (Socket, Option<HeaderValue>) {
    let mut request = fixture.upgrade();
    request.headers_mut().insert(HEADER, HeaderValue::from_static(protocols));
    let (socket, response) = tokio_tungstenite::connect_async(request).await.unwrap();
    (socket, response.headers().get(HEADER).cloned())
}

async fn open(fixture: &Fixture, opening: Value) -> Socket {
    let (mut socket, _) = offer(fixture, SUBPROTOCOL).await;
    say(&mut socket, &opening).await;
    socket
}

async fn write(socket: &mut Socket, offset: u64, data: &[u8]) {
    let message = [&encode_input_header(offset)[..], data].concat();
    socket.send(Message::binary(message)).await.unwrap();
}

async fn next(socket: &mut Socket) -> Said {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Said::Frame(serde_json::from_str(&text).unwrap()),
            Some(Ok(Message::Binary(bytes))) => {
                let (kind, offset, data) = decode_output(&bytes).unwrap();
                assert!((1..=FRAME_OUTPUT_MAX).contains(&data.len()));
                return Said::Output(kind, offset, data.to_vec());
            }
            Some(Ok(Message::Close(frame))) => return Said::Closed(frame.map(|frame| frame.code.into())),
            Some(Ok(_)) => {}
            _ => return Said::Closed(None),
        }
    }
}

/// Everything up to the end; offsets must go on without a gap from where the first output began.
async fn listen(socket: &mut Socket) -> All {
    let (mut all, mut at) = (All::default(), [None; 2]);
    loop {
        match next(socket).await {
            Said::Output(kind, offset, data) => {
                let stream = kind as usize;
                assert_eq!(*at[stream].get_or_insert(offset), offset);
                at[stream] = Some(offset + data.len() as u64);
                all.output[stream].extend(data);
            }
            Said::Frame(frame) if frame["type"] == "started" => {
                // What was taken before then is not acknowledged once more.
                all.taken = frame["stdin_offset"].as_u64().unwrap_or(0);
                all.started = frame;
            }
            Said::Frame(frame) if frame["type"] == "stdin_ack" => {
                let offset = frame["offset"].as_u64().unwrap();
                assert!(offset > all.taken, "never the same again");
                all.taken = offset;
            }
            Said::Frame(frame) => all.last = frame,
            Said::Closed(code) => {
                all.close = code;
                return all;
            }
        }
    }
}

/// What was taken before the connection began to speak is part of `started`.
async fn acknowledged(socket: &mut Socket, offset: u64) {
    loop {
        match next(socket).await {
            Said::Frame(frame) if frame["type"] == "stdin_ack" && frame["offset"] == offset => return,
            Said::Frame(frame) if frame["stdin_offset"] == offset => return,
            Said::Frame(frame) if frame["type"] == "error" => panic!("{frame}"),
            Said::Closed(code) => panic!("closed {code:?}"),
            _ => {}
        }
    }
}

fn reconnect(more: Value) -> Value {
    let mut frame = json!({"type": "reconnect", "command_id": "c"});
    frame.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    frame
}

#[tokio::test]
async fn only_who_asks_gets_it() {
    let fixture = fixture().await;
    let spec = execute("printf 'a\\377'; exit 3", json!({"command_id": "c", "writer": "w"}));
    let (mut socket, selected) = offer(&fixture, "dance, sandwire.exec.v1").await;
    assert_eq!(selected.unwrap(), SUBPROTOCOL);
    say(&mut socket, &spec).await;
    let all = listen(&mut socket).await;
    assert_eq!(all.output, [b"a\xff".to_vec(), Vec::new()]);
    assert_eq!(
        all.last,
        json!({"type": "exit", "exit_code": 3, "stdout_bytes": 2, "stderr_bytes": 0,
        "usage": {"cpu_ms": 5, "peak_memory_bytes": 4096}})
    );
    assert_eq!((&all.started["stdin_offset"], all.close), (&json!(0), Some(1000)));
    let plain = fixture.talk(std::slice::from_ref(&spec)).await;
    assert_eq!((plain.stdout.as_str(), &plain.last), ("a\u{FFFD}", &json!({"type": "exit", "exit_code": 3})));
    // This client library gives up where nothing of its offer is selected, which is how it is seen.
    let mut request = fixture.upgrade();
    request.headers_mut().insert(HEADER, HeaderValue::from_static("dance"));
    let refused = tokio_tungstenite::connect_async(request).await.unwrap_err();
    assert!(refused.to_string().contains("no subprotocol"), "{refused}");
}

#[tokio::test]
async fn without_it_its_frames_are_malformed() {
    let fixture = fixture().await;
    for frame in [
        json!({"type": "output_ack", "stdout": 0, "stderr": 0}),
        json!({"type": "signal", "signal": "SIGTERM"}),
        json!({"type": "resize", "cols": 1, "rows": 1}),
    ] {
        let said = fixture.talk(&[execute("sleep 1000", json!({})), frame]).await;
        assert_eq!((crate::socket::error_type(&said), said.close), (ErrorType::InvalidRequest, Some(1000)));
    }
    let (mut socket, _) = tokio_tungstenite::connect_async(fixture.upgrade()).await.unwrap();
    say(&mut socket, &execute("sleep 1000", json!({"writer": "w"}))).await;
    let Said::Frame(started) = next(&mut socket).await else { panic!() };
    assert_eq!(started.as_object().unwrap().len(), 3, "nothing new");
    write(&mut socket, 0, b"x").await;
    assert_eq!(listen(&mut socket).await.last["error_type"], "InvalidRequest");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let fixture = fixture().await;
    let sleep = |more: Value| execute("sleep 1000", more);
    let binary = |offset: u64, size: usize| {
        Message::binary([&encode_input_header(offset)[..], &vec![b'x'; size]].concat())
    };
    let text = |frame: Value| Message::text(frame.to_string());
    let writer = json!({"writer": "w", "close_stdin": false});
    for messages in [
        vec![text(sleep(json!({"writer": ""})))],
        vec![text(sleep(json!({"writer": "x".repeat(65)})))],
        vec![text(sleep(json!({}))), binary(0, 1)],
        vec![text(sleep(writer.clone())), binary(1, 1)],
        vec![text(sleep(writer.clone())), binary(0, FRAME_OUTPUT_MAX + 1)],
        vec![text(sleep(writer.clone())), Message::binary(vec![0; 8])],
        vec![text(sleep(writer.clone())), Message::binary(vec![1; 10])],
        vec![text(sleep(writer.clone())), text(json!({"type": "resize", "cols": 0, "rows": 1}))],
        vec![text(sleep(writer.clone())), text(json!({"type": "signal", "signal": "SIGNAL"}))],
        vec![binary(0, 1)],
    ] {
        let (mut socket, _) = offer(&fixture, SUBPROTOCOL).await;
        for message in messages {
            socket.send(message).await.unwrap();
        }
        let all = listen(&mut socket).await;
        assert_eq!((&all.last["error_type"], all.close), (&json!("InvalidRequest"), Some(1000)));
    }
}

#[tokio::test]
async fn both_forms_can_be_resumed_anywhere() {
    let fixture = fixture().await;
    let command = "printf 'x\\377é\\360\\237'; printf 'é€' >&2";
    let all = listen(&mut open(&fixture, execute(command, json!({"command_id": "c"}))).await).await;
    let raw = [b"x\xff\xc3\xa9\xf0\x9f".to_vec(), "é€".as_bytes().to_vec()];
    assert_eq!(all.output, raw);
    for offset in 0..8 {
        let opening = reconnect(json!({"stdout_offset": offset, "stderr_offset": offset}));
        let again = listen(&mut open(&fixture, opening.clone()).await).await;
        let rest = raw.clone().map(|bytes| bytes.get(offset..).unwrap_or_default().to_vec());
        assert_eq!((again.output, &again.last), (rest, &all.last));
        let text = String::from_utf8_lossy(&raw[0]).into_owned();
        let from = (offset..).find(|at| text.is_char_boundary(*at) || *at > text.len()).unwrap();
        assert_eq!(fixture.talk(&[opening]).await.stdout, text.get(from..).unwrap_or_default());
    }
}

#[tokio::test]
async fn what_is_not_acknowledged_can_be_asked_for_again() {
    let fixture = fixture().await;
    let size = 3 * RING_BUFFER_BYTES as u64;
    let ack = |offset: u64| json!({"type": "output_ack", "stdout": offset, "stderr": 0});
    let (mut socket, _) = offer(&fixture, SUBPROTOCOL).await;
    say(&mut socket, &ack(0)).await;
    say(&mut socket, &execute(&format!("head -c {size} /dev/zero"), json!({"command_id": "c"}))).await;
    let mut seen = 0;
    while seen < RING_BUFFER_BYTES as u64 {
        if let Said::Output(_, offset, data) = next(&mut socket).await {
            assert_eq!(offset, seen);
            seen += data.len() as u64;
        }
    }
    drop(socket);
    // As if nothing of it had come through.
    let (mut socket, _) = offer(&fixture, SUBPROTOCOL).await;
    say(&mut socket, &ack(0)).await;
    say(&mut socket, &reconnect(json!({}))).await;
    let mut seen = 0;
    loop {
        match next(&mut socket).await {
            Said::Output(_, offset, data) => {
                assert_eq!(offset, seen);
                seen += data.len() as u64;
                say(&mut socket, &ack(seen)).await;
            }
            Said::Frame(frame) if frame["type"] == "exit" => break,
            Said::Frame(_) => {}
            Said::Closed(_) => panic!("closed"),
        }
    }
    assert_eq!(seen, size);
}

#[tokio::test]
async fn input_survives_cuts_once() {
    let fixture = fixture().await;
    let input: Vec<u8> = (0..300_000u32).flat_map(|n| n.to_le_bytes()).collect();
    let spec = json!({"command_id": "c", "writer": "w", "close_stdin": false});
    let mut socket = open(&fixture, execute("sha1sum", spec)).await;
    let chunks = || (0..).step_by(FRAME_OUTPUT_MAX).zip(input.chunks(FRAME_OUTPUT_MAX));
    // The third connection cuts without having waited for anything.
    for sent in [3, 9, 14] {
        for (offset, chunk) in chunks().take(sent) {
            write(&mut socket, offset, chunk).await;
        }
        if sent < 14 {
            acknowledged(&mut socket, (sent * FRAME_OUTPUT_MAX) as u64).await;
        }
        drop(socket);
        socket = open(&fixture, reconnect(json!({"writer": "w"}))).await;
    }
    let Said::Frame(started) = next(&mut socket).await else { panic!() };
    let taken = started["stdin_offset"].as_u64().unwrap();
    assert!(taken >= 9 * FRAME_OUTPUT_MAX as u64);
    for (offset, chunk) in chunks().filter(|(offset, chunk)| offset + chunk.len() as u64 > taken) {
        write(&mut socket, offset, chunk).await;
    }
    say(&mut socket, &json!({"type": "close_stdin"})).await;
    let all = listen(&mut socket).await;
    let mut expected = std::process::Command::new("sha1sum");
    let expected = expected.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn();
    let mut expected = expected.unwrap();
    std::io::Write::write_all(&mut expected.stdin.take().unwrap(), &input).unwrap();
    assert_eq!(all.output[0], expected.wait_with_output().unwrap().stdout);
}

/// Fills the command's queue and the connection's window.
async fn fill(socket: &mut Socket, size: usize) -> u64 {
    let mut offset = 0;
    while offset < size as u64 {
        write(socket, offset, &[b'x'; FRAME_OUTPUT_MAX]).await;
        offset += FRAME_OUTPUT_MAX as u64;
    }
    offset
}

#[tokio::test]
async fn nothing_waits_behind_input() {
    let fixture = fixture().await;
    let spec = json!({"writer": "w", "close_stdin": false});
    let mut socket = open(&fixture, execute("sleep 1000", spec.clone())).await;
    fill(&mut socket, STDIN_BUFFER_MAX + STDIN_WINDOW).await;
    say(&mut socket, &json!({"type": "kill"})).await;
    let all = listen(&mut socket).await;
    assert_eq!(all.last["exit_code"], 137);
    let mut socket = open(&fixture, execute("sleep 1000", spec)).await;
    let filled = fill(&mut socket, STDIN_BUFFER_MAX + STDIN_WINDOW).await;
    // What the pipe itself takes makes room once, so one window more is too much in any case.
    for n in 0..=STDIN_WINDOW / FRAME_OUTPUT_MAX {
        write(&mut socket, filled + (n * FRAME_OUTPUT_MAX) as u64, &[b'x'; FRAME_OUTPUT_MAX]).await;
    }
    assert_eq!(listen(&mut socket).await.last["error_type"], "InvalidRequest");
}

#[tokio::test]
async fn stdin_closes_behind_what_waits() {
    let fixture = fixture().await;
    let spec = json!({"command_id": "c", "writer": "w", "close_stdin": false});
    let mut socket = open(&fixture, execute("while [ ! -e go ]; do sleep 0.02; done; wc -c", spec)).await;
    // Something more has to fit, whether the pipe has taken anything yet or not.
    let filled = fill(&mut socket, STDIN_BUFFER_MAX + STDIN_WINDOW / 2).await;
    say(&mut socket, &json!({"type": "close_stdin"})).await;
    write(&mut socket, filled, b"late").await;
    let go = fixture.talk(&[execute("touch go", json!({}))]).await;
    assert_eq!(go.last["exit_code"], 0);
    let all = listen(&mut socket).await;
    assert_eq!(String::from_utf8(all.output[0].clone()).unwrap().trim(), filled.to_string());
    assert_eq!(all.taken, filled);
}

#[tokio::test]
async fn writers_and_plain_input_mix() {
    let fixture = fixture().await;
    let spec = json!({"command_id": "c", "writer": "one", "close_stdin": false});
    let mut one = open(&fixture, execute("cat", spec)).await;
    write(&mut one, 0, b"1").await;
    acknowledged(&mut one, 1).await;
    let mut two = open(&fixture, reconnect(json!({"writer": "two"}))).await;
    write(&mut two, 0, b"2").await;
    acknowledged(&mut two, 1).await;
    say(&mut two, &json!({"type": "input", "data": "3"})).await;
    write(&mut two, 1, b"4").await;
    acknowledged(&mut two, 2).await;
    write(&mut one, 1, b"5").await;
    say(&mut one, &json!({"type": "close_stdin"})).await;
    let (one, two) = (listen(&mut one).await, listen(&mut two).await);
    assert_eq!(one.last, two.last);
    let again = listen(&mut open(&fixture, reconnect(json!({"writer": "one"}))).await).await;
    assert_eq!((again.output[0].as_slice(), &again.started["stdin_offset"]), (&b"12345"[..], &json!(2)));
}

#[tokio::test]
async fn a_writer_that_comes_again_leaves_nobody_behind() {
    let fixture = fixture().await;
    let total = 3 * RING_BUFFER_BYTES;
    let spec = execute(&format!("head -c {total} /dev/zero"), json!({"command_id": "c", "writer": "w"}));
    // Cut where only the client sees it: nothing is read any more, and nothing acknowledged.
    let (mut cut, _) = offer(&fixture, SUBPROTOCOL).await;
    say(&mut cut, &json!({"type": "output_ack", "stdout": 0, "stderr": 0})).await;
    say(&mut cut, &spec).await;
    assert!(matches!(next(&mut cut).await, Said::Frame(frame) if frame["type"] == "started"));
    let other = open(&fixture, reconnect(json!({"writer": "somebody else"}))).await;
    drop(other);
    let mut again = open(&fixture, reconnect(json!({"writer": "w"}))).await;
    let all = listen(&mut again).await;
    assert_eq!(all.output[0].len(), total);
    assert_eq!(all.last["exit_code"], 0);
    // What was on its way, and then no last word.
    let left = listen(&mut cut).await;
    assert!(left.output[0].len() < total && left.last == Value::Null, "{}", left.last);
}
