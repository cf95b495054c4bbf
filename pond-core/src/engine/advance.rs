//! Brings a draft as far as its plan allows without doing any work: what never starts is settled, what is over ends.

use std::collections::BTreeSet;

use super::{Draft, EngineSettings};
use crate::error::Result;
use crate::id::{JobId, WorkerId};
use crate::logs::{LogLine, LogSource};
use crate::pool::{JobChange, JobRow};
use crate::runs::{
    Failure, FailureCode, Plan, RunOutcome, Situation, StageEvent, StageOutcome, StagePhase, StageState, Transition,
    plan,
};

/// Applies what the plan settles, and gives the plan for what is left to do.
pub(crate) fn settle(draft: &mut Draft<'_>, active: &BTreeSet<usize>, settings: &EngineSettings) -> Result<Plan> {
    let has_sources = draft.head.inputs.sources.is_some();
    let situation = Situation {
        definition: draft.definition,
        state: draft.state(),
        has_sources,
        active,
        max_parallel: settings.run_max_parallel,
    };
    let plan = plan(situation);
    let at = draft.now;
    for (index, outcome) in &plan.settle {
        draft.apply(Transition::Stage {
            index: *index,
            event: StageEvent::End {
                at,
                outcome: outcome.clone(),
            },
        })?;
    }
    if let Some(outcome) = plan.end.clone() {
        draft.apply(Transition::Ended { at, outcome })?;
    }
    Ok(plan)
}

/// Ends a run whose sources could not be fetched: nothing of it starts.
pub(crate) fn fail_fetch(draft: &mut Draft<'_>, failure: &Failure) -> Result<()> {
    let at = draft.now;
    for index in 0..draft.state().stages.len() {
        if matches!(draft.state().stages[index].phase, StagePhase::Queued { .. }) {
            let event = StageEvent::End {
                at,
                outcome: StageOutcome::Skipped,
            };
            draft.apply(Transition::Stage { index, event })?;
        }
    }
    draft.apply(Transition::Ended {
        at,
        outcome: RunOutcome::Failed(failure.clone()),
    })?;
    Ok(())
}

/// On a cancelled run: ends the jobs that wait, marks those that run, and says which workers are to be told.
pub(crate) fn cancel_live_jobs(draft: &mut Draft<'_>) -> Result<Vec<(WorkerId, JobId)>> {
    let at = draft.now;
    let mut told = Vec::new();
    for index in 0..draft.state().stages.len() {
        match draft.state().stages[index].phase {
            StagePhase::Queued { job: Some(job), .. } => {
                draft.job(JobChange::End(job));
                let event = StageEvent::End {
                    at,
                    outcome: StageOutcome::Cancelled,
                };
                draft.apply(Transition::Stage { index, event })?;
            }
            StagePhase::Running {
                job: Some(job),
                worker: Some(worker),
                ..
            } => {
                draft.job(JobChange::Cancel(job));
                told.push((worker, job));
            }
            _ => {}
        }
    }
    Ok(told)
}

/// Takes a job back whose worker lost it: it waits again, or, after its last attempt or a cancel, its stage ends.
pub(crate) fn take_back(draft: &mut Draft<'_>, job: &JobRow, settings: &EngineSettings) -> Result<()> {
    let index = usize::try_from(job.stage).unwrap_or(usize::MAX);
    let held = draft.state().stages.get(index).and_then(StageState::job) == Some(job.id);
    if !held {
        draft.job(JobChange::End(job.id));
        return Ok(());
    }
    let running = matches!(draft.state().stages[index].phase, StagePhase::Running { .. });
    let (at, key) = (draft.now, draft.definition.key(index).to_owned());
    if draft.state().cancel_requested_at.is_some() {
        end(draft, job.id, index, StageOutcome::Cancelled)?;
    } else if job.phase.claims() >= settings.max_attempts {
        let message = format!("the worker was lost in each of {} attempts", job.phase.claims());
        end(
            draft,
            job.id,
            index,
            StageOutcome::Failed(Failure::new(FailureCode::WorkerLost, message)),
        )?;
    } else {
        let text = format!(
            "attempt {} was lost with its worker; the job waits again",
            job.phase.claims()
        );
        draft.log(at, LogLine::system(LogSource::Engine, Some(&key), text));
        draft.job(JobChange::Release(job.id));
        if running {
            let event = StageEvent::Requeue { at, job: Some(job.id) };
            draft.apply(Transition::Stage { index, event })?;
        }
    }
    settle(draft, &BTreeSet::new(), settings)?;
    Ok(())
}

/// Ends a job and its stage.
pub(crate) fn end(draft: &mut Draft<'_>, job: JobId, index: usize, outcome: StageOutcome) -> Result<()> {
    let at = draft.now;
    draft.job(JobChange::End(job));
    draft.apply(Transition::Stage {
        index,
        event: StageEvent::End { at, outcome },
    })?;
    Ok(())
}
