//! Stages and areas that go to the pool: into the line, and out of it again when nothing comes that could take them.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::advance::{end_at, settle};
use super::{Draft, Parts};
use crate::config::Effective;
use crate::error::Result;
use crate::id::JobId;
use crate::pool::{JobChange, NewJob, Unplaced, needs_of};
use crate::runs::executors::{Swarm, Work};
use crate::runs::{Failure, FailureCode, StageEvent, StageOutcome, StagePhase, Transition, Unit};

/// Decides, inside a change, whether what waited for the grace is given up.
pub(super) struct UnfitCheck {
    pub(super) effective: Effective,
    pub(super) parts: Arc<Parts>,
}

/// Stages and areas whose job waits in line.
pub(super) fn waiting(draft: &Draft<'_>) -> Vec<Unit> {
    let in_line = |(_, phase): &(Unit, &StagePhase)| matches!(phase, StagePhase::Queued { job: Some(_), .. });
    draft.state().units().filter(in_line).map(|(unit, _)| unit).collect()
}

/// Puts a pool stage, or an area of it, in line, unless its harness is not there: then it is looked at again.
pub(super) fn enqueue(
    draft: &mut Draft<'_>,
    parts: &Parts,
    unit: Unit,
    swarm: &Swarm,
    effective: Option<&Effective>,
) -> Result<()> {
    let Some(effective) = effective else { return Ok(()) };
    let needs = match needs_of(swarm, draft.head.project, effective, &parts.settings) {
        Ok(needs) => needs,
        Err(Unplaced::Later(_)) => return Ok(()),
        Err(Unplaced::Never(failure)) => {
            end_at(draft, unit, draft.now, StageOutcome::Failed(failure))?;
            settle(draft, &BTreeSet::new(), &parts.settings)?;
            return Ok(());
        }
    };
    let id = JobId::mint(&*parts.clock, &*parts.entropy);
    draft.apply(Transition::unit(unit, StageEvent::Enqueue { job: id }))?;
    let number = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
    draft.job(JobChange::Enqueue(NewJob {
        id,
        run: draft.run(),
        project: draft.head.project,
        stage: number(unit.stage),
        area: unit.area.map(number),
        needs,
        enqueued_at: draft.now,
        project_limit: parts.settings.project_max_parallel,
    }));
    Ok(())
}

/// Fails what nothing that fits was online for during the grace; does nothing when something fits now.
pub(super) fn give_up(draft: &mut Draft<'_>, unit: Unit, check: &UnfitCheck) -> Result<()> {
    let Some(StagePhase::Queued { job, .. }) = draft.state().phase_of(unit) else {
        return Ok(());
    };
    let job = *job;
    let executor = draft.definition.stages[unit.stage].executor.clone();
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
                let key = draft.definition.key(unit.stage);
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
    end_at(draft, unit, draft.now, StageOutcome::Failed(failure))
}
