//! Whether a server that should run does.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};

use axum::http::Uri;
use sandwire_isolate::{Check, Verdict};
use sandwire_protocol::limits::DOCTOR_DEADLINE;
use serde_json::Value;

use super::judged;
use crate::config::KeyChoice;

/// An answer to `/healthz` is far below this, bytes.
const ANSWER_MAX: u64 = 64 * 1024;

pub(super) fn health(endpoint: &str, choice: Option<&KeyChoice>) -> Check {
    let said = endpoint.parse().map_err(io::Error::other).and_then(|endpoint| ask(&endpoint, choice));
    match said {
        Ok(health) if health.get("status").is_some_and(|status| status == "ok") => {
            let known = health.get("version").is_some();
            let remedy = "it does not know this API key; give the one that it was started with";
            judged("server", format!("{endpoint} answers"), (!known).then_some(remedy))
        }
        Ok(health) => {
            judged("server", format!("{endpoint} says {health}"), Some("wait until it has started again"))
        }
        Err(error) => Check {
            name: "server",
            verdict: Verdict::Missing,
            detail: format!("{endpoint}: {error}"),
            remedy: Some(
                "see its log: it says why it could not start, and in one line of JSON on its stdout".into(),
            ),
            required: true,
        },
    }
}

fn ask(endpoint: &Uri, choice: Option<&KeyChoice>) -> io::Result<Value> {
    let other = |message: &str| io::Error::other(message.to_owned());
    let host = endpoint.host().ok_or_else(|| other("is not a URL with a host"))?;
    if endpoint.scheme_str() != Some("http") {
        return Err(other("only http is asked; ask a server behind TLS on its own address"));
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = (bare, endpoint.port_u16().unwrap_or(80)).to_socket_addrs()?.next();
    let address = address.ok_or_else(|| other("the host has no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, DOCTOR_DEADLINE)?;
    stream.set_read_timeout(Some(DOCTOR_DEADLINE))?;
    let key = choice.filter(|choice| !choice.generated);
    let key = key.map(|choice| format!("x-api-key: {}\r\n", choice.key.reveal())).unwrap_or_default();
    let request = format!("GET /healthz HTTP/1.1\r\nhost: {host}\r\n{key}connection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_MAX).read_to_string(&mut answer)?;
    let body = answer
        .split_once("\r\n\r\n")
        .filter(|(head, _)| head.starts_with("HTTP/1.1 200 "))
        .map(|(_, body)| body);
    serde_json::from_str(body.ok_or_else(|| other("answers, but not as sandwired does"))?)
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// The endpoint of a server that gives one answer.
    fn answering(body: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // To its end: what is unread when the connection closes resets it, and the answer with it.
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        });
        endpoint
    }

    #[test]
    fn servers_are_judged_by_their_answer() {
        let check = |body| health(&answering(body), None);
        assert_eq!(check(r#"{"status":"ok","version":"1"}"#).verdict, Verdict::Ok);
        assert!(check(r#"{"status":"ok"}"#).remedy.unwrap().contains("key"));
        assert_eq!(check(r#"{"status":"draining"}"#).verdict, Verdict::Degraded);
        assert_eq!(check("hello").verdict, Verdict::Missing);
        for endpoint in ["https://127.0.0.1:1", "not a url", "/path", "http://127.0.0.1:1"] {
            assert_eq!(health(endpoint, None).verdict, Verdict::Missing, "{endpoint}");
        }
    }
}
