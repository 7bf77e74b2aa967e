//! Accepts connections and gives each to the test's handler.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::{Line, Log, Peer};

/// A listener on a free loopback port; dropping it ends all its connections.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    accepting: JoinHandle<()>,
    stop: mpsc::Sender<()>,
    open: watch::Receiver<usize>,
    log: Log,
}

impl Server {
    /// Starts; `handler` runs once per connection.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start<H, F>(handler: H) -> io::Result<Self>
    where
        H: Fn(Peer) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = mpsc::channel(1);
        let (opened, open) = watch::channel(0);
        let log = Log::default();
        let sockets = Sockets { listener, opened, log: log.clone() };
        let accepting = tokio::spawn(accept(sockets, Arc::new(handler), stopped));
        Ok(Self { address, accepting, stop, open, log })
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Frames that clients sent, by connection.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Connections that are open. A handler that waits for the end of its client keeps its connection so long.
    #[must_use]
    pub fn open(&self) -> usize {
        *self.open.borrow()
    }

    /// Waits until no connection is open.
    pub async fn deserted(&mut self) {
        // The counter goes with the listener, and all connections with it.
        let _ = self.open.wait_for(|open| *open == 0).await;
    }

    /// Accepts no more, waits for the handlers that run, and passes on the panic of any.
    pub async fn finish(mut self) {
        // A full channel says the same.
        let _ = self.stop.try_send(());
        if let Err(failed) = (&mut self.accepting).await
            && let Ok(panic) = failed.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

struct Sockets {
    listener: TcpListener,
    opened: watch::Sender<usize>,
    log: Log,
}

async fn accept<H, F>(sockets: Sockets, handler: Arc<H>, mut stopped: mpsc::Receiver<()>)
where
    H: Fn(Peer) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let mut handlers = JoinSet::new();
    let mut index = 0;
    loop {
        tokio::select! {
            accepted = sockets.listener.accept() => {
                let Ok((stream, _)) = accepted else { break };
                let (handler, number, log) = (Arc::clone(&handler), index, sockets.log.clone());
                let line = Line::new(stream, &sockets.opened);
                index += 1;
                handlers.spawn(async move {
                    // A client that leaves before it has asked anything is no case for the handler.
                    if let Ok(peer) = Peer::read(line, number, log).await {
                        handler(peer).await;
                    }
                });
            }
            Some(ended) = handlers.join_next() => propagate(ended),
            _ = stopped.recv() => break,
        }
    }
    while let Some(ended) = handlers.join_next().await {
        propagate(ended);
    }
}

fn propagate(ended: Result<(), tokio::task::JoinError>) {
    if let Err(failed) = ended
        && let Ok(panic) = failed.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}
