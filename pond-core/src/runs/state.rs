//! The part of a run that changes, how it changes, and how it is written down.
//!
//! [`RunState::apply`] is the one way to change it. Each change gives the status events that belong to it, so that a
//! change and its events are committed together or not at all.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Failure, Illegal, ParseCount, RunEvent, RunOutcome, RunPhase, RunStatus, StageEvent, StageOutcome, StagePhase,
    StageStatus, Unit, area_key,
};
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

/// What is counted of attempts that another one followed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tries {
    /// Attempts that failed and were made again.
    #[serde(rename = "r", default, skip_serializing_if = "is_zero")]
    pub retried: u32,
    /// Attempts that were lost with their engine since the last that failed.
    #[serde(rename = "l", default, skip_serializing_if = "is_zero")]
    pub lost: u32,
    /// When the first of them started.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Timestamp>,
}

/// The part of an area that changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AreaState {
    /// Its title, cut to what lists show.
    #[serde(rename = "t")]
    pub title: String,
    /// Its state; the same machine as that of a stage.
    #[serde(rename = "p")]
    pub phase: StagePhase,
    /// What is counted of its attempts.
    #[serde(rename = "y", default, skip_serializing_if = "is_default")]
    pub tries: Tries,
}

/// The part of a stage that changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageState {
    /// Its state. A stage that fans out starts with its first area, and ends after its last.
    #[serde(rename = "p")]
    pub phase: StagePhase,
    /// How far it has come.
    #[serde(rename = "g", default)]
    pub progress: Progress,
    /// What is counted of its attempts.
    #[serde(rename = "y", default, skip_serializing_if = "is_default")]
    pub tries: Tries,
    /// Its areas, of a stage that has fanned out.
    #[serde(rename = "a", default, skip_serializing_if = "Vec::is_empty")]
    pub areas: Vec<AreaState>,
    /// What was taken from its output; of all areas together.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub parse: Option<ParseCount>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
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
    /// A stage that waits got its areas, of these titles; at least one.
    FannedOut {
        /// Its place in the definition.
        index: usize,
        /// The titles.
        titles: Vec<String>,
    },
    /// Something happened to an area. The first that starts takes its stage with it.
    Area {
        /// Place of its stage in the definition.
        index: usize,
        /// Its number, from 0.
        area: usize,
        /// What.
        event: StageEvent,
    },
    /// Records were taken from the output of a stage, or of one area more.
    Parsed {
        /// Its place in the definition.
        index: usize,
        /// How many.
        count: ParseCount,
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

impl Transition {
    /// Something happens to a stage or an area.
    pub fn unit(unit: Unit, event: StageEvent) -> Self {
        let Unit { stage: index, area } = unit;
        match area {
            None => Self::Stage { index, event },
            Some(area) => Self::Area { index, area, event },
        }
    }
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
            Transition::FannedOut { index, titles } => {
                self.fan_out(index, titles)?;
                Ok(Vec::new())
            }
            Transition::Area { index, area, event } => self.area(index, area, event, key(index)),
            Transition::Parsed { index, count } => {
                *self.stages[index].parse.get_or_insert_default() += count;
                Ok(Vec::new())
            }
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
        let live = |area: &AreaState| !area.phase.status().is_terminal();
        if matches!(event, StageEvent::End { .. }) && stage.areas.iter().any(live) {
            return Err(illegal("stage", "held by areas", "end"));
        }
        let Some(told) = advance(&mut stage.phase, &mut stage.tries, event, key, None)? else {
            return Ok(Vec::new());
        };
        let mut events = if stage.phase.status() == StageStatus::Running {
            self.start(told.at)?
        } else {
            Vec::new()
        };
        events.push(told);
        Ok(events)
    }

    fn fan_out(&mut self, index: usize, titles: Vec<String>) -> Result<(), Illegal> {
        let stage = &mut self.stages[index];
        if stage.phase.status() != StageStatus::Queued || !stage.areas.is_empty() || titles.is_empty() {
            let from = stage.phase.status().as_str();
            return Err(illegal("stage", from, "fan out"));
        }
        let area = |title| AreaState {
            title,
            ..AreaState::default()
        };
        stage.areas = titles.into_iter().map(area).collect();
        stage.progress = progress(&stage.areas);
        Ok(())
    }

    fn area(&mut self, index: usize, area: usize, event: StageEvent, key: &str) -> Result<Vec<Event>, Illegal> {
        let stage = &mut self.stages[index];
        let (status, known) = (stage.phase.status(), stage.areas.get_mut(area));
        let own = known.ok_or(illegal("area", "not there", "change"))?;
        if status.is_terminal() {
            return Err(illegal("stage", status.as_str(), "a change of an area"));
        }
        let told = advance(&mut own.phase, &mut own.tries, event, key, Some(area))?;
        let starts = own.phase.status() == StageStatus::Running;
        stage.progress = progress(&stage.areas);
        let Some(told) = told else { return Ok(Vec::new()) };
        let mut events = if starts && status == StageStatus::Queued {
            let event = StageEvent::Start {
                at: told.at,
                worker: None,
            };
            self.stage(index, event, key)?
        } else {
            Vec::new()
        };
        events.push(told);
        Ok(events)
    }

    fn start(&mut self, at: Timestamp) -> Result<Vec<Event>, Illegal> {
        if self.phase != RunPhase::Queued {
            return Ok(Vec::new());
        }
        self.phase = self.phase.next(RunEvent::Start { at })?;
        Ok(vec![changed(at, None, None, "queued", "running", None)])
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
            None,
            before.as_str(),
            self.phase.status().as_str(),
            failure,
        )])
    }
}

