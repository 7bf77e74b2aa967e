//! One connection: a look at a sandbox, or a command from its upgrade to its end.

use std::io::{self, ErrorKind};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::emit::Emit;
use crate::frame::{CLOSE, TEXT, push, take};

const WRITE: usize = 256 * 1024;
const END: &[u8] = b"\r\n\r\n";
const EXTENSION: &str = "sandwire.exec.v1";

pub(crate) async fn listen() -> io::Result<TcpListener> {
    TcpListener::bind(("127.0.0.1", 0)).await
}

pub(crate) async fn serve(listener: TcpListener) -> io::Result<()> {
    let base = format!("http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let base = base.clone();
        // A client that leaves in the middle is what some rows measure.
        tokio::spawn(async move { answer(stream, &base).await });
    }
}

async fn answer(mut stream: TcpStream, base: &str) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(4096);
    let end = loop {
        if let Some(end) = bytes.windows(END.len()).position(|window| window == END) {
            break end;
        }
        read(&mut stream, &mut bytes).await?;
    };
    let rest = bytes.split_off(end + END.len());
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    if path.ends_with("/execute/ws") {
        return command(stream, &head, rest).await;
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    let sandbox =
        json!({ "id": name, "name": name, "status": "ready", "dataplane_url": format!("{base}/{name}") });
    let body = sandbox.to_string();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await
}

async fn command(mut stream: TcpStream, head: &str, mut rest: Vec<u8>) -> io::Result<()> {
    let key = header(head, "sec-websocket-key").ok_or(ErrorKind::InvalidData)?;
    let extended = head.contains(" /extended/")
        && header(head, "sec-websocket-protocol").is_some_and(|offered| offered.contains(EXTENSION));
    let selected = if extended { format!("sec-websocket-protocol: {EXTENSION}\r\n") } else { String::new() };
    let accept = derive_accept_key(key.as_bytes());
    let upgrade = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n{selected}sec-websocket-accept: {accept}\r\n\r\n"
    );
    stream.write_all(upgrade.as_bytes()).await?;
    let opening = opening(&mut stream, &mut rest).await?;
    let text = opening.get("command").and_then(Value::as_str).unwrap_or_default();
    let emit = Emit::parse(text, extended).ok_or(ErrorKind::InvalidInput)?;
    play(&mut stream, opening.get("command_id").unwrap_or(&Value::Null), emit).await?;
    // The client leaves first: what waits for a time-out on a port is then its side, as with every server.
    let mut unread = [0; 1024];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

/// The first frame with a command; acknowledgements of the extension may come before it.
async fn opening(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<Value> {
    loop {
        while let Some(frame) = take(bytes) {
            let frame: Value = serde_json::from_slice(&frame)?;
            if frame.get("command").is_some() {
                return Ok(frame);
            }
        }
        read(stream, bytes).await?;
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = head.lines().filter_map(|line| line.split_once(": "));
    pairs.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

async fn play(stream: &mut TcpStream, id: &Value, mut emit: Emit) -> io::Result<()> {
    let started = json!({ "type": "started", "command_id": id, "pid": 1 }).to_string();
    let mut buffer = Vec::with_capacity(WRITE + WRITE / 2);
    push(&mut buffer, TEXT, &[started.as_bytes()]);
    while emit.fill(&mut buffer, WRITE) {
        stream.write_all(&buffer).await?;
        buffer.clear();
    }
    push(&mut buffer, TEXT, &[emit.end().as_bytes()]);
    buffer.extend_from_slice(&CLOSE);
    stream.write_all(&buffer).await
}

async fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    match stream.read_buf(bytes).await? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
