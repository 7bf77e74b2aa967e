//! The server measured by the barest client there is: a blocking socket, and nothing done with what it reads.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

use serde_json::{Value, json};

use crate::frame::push_masked;

const UPGRADE: &[u8] = b"GET /plain/execute/ws HTTP/1.1\r\nhost: bench\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";

/// Reads one stream to its end: bytes on the wire and seconds.
pub(crate) fn drain(port: u16, command: &str) -> io::Result<Value> {
    let mut socket = open(port)?;
    execute(&mut socket, command)?;
    socket.shutdown(Shutdown::Write)?;
    let start = Instant::now();
    let (mut buffer, mut bytes) = (vec![0; 1024 * 1024], 0);
    loop {
        match socket.read(&mut buffer)? {
            0 => break,
            count => bytes += count,
        }
    }
    Ok(json!({ "bytes": bytes, "seconds": start.elapsed().as_secs_f64() }))
}

/// Connects, upgrades, runs ten bytes and sees the end, `count` times.
pub(crate) fn rounds(port: u16, count: usize) -> io::Result<Value> {
    let mut taken = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        let mut socket = open(port)?;
        execute(&mut socket, "emit 10 1")?;
        read_until(&mut socket, b"exit_code")?;
        drop(socket);
        taken.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(Value::from(taken))
}

fn open(port: u16) -> io::Result<TcpStream> {
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_nodelay(true)?;
    socket.write_all(UPGRADE)?;
    read_until(&mut socket, b"\r\n\r\n")?;
    Ok(socket)
}

fn execute(socket: &mut TcpStream, command: &str) -> io::Result<()> {
    let mut frame = Vec::new();
    push_masked(&mut frame, &json!({ "type": "execute", "command": command }).to_string());
    socket.write_all(&frame)
}

fn read_until(socket: &mut TcpStream, end: &[u8]) -> io::Result<()> {
    let (mut seen, mut buffer) = (Vec::<u8>::new(), [0; 4096]);
    while !seen.windows(end.len()).any(|window| window == end) {
        let count = socket.read(&mut buffer)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        seen.extend(buffer.iter().take(count));
    }
    Ok(())
}
