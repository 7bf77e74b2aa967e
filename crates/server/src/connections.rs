//! Connections: accepted up to a limit, given a time to say what they want, and ended in order.
//!
//! A client that opens connections and says nothing, or only ever the next header, holds a descriptor for
//! [`HEADER_DEADLINE`] at most, one that does not read its answers for [`WRITE_STALL`](paced), and no more than
//! [`CONNECTIONS_MAX`] of them or a part of the open files. Upgraded connections have shown a key or token and count no
//! more. Handlers learn the peer's address from the request's [`ConnectInfo`].

mod paced;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt;
use rustix::process::{Resource, getrlimit};
use sandwire_protocol::limits::{
    ACCEPT_PAUSE, CONNECTIONS_MAX, CONNECTIONS_SHARE, HEADER_DEADLINE, KEEPALIVE_IDLE, KEEPALIVE_INTERVAL,
    KEEPALIVE_PROBES,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use paced::Paced;

/// The connections of a server, over all of its listeners.
#[derive(Clone)]
pub(crate) struct Connections {
    open: TaskTracker,
    turns: Arc<Semaphore>,
    ending: CancellationToken,
}

impl Connections {
    pub(crate) fn new() -> Self {
        let turns = Arc::new(Semaphore::new(turns(getrlimit(Resource::Nofile).current)));
        Self { open: TaskTracker::new(), turns, ending: CancellationToken::new() }
    }

    /// Accepts and serves until [`Connections::end`].
    pub(crate) fn serve(&self, listener: TcpListener, router: Router) {
        let connections = self.clone();
        self.open.spawn(async move {
            let ending = connections.ending.clone();
            ending.run_until_cancelled_owned(connections.accept(listener, router)).await;
        });
    }

    async fn accept(self, listener: TcpListener, router: Router) {
        // Closed never; what does not get its turn waits in the kernel.
        while let Ok(turn) = Arc::clone(&self.turns).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let (router, ending) = (router.clone(), self.ending.clone());
                    self.open.spawn(async move {
                        converse(stream, peer, router, ending).await;
                        drop(turn);
                    });
                }
                Err(error) if is_of_one(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "can't accept connections");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Accepts nothing more, lets answers that are being written come to their end, and waits until all connections
    /// are closed.
    pub(crate) async fn end(&self) {
        self.ending.cancel();
        self.open.close();
        self.open.wait().await;
    }
}

/// Connections at a time, of so many open files; `None` is without limit.
fn turns(open_files: Option<u64>) -> usize {
    let share = open_files.and_then(|files| usize::try_from(files / CONNECTIONS_SHARE).ok());
    share.unwrap_or(CONNECTIONS_MAX).clamp(1, CONNECTIONS_MAX)
}

fn set_up(stream: &TcpStream) -> io::Result<()> {
    // Frames are written whole: waiting for more would only delay them.
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    Ok(sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?)
}

/// One connection. Upgraded ones have gone their own way when this returns.
async fn converse(stream: TcpStream, peer: SocketAddr, router: Router, ending: CancellationToken) {
    if let Err(error) = set_up(&stream) {
        tracing::debug!(%error, "a connection keeps the system's settings");
    }
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_DEADLINE);
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.call(request)
    });
    let mut connection =
        std::pin::pin!(builder.serve_connection(TokioIo::new(Paced::new(stream)), service).with_upgrades());
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = ending.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "connection ended");
    }
}

/// Whether only the connection failed that was to be accepted.
fn is_of_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Notify;

    async fn serving(router: Router) -> (Connections, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Connections::new();
        connections.serve(listener, router);
        (connections, address)
    }

    async fn rest(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        let _reset_or_end = stream.read_to_string(&mut text).await;
        text
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_ends_a_head_is_cut_off() {
        let (connections, address) = serving(Router::new()).await;
        for said in ["", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nx: y\r\n"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(said.as_bytes()).await.unwrap();
            assert!(!rest(&mut stream).await.contains("200 OK"));
        }
        connections.end().await;
    }

    async fn asking(address: SocketAddr, times: usize) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all("GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(times).as_bytes()).await.unwrap();
        stream
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_reads_is_cut_off() {
        let much = async || "x".repeat(1 << 20);
        let (connections, address) = serving(Router::new().route("/", get(much))).await;
        let _deaf = asking(address, 100).await;
        while connections.open.len() < 2 {
            tokio::task::yield_now().await;
        }
        // The other one accepts.
        let cut_off = async {
            while connections.open.len() > 1 {
                sleep(ACCEPT_PAUSE).await;
            }
        };
        tokio::time::timeout(3 * HEADER_DEADLINE, cut_off).await.unwrap();
        connections.end().await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_slowly_gets_everything() {
        const SIZE: usize = 48 << 20;
        let much = async || "x".repeat(SIZE);
        let (connections, address) = serving(Router::new().route("/", get(much))).await;
        let mut slow = asking(address, 1).await;
        let (mut some, mut read) = (vec![0; 256 << 10], 0);
        while read < SIZE {
            // Far more than a minute for what a socket's buffers hold.
            sleep(HEADER_DEADLINE / 3).await;
            let size = slow.read(&mut some).await.unwrap();
            assert_ne!(size, 0, "after {read} bytes");
            read += size;
        }
        drop(slow);
        connections.end().await;
    }

    #[test]
    fn connections_leave_descriptors_to_commands() {
        assert_eq!(turns(None), CONNECTIONS_MAX);
        assert_eq!((turns(Some(300)), turns(Some(0))), (75, 1));
        assert_eq!(turns(Some(u64::MAX)), CONNECTIONS_MAX);
    }

    #[tokio::test]
    async fn handlers_learn_who_asks() {
        let told = async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string();
        let (connections, address) = serving(Router::new().route("/", get(told))).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let own = stream.local_addr().unwrap().to_string();
        assert!(rest(&mut stream).await.ends_with(&format!("\r\n\r\n{own}")));
        connections.end().await;
    }

    #[tokio::test]
    async fn an_answer_under_way_is_finished_and_nothing_begins_after_it() {
        let (asked, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let handler = {
            let (asked, answer) = (Arc::clone(&asked), Arc::clone(&answer));
            async move || {
                asked.notify_one();
                answer.notified().await;
                "done"
            }
        };
        let (connections, address) = serving(Router::new().route("/", get(handler))).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        let mut busy = TcpStream::connect(address).await.unwrap();
        busy.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        asked.notified().await;
        let ending = tokio::spawn(async move { connections.end().await });
        assert_eq!(rest(&mut idle).await, "");
        answer.notify_one();
        assert!(rest(&mut busy).await.ends_with("\r\n\r\ndone"));
        ending.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
