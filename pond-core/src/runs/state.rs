//! The part of a run that changes, how it changes, and how it is written down.
//!
//! [`RunState::apply`] is the one way to change it. Each change gives the status events that belong to it, so that a
//! change and its events are committed together or not at all.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Failure, Illegal, RunEvent, RunOutcome, RunPhase, RunStatus, StageEvent, StageOutcome, StagePhase};
use crate::clock::Timestamp;
use crate::event::{Event, EventBody, StatusChange};
use crate::id::{JobId, WorkerId};
use crate::sources::Resolved;

/// How far a stage has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done.
    #[serde(rename = "d")]
    pub done: u32,
    /// Steps in all, 0 while unknown.
    #[serde(rename = "t")]
    pub total: u32,
}

/// The part of a stage that changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageState {
    /// Its state.
    #[serde(rename = "p")]
    pub phase: StagePhase,
    /// How far it has come.
    #[serde(rename = "g", default)]
    pub progress: Progress,
}

/// Where the fetched sources are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleRef {
    /// Key in the blob store; what is there is sealed.
    pub key: String,
    /// Size in bytes as it is stored.
    pub size: u64,
    /// SHA-256 as it is stored, in hex.
    pub sha256: String,
    /// SHA-256 of the clear bundle, in hex: the same sources give the same.
    pub digest: String,
    /// The key that opens it, sealed under the keyring: version, and bytes in hex.
    pub sealed_key: (u32, String),
    /// What each source resolved to, in the order of the sources.
    pub resolved: Vec<Resolved>,
}

/// What of a run changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunState {
    /// The state of the run.
    pub phase: RunPhase,
    /// When its cancel was first asked for.
    pub cancel_requested_at: Option<Timestamp>,
    /// Its sources, once fetched.
    pub bundle: Option<BundleRef>,
    /// Its stages, in the order of the definition.
    pub stages: Vec<StageState>,
}

/// One change of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transition {
    /// The fetch starts.
    FetchStarted {
        /// When.
        at: Timestamp,
    },
    /// The sources are there.
    Fetched(BundleRef),
    /// Something happened to a stage.
    Stage {
        /// Its place in the definition.
        index: usize,
        /// What.
        event: StageEvent,
    },
    /// A stage has come further.
    Progress {
        /// Its place in the definition.
        index: usize,
        /// How far.
        progress: Progress,
    },
    /// Cancel was asked for; a second time changes nothing.
    CancelRequested {
        /// When.
        at: Timestamp,
    },
    /// The run ended.
    Ended {
        /// When.
        at: Timestamp,
        /// How.
        outcome: RunOutcome,
    },
}

impl RunState {
    /// The state of a new run of `stages` stages.
    pub fn new(stages: usize) -> Self {
        Self {
            phase: RunPhase::Queued,
            cancel_requested_at: None,
            bundle: None,
            stages: vec![StageState::default(); stages],
        }
    }

    /// Makes one change and gives the events that tell of it. `key` names stages.
    ///
    /// # Errors
    /// When a state machine has no such transition; then nothing is changed.
    pub fn apply<'k>(&mut self, transition: Transition, key: impl Fn(usize) -> &'k str) -> Result<Vec<Event>, Illegal> {
        match transition {
            Transition::FetchStarted { at } => self.start(at),
            Transition::Fetched(bundle) => {
                self.bundle = Some(bundle);
                Ok(Vec::new())
            }
            Transition::Stage { index, event } => self.stage(index, event, key(index)),
            Transition::Progress { index, progress } => {
                self.stages[index].progress = progress;
                Ok(Vec::new())
            }
            Transition::CancelRequested { at } => {
                self.cancel_requested_at.get_or_insert(at);
                Ok(Vec::new())
            }
            Transition::Ended { at, outcome } => self.end(at, outcome),
        }
    }

    /// The first stage whose attempt starts takes the run with it.
    fn stage(&mut self, index: usize, event: StageEvent, key: &str) -> Result<Vec<Event>, Illegal> {
        let stage = &mut self.stages[index];
        let at = match &event {
            StageEvent::Start { at, .. } | StageEvent::Requeue { at, .. } | StageEvent::End { at, .. } => Some(*at),
            StageEvent::Enqueue { .. } => None,
        };
        let starts = matches!(event, StageEvent::Start { .. });
        let next = stage.phase.next(event)?;
        let before = stage.phase.status();
        stage.phase = next;
        let after = stage.phase.status();
        let failure = stage.phase.failure().cloned();
        let mut events = match at {
            Some(at) if starts => self.start(at)?,
            _ => Vec::new(),
        };
        if let Some(at) = at {
            events.push(changed(at, Some(key), before.as_str(), after.as_str(), failure));
        }
        Ok(events)
    }

    fn start(&mut self, at: Timestamp) -> Result<Vec<Event>, Illegal> {
        if self.phase != RunPhase::Queued {
            return Ok(Vec::new());
        }
        self.phase = self.phase.next(RunEvent::Start { at })?;
        Ok(vec![changed(at, None, "queued", "running", None)])
    }

    fn end(&mut self, at: Timestamp, outcome: RunOutcome) -> Result<Vec<Event>, Illegal> {
        let before = self.phase.status();
        let failure = if let RunOutcome::Failed(failure) = &outcome {
            Some(failure.clone())
        } else {
            None
        };
        self.phase = self.phase.next(RunEvent::End { at, outcome })?;
        Ok(vec![changed(
            at,
            None,
            before.as_str(),
            self.phase.status().as_str(),
            failure,
        )])
    }
}

