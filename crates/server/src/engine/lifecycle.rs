//! The task that owns a sandbox: it makes it, delivers what `init` says, and ends it as it is told.
//!
//! Each step is written down in the order that makes a crash at any point repairable by the next start:
//!
//! | Step   | First                        | Then                           | After a crash in between                       |
//! | ------ | ---------------------------- | ------------------------------ | ---------------------------------------------- |
//! | create | row and directory, whichever | the answer, after the row      | a directory without row goes; a row is stopped |
//! | start  | what runs; the row is live   | the status, and so all use     | stopped again, with all its files              |
//! | stop   | the end of what runs         | row is stopped, then the answer | stopped all the same                          |
//! | delete | row is deleting, all ends    | the answer, files, row         | the next start goes on from the row            |

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use sandwire_isolate::SandboxSpec;
use sandwire_protocol::SandboxStatus;
use tokio::sync::mpsc::UnboundedReceiver;

use super::backend::{Cell, CreateFailed};
use super::crash;
use super::events::Kind;
use super::link::Link;
use super::name;
use super::resources::{destroy, make_dir};
use super::sandbox::{Order, Phase, Sandbox};
use super::settings::Settings;
use crate::store::{self, StoreError};

/// What the owner does next.
enum Next {
    Run,
    Rest,
    /// The server ends.
    Retire,
    Delete,
}

impl From<Order> for Next {
    fn from(order: Order) -> Self {
        match order {
            Order::Start => Self::Run,
            Order::Stop => Self::Rest,
            Order::Retire => Self::Retire,
            Order::Delete => Self::Delete,
        }
    }
}

impl Sandbox {
    /// Its whole life, from its making or, for one of an earlier server, from its rest on.
    pub(super) async fn live(self: Arc<Self>, mut orders: UnboundedReceiver<Order>, fresh: bool) {
        let mut next = if fresh { Next::Run } else { Next::Rest };
        loop {
            next = match next {
                Next::Run => self.run(&mut orders).await,
                // Nobody can be left to give orders: this task holds the sandbox itself.
                Next::Rest => orders.recv().await.map_or(Next::Retire, Next::from),
                Next::Retire => break self.retire().await,
                Next::Delete => break self.end().await,
            };
        }
    }

    /// From its making until it no longer runs.
    async fn run(self: &Arc<Self>, orders: &mut UnboundedReceiver<Order>) -> Next {
        let made_with = self.settings();
        let (cell, link) = match self.make(&made_with).await {
            Ok(made) => made,
            Err(failed) => {
                tracing::error!(sandbox = %self.id(), error = %failed, "sandbox can't be made");
                self.fail(failed).await;
                return Next::Rest;
            }
        };
        crash::point("make.done");
        // It is live in the database before anybody can use it, or its deletion would count from an earlier stop.
        self.save_or_log().await;
        if !self.become_ready(&link, &made_with).await {
            link.close();
            destroy(self.id(), cell).await;
            return Next::Rest;
        }
        let order = self.serve(&link, orders).await;
        if let Err(failed) = &order {
            tracing::error!(sandbox = %self.id(), reason = %failed, "sandbox died");
            self.fail(failed.clone()).await;
        }
        link.close();
        destroy(self.id(), cell).await;
        crash::point("run.destroyed");
        match order {
            Ok(Order::Stop) => {
                self.rest().await;
                Next::Rest
            }
            Ok(order) => order.into(),
            Err(_) => Next::Rest,
        }
    }

    /// With the limits that it has by now: they may have changed while it was made.
    async fn become_ready(self: &Arc<Self>, link: &Arc<Link>, made_with: &Arc<Settings>) -> bool {
        let _no_update = self.updating.lock().await;
        let settings = self.settings();
        if !Arc::ptr_eq(&settings, made_with)
            && let Err(error) = self.resources.limit(self.id(), &settings).await
        {
            tracing::warn!(sandbox = %self.id(), %error, "limits that changed meanwhile count from the next start");
        }
        self.activity().touch();
        self.set(Phase::Ready(Arc::clone(link)), Kind::Ready)
    }

