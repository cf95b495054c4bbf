//! Engines that are alive, and the runs of those that are not.

use async_trait::async_trait;
use pond_core::clock::Timestamp;
use pond_core::id::{EngineId, RunId};
use pond_core::runs::EngineStore;
use pond_core::store::StoreError;

use super::Sql;
use super::db::{Arg, Text, args};
use crate::error::unavailable;

/// Live runs of engines that are not alive, found by stepping from engine to engine through the index of live runs. Only
/// the locks differ: a run that another heir is just taking is passed over.
macro_rules! orphans {
    ($lock:literal) => {
        concat!(
            "WITH RECURSIVE owners (owner) AS (
                SELECT * FROM (SELECT owner FROM runs WHERE finished_at IS NULL ORDER BY owner LIMIT 1) AS first
                UNION ALL
                SELECT (SELECT r.owner FROM runs AS r WHERE r.finished_at IS NULL AND r.owner > owners.owner
                        ORDER BY r.owner LIMIT 1)
                FROM owners WHERE owners.owner IS NOT NULL
            )
            SELECT r.id
            FROM owners JOIN runs AS r ON r.owner = owners.owner
            WHERE r.finished_at IS NULL AND owners.owner <> $1
              AND NOT EXISTS (SELECT 1 FROM engines AS e WHERE e.id = owners.owner AND e.alive_until >= $2)
            ORDER BY r.id LIMIT $3 ",
            $lock
        )
    };
}

#[async_trait]
impl EngineStore for Sql {
    async fn beat(&self, engine: EngineId, until: Timestamp) -> Result<(), StoreError> {
        let text = "INSERT INTO engines (id, alive_until) VALUES ($1, $2)
                    ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until";
        let written = self.db.write(text, args![engine.as_bytes(), until.micros()]).await;
        written.map(drop).map_err(unavailable)
    }

    async fn retire(&self, engine: EngineId) -> Result<(), StoreError> {
        let written = self
            .db
            .write("DELETE FROM engines WHERE id = $1", args![engine.as_bytes()])
            .await;
        written.map(drop).map_err(unavailable)
    }

    async fn runs_of(&self, engine: EngineId, limit: u32) -> Result<Vec<RunId>, StoreError> {
        let text = "SELECT id FROM runs WHERE owner = $1 AND finished_at IS NULL ORDER BY id LIMIT $2";
        let rows = self
            .db
            .read(text, args![engine.as_bytes(), limit])
            .await
            .map_err(unavailable)?;
        rows.iter().map(|row| row.cells("runs").id(0, "id")).collect()
    }

    async fn adopt_runs(&self, heir: EngineId, now: Timestamp, limit: u32) -> Result<Vec<RunId>, StoreError> {
        let find = Text {
            sqlite: orphans!(""),
            postgres: orphans!("FOR UPDATE OF r SKIP LOCKED"),
        };
        let adopt = Text {
            sqlite: "UPDATE runs SET owner = $2, revision = revision + 1 WHERE id IN (SELECT unhex(value) FROM json_each($1))",
            postgres: "UPDATE runs SET owner = $2, revision = revision + 1 WHERE id = ANY($1)",
        };
        let mut tx = self.db.begin().await.map_err(unavailable)?;
        let args = args![heir.as_bytes(), now.micros(), limit];
        let rows = tx.read(find, args).await.map_err(unavailable)?;
        let runs = rows
            .iter()
            .map(|row| row.cells("runs").id(0, "id"))
            .collect::<Result<Vec<RunId>, _>>()?;
        if runs.is_empty() {
            return Ok(runs);
        }
        let ids = runs.iter().map(|run| *run.as_bytes()).collect();
        tx.write(adopt, vec![Arg::Ids(ids), heir.as_bytes().into()])
            .await
            .map_err(unavailable)?;
        tx.commit().await.map_err(unavailable)?;
        Ok(runs)
    }
}
