//! Accepts connections and gives each to the test's handler.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use crate::Peer;

/// A listener on a free loopback port; dropping it ends all its connections.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    accepting: JoinHandle<()>,
    stop: mpsc::Sender<()>,
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
        let accepting = tokio::spawn(accept(listener, Arc::new(handler), stopped));
        Ok(Self { address, accepting, stop })
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
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

async fn accept<H, F>(listener: TcpListener, handler: Arc<H>, mut stopped: mpsc::Receiver<()>)
where
    H: Fn(Peer) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let mut handlers = JoinSet::new();
    let mut index = 0;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { break };
                let (handler, number) = (Arc::clone(&handler), index);
                index += 1;
                handlers.spawn(async move {
                    // A client that leaves before it has asked anything is no case for the handler.
                    if let Ok(peer) = Peer::read(stream, number).await {
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