fn changed(at: Timestamp, stage: Option<&str>, from: &str, to: &str, error: Option<Failure>) -> Event {
    let change = StatusChange {
        stage: stage.map(Into::into),
        from: from.into(),
        to: to.into(),
        error,
    };
    Event {
        at,
        body: EventBody::Status(change),
    }
}

/// A run's state as stores keep it: what they filter and sort by in columns of its own, the rest as one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateRow {
    /// The name of the state.
    pub status: RunStatus,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When its cancel was asked for.
    pub cancel_requested_at: Option<Timestamp>,
    /// The rest, JSON; small for small runs, as queued stages are left out.
    pub rest: String,
}

#[derive(Default, Serialize, Deserialize)]
struct Rest {
    #[serde(rename = "n")]
    stages: usize,
    #[serde(rename = "s", default, skip_serializing_if = "BTreeMap::is_empty")]
    changed: BTreeMap<usize, StageState>,
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    bundle: Option<BundleRef>,
}

/// A stored state that makes no sense: which column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {0} makes no sense")]
pub struct BadState(pub &'static str);

impl RunState {
    /// As stores keep it.
    pub fn to_row(&self) -> StateRow {
        let (started_at, finished_at, failure) = match &self.phase {
            RunPhase::Queued => (None, None, None),
            RunPhase::Running { since } => (Some(*since), None, None),
            RunPhase::Ended {
                since,
                at,
                outcome: RunOutcome::Failed(failure),
            } => (*since, Some(*at), Some(failure)),
            RunPhase::Ended { since, at, .. } => (*since, Some(*at), None),
        };
        let untouched = StageState::default();
        let changed = self.stages.iter().enumerate().filter(|(_, stage)| **stage != untouched);
        let rest = Rest {
            stages: self.stages.len(),
            changed: changed.map(|(index, stage)| (index, stage.clone())).collect(),
            failure: failure.cloned(),
            bundle: self.bundle.clone(),
        };
        StateRow {
            status: self.phase.status(),
            started_at,
            finished_at,
            cancel_requested_at: self.cancel_requested_at,
            rest: serde_json::to_string(&rest).expect("a record of plain fields serialises"),
        }
    }

    /// Reads what [`RunState::to_row`] wrote.
    ///
    /// # Errors
    /// When the row makes no sense, naming the column.
    pub fn from_row(row: &StateRow) -> Result<Self, BadState> {
        let rest: Rest = serde_json::from_str(&row.rest).map_err(|_| BadState("state"))?;
        let mut stages = vec![StageState::default(); rest.stages];
        for (index, stage) in rest.changed {
            *stages.get_mut(index).ok_or(BadState("state"))? = stage;
        }
        let ended = |outcome| {
            let at = row.finished_at.ok_or(BadState("finished_at"))?;
            Ok(RunPhase::Ended {
                since: row.started_at,
                at,
                outcome,
            })
        };
        let phase = match row.status {
            RunStatus::Queued => RunPhase::Queued,
            RunStatus::Running => RunPhase::Running {
                since: row.started_at.ok_or(BadState("started_at"))?,
            },
            RunStatus::Done => ended(RunOutcome::Done)?,
            RunStatus::Failed => ended(RunOutcome::Failed(rest.failure.ok_or(BadState("state"))?))?,
            RunStatus::Cancelled => ended(RunOutcome::Cancelled)?,
        };
        Ok(Self {
            phase,
            cancel_requested_at: row.cancel_requested_at,
            bundle: rest.bundle,
            stages,
        })
    }
}

impl StageState {
    /// The worker of the last attempt.
    pub fn worker(&self) -> Option<WorkerId> {
        match &self.phase {
            StagePhase::Queued { .. } => None,
            StagePhase::Running { worker, .. } | StagePhase::Ended { worker, .. } => *worker,
        }
    }

    /// The job that waits or runs.
    pub fn job(&self) -> Option<JobId> {
        self.phase.job()
    }

    /// Whether it ended with this outcome.
    pub fn ended_as(&self, wanted: &StageOutcome) -> bool {
        matches!(&self.phase, StagePhase::Ended { outcome, .. } if outcome == wanted)
    }
}
