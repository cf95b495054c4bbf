//! Forgetting what ended long ago.

use async_trait::async_trait;
use pond_core::clock::Timestamp;
use pond_core::id::RunId;
use pond_core::page::{Page, PageRequest};
use pond_core::runs::{Emptied, RetentionStore, first_id};
use pond_core::store::StoreError;

use super::Sql;
use super::db::args;
use crate::error::unavailable;

#[async_trait]
impl RetentionStore for Sql {
    async fn due_runs(&self, cutoff: Timestamp, page: PageRequest<RunId>) -> Result<Page<RunId, RunId>, StoreError> {
        // A step from run to run through the key of segments, which begins with the run and so with its time: runs that were
        // emptied before, and all that are younger, are never touched.
        let text = "
            WITH RECURSIVE old (n, run_id) AS (
                SELECT * FROM (SELECT 1 AS n, s.run_id FROM segments AS s WHERE s.run_id > $1 AND s.run_id < $2
                               ORDER BY s.run_id LIMIT 1) AS first
                UNION ALL
                SELECT old.n + 1, (SELECT s.run_id FROM segments AS s WHERE s.run_id > old.run_id AND s.run_id < $2
                                   ORDER BY s.run_id LIMIT 1)
                FROM old WHERE old.run_id IS NOT NULL AND old.n < $4
            )
            SELECT old.run_id, CAST(CASE WHEN r.finished_at < $3 THEN 1 ELSE 0 END AS BIGINT)
            FROM old LEFT JOIN runs AS r ON r.id = old.run_id
            WHERE old.run_id IS NOT NULL ORDER BY old.run_id";
        let after = page.after.map_or_else(Vec::new, |run| run.as_bytes().to_vec());
        let args = args![after, first_id(cutoff).as_bytes(), cutoff.micros(), page.limit];
        let rows = self.db.read(text, args).await.map_err(unavailable)?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            let cells = row.cells("segments");
            found.push((cells.id::<RunId>(0, "run_id")?, cells.int(1, "finished_at")? == 1));
        }
        let full = found.len() >= usize::try_from(page.limit).unwrap_or(usize::MAX);
        Ok(Page {
            next: found.last().map(|(run, _)| *run).filter(|_| full),
            items: found.into_iter().filter(|(_, due)| *due).map(|(run, _)| run).collect(),
        })
    }

    async fn empty_run(&self, run: RunId, cutoff: Timestamp, limit: u32) -> Result<Emptied, StoreError> {
        let artifacts = "
            DELETE FROM artifacts
            WHERE run_id = $1
              AND (stage, substage, name) IN (SELECT a.stage, a.substage, a.name FROM artifacts AS a WHERE a.run_id = $1
                                              ORDER BY a.stage, a.substage, a.name LIMIT $3)
              AND EXISTS (SELECT 1 FROM runs AS r WHERE r.id = $1 AND r.finished_at < $2)";
        let jobs = "
            DELETE FROM jobs
            WHERE id IN (SELECT j.id FROM jobs AS j WHERE j.run_id = $1 AND j.status = 2 ORDER BY j.id LIMIT $3)
              AND EXISTS (SELECT 1 FROM runs AS r WHERE r.id = $1 AND r.finished_at < $2)";
        let segments = "
            DELETE FROM segments
            WHERE run_id = $1
              AND first_event IN (SELECT s.first_event FROM segments AS s WHERE s.run_id = $1
                                  ORDER BY s.first_event LIMIT $3)
              AND EXISTS (SELECT 1 FROM runs AS r WHERE r.id = $1 AND r.finished_at < $2)";
        let mut tx = self.db.begin().await.map_err(unavailable)?;
        let mut more = false;
        for text in [artifacts, jobs, segments] {
            if more {
                break;
            }
            let args = args![run.as_bytes(), cutoff.micros(), limit];
            more = tx.write(text, args).await.map_err(unavailable)? >= u64::from(limit);
        }
        tx.commit().await.map_err(unavailable)?;
        Ok(if more { Emptied::Part } else { Emptied::Whole })
    }
}
