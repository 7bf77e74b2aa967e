//! A sandbox as the database keeps it. Rows are made when their turn to be written comes.

use std::sync::Arc;

use super::{Phase, Sandbox};
use crate::store::{self, Row, StoreError, StoredPhase};

impl Sandbox {
    /// Writes it down as it is when its turn comes, so that of several at once the last one writes the truth.
    pub(in crate::engine) async fn save(self: &Arc<Self>) -> Result<(), StoreError> {
        let sandbox = Arc::clone(self);
        self.resources.store.write(move |tx| store::update(tx, &sandbox.row(None)?)).await
    }

    /// Writes it down as it will be in a moment, unless it is on its way out by then.
    pub(in crate::engine) async fn save_ahead(self: &Arc<Self>, phase: Phase) -> Result<(), StoreError> {
        let sandbox = Arc::clone(self);
        self.resources.store.write(move |tx| store::update(tx, &sandbox.row(Some(&phase))?)).await
    }

    /// Writes it down for the first time.
    pub(in crate::engine) async fn save_new(self: &Arc<Self>) -> Result<(), StoreError> {
        let sandbox = Arc::clone(self);
        self.resources.store.write(move |tx| store::insert(tx, &sandbox.row(None)?)).await
    }

    /// Like [`Sandbox::save`], before there is a task that could wait.
    pub(in crate::engine) fn save_blocking(self: &Arc<Self>) -> Result<(), StoreError> {
        let sandbox = Arc::clone(self);
        self.resources.store.write_blocking(move |tx| store::update(tx, &sandbox.row(None)?))
    }

    fn row(&self, ahead: Option<&Phase>) -> rusqlite::Result<Row> {
        let now = self.state.borrow().phase.clone();
        let phase = ahead.filter(|_| !matches!(now, Phase::Deleting)).unwrap_or(&now);
        let (phase, failure, stopped_at) = match phase {
            Phase::Provisioning | Phase::Ready(_) | Phase::Stopping => (StoredPhase::Live, None, None),
            Phase::Stopped { at } => (StoredPhase::Stopped, None, Some(*at)),
            Phase::Failed(failed) => (StoredPhase::Failed, Some(failed.message.clone()), None),
            Phase::Deleting => (StoredPhase::Deleting, None, None),
        };
        let (name, settings) = (self.name(), self.settings());
        let settings = serde_json::to_string(&*settings)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        let (created_at, updated_at) = self.times();
        let name = (phase != StoredPhase::Deleting).then(|| name.to_string());
        Ok(Row { id: self.id, name, phase, failure, settings, created_at, updated_at, stopped_at })
    }
}
