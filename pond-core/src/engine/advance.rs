//! Brings a draft as far as its plan allows without doing any work: what never starts is settled, what is over ends, and what
//! failed is tried again where its stage says so.

use std::collections::BTreeSet;

use super::{Draft, EngineSettings};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::id::{JobId, WorkerId};
use crate::pool::{JobChange, JobRow};
use crate::runs::{
    Failure, FailureCode, KnownArtifacts, ParseCount, Plan, RunOutcome, Situation, StageEvent, StageOutcome,
    StagePhase, Transition, Unit, plan,
};

/// Applies what the plan settles, and gives the plan for what is left to do. Conditions that ask for artifacts stay open.
pub(crate) fn settle(draft: &mut Draft<'_>, active: &BTreeSet<usize>, settings: &EngineSettings) -> Result<Plan> {
    settle_knowing(draft, active, settings, None)
}

/// As [`settle`], with the artifacts that conditions may ask for.
pub(crate) fn settle_knowing(
    draft: &mut Draft<'_>,
    active: &BTreeSet<usize>,
    settings: &EngineSettings,
    artifacts: Option<&KnownArtifacts>,
) -> Result<Plan> {
    loop {
        let mut plan = plan(Situation {
            definition: draft.definition,
            state: draft.state(),
            has_sources: draft.head.inputs.sources.is_some(),
            active,
            max_parallel: settings.run_max_parallel,
            now: draft.now,
            context: draft.head.inputs.context.as_deref(),
            artifacts,
        });
        for (unit, outcome) in &plan.settle {
            end_at(draft, *unit, draft.now, outcome.clone())?;
        }
        if let Some(outcome) = plan.end.clone() {
            draft.apply(Transition::Ended { at: draft.now, outcome })?;
            return Ok(plan);
        }
        let Waits { over, until } = waits(draft, &plan.start);
        if over.is_empty() {
            plan.wake = plan.wake.into_iter().chain(until).min();
            return Ok(plan);
        }
        // What ends here may let others have their turn, or end the run.
        for (unit, failure) in over {
            if let Some(job) = draft.state().phase_of(unit).and_then(StagePhase::job) {
                draft.job(JobChange::End(job));
            }
            end_at(draft, unit, draft.now, StageOutcome::Failed(failure))?;
        }
    }
}

/// What waits though the time of its run or stage is up, and when that of the others will be.
struct Waits {
    over: Vec<(Unit, Failure)>,
    until: Option<Timestamp>,
}

fn waits(draft: &Draft<'_>, start: &[Unit]) -> Waits {
    let mut waits = Waits {
        over: Vec::new(),
        until: None,
    };
    let has_wall = |stage: &crate::workflow::Stage| stage.budget.wall_sec.is_some();
    if draft.head.inputs.budget.is_none() && !draft.definition.stages.iter().any(has_wall) {
        return waits;
    }
    let queued = |unit: &Unit, phase: &StagePhase| match phase {
        StagePhase::Queued { job, not_before, .. } => job.is_some() || not_before.is_some() || start.contains(unit),
        StagePhase::Running { .. } | StagePhase::Ended { .. } => false,
    };
    for (unit, _) in draft.state().units().filter(|(unit, phase)| queued(unit, phase)) {
        let Some(wall) = draft.wall(unit.stage) else { continue };
        match wall.crossed(draft.now) {
            Some(failure) => waits.over.push((unit, failure)),
            None => waits.until = waits.until.into_iter().chain([wall.until]).min(),
        }
    }
    waits
}