    /// Delivers what `init` says until there is something else to do, or `init` is gone.
    async fn serve(&self, link: &Link, orders: &mut UnboundedReceiver<Order>) -> Result<Order, CreateFailed> {
        let ended = link.run();
        let mut ended = std::pin::pin!(ended);
        loop {
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(Order::Start) => {}
                    Some(order) => return Ok(order),
                    None => return Ok(Order::Retire),
                },
                reason = &mut ended => return Err(CreateFailed { message: reason, unsupported: false }),
            }
        }
    }

    async fn make(&self, settings: &Settings) -> Result<(Box<dyn Cell>, Arc<Link>), CreateFailed> {
        let failed = |message: String| CreateFailed { message, unsupported: false };
        let _permit = self.resources.permits.acquire().await.map_err(|error| failed(error.to_string()))?;
        let backend = Arc::clone(&self.resources.backend);
        let spec = self.spec(settings);
        let made = tokio::task::spawn_blocking(move || {
            make_dir(&spec.dir).map_err(|e| failed(format!("{}: {e}", spec.dir.display())))?;
            crash::point("make.dir");
            let began = Instant::now();
            backend.create(&spec).map(|cell| (cell, began.elapsed()))
        });
        let (cell, took) = made.await.unwrap_or_else(|error| Err(failed(error.to_string())))?;
        match Link::new(cell.control(), cell.groups()) {
            Ok(link) => {
                self.resources.makings.observe(took.as_secs_f64());
                self.made(took);
                Ok((cell, Arc::new(link)))
            }
            Err(error) => {
                destroy(self.id(), cell).await;
                Err(failed(format!("init can't be watched: {error}")))
            }
        }
    }

    fn spec(&self, settings: &Settings) -> SandboxSpec {
        let id = self.id();
        SandboxSpec {
            id: id.to_string(),
            dir: self.resources.dir(id),
            hostname: name::hostname(&self.name()),
            limits: self.resources.limits(settings),
            disposable: self.resources.ephemeral || !settings.persistent,
        }
    }

    /// Its files stay, unless they are not to.
    async fn rest(self: &Arc<Self>) {
        if !self.settings().persistent {
            self.resources.discard(self.id());
        }
        // First, because who waits for the stop takes its status for the answer.
        let stopped = Phase::Stopped { at: SystemTime::now() };
        if let Err(error) = self.save_ahead(&stopped).await {
            self.not_saved(&error);
        }
        crash::point("stop.saved");
        self.set(stopped, Kind::Stopped);
    }

    async fn fail(self: &Arc<Self>, failed: CreateFailed) {
        if self.set(Phase::Failed(failed), Kind::Failed) {
            self.save_or_log().await;
        }
    }

    /// The server ends, the sandbox does not.
    async fn retire(self: Arc<Self>) {
        if !matches!(self.status().0, SandboxStatus::Failed | SandboxStatus::Stopped) {
            self.rest().await;
        }
        self.gone.cancel();
    }

    /// Everything of it goes. Nobody can find it any more; its files go only after it is written down that they do.
    async fn end(self: Arc<Self>) {
        self.gone.cancel();
        crash::point("delete.ended");
        if !self.resources.ephemeral && !*self.deletion_saved.wait().await {
            tracing::error!(sandbox = %self.id(), "its files stay: it will be there again after a restart");
            return;
        }
        self.resources.discard(self.id());
        crash::point("delete.discarded");
        if let Err(error) = self.journal().remove() {
            tracing::warn!(sandbox = %self.id(), %error, "journal of commands not removed");
        }
        let id = self.id();
        if let Err(error) = self.resources.store.write(move |tx| store::delete(tx, id)).await {
            tracing::error!(sandbox = %id, %error, "the row of a deleted sandbox stays until the next start");
        }
        self.tell(Kind::Deleted);
    }

    async fn save_or_log(self: &Arc<Self>) {
        if let Err(error) = self.save().await {
            self.not_saved(&error);
        }
    }

    fn not_saved(&self, error: &StoreError) {
        tracing::error!(sandbox = %self.id(), %error, "the sandbox's state is not written down");
    }
}
