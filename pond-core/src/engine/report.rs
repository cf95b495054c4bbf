//! What an attempt in the engine has found, and how it is written into a change of its run.

use std::collections::BTreeSet;

use super::Draft;
use super::advance::{conclude, end_at};
use super::fetch::Fetched;
use crate::artifacts::Artifact;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::logs::{LogLine, LogSource, LogStream};
use crate::runs::executors::FoundLine;
use crate::runs::{Progress, StageEvent, StageOutcome, StagePhase, Transition, Unit};

/// What is to be written of an attempt.
pub(super) struct StageReport {
    pub(super) index: usize,
    /// Number of the attempt.
    pub(super) attempt: u32,
    pub(super) started: Timestamp,
    pub(super) lines: Vec<FoundLine>,
    pub(super) progress: Option<Progress>,
    pub(super) artifacts: Vec<Artifact>,
    pub(super) end: Option<(Timestamp, StageOutcome)>,
}

/// Writes that the sources are there.
pub(super) fn write_fetched(draft: &mut Draft<'_>, found: &Fetched) -> Result<()> {
    if draft.state().bundle.is_some() {
        return Ok(());
    }
    for line in &found.lines {
        draft.log(draft.now, LogLine::system(LogSource::Fetch, None, line.clone()));
    }
    draft.apply(Transition::Fetched(found.bundle.clone()))?;
    Ok(())
}

/// Pond's own word is the engine's; what a program wrote is the agent's.
fn logged(found: &FoundLine, stage: &str) -> LogLine {
    let source = match found.stream {
        LogStream::System => LogSource::Engine,
        LogStream::Stdout | LogStream::Stderr => LogSource::Agent,
    };
    LogLine {
        stream: found.stream,
        ..LogLine::system(source, Some(stage), found.line.clone())
    }
}

/// Writes what an attempt has found, unless its stage was ended meanwhile.
pub(super) fn write(draft: &mut Draft<'_>, report: &StageReport) -> Result<()> {
    let index = report.index;
    let phase = &draft.state().stages[index].phase;
    let later = match phase {
        StagePhase::Queued { attempts, .. } => *attempts >= report.attempt,
        StagePhase::Running { attempt, .. } => *attempt != report.attempt,
        StagePhase::Ended { .. } => true,
    };
    if later {
        // What was to be written is, though the store could not say so, or is overtaken.
        return Ok(());
    }
    if matches!(draft.state().stages[index].phase, StagePhase::Queued { .. }) {
        let event = StageEvent::Start {
            at: report.started,
            worker: None,
        };
        draft.apply(Transition::Stage { index, event })?;
    }
    let key = draft.definition.key(index).to_owned();
    for found in &report.lines {
        draft.log(found.at, logged(found, &key));
    }
    if let Some(progress) = report.progress {
        draft.apply(Transition::Progress { index, progress })?;
    }
    for artifact in &report.artifacts {
        draft.artifact(artifact.clone());
    }
    if let Some((at, outcome)) = &report.end {
        conclude(draft, Unit::stage(index), *at, outcome.clone())?;
    }
    Ok(())
}

/// Ends the attempts that run here, as their run was cancelled.
pub(super) fn cancel_attempts(draft: &mut Draft<'_>, live: &BTreeSet<usize>) -> Result<()> {
    for &index in live {
        let phase = &draft.state().stages[index].phase;
        if matches!(phase, StagePhase::Running { job: None, .. }) {
            end_at(draft, Unit::stage(index), draft.now, StageOutcome::Cancelled)?;
        }
    }
    Ok(())
}

/// Engine stages that are written as running and do not run here: a crash cut them off.
pub(super) fn orphans(draft: &Draft<'_>, live: &BTreeSet<usize>) -> Vec<(usize, Timestamp)> {
    let stages = draft.state().stages.iter().enumerate();
    stages
        .filter(|(index, stage)| !live.contains(index) && stage.areas.is_empty())
        .filter_map(|(index, stage)| match stage.phase {
            StagePhase::Running { job: None, since, .. } => Some((index, since)),
            _ => None,
        })
        .collect()
}
