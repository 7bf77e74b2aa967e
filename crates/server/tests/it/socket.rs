//! The exec socket of a fake sandbox, as a client without any library speaks it.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use sandwire_protocol::ErrorType;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::fake::{KEY, Server, server};

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub(crate) struct Fixture {
    pub(crate) server: Server,
    pub(crate) address: SocketAddr,
    pub(crate) sandbox: String,
}

/// What a socket said until its end.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Said {
    pub(crate) started: Option<Value>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) last: Value,
    pub(crate) close: Option<u16>,
}

pub(crate) async fn fixture() -> Fixture {
    let server = server();
    let (address, sandbox) = (server.listen().await, server.sandbox().await);
    Fixture { server, address, sandbox }
}

impl Fixture {
    pub(crate) fn upgrade(&self) -> Request {
        let url = format!("ws://{}{}/execute/ws", self.address, self.sandbox);
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("x-api-key", KEY.parse().unwrap());
        request
    }

    pub(crate) async fn open(&self, frames: &[Value]) -> Socket {
        let (mut socket, _) = tokio_tungstenite::connect_async(self.upgrade()).await.unwrap();
        for frame in frames {
            say(&mut socket, frame).await;
        }
        socket
    }

    pub(crate) async fn talk(&self, frames: &[Value]) -> Said {
        listen(self.open(frames).await).await
    }

    pub(crate) async fn post(&self, body: Value) -> (u16, Value) {
        self.server.call("POST", &format!("{}/execute", self.sandbox), body.to_string()).await
    }
}

pub(crate) async fn say(socket: &mut Socket, frame: &Value) {
    socket.send(Message::text(frame.to_string())).await.unwrap();
}

pub(crate) async fn next(socket: &mut Socket) -> Option<Value> {
    loop {
        match socket.next().await?.ok()? {
            Message::Text(text) => return Some(serde_json::from_str(&text).unwrap()),
            Message::Close(frame) => {
                return Some(json!({"closed": frame.map(|frame| u16::from(frame.code))}));
            }
            _ => {}
        }
    }
}

pub(crate) async fn listen(mut socket: Socket) -> Said {
    let mut said = Said::default();
    while let Some(frame) = next(&mut socket).await {
        let data = frame["data"].as_str().unwrap_or_default();
        match frame["type"].as_str() {
            Some("started") => said.started = Some(frame),
            Some("stdout") => said.stdout.push_str(data),
            Some("stderr") => said.stderr.push_str(data),
            Some(_) => said.last = frame,
            None => said.close = frame["closed"].as_u64().map(|code| u16::try_from(code).unwrap()),
        }
    }
    said
}

pub(crate) fn execute(command: &str, more: Value) -> Value {
    let mut frame = json!({"type": "execute", "command": command, "shell": "/bin/sh", "close_stdin": true});
    frame.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    frame
}

pub(crate) fn error_type(said: &Said) -> ErrorType {
    ErrorType::parse(said.last["error_type"].as_str().unwrap()).unwrap()
}
