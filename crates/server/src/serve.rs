//! The life of the server: isolation first, then the runtime, the ready line, and an end that leaves nothing.
//!
//! The order of the end: refuse new requests; close exec sockets with 1001; wait for requests under way, for a bounded
//! time; end streams of commands and connections to services that are left; stop accepting; destroy all sandboxes and
//! empty the trash, for a bounded time; give back mounts and cgroups; remove, if the server is ephemeral, what it made on
//! disk.
//! A second signal ends the process at once; what it leaves is removed at the next start.

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sandwire_isolate::{Host, HostConfig};
use sandwire_protocol::limits::CLOSE_GRACE;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::api::observers;
use crate::cli::{StartError, say};
use crate::config::{Config, KeyChoice, LogFormat, MetricsAt};
use crate::connections::Connections;
use crate::engine::{Engine, StateDir};
use crate::{App, Services, app};

/// Exit code after a second signal, as shells report SIGINT.
const IMPATIENT: i32 = 130;

/// Runs the server until its end.
pub(crate) fn run(config: Config) -> Result<(), StartError> {
    let (init_path, choice) = (config.init()?, config.key()?);
    if config.state_dir.is_none() && !config.ephemeral {
        return Err(StartError::client(
            "there is no state directory",
            Some("give --state-dir, set SANDWIRED_STATE_DIR, or use --ephemeral"),
        ));
    }
    let user = rustix::process::geteuid().as_raw();
    let raised = raise_open_files();
    let mode = sandwire_isolate::enter()?;
    log(&config);
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let state = match &config.state_dir {
        Some(path) if config.ephemeral => StateDir::ephemeral(path),
        Some(path) => StateDir::open(path),
        None => StateDir::temporary(user),
    };
    let state = state.map_err(|error| StartError::client(error.to_string(), None))?;
    let host = HostConfig { state_dir: state.path().to_owned(), init_path };
    let host = Arc::new(Host::prepare(&host, mode)?);
    for warning in &host.isolation().warnings {
        tracing::warn!("isolation: {warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("sandwired")
        .enable_all()
        .build()
        .map_err(|error| StartError::client(format!("no runtime: {error}"), None))?;
    let served = runtime.block_on(serve(&config, choice, Arc::clone(&host), &state));
    // The engine has ended and waits for nothing; this is for blocking calls that nobody waits for any more.
    runtime.shutdown_background();
    if let Err(error) = host.shutdown() {
        tracing::error!(%error, "cgroups not removed");
    }
    let removed = state.close();
    served?;
    removed.map_err(|error| StartError::client(format!("state directory not removed: {error}"), None))
}

/// Every running command takes three descriptors or more, and the usual soft limit is 1024. What runs in a sandbox
/// keeps to the limit that `init` gives it.
fn raise_open_files() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let refused = |error: io::Error| StartError::client(format!("can't listen on {address}: {error}"), None);
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    Ok((listener, address))
}

async fn serve(
    config: &Config,
    choice: KeyChoice,
    host: Arc<Host>,
    state: &StateDir,
) -> Result<(), StartError> {
    let (listener, listen) = bind(config.listen).await?;
    let observed = match config.metrics {
        MetricsAt::Own(address) => Some(bind(address).await?.0),
        MetricsAt::Main | MetricsAt::Nowhere => None,
    };
    let engine = Engine::start(host, state, config.policy.clone())
        .map_err(|error| StartError::client(error.to_string(), None))?;
    let ready = ready_line(listen, &engine, &choice);
    let services = Services::open(state)
        .map_err(|error| StartError::client(format!("the secret of links can't be kept: {error}"), None))?;
    let app_state = App::new(Arc::clone(&engine), choice.key, services, listen);
    let stopping = app_state.stopping.clone();
    watch_for_the_end(&stopping, config.ephemeral)?;
    let connections = Connections::new();
    connections.serve(listener, app(Arc::clone(&app_state)));
    if let Some(listener) = observed {
        connections.serve(listener, observers(Arc::clone(&app_state)));
    }
    say(&ready);
    tracing::info!(%listen, metrics = ?config.metrics, state = %state.path().display(), "ready");
    stopping.cancelled().await;
    if config.ephemeral {
        // Whoever could want the answers has asked for the end, or is dead.
        app_state.ending.cancel();
    }
    drain(&app_state, config.drain).await;
    app_state.ending.cancel();
    if timeout(CLOSE_GRACE, connections.end()).await.is_err() {
        tracing::warn!("connections are still open; ending without them");
    }
    engine.shutdown().await;
    tracing::info!("bye");
    Ok(())
}

/// Waits for what is under way. Meanwhile new requests are refused, so that clients and proxies know that they have to
/// look elsewhere.
async fn drain(app: &App, limit: Duration) {
    tracing::info!(requests = app.requests.len(), sockets = app.sockets.len(), "draining");
    app.sockets.close();
    app.requests.close();
    let drained = async {
        app.sockets.wait().await;
        app.requests.wait().await;
    };
    if timeout(limit, drained).await.is_err() {
        tracing::warn!(requests = app.requests.len(), sockets = app.sockets.len(), "not drained in time");
    }
}

fn ready_line(listen: SocketAddr, engine: &Engine, choice: &KeyChoice) -> Value {
    let mut ready = json!({
        "event": "ready",
        "endpoint": format!("http://{listen}/v2/sandboxes"),
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "isolation": engine.isolation(),
    });
    if choice.generated
        && let Some(line) = ready.as_object_mut()
    {
        line.insert("api_key".into(), choice.key.reveal().into());
    }
    ready
}

/// Cancels `stopping` on the first SIGTERM or SIGINT, or when the parent is gone.
fn watch_for_the_end(stopping: &CancellationToken, ephemeral: bool) -> Result<(), StartError> {
    let deaf = |error: io::Error| StartError::client(format!("no signals: {error}"), None);
    let terminate = signal(SignalKind::terminate()).map_err(deaf)?;
    let interrupt = signal(SignalKind::interrupt()).map_err(deaf)?;
    let hang_up = signal(SignalKind::hangup()).map_err(deaf)?;
    tokio::spawn(ignore(hang_up));
    tokio::spawn(obey(terminate, interrupt, stopping.clone()));
    if ephemeral {
        let orphaned = stopping.clone();
        // A thread, because stdin may be anything and only a blocking read works on all of it; it lives as long as
        // the process.
        std::thread::spawn(move || {
            let _end_or_error = io::copy(&mut io::stdin().lock(), &mut io::sink());
            orphaned.cancel();
            tracing::info!("stdin ended");
        });
    }
    Ok(())
}

/// Many servers read their configuration again, many end: whoever expects either is told.
async fn ignore(mut hang_up: Signal) {
    while hang_up.recv().await.is_some() {
        tracing::info!("SIGHUP is ignored: a changed configuration needs a restart");
    }
}

async fn obey(mut terminate: Signal, mut interrupt: Signal, stopping: CancellationToken) {
    loop {
        let signal = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        if stopping.is_cancelled() {
            tracing::warn!("second signal: leaving at once");
            std::process::exit(IMPATIENT);
        }
        tracing::info!(signal, "asked to end");
        stopping.cancel();
    }
}

fn log(config: &Config) {
    let filter = EnvFilter::new(&config.log_level);
    // Whoever read the log may be gone, as when the parent of an ephemeral server died: then the log is lost and
    // nothing else. Reporting that on the same stderr would be a panic.
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).log_internal_errors(false);
    match config.log_format {
        LogFormat::Text => subscriber.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
    }
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let formatted = payload.downcast_ref::<String>().map(String::as_str);
        let message = formatted.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
        let location = panic.location().map(ToString::to_string);
        tracing::error!(message, location, "panic");
    }));
}
