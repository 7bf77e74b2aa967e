//! What flows through the server leaves nothing in it. A program of its own, as memory is counted by process.

#[cfg(test)]
#[path = "it/fake.rs"]
#[expect(dead_code, reason = "shared with the other tests, which use more of it")]
mod fake;

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt, StreamExt};
    use sandwire_protocol::extension::{SUBPROTOCOL, decode_output};
    use serde_json::{Value, json};
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;

    use crate::fake::{KEY, server};

    const MIB: u64 = 1024 * 1024;

    /// Bytes of memory that this process has.
    fn resident() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Runs a command that writes `size` bytes; the bytes that came, the most memory seen meanwhile and the last frame.
    async fn stream(url: &str, size: u64) -> (u64, u64, Value) {
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("x-api-key", KEY.parse().unwrap());
        request.headers_mut().insert("sec-websocket-protocol", SUBPROTOCOL.parse().unwrap());
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
        let command = format!("head -c {size} /dev/zero");
        let spec = json!({"type": "execute", "command": command, "shell": "/bin/sh", "timeout_seconds": 0});
        socket.send(Message::text(spec.to_string())).await.unwrap();
        let (mut seen, mut most) = (0, 0);
        loop {
            match socket.next().await.unwrap().unwrap() {
                Message::Binary(bytes) => {
                    let (_, offset, data) = decode_output(&bytes).unwrap();
                    assert_eq!(offset, seen);
                    seen += data.len() as u64;
                    if seen % (16 * MIB) < data.len() as u64 {
                        most = most.max(resident());
                    }
                }
                Message::Text(text) => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    if frame["type"] != "started" {
                        return (seen, most.max(resident()), frame);
                    }
                }
                _ => {}
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_gigabyte_of_output_takes_no_memory() {
        let server = server();
        let (address, sandbox) = (server.listen().await, server.sandbox().await);
        let url = format!("ws://{address}{sandbox}/execute/ws");
        let (_, before, _) = stream(&url, 16 * MIB).await;
        let size = 1024 * MIB;
        let (seen, most, last) = stream(&url, size).await;
        assert_eq!(seen, size);
        assert_eq!((&last["type"], &last["stdout_bytes"]), (&json!("exit"), &json!(size)));
        // One more ring buffer, and what allocators and the test's own end of the socket keep.
        assert!(most < before + 24 * MIB, "{} MiB more", (most - before) / MIB);
    }
}
