//! Stages that go to the pool: into the line, and out of it again when nothing comes that could take them.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::advance::settle;
use super::{Draft, Parts};
use crate::config::Effective;
use crate::error::Result;
use crate::id::JobId;
use crate::pool::{JobChange, NewJob, Unplaced, needs_of};
use crate::runs::executors::{Swarm, Work};
use crate::runs::{Failure, FailureCode, StageEvent, StageOutcome, StagePhase, Transition};

/// Decides, inside a change, whether a stage that waited for the grace is given up.
pub(super) struct UnfitCheck {
    pub(super) effective: Effective,
    pub(super) parts: Arc<Parts>,
}

/// Stages whose job waits in line.
pub(super) fn waiting(draft: &Draft<'_>) -> Vec<usize> {
    let stages = draft.state().stages.iter().enumerate();
    stages
        .filter(|(_, s)| matches!(s.phase, StagePhase::Queued { job: Some(_), .. }))
        .map(|(i, _)| i)
        .collect()
}

/// Puts a pool stage in line, unless its harness is not there: then it is looked at again.
pub(super) fn enqueue(
    draft: &mut Draft<'_>,
    parts: &Parts,
    index: usize,
    swarm: &Swarm,
    effective: Option<&Effective>,
) -> Result<()> {
    let Some(effective) = effective else { return Ok(()) };
    let needs = match needs_of(swarm, draft.head.project, effective, &parts.settings) {
        Ok(needs) => needs,
        Err(Unplaced::Later(_)) => return Ok(()),
        Err(Unplaced::Never(failure)) => {
            let event = StageEvent::End {
                at: draft.now,
                outcome: StageOutcome::Failed(failure),
            };
            draft.apply(Transition::Stage { index, event })?;
            settle(draft, &BTreeSet::new(), &parts.settings)?;
            return Ok(());
        }
    };
    let id = JobId::mint(&*parts.clock, &*parts.entropy);
    draft.apply(Transition::Stage {
        index,
        event: StageEvent::Enqueue { job: id },
    })?;
    draft.job(JobChange::Enqueue(NewJob {
        id,
        run: draft.run(),
        project: draft.head.project,
        stage: u32::try_from(index).unwrap_or(u32::MAX),
        area: None,
        needs,
        enqueued_at: draft.now,
        project_limit: parts.settings.project_max_parallel,
    }));
    Ok(())
}

/// Fails a stage for which nothing that fits was online for the grace; does nothing when something fits now.
pub(super) fn give_up(draft: &mut Draft<'_>, index: usize, check: &UnfitCheck) -> Result<()> {
    let StagePhase::Queued { job, .. } = draft.state().stages[index].phase else {
        return Ok(());
    };
    let executor = draft.definition.stages[index].executor.clone();
    let Work::Pool(swarm) = executor.work() else {
        return Ok(());
    };
    let parts = &check.parts;
    let failure = match needs_of(swarm, draft.head.project, &check.effective, &parts.settings) {
        Err(Unplaced::Later(failure) | Unplaced::Never(failure)) => Some(failure),
        Ok(needs) => parts
            .presence
            .missing(&needs, draft.head.project, draft.now, parts.settings.worker_offline)
            .map(|missing| {
                let key = draft.definition.key(index);
                Failure::new(
                    FailureCode::NoCapableWorker,
                    crate::preflight::no_capable_worker_message(key, &missing),
                )
            }),
    };
    let Some(failure) = failure else { return Ok(()) };
    if let Some(job) = job {
        draft.job(JobChange::End(job));
    }
    let event = StageEvent::End {
        at: draft.now,
        outcome: StageOutcome::Failed(failure),
    };
    draft.apply(Transition::Stage { index, event })?;
    Ok(())
}