/// Ends a run whose sources could not be fetched: nothing of it starts.
pub(crate) fn fail_fetch(draft: &mut Draft<'_>, failure: &Failure) -> Result<()> {
    let at = draft.now;
    for index in 0..draft.state().stages.len() {
        if matches!(draft.state().stages[index].phase, StagePhase::Queued { .. }) {
            end_at(draft, Unit::stage(index), at, StageOutcome::Skipped)?;
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
    let units: Vec<(Unit, StagePhase)> = draft
        .state()
        .units()
        .map(|(unit, phase)| (unit, phase.clone()))
        .collect();
    for (unit, phase) in units {
        match phase {
            StagePhase::Queued { job: Some(job), .. } => {
                draft.job(JobChange::End(job));
                end_at(draft, unit, at, StageOutcome::Cancelled)?;
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

/// Takes a job back whose worker lost it: it waits again, or, after its last attempt or a cancel, its stage or area ends.
pub(crate) fn take_back(draft: &mut Draft<'_>, job: &JobRow, settings: &EngineSettings) -> Result<()> {
    let unit = Unit::of(job);
    let phase = draft.state().phase_of(unit);
    if phase.and_then(StagePhase::job) != Some(job.id) {
        draft.job(JobChange::End(job.id));
        return Ok(());
    }
    let running = matches!(phase, Some(StagePhase::Running { .. }));
    let claims = job.phase.claims();
    if draft.state().cancel_requested_at.is_some() {
        end(draft, job.id, unit, StageOutcome::Cancelled)?;
    } else if claims >= settings.max_attempts {
        let message = format!("the worker was lost in each of {claims} attempts");
        let failure = Failure::new(FailureCode::WorkerLost, message);
        end(draft, job.id, unit, StageOutcome::Failed(failure))?;
    } else {
        draft.say(
            unit,
            format!("attempt {claims} was lost with its worker; the job waits again"),
        );
        draft.job(JobChange::Release(job.id));
        if running {
            let (at, job) = (draft.now, Some(job.id));
            draft.apply(Transition::unit(unit, StageEvent::Requeue { at, job }))?;
        }
    }
    settle(draft, &BTreeSet::new(), settings)?;
    Ok(())
}

/// Ends a job, and its stage or area, unless that is tried again with another job.
pub(crate) fn end(draft: &mut Draft<'_>, job: JobId, unit: Unit, outcome: StageOutcome) -> Result<()> {
    draft.job(JobChange::End(job));
    conclude(draft, unit, draft.now, outcome)
}

/// Writes what was taken from the output of the attempt with which a stage or an area ended; before [`settle`].
pub(crate) fn parsed(draft: &mut Draft<'_>, unit: Unit, count: Option<ParseCount>) -> Result<()> {
    let over = draft
        .state()
        .phase_of(unit)
        .is_some_and(|phase| phase.status().is_terminal());
    if let Some(count) = count.filter(|_| over) {
        let index = unit.stage;
        draft.apply(Transition::Parsed { index, count })?;
    }
    Ok(())
}

/// Ends an attempt: its stage or area is over with it, or is tried again after a wait.
pub(crate) fn conclude(draft: &mut Draft<'_>, unit: Unit, at: Timestamp, outcome: StageOutcome) -> Result<()> {
    let StageOutcome::Failed(failure) = outcome else {
        return end_at(draft, unit, at, outcome);
    };
    let failure = match draft.wall(unit.stage).and_then(|wall| wall.crossed(at)) {
        // What bounds the time of a stage bounds its attempts: a worker tells of the bound that it was given.
        Some(crossed) if failure.code == FailureCode::Timeout => crossed,
        _ => failure,
    };
    let Some(wait) = wait_before_next(draft, unit, &failure) else {
        return end_at(draft, unit, at, StageOutcome::Failed(failure));
    };
    let attempt = draft.state().phase_of(unit).map_or(0, StagePhase::attempt);
    let (code, message) = (failure.code.as_str(), &failure.message);
    draft.say(
        unit,
        format!(
            "attempt {attempt} failed with {code}: {message}; trying again in {} s",
            wait.as_secs()
        ),
    );
    let not_before = at.plus(wait);
    draft.apply(Transition::unit(unit, StageEvent::Retry { at, not_before }))?;
    Ok(())
}

/// How long to wait before another attempt, when there is to be one.
fn wait_before_next(draft: &Draft<'_>, unit: Unit, failure: &Failure) -> Option<std::time::Duration> {
    let running = matches!(draft.state().phase_of(unit), Some(StagePhase::Running { .. }));
    if !running || draft.state().cancel_requested_at.is_some() {
        return None;
    }
    let done = draft.state().tries_of(unit).retried;
    draft.definition.stages[unit.stage].retries.after(failure.code, done)
}

/// Takes an attempt back that must not run twice and was lost with its engine: another one follows, up to the same number as
/// for jobs.
pub(super) fn lose(draft: &mut Draft<'_>, index: usize, settings: &EngineSettings) -> Result<()> {
    let unit = Unit::stage(index);
    let lost = draft.state().tries_of(unit).lost.saturating_add(1);
    if draft.state().cancel_requested_at.is_some() {
        return end_at(draft, unit, draft.now, StageOutcome::Cancelled);
    }
    if lost >= settings.max_attempts {
        let message = format!("the engine was lost in each of {lost} attempts");
        let failure = Failure::new(FailureCode::WorkerLost, message);
        return end_at(draft, unit, draft.now, StageOutcome::Failed(failure));
    }
    let attempt = draft.state().stages[index].phase.attempt();
    draft.say(
        unit,
        format!("attempt {attempt} was lost with its engine; another one follows"),
    );
    let at = draft.now;
    draft.apply(Transition::unit(unit, StageEvent::Requeue { at, job: None }))?;
    Ok(())
}

pub(super) fn end_at(draft: &mut Draft<'_>, unit: Unit, at: Timestamp, outcome: StageOutcome) -> Result<()> {
    draft.apply(Transition::unit(unit, StageEvent::End { at, outcome }))?;
    Ok(())
}
