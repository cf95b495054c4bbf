//! Forgets: takes away the logs and artifacts of runs that ended long ago, in small steps.

use std::sync::Arc;
use std::time::Duration;

use super::Parts;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::id::RunId;
use crate::page::PageRequest;
use crate::runs::Emptied;

/// How often it is looked whether anything is due.
const EVERY: Duration = Duration::from_secs(3600);
/// Runs looked at in one go.
const RUNS: u32 = 200;
/// Rows deleted in one transaction, so that writers of live runs never wait long.
const ROWS: u32 = 500;

/// Looks at start and then every hour. Writes nothing when nothing is due.
pub(crate) async fn retain(parts: Arc<Parts>) {
    loop {
        match sweep(&parts).await {
            Ok(0) => {}
            Ok(runs) => tracing::info!(runs, "deleted logs and artifacts of runs that ended long ago"),
            Err(error) => tracing::warn!(%error, "old logs and artifacts could not be deleted; trying again"),
        }
        parts.clock.sleep(EVERY).await;
    }
}

/// Empties all runs that are due, and says how many.
async fn sweep(parts: &Parts) -> Result<u64> {
    let cutoff = parts.settings.retention.cutoff(parts.clock.now());
    let (mut emptied, mut after) = (0, None);
    loop {
        let page = parts.store.due_runs(cutoff, PageRequest { limit: RUNS, after }).await?;
        for run in page.items {
            match empty(parts, run, cutoff).await {
                Ok(()) => emptied += 1,
                // It holds up no other; the next look finds it again.
                Err(error) => tracing::warn!(%run, %error, "an old run could not be emptied"),
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(emptied);
        }
    }
}

/// Blobs first: while records are left the run is found again. All below the run's name go, also those whose record was
/// replaced or never written.
async fn empty(parts: &Parts, run: RunId, cutoff: Timestamp) -> Result<()> {
    for kind in ["artifacts", "bundles"] {
        parts.blobs.delete_under(&format!("{kind}/{run}")).await?;
    }
    while parts.store.empty_run(run, cutoff, ROWS).await? == Emptied::Part {}
    Ok(())
}
