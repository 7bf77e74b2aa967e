//! The rows of sandboxes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Transaction, params};
use uuid::Uuid;

/// What a sandbox is at the start of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoredPhase {
    /// It was provisioning or ready when its server ended; it is stopped now.
    Live,
    /// It was stopped.
    Stopped,
    /// It had failed.
    Failed,
    /// It was being deleted, which is to be finished.
    Deleting,
}

/// A sandbox as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: Uuid,
    /// None once it is being deleted.
    pub(crate) name: Option<String>,
    pub(crate) phase: StoredPhase,
    pub(crate) failure: Option<String>,
    pub(crate) settings: String,
    pub(crate) created_at: SystemTime,
    pub(crate) updated_at: SystemTime,
    pub(crate) stopped_at: Option<SystemTime>,
}

pub(crate) fn load(tx: &Transaction<'_>) -> rusqlite::Result<Vec<Row>> {
    let mut select = tx.prepare(
        "SELECT id, name, phase, failure, settings, created_at, updated_at, stopped_at FROM sandboxes",
    )?;
    let rows = select.query_map([], |row| {
        Ok(Row {
            id: row.get::<_, Id>(0)?.0,
            name: row.get(1)?,
            phase: row.get(2)?,
            failure: row.get(3)?,
            settings: row.get(4)?,
            created_at: time(row.get(5)?),
            updated_at: time(row.get(6)?),
            stopped_at: row.get::<_, Option<i64>>(7)?.map(time),
        })
    })?;
    rows.collect()
}

pub(crate) fn insert(tx: &Transaction<'_>, row: &Row) -> rusqlite::Result<()> {
    let mut insert = tx.prepare_cached("INSERT INTO sandboxes VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?;
    insert.execute(params![
        Id(row.id),
        row.name,
        row.phase,
        row.failure,
        row.settings,
        millis(row.created_at),
        millis(row.updated_at),
        row.stopped_at.map(millis),
    ])?;
    Ok(())
}

/// Writes everything that can change. A row that is gone stays so.
pub(crate) fn update(tx: &Transaction<'_>, row: &Row) -> rusqlite::Result<()> {
    let mut update = tx.prepare_cached(
        "UPDATE sandboxes SET name = ?2, phase = ?3, failure = ?4, settings = ?5, updated_at = ?6, stopped_at = ?7
         WHERE id = ?1",
    )?;
    update.execute(params![
        Id(row.id),
        row.name,
        row.phase,
        row.failure,
        row.settings,
        millis(row.updated_at),
        row.stopped_at.map(millis),
    ])?;
    Ok(())
}

pub(crate) fn delete(tx: &Transaction<'_>, id: Uuid) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM sandboxes WHERE id = ?1")?.execute([Id(id)])?;
    Ok(())
}

fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn time(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}

struct Id(Uuid);

impl ToSql for Id {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.to_string().into())
    }
}

impl FromSql for Id {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Uuid::try_parse(value.as_str()?).map(Self).map_err(FromSqlError::other)
    }
}

const PHASES: [(StoredPhase, &str); 4] = [
    (StoredPhase::Live, "live"),
    (StoredPhase::Stopped, "stopped"),
    (StoredPhase::Failed, "failed"),
    (StoredPhase::Deleting, "deleting"),
];

impl ToSql for StoredPhase {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let known = PHASES.iter().find(|(phase, _)| phase == self);
        Ok(known.map_or("live", |(_, text)| text).into())
    }
}

impl FromSql for StoredPhase {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let text = value.as_str()?;
        let known = PHASES.iter().find(|(_, known)| *known == text);
        known.map(|(phase, _)| *phase).ok_or_else(|| FromSqlError::Other("an unknown phase".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::*;

    #[test]
    fn rows_come_back_as_they_were() {
        let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
        let row = Row {
            id: Uuid::new_v4(),
            name: Some("a".into()),
            phase: StoredPhase::Live,
            failure: None,
            settings: "{}".into(),
            created_at: at(1),
            updated_at: at(2),
            stopped_at: None,
        };
        let store = Store::open(None).unwrap();
        let inserted = row.clone();
        store.write_blocking(move |tx| insert(tx, &inserted)).unwrap();
        assert_eq!(store.write_blocking(load).unwrap(), std::slice::from_ref(&row));
        for (phase, _) in PHASES {
            let changed = Row {
                name: None,
                phase,
                failure: Some("why".into()),
                stopped_at: Some(at(3)),
                settings: "{\"a\":1}".into(),
                ..row.clone()
            };
            let update_to = changed.clone();
            store.write_blocking(move |tx| update(tx, &update_to)).unwrap();
            assert_eq!(store.write_blocking(load).unwrap(), [changed]);
        }
        let (id, same_name) = (row.id, Row { id: Uuid::new_v4(), ..row.clone() });
        store.write_blocking(move |tx| delete(tx, id)).unwrap();
        store.write_blocking(move |tx| insert(tx, &row)).unwrap();
        assert!(store.write_blocking(move |tx| insert(tx, &same_name)).is_err());
    }
}
