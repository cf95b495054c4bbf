//! Keeps the engine's word alive, adopts runs whose engine lost its own, and takes back jobs whose lease ended.

use std::sync::Arc;

use super::advance::take_back;
use super::{Parts, Takeover, drive};
use crate::clock::Timestamp;
use crate::error::{Conflict, Error, Result};
use crate::pool::{JobPhase, JobRow};
use crate::runs::Guard;

/// Runs or jobs taken in one go.
const BATCH: u32 = 500;

/// Takes over at start, then looks after leases until the engine stops. Writes nothing while nothing is live.
pub(crate) async fn keep(parts: Arc<Parts>) {
    loop {
        parts.clock.sleep(parts.settings.lease / 6).await;
        if let Err(error) = look(&parts).await {
            tracing::warn!(%error, "leases could not be looked after; trying again");
        }
    }
}

async fn look(parts: &Arc<Parts>) -> Result<()> {
    let now = parts.clock.now();
    if parts.drives() {
        parts.renew_word(now).await?;
    }
    for job in parts.store.expired_jobs(now, BATCH).await? {
        reclaim(parts, &job).await?;
    }
    if let Takeover::Silent(_) = parts.settings.takeover {
        adopt(parts, now).await?;
    }
    Ok(())
}

/// Takes runs over and follows them.
pub(crate) async fn adopt(parts: &Arc<Parts>, silent_since: Timestamp) -> Result<usize> {
    let mut all = 0;
    loop {
        let runs = parts.store.adopt_runs(parts.id, silent_since, BATCH).await?;
        if runs.is_empty() {
            return Ok(all);
        }
        parts.give_word().await?;
        all += runs.len();
        for run in runs {
            parts.ledger.refresh(run).await;
            let cell = parts.ledger.cell(run);
            parts.follow(drive(parts.clone(), run, cell));
        }
    }
}

/// Takes a job back from a worker that lost it.
pub(crate) async fn reclaim(parts: &Parts, job: &JobRow) -> Result<()> {
    let JobPhase::Claimed { token, .. } = job.phase else {
        return Ok(());
    };
    let changed = parts.ledger.change(job.run, |draft| {
        draft.guard = Some(Guard {
            job: job.id,
            token,
            now: None,
        });
        take_back(draft, job, &parts.settings)
    });
    match changed.await {
        // Its worker, or another engine, was faster.
        Ok(())
        | Err(Error::Conflict {
            kind: Conflict::StaleClaim,
            ..
        }) => Ok(()),
        Err(error) => Err(error),
    }
}
