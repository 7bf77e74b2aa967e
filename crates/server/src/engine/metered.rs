//! A backend whose work is measured.

use std::sync::Arc;
use std::time::Instant;

use prometheus_client::metrics::histogram::Histogram;
use sandwire_isolate::SandboxSpec;
use sandwire_protocol::Isolation;

use super::backend::{Backend, Cell, CreateFailed};
use crate::metrics::durations;

/// Measures how long sandboxes take to be made; those that fail do not count.
pub(super) struct Metered {
    inner: Arc<dyn Backend>,
    makings: Histogram,
}

impl Metered {
    /// The backend, and what it measures.
    pub(super) fn over(inner: Arc<dyn Backend>) -> (Arc<dyn Backend>, Histogram) {
        let makings = durations();
        (Arc::new(Self { inner, makings: makings.clone() }), makings)
    }
}

impl Backend for Metered {
    fn isolation(&self) -> &Isolation {
        self.inner.isolation()
    }

    fn create(&self, spec: &SandboxSpec) -> Result<Box<dyn Cell>, CreateFailed> {
        let began = Instant::now();
        let cell = self.inner.create(spec)?;
        self.makings.observe(began.elapsed().as_secs_f64());
        Ok(cell)
    }

    fn outside_ids(&self, uid: u32, gid: u32) -> (u32, u32) {
        self.inner.outside_ids(uid, gid)
    }
}
