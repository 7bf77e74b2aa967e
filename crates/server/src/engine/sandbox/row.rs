//! A sandbox as the database keeps it.
//!
//! A row is made and queued under the lock of the record: what is queued later was true later. Whoever changes a name does
//! so, and queues it, under the registry's lock, so that names are never taken twice on their way.

use super::{Phase, Sandbox};
use crate::engine::lock::lock;
use crate::store::{self, Pending, Row, StoreError, StoredPhase};

impl Sandbox {
    /// Queues what it is now.
    pub(in crate::engine) fn begin_save(&self) -> Pending<()> {
        self.begin(None, store::update)
    }

    /// Queues what it is now, for the first time.
    pub(in crate::engine) fn begin_save_new(&self) -> Pending<()> {
        self.begin(None, store::insert)
    }

    /// Writes down what it is now.
    pub(in crate::engine) async fn save(&self) -> Result<(), StoreError> {
        self.begin_save().committed().await
    }

    /// Writes down what it will be in a moment, unless it is on its way out.
    pub(in crate::engine) async fn save_ahead(&self, phase: &Phase) -> Result<(), StoreError> {
        self.begin(Some(phase), store::update).committed().await
    }

    /// Like [`Sandbox::save`], before there is a task that could wait.
    pub(in crate::engine) fn save_blocking(&self) -> Result<(), StoreError> {
        let row = self.row(&lock(&self.record), None);
        self.resources.store.write_blocking(move |tx| store::update(tx, &row?))
    }

    fn begin(
        &self,
        ahead: Option<&Phase>,
        write: fn(&rusqlite::Transaction<'_>, &Row) -> rusqlite::Result<()>,
    ) -> Pending<()> {
        let record = lock(&self.record);
        let row = self.row(&record, ahead);
        self.resources.store.begin(move |tx| write(tx, &row?))
    }

    fn row(&self, record: &super::Record, ahead: Option<&Phase>) -> rusqlite::Result<Row> {
        let (now, since) = {
            let state = self.state.borrow();
            (state.phase.clone(), state.since)
        };
        let phase = ahead.filter(|_| !matches!(now, Phase::Deleting)).unwrap_or(&now);
        let (phase, failure, stopped_at) = match phase {
            Phase::Provisioning | Phase::Ready(_) | Phase::Stopping => (StoredPhase::Live, None, None),
            Phase::Stopped { at } => (StoredPhase::Stopped, None, Some(*at)),
            Phase::Failed(failed) => (StoredPhase::Failed, Some(failed.message.clone()), None),
            Phase::Deleting => (StoredPhase::Deleting, None, None),
        };
        let settings = serde_json::to_string(&*record.settings)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        Ok(Row {
            id: self.id,
            name: (phase != StoredPhase::Deleting).then(|| record.name.to_string()),
            phase,
            failure,
            settings,
            created_at: self.created_at,
            updated_at: record.updated_at.max(since),
            stopped_at,
        })
    }
}
