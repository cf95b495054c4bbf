//! Runs in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use pond_core::artifacts::{Artifact, ArtifactName};
use pond_core::clock::Timestamp;
use pond_core::event::{Event, EventKind, EventNumber, NumberedEvent};
use pond_core::id::{EngineId, ProjectId, RunId};
use pond_core::page::{Page, PageRequest};
use pond_core::runs::{Append, Appended, Commit, Committed, EngineStore, NewRun, Run, RunCursor, RunFilter, RunHead};
use pond_core::scope::Scope;
use pond_core::store::StoreError;
use pond_core::usage::{UsageEntry, UsageTotals};

use super::jobs::Piece;
use super::{Memory, State};
use crate::error::corrupt;
use crate::fact::{Outcome, RunReads};

/// Stage, substage, model.
type UsageKey = (String, Option<String>, String);

/// A run and all that belongs to it.
#[derive(Debug)]
pub(super) struct RunRecord {
    head: RunHead,
    /// Those that are kept, the one after `emptied` first.
    events: Vec<Event>,
    /// How many events are gone.
    emptied: usize,
    artifacts: BTreeMap<(u32, Option<String>, ArtifactName), Artifact>,
    usage: BTreeMap<UsageKey, UsageTotals>,
}

impl RunRecord {
    fn add(&mut self, events: Vec<Event>, log_bytes: u64, artifacts: Vec<Artifact>, usage: Vec<UsageEntry>) {
        self.events.extend(events);
        self.head.next_event = number_after(self.emptied + self.events.len());
        self.head.log_bytes = self.head.log_bytes.saturating_add(log_bytes);
        for artifact in artifacts {
            let key = (artifact.stage, artifact.substage.clone(), artifact.name.clone());
            self.artifacts.insert(key, artifact);
        }
        for UsageEntry {
            stage,
            substage,
            model,
            totals,
        } in usage
        {
            *self.usage.entry((stage, substage, model)).or_default() += totals;
        }
    }
}

impl RunRecord {
    pub(super) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    pub(super) fn ended_before(&self, cutoff: Timestamp) -> bool {
        self.head.state.phase.ended_at().is_some_and(|ended| ended < cutoff)
    }

    /// Forgets up to `limit` artifacts, and says how many.
    pub(super) fn forget_artifacts(&mut self, limit: usize) -> usize {
        let gone = std::iter::from_fn(|| self.artifacts.pop_first());
        gone.take(limit).count()
    }

    /// Forgets up to `limit` events, the first ones, and says how many.
    pub(super) fn forget_events(&mut self, limit: usize) -> usize {
        let gone = limit.min(self.events.len());
        self.events.drain(..gone);
        self.emptied += gone;
        gone
    }
}

fn number_after(count: usize) -> EventNumber {
    EventNumber::try_from(count).expect("fewer events than memory has bytes") + 1
}

impl State {
    pub(super) fn create(&mut self, new: NewRun) -> Result<(), StoreError> {
        if self.runs.contains_key(&new.id) {
            return Err(corrupt("runs", "id", &new.id));
        }
        let (id, project, created_at) = (new.id, new.project, new.created_at);
        let head = RunHead {
            id,
            project,
            trigger: new.trigger,
            created_at,
            definition_digest: new.definition.digest,
            inputs: new.inputs,
            state: new.state,
            revision: 1,
            next_event: 1,
            log_bytes: 0,
            owner: new.owner,
        };
        self.definitions.entry(new.definition.digest).or_insert(new.definition);
        let mut record = RunRecord {
            head,
            events: Vec::new(),
            emptied: 0,
            artifacts: BTreeMap::new(),
            usage: BTreeMap::new(),
        };
        record.add(new.events, new.log_bytes, Vec::new(), Vec::new());
        self.by_time.insert((created_at, id));
        self.by_project.entry(project).or_default().insert((created_at, id));
        if !record.head.state.phase.status().is_terminal() {
            self.live.insert((project, id));
        }
        self.runs.insert(id, record);
        Ok(())
    }