/// Moves one machine on, counts what is counted, and tells of it; that a job was put in line is not told.
fn advance(
    phase: &mut StagePhase,
    tries: &mut Tries,
    event: StageEvent,
    key: &str,
    area: Option<usize>,
) -> Result<Option<Event>, Illegal> {
    let (at, retried) = match &event {
        StageEvent::Enqueue { .. } => (None, None),
        StageEvent::Start { at, .. } | StageEvent::End { at, .. } => (Some(*at), None),
        StageEvent::Requeue { at, job } => (Some(*at), job.is_none().then_some(Again::Lost)),
        StageEvent::Retry { at, .. } => (Some(*at), Some(Again::Failed)),
    };
    let next = phase.next(event)?;
    if let (StagePhase::Running { since, .. }, StagePhase::Queued { .. }) = (&*phase, &next) {
        tries.first.get_or_insert(*since);
    }
    match retried {
        None => {}
        Some(Again::Lost) => tries.lost = tries.lost.saturating_add(1),
        Some(Again::Failed) => {
            tries.retried = tries.retried.saturating_add(1);
            tries.lost = 0;
        }
    }
    let (before, after) = (phase.status(), next.status());
    *phase = next;
    let failure = phase.failure().cloned();
    Ok(at.map(|at| changed(at, Some(key), area, before.as_str(), after.as_str(), failure)))
}

/// Why an attempt is made again; that of a job is counted with the job.
enum Again {
    Lost,
    Failed,
}

/// Areas that have ended, of all.
fn progress(areas: &[AreaState]) -> Progress {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let ended = areas.iter().filter(|area| area.phase.status().is_terminal());
    Progress {
        done: count(ended.count()),
        total: count(areas.len()),
    }
}

fn illegal(what: &'static str, from: &'static str, event: &'static str) -> Illegal {
    Illegal { what, from, event }
}

fn changed(
    at: Timestamp,
    stage: Option<&str>,
    area: Option<usize>,
    from: &str,
    to: &str,
    error: Option<Failure>,
) -> Event {
    let change = StatusChange {
        stage: stage.map(Into::into),
        area: area.map(area_key),
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

impl RunState {
    /// The state of a stage or an area, when it is there.
    pub fn phase_of(&self, unit: Unit) -> Option<&StagePhase> {
        let stage = self.stages.get(unit.stage)?;
        match unit.area {
            None => Some(&stage.phase),
            Some(area) => stage.areas.get(area).map(|area| &area.phase),
        }
    }

    /// What is counted of the attempts of a stage or an area.
    pub fn tries_of(&self, unit: Unit) -> Tries {
        let stage = self.stages.get(unit.stage);
        let tries = match unit.area {
            None => stage.map(|stage| stage.tries),
            Some(area) => stage.and_then(|stage| stage.areas.get(area)).map(|area| area.tries),
        };
        tries.unwrap_or_default()
    }

    /// All that can be attempted: each stage that does not fan out, or has not yet, and each area.
    pub fn units(&self) -> impl Iterator<Item = (Unit, &StagePhase)> {
        self.stages.iter().enumerate().flat_map(|(index, stage)| {
            let whole = stage.areas.is_empty().then_some((Unit::stage(index), &stage.phase));
            let areas = stage.areas.iter().enumerate();
            whole
                .into_iter()
                .chain(areas.map(move |(area, state)| (Unit::area(index, area), &state.phase)))
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

    /// When its first attempt started.
    pub fn first_start(&self) -> Option<Timestamp> {
        let since = match &self.phase {
            StagePhase::Queued { .. } => None,
            StagePhase::Running { since, .. } => Some(*since),
            StagePhase::Ended { since, .. } => *since,
        };
        self.tries.first.or(since)
    }

    /// Whether it ended with this outcome.
    pub fn ended_as(&self, wanted: &StageOutcome) -> bool {
        matches!(&self.phase, StagePhase::Ended { outcome, .. } if outcome == wanted)
    }
}
