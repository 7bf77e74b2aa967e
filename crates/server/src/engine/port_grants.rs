//! Which ports of sandboxes have URLs, for the list. The tokens themselves are kept nowhere.

use rusqlite::params;
use uuid::Uuid;

use super::Engine;
use crate::StoreError;

/// A grant for a port; there is one for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortGrant {
    /// The port.
    pub port: u16,
    /// When its newest token ends, seconds since the epoch.
    pub expires: u64,
    /// When that was made, seconds since the epoch.
    pub created: u64,
    /// Origins that may show the service in a frame.
    pub embed_origins: Vec<String>,
}

impl Engine {
    /// Notes a grant, in place of an older one for the same port. Those of the sandbox that have ended go.
    ///
    /// # Errors
    /// It can't be kept.
    pub async fn grant_port(&self, sandbox: Uuid, grant: PortGrant) -> Result<(), StoreError> {
        let write = self.resources.store.write(move |tx| {
            let (sandbox, created) = (sandbox.to_string(), signed(grant.created));
            let origins = serde_json::Value::from(grant.embed_origins).to_string();
            tx.execute(
                "DELETE FROM service_urls WHERE sandbox = ?1 AND expires_at <= ?2",
                params![sandbox, created],
            )?;
            tx.execute(
                "INSERT OR REPLACE INTO service_urls (sandbox, port, created_at, expires_at, embed_origins)
                 SELECT ?1, ?2, ?3, ?4, ?5 WHERE EXISTS (SELECT 1 FROM sandboxes WHERE id = ?1)",
                params![sandbox, grant.port, created, signed(grant.expires), origins],
            )
        });
        write.await.map(drop)
    }

    /// The grants of a sandbox that end after `now`, seconds since the epoch, by port.
    ///
    /// # Errors
    /// They can't be read.
    pub async fn granted_ports(&self, sandbox: Uuid, now: u64) -> Result<Vec<PortGrant>, StoreError> {
        let read = self.resources.store.write(move |tx| {
            let mut select = tx.prepare_cached(
                "SELECT port, expires_at, created_at, embed_origins FROM service_urls
                 WHERE sandbox = ?1 AND expires_at > ?2 ORDER BY port",
            )?;
            let grants = select.query_map(params![sandbox.to_string(), signed(now)], |row| {
                let origins: String = row.get(3)?;
                Ok(PortGrant {
                    port: row.get(0)?,
                    expires: row.get::<_, i64>(1)?.unsigned_abs(),
                    created: row.get::<_, i64>(2)?.unsigned_abs(),
                    embed_origins: serde_json::from_str(&origins).unwrap_or_default(),
                })
            })?;
            grants.collect()
        });
        read.await
    }

    /// Removes the grant for one port, or all of a sandbox.
    ///
    /// # Errors
    /// They can't be removed.
    pub async fn revoke_ports(&self, sandbox: Uuid, port: Option<u16>) -> Result<(), StoreError> {
        let write = self.resources.store.write(move |tx| {
            tx.execute(
                "DELETE FROM service_urls WHERE sandbox = ?1 AND (?2 IS NULL OR port = ?2)",
                params![sandbox.to_string(), port],
            )
        });
        write.await.map(drop)
    }
}

/// SQLite has no other numbers.
fn signed(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
