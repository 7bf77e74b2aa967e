//! What `/metrics` says, in the OpenMetrics text format that Prometheus reads.
//!
//! Requests are counted as they pass, by relaxed atomics. Everything else is counted where it happens or known anyway,
//! and read when somebody asks: [`exposition`]. Nothing here is labelled by sandbox, command or client: their number
//! has no bound.

mod process;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::engine::{Engine, tally};

/// The media type of [`exposition`].
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of durations, seconds: from what an answer from memory takes to what a long command does.
const SECONDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];

/// A histogram of durations.
pub(crate) fn durations() -> Histogram {
    Histogram::new(SECONDS)
}

/// A name and a value.
type Label = [(&'static str, &'static str); 1];

/// The requests of a server.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    requests: Family<Answered, Counter>,
    durations: Family<Asked, Histogram>,
    body_bytes: Family<Moved, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: String,
    method: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    route: String,
    method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Moved {
    route: String,
    direction: &'static str,
}

impl Metrics {
    /// Nothing has happened yet.
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let (requests, body_bytes) = (Family::default(), Family::default());
        let durations: Family<Asked, Histogram> = Family::new_with_constructor(durations);
        registry.register("sandwired_http_requests", "Requests answered", requests.clone());
        registry.register(
            "sandwired_http_request_duration_seconds",
            "Time from a request's head to the head of its answer",
            durations.clone(),
        );
        registry.register(
            "sandwired_http_body_bytes",
            "Bytes of bodies, in from and out to clients; those of upload and download are files",
            body_bytes.clone(),
        );
        Self { registry: Arc::new(registry), requests, durations, body_bytes }
    }

    /// One answer.
    pub(crate) fn answered(&self, route: &str, method: &'static str, status: u16, took: Duration) {
        let answered = Answered { route: route.to_owned(), method, status };
        self.requests.get_or_create(&answered).inc();
        let asked = Asked { route: route.to_owned(), method };
        self.durations.get_or_create(&asked).observe(took.as_secs_f64());
    }

    /// Counts bytes of bodies that clients send on this route.
    pub(crate) fn bytes_in(&self, route: &str) -> Counter {
        self.bytes(route, "in")
    }

    /// Counts bytes of bodies that clients get on this route.
    pub(crate) fn bytes_out(&self, route: &str) -> Counter {
        self.bytes(route, "out")
    }

    fn bytes(&self, route: &str, direction: &'static str) -> Counter {
        self.body_bytes.get_or_create_owned(&Moved { route: route.to_owned(), direction })
    }
}

/// Everything there is to say now.
///
/// # Errors
/// None that a `String` could have.
pub(crate) fn exposition(metrics: &Metrics, engine: &Engine) -> Result<String, fmt::Error> {
    let mut text = String::new();
    encode_registry(&mut text, &metrics.registry)?;
    encode_registry(&mut text, &of_engine(engine))?;
    encode_registry(&mut text, &process::registry())?;
    encode_eof(&mut text)?;
    Ok(text)
}

fn of_engine(engine: &Engine) -> Registry {
    let mut registry = Registry::default();
    let states = Family::<Label, Gauge>::default();
    for (state, count) in engine.states() {
        states.get_or_create(&[("state", state)]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    registry.register("sandwired_sandboxes", "Sandboxes by state", states);
    registry.register(
        "sandwired_sandbox_create_seconds",
        "Time to make the namespaces, mounts and first process of a sandbox, when it is made or resumed",
        engine.makings(),
    );
    let counted = tally::counted();
    registry.register("sandwired_commands_running", "Commands under way", gauge(counted.running));
    let outcomes = Family::<Label, Counter>::default();
    for (outcome, count) in counted.outcomes {
        outcomes.get_or_create(&[("outcome", outcome)]).inc_by(count);
    }
    registry.register("sandwired_commands", "Commands ended, by outcome", outcomes);
    let output = Family::<Label, Counter>::default();
    for (stream, bytes) in counted.output {
        output.get_or_create(&[("stream", stream)]).inc_by(bytes);
    }
    registry.register("sandwired_command_output_bytes", "Bytes that commands wrote", output);
    registry
}

fn gauge(value: u64) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    gauge
}