    pub(super) fn commit(&mut self, commit: Commit) -> Outcome {
        let refused = |committed| Outcome::Committed {
            committed,
            in_line: false,
        };
        let Some(record) = self.runs.get(&commit.run) else {
            return refused(Committed::Unknown);
        };
        if !self.holds(commit.run, commit.guard.as_ref()) {
            return refused(Committed::StaleClaim);
        }
        if record.head.revision != commit.expected_revision {
            return refused(Committed::Stale);
        }
        if let Some(guard) = &commit.guard {
            self.spend(commit.run, guard.job, &commit.usage);
        }
        let in_line = self.change_jobs(commit.jobs);
        let record = self.runs.get_mut(&commit.run).expect("it was there above");
        record.head.state = commit.state;
        record.head.owner = commit.owner;
        record.head.revision += 1;
        record.add(commit.events, commit.log_bytes, commit.artifacts, commit.usage);
        let head = &record.head;
        if head.state.phase.status().is_terminal() {
            self.live.remove(&(head.project, head.id));
        } else {
            self.live.insert((head.project, head.id));
        }
        let committed = Committed::At {
            revision: head.revision,
            next_event: head.next_event,
            log_bytes: head.log_bytes,
        };
        Outcome::Committed { committed, in_line }
    }

    pub(super) fn append(&mut self, append: Append) -> Appended {
        if !self.runs.contains_key(&append.run) {
            return Appended::Unknown;
        }
        if !self.holds(append.run, append.guard.as_ref()) {
            return Appended::StaleClaim;
        }
        if !append.ids.is_empty() {
            match self.told(append.guard.as_ref(), &append.ids) {
                None => return Appended::StaleClaim,
                Some(told) if !told.is_empty() => return Appended::Told(told),
                Some(_) => {}
            }
        }
        if let Some((stream, number)) = append.piece {
            match self.take_piece(append.guard.as_ref(), stream, number) {
                Piece::Next => {}
                Piece::Known => return Appended::Known,
                Piece::Gap { expected } => return Appended::Gap { expected },
                Piece::NoClaim => return Appended::StaleClaim,
            }
        }
        self.note_told(append.guard.as_ref(), append.ids);
        if let Some(guard) = &append.guard {
            self.spend(append.run, guard.job, &append.usage);
        }
        let record = self.runs.get_mut(&append.run).expect("it was there above");
        record.add(append.events, append.log_bytes, append.artifacts, append.usage);
        Appended::At {
            next_event: record.head.next_event,
            log_bytes: record.head.log_bytes,
        }
    }

    fn in_scope(&self, scope: Scope, id: RunId) -> Option<&RunRecord> {
        self.runs.get(&id).filter(|record| scope.admits(record.head.project))
    }
}

#[async_trait]
impl RunReads for Memory {
    async fn run(&self, scope: Scope, id: RunId) -> Result<Option<Run>, StoreError> {
        let state = self.state()?;
        let Some(record) = state.in_scope(scope, id) else {
            return Ok(None);
        };
        let definition = state.definitions.get(&record.head.definition_digest).cloned();
        Ok(Some(Run {
            head: record.head.clone(),
            definition: definition.ok_or_else(|| corrupt("runs", "definition", &id))?,
        }))
    }

    async fn runs(
        &self,
        scope: Scope,
        filter: &RunFilter,
        page: PageRequest<RunCursor>,
    ) -> Result<Page<RunHead, RunCursor>, StoreError> {
        let state = self.state()?;
        let line = match scope {
            Scope::Org => Some(&state.by_time),
            Scope::Project(project) => state.by_project.get(&project),
        };
        let admitted = |head: &&RunHead| filter.admits(head.state.phase.status(), &head.trigger, head.created_at);
        let heads = line
            .into_iter()
            .flat_map(|line| line.iter().rev())
            .filter(|place| page.after.is_none_or(|after| **place < after))
            .filter_map(|(_, id)| state.runs.get(id).map(|record| &record.head))
            .filter(admitted)
            .take(page.limit as usize + 1)
            .cloned()
            .collect();
        Ok(Page::cut(heads, page.limit, |head| (head.created_at, head.id)))
    }

