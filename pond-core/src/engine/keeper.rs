//! Keeps the engine's word alive, adopts runs whose engine lost its own, and takes back jobs whose lease ended.

use std::collections::HashSet;
use std::sync::Arc;

use super::advance::take_back;
use super::{Parts, Takeover, drive};
use crate::clock::Timestamp;
use crate::error::{Conflict, Error, Result};
use crate::id::RunId;
use crate::pool::{JobPhase, JobRow};
use crate::runs::Guard;

/// Runs or jobs taken in one go.
const BATCH: u32 = 500;

/// Every how many looks the runs that are written down for this engine are held against those that it follows.
const RECKON_EVERY: u32 = 6;
/// Runs that are held against each other.
const MAX_RECKONED: u32 = 10_000;

/// Takes over at start, then looks after leases until the engine stops. Writes nothing while nothing is live.
pub(crate) async fn keep(parts: Arc<Parts>) {
    let mut strays = HashSet::new();
    for round in 1u32.. {
        parts.clock.sleep(parts.settings.lease / 6).await;
        if let Err(error) = look(&parts).await {
            tracing::warn!(%error, "leases could not be looked after; trying again");
        }
        if round % RECKON_EVERY == 0 {
            match reckon(&parts, &strays).await {
                Ok(found) => strays = found,
                Err(error) => tracing::warn!(%error, "runs could not be looked after; trying again"),
            }
        }
    }
}

/// Follows runs of this engine that nobody follows, as when the store took a write and could not say so. Only those that were
/// strays at the look before too: one that was just written may be about to be followed.
async fn reckon(parts: &Arc<Parts>, before: &HashSet<RunId>) -> Result<HashSet<RunId>> {
    let runs = parts.store.runs_of(parts.id, MAX_RECKONED).await?;
    let strays: HashSet<RunId> = runs.into_iter().filter(|run| !parts.follows(*run)).collect();
    for run in strays.intersection(before) {
        tracing::warn!(%run, "followed a run that nobody followed");
        parts.follow(*run, drive(parts.clone(), *run, parts.ledger.cell(*run)));
    }
    Ok(strays)
}

async fn look(parts: &Arc<Parts>) -> Result<()> {
    let now = parts.clock.now();
    if parts.drives() {
        parts.renew_word(now).await?;
    }
    loop {
        let expired = parts.store.expired_jobs(now, BATCH).await?;
        // Together, so that their commits gather in batches; a job that cannot be taken back holds up no other.
        let reclaimed = futures::future::join_all(expired.iter().map(|job| reclaim_or_tell(parts, job))).await;
        let full = expired.len() == usize::try_from(BATCH).unwrap_or(usize::MAX);
        if !full || !reclaimed.contains(&true) {
            break;
        }
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
            parts.ledger.outdate(run);
            parts.follow(run, drive(parts.clone(), run, parts.ledger.cell(run)));
        }
    }
}

/// Takes a job back, or says why not; whether it did.
pub(crate) async fn reclaim_or_tell(parts: &Parts, job: &JobRow) -> bool {
    let reclaimed = reclaim(parts, job).await;
    if let Err(error) = &reclaimed {
        tracing::error!(job = %job.id, run = %job.run, %error, "a lost job could not be taken back; trying again");
    }
    reclaimed.is_ok()
}

/// Takes a job back from a worker that lost it.
async fn reclaim(parts: &Parts, job: &JobRow) -> Result<()> {
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
