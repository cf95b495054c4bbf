//! Runs and stages as the API shows them. The fields are those of `pond_sdk::api::Run`; definition and context pass through
//! as they are stored, so that no number in them changes on the way.

use pond_core::body::Faults;
use pond_core::runs::{
    AreaState, Failure, Run, RunHead, RunOutcome, RunPhase, StageOutcome, StagePhase, StageState, area_key,
};
use pond_core::sources::Resolved;
use pond_core::workflow::{self, Definition};
use pond_sdk::api;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::unreadable;
use super::view::View;
use crate::error::Answer;

/// A run.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownRun<'r> {
    id: String,
    project_id: String,
    status: &'static str,
    trigger: &'r str,
    sha: Option<&'r str>,
    context: Option<&'r RawValue>,
    sources: Vec<api::RunSource>,
    budget: Option<&'r RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    definition: Option<Box<RawValue>>,
    definition_digest: String,
    created_at: String,
    started_at: Option<String>,
    finished_at: Option<String>,
    cancel_requested_at: Option<String>,
    error: Option<api::RunError>,
    retry_of: Option<String>,
    parent_run_id: Option<String>,
}

/// A run with its stages.
#[derive(Serialize)]
pub(super) struct ShownDetail<'r> {
    run: ShownRun<'r>,
    stages: Vec<api::Stage>,
}

/// A page of runs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownList<'r> {
    pub(super) runs: Vec<ShownRun<'r>>,
    pub(super) next_cursor: Option<String>,
}

impl<'r> ShownRun<'r> {
    /// A run as lists show it: without its definition.
    pub(super) fn head(head: &'r RunHead, view: View) -> Answer<Self> {
        let (started_at, finished_at, error) = match &head.state.phase {
            RunPhase::Queued => (None, None, None),
            RunPhase::Running { since } => (Some(*since), None, None),
            RunPhase::Ended { since, at, outcome } => (*since, Some(*at), run_failure(outcome)),
        };
        let inputs = &*head.inputs;
        Ok(Self {
            id: head.id.to_string(),
            project_id: head.project.to_string(),
            status: head.state.phase.status().as_str(),
            trigger: &head.trigger,
            sha: inputs.sha.as_deref(),
            context: inputs.context.as_deref(),
            sources: sources(head)?,
            budget: inputs.budget.as_deref(),
            definition: None,
            definition_digest: hex::encode(head.definition_digest),
            created_at: head.created_at.to_string(),
            started_at: started_at.map(|at| at.to_string()),
            finished_at: finished_at.map(|at| at.to_string()),
            cancel_requested_at: head.state.cancel_requested_at.map(|at| at.to_string()),
            error: error.map(|failure| run_error(failure, view)),
            retry_of: inputs.retry_of.map(|id| id.to_string()),
            parent_run_id: inputs.parent.map(|id| id.to_string()),
        })
    }

    /// A run with its definition.
    pub(super) fn whole(run: &'r Run, view: View) -> Answer<Self> {
        let definition = RawValue::from_string(run.definition.json.to_string());
        let definition = definition.map_err(|_| unreadable("definition", run.head.id))?;
        let head = Self::head(&run.head, view)?;
        Ok(Self {
            definition: Some(definition),
            ..head
        })
    }
}

impl<'r> ShownDetail<'r> {
    pub(super) fn of(run: &'r Run, view: View) -> Answer<Self> {
        let definition = definition(run)?;
        let stages = definition.stages.iter().zip(&run.head.state.stages);
        Ok(Self {
            stages: stages.map(|(stage, state)| shown_stage(stage, state, view)).collect(),
            run: ShownRun::whole(run, view)?,
        })
    }
}

fn definition(run: &Run) -> Answer<Definition> {
    let unreadable = || unreadable("definition", run.head.id);
    let json = serde_json::from_str(&run.definition.json).map_err(|_| unreadable())?;
    Ok(workflow::read(&json, &Faults::new()).ok_or_else(unreadable)?)
}