    async fn events(
        &self,
        scope: Scope,
        run: RunId,
        after: EventNumber,
        limit: u32,
    ) -> Result<Vec<NumberedEvent>, StoreError> {
        let state = self.state()?;
        let Some(record) = state.in_scope(scope, run) else {
            return Ok(Vec::new());
        };
        let skip = usize::try_from(after).unwrap_or(0).saturating_sub(record.emptied);
        let events = record.events.iter().enumerate().skip(skip).take(limit as usize);
        Ok(events
            .map(|(index, event)| NumberedEvent {
                id: number_after(record.emptied + index),
                event: event.clone(),
            })
            .collect())
    }

    async fn events_of(
        &self,
        scope: Scope,
        run: RunId,
        kind: EventKind,
        after: EventNumber,
        limit: u32,
    ) -> Result<Vec<NumberedEvent>, StoreError> {
        let mut events = self.events(scope, run, after, u32::MAX).await?;
        events.retain(|event| event.event.body.kind() == kind);
        events.truncate(limit as usize);
        Ok(events)
    }

    async fn artifacts(&self, scope: Scope, run: RunId) -> Result<Vec<Artifact>, StoreError> {
        let state = self.state()?;
        let record = state.in_scope(scope, run);
        Ok(record
            .into_iter()
            .flat_map(|record| record.artifacts.values().cloned())
            .collect())
    }

    async fn usage(&self, scope: Scope, run: RunId) -> Result<Vec<UsageEntry>, StoreError> {
        let state = self.state()?;
        let record = state.in_scope(scope, run);
        let entry = |((stage, substage, model), totals): (&UsageKey, &UsageTotals)| UsageEntry {
            stage: stage.clone(),
            substage: substage.clone(),
            model: model.clone(),
            totals: *totals,
        };
        Ok(record
            .into_iter()
            .flat_map(|record| record.usage.iter().map(entry))
            .collect())
    }

    async fn live_run_count(&self, project: ProjectId, limit: u32) -> Result<u32, StoreError> {
        let state = self.state()?;
        let (first, last) = (RunId::from(uuid::Uuid::nil()), RunId::from(uuid::Uuid::max()));
        let live = state.live.range((project, first)..=(project, last));
        Ok(u32::try_from(live.take(limit as usize).count()).unwrap_or(limit))
    }
}

#[async_trait]
impl EngineStore for Memory {
    async fn beat(&self, engine: EngineId, until: Timestamp) -> Result<(), StoreError> {
        self.state()?.engines.insert(engine, until);
        Ok(())
    }

    async fn retire(&self, engine: EngineId) -> Result<(), StoreError> {
        self.state()?.engines.remove(&engine);
        Ok(())
    }

    async fn runs_of(&self, engine: EngineId, limit: u32) -> Result<Vec<RunId>, StoreError> {
        let state = self.state()?;
        let own = |id: &&RunId| state.runs.get(*id).is_some_and(|record| record.head.owner == engine);
        let mut runs: Vec<RunId> = state.live.iter().map(|(_, id)| id).filter(own).copied().collect();
        runs.sort_unstable();
        runs.truncate(limit as usize);
        Ok(runs)
    }

    async fn adopt_runs(&self, heir: EngineId, now: Timestamp, limit: u32) -> Result<Vec<RunId>, StoreError> {
        let mut guard = self.state()?;
        let state = &mut *guard;
        let orphan = |owner: EngineId| owner != heir && state.engines.get(&owner).is_none_or(|until| *until < now);
        let mut orphans: Vec<RunId> = state
            .live
            .iter()
            .map(|(_, id)| *id)
            .filter(|id| state.runs.get(id).is_some_and(|record| orphan(record.head.owner)))
            .collect();
        orphans.sort_unstable();
        orphans.truncate(limit as usize);
        for id in &orphans {
            if let Some(record) = state.runs.get_mut(id) {
                record.head.owner = heir;
                record.head.revision += 1;
            }
        }
        Ok(orphans)
    }
}
