//! A change of one run in the making: transitions and log lines gather here and are committed together.

use std::sync::Arc;

use super::Loaded;
use crate::artifacts::Artifact;
use crate::clock::Timestamp;
use crate::egress::StageReach;
use crate::event::{Event, EventBody};
use crate::id::{EngineId, RunId};
use crate::logs::{LogLine, LogSource};
use crate::pool::JobChange;
use crate::runs::{Commit, Guard, Illegal, RunHead, RunState, Transition, Unit, Wall};
use crate::usage::UsageEntry;
use crate::workflow::Definition;

/// A change in the making.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    /// The run as it is stored.
    pub(crate) head: &'a RunHead,
    /// Its workflow.
    pub(crate) definition: &'a Arc<Definition>,
    /// The time of the change.
    pub(crate) now: Timestamp,
    /// The engine that will drive the run.
    pub(crate) owner: EngineId,
    /// The claim that the change depends on.
    pub(crate) guard: Option<Guard>,
    state: RunState,
    events: Vec<Event>,
    log: LogMeter,
    jobs: Vec<JobChange>,
    artifacts: Vec<Artifact>,
    usage: Vec<UsageEntry>,
    changed: bool,
}

/// Holds a run's log to its cap: one line says so, the rest is dropped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogMeter {
    /// Bytes stored before.
    before: u64,
    /// Bytes added.
    pub(crate) added: u64,
    cap: u64,
}

impl LogMeter {
    /// Starts from what is stored.
    pub(crate) fn new(before: u64, cap: u64) -> Self {
        Self { before, added: 0, cap }
    }

    /// Adds a line to `events`, or the word that the cap is reached, or nothing.
    pub(crate) fn push(&mut self, events: &mut Vec<Event>, at: Timestamp, line: LogLine) {
        let stored = self.before + self.added;
        if stored > self.cap {
            return;
        }
        let size = u64::try_from(line.line.len()).unwrap_or(u64::MAX).saturating_add(1);
        if stored.saturating_add(size) <= self.cap {
            self.added += size;
            events.push(Event {
                at,
                body: EventBody::Log(line),
            });
        } else {
            // One past the cap marks that the word was said.
            self.added = self.cap + 1 - self.before;
            let text = format!(
                "the log has reached its cap of {} bytes; later lines are dropped",
                self.cap
            );
            events.push(Event {
                at,
                body: EventBody::Log(LogLine::system(LogSource::Engine, None, text)),
            });
        }
    }
}

impl<'a> Draft<'a> {
    pub(crate) fn new(loaded: &'a Loaded, now: Timestamp, log_cap: u64) -> Self {
        let head = &loaded.head;
        Self {
            head,
            definition: &loaded.definition,
            now,
            owner: head.owner,
            guard: None,
            state: head.state.clone(),
            events: Vec::new(),
            log: LogMeter::new(head.log_bytes, log_cap),
            jobs: Vec::new(),
            artifacts: Vec::new(),
            usage: Vec::new(),
            changed: false,
        }
    }

    /// The run's id.
    pub(crate) fn run(&self) -> RunId {
        self.head.id
    }

    /// The state with all changes so far.
    pub(crate) fn state(&self) -> &RunState {
        &self.state
    }

    /// Makes a change.
    pub(crate) fn apply(&mut self, transition: Transition) -> Result<(), Illegal> {
        let definition = self.definition;
        let events = self.state.apply(transition, |index| definition.key(index))?;
        self.events.extend(events);
        self.changed = true;
        Ok(())
    }

    /// Adds a log line.
    pub(crate) fn log(&mut self, at: Timestamp, line: LogLine) {
        self.log.push(&mut self.events, at, line);
    }

    /// Adds what a stage can reach.
    pub(crate) fn reaches(&mut self, reach: StageReach) {
        let body = EventBody::Reach(Box::new(reach));
        self.events.push(Event { at: self.now, body });
    }

    /// Adds a line of the engine's own about a stage or an area.
    pub(crate) fn say(&mut self, unit: Unit, line: impl Into<String>) {
        let line = LogLine {
            substage: unit.substage(),
            ..LogLine::system(LogSource::Engine, Some(self.definition.key(unit.stage)), line)
        };
        self.log(self.now, line);
    }

    /// Until when a stage may go on, where a budget says so.
    pub(crate) fn wall(&self, stage: usize) -> Option<Wall> {
        Wall::of(&self.head.inputs, self.definition, &self.state, stage, self.now)
    }

    /// Adds a change of a job.
    pub(crate) fn job(&mut self, change: JobChange) {
        self.jobs.push(change);
        self.changed = true;
    }

    /// Adds an artifact.
    pub(crate) fn artifact(&mut self, artifact: Artifact) {
        self.artifacts.push(artifact);
    }

    /// Whether there is nothing to commit.
    pub(crate) fn is_empty(&self) -> bool {
        !self.changed && self.events.is_empty() && self.artifacts.is_empty() && self.usage.is_empty()
    }

    /// The commit, and the state it leads to.
    pub(crate) fn commit(self) -> Commit {
        Commit {
            run: self.head.id,
            expected_revision: self.head.revision,
            state: self.state,
            owner: self.owner,
            events: self.events,
            log_bytes: self.log.added,
            guard: self.guard,
            jobs: self.jobs,
            artifacts: self.artifacts,
            usage: self.usage,
        }
    }
}