/// The sources as they were sent, each with what it was found to be.
fn sources(head: &RunHead) -> Answer<Vec<api::RunSource>> {
    let Some(raw) = head.inputs.sources.as_deref() else {
        return Ok(Vec::new());
    };
    let sent: Vec<Value> = serde_json::from_str(raw.get()).map_err(|_| unreadable("sources", head.id))?;
    let found = head.state.bundle.as_ref().map_or(&[][..], |bundle| &bundle.resolved);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let source = |(index, mut sent): (usize, Value)| api::RunSource {
        label: text(&sent["label"]),
        kind: text(&sent["kind"]),
        config: sent["config"].take(),
        resolved: found.get(index).map(resolved),
    };
    Ok(sent.into_iter().enumerate().map(source).collect())
}

fn resolved(found: &Resolved) -> api::ResolvedSource {
    let (commit, sha256) = match found {
        Resolved::Commit(hex) => (Some(hex.clone()), None),
        Resolved::Digest(hex) => (None, Some(hex.clone())),
    };
    api::ResolvedSource { commit, sha256 }
}

fn shown_stage(stage: &workflow::Stage, state: &StageState, view: View) -> api::Stage {
    let (attempt, started_at, finished_at, error) = match &state.phase {
        StagePhase::Queued { attempts, .. } => (*attempts, None, None, None),
        StagePhase::Running { attempt, since, .. } => (*attempt, Some(*since), None, None),
        StagePhase::Ended {
            attempt,
            since,
            at,
            outcome,
            ..
        } => (*attempt, *since, Some(*at), stage_failure(outcome)),
    };
    let (done, total) = (u64::from(state.progress.done), u64::from(state.progress.total));
    api::Stage {
        key: stage.key.clone(),
        name: stage.name.clone(),
        category: stage.category.clone(),
        kind: stage.executor.kind().to_owned(),
        status: state.phase.status().as_str().into(),
        attempt,
        progress: (total > 0).then_some(api::Progress { done, total }),
        started_at: started_at.map(|at| at.to_string()),
        finished_at: finished_at.map(|at| at.to_string()),
        worker_id: state.worker().map(|worker| worker.to_string()),
        error: error.map(|failure| stage_error(failure, view)),
        parse: state.parse.map(|count| api::ParseCounts {
            blocks: count.blocks,
            records: count.records,
            invalid: count.invalid,
        }),
        substages: state
            .areas
            .iter()
            .enumerate()
            .map(|area| shown_area(area, view))
            .collect(),
        // Child runs and receipts are not served yet.
        child_run_id: None,
        receipt: None,
    }
}

fn shown_area((area, state): (usize, &AreaState), view: View) -> api::Substage {
    api::Substage {
        key: area_key(area),
        title: state.title.clone(),
        status: state.phase.status().as_str().into(),
        attempt: state.phase.attempt(),
        error: state.phase.failure().map(|failure| stage_error(failure, view)),
    }
}

fn run_failure(outcome: &RunOutcome) -> Option<&Failure> {
    match outcome {
        RunOutcome::Failed(failure) => Some(failure),
        RunOutcome::Done | RunOutcome::Cancelled => None,
    }
}

fn stage_failure(outcome: &StageOutcome) -> Option<&Failure> {
    match outcome {
        StageOutcome::Failed(failure) => Some(failure),
        StageOutcome::Done | StageOutcome::Cancelled | StageOutcome::Skipped => None,
    }
}

/// A failure of a run, or one told by an event.
pub(super) fn run_error(failure: &Failure, view: View) -> api::RunError {
    api::RunError {
        code: failure.code.as_str().to_owned(),
        message: view.text(&failure.message),
        stage: failure.stage.clone(),
    }
}

fn stage_error(failure: &Failure, view: View) -> api::StageError {
    api::StageError {
        code: failure.code.as_str().to_owned(),
        message: view.text(&failure.message),
    }
}
