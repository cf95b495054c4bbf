//! What the store does for runs: a few atomic facts, each with its guarantee.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Inputs, Run, RunFilter, RunHead, RunState, StoredDefinition};
use crate::artifacts::Artifact;
use crate::clock::Timestamp;
use crate::event::{Event, EventKind, EventNumber, NumberedEvent};
use crate::id::{EngineId, JobId, ProjectId, RunId};
use crate::page::{Page, PageRequest};
use crate::pool::JobChange;
use crate::scope::Scope;
use crate::store::StoreError;
use crate::usage::UsageEntry;

/// The revision of a run that was just created.
pub const FIRST_REVISION: i64 = 1;

/// A run to create; it gets [`FIRST_REVISION`].
#[derive(Debug, Clone)]
pub struct NewRun {
    /// The run.
    pub id: RunId,
    /// Whose it is.
    pub project: ProjectId,
    /// What started it.
    pub trigger: Arc<str>,
    /// When.
    pub created_at: Timestamp,
    /// The engine that will drive it.
    pub owner: EngineId,
    /// Its definition.
    pub definition: StoredDefinition,
    /// What was submitted beside it.
    pub inputs: Arc<Inputs>,
    /// Its first state.
    pub state: RunState,
    /// Its first events.
    pub events: Vec<Event>,
    /// Bytes of log lines among them.
    pub log_bytes: u64,
}

/// Makes a write depend on a live claim on a job of the same run: a stale one is refused without effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// The job.
    pub job: JobId,
    /// Hash of the claim token.
    pub token: [u8; 32],
    /// The time now: a claim whose lease has ended is stale. None when the lease is known to have ended, and this very
    /// write takes the job back.
    pub now: Option<Timestamp>,
}

/// A change of a run's state, with all that belongs to it.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The run.
    pub run: RunId,
    /// The revision that `state` was made from.
    pub expected_revision: i64,
    /// The new state.
    pub state: RunState,
    /// The engine that drives it from now on.
    pub owner: EngineId,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// Bytes of log lines among them.
    pub log_bytes: u64,
    /// The claim it depends on.
    pub guard: Option<Guard>,
    /// Changes of its jobs.
    pub jobs: Vec<JobChange>,
    /// Artifacts to record.
    pub artifacts: Vec<Artifact>,
    /// Usage to add.
    pub usage: Vec<UsageEntry>,
}

/// What became of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// It is durable.
    At {
        /// The revision now.
        revision: i64,
        /// Number of the next event.
        next_event: EventNumber,
        /// Bytes of log lines stored so far.
        log_bytes: u64,
    },
    /// The run has another revision; nothing was written.
    Stale,
    /// The claim is not live; nothing was written.
    StaleClaim,
    /// No such run.
    Unknown,
}

/// Events of a run that do not change its state.
#[derive(Debug, Clone)]
pub struct Append {
    /// The run.
    pub run: RunId,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// Bytes of log lines among them.
    pub log_bytes: u64,
    /// The claim it depends on.
    pub guard: Option<Guard>,
    /// Number of this piece in a numbered stream of the guarded job, from 0 with each claim: a piece that is not above the
    /// last one is acknowledged and not written twice. Without a guard it is refused as of a stale claim.
    pub piece: Option<(String, u64)>,
    /// Ids of what is told here, under a guard: an append that holds one told before under the same claim is refused with
    /// those, and nothing of it is written, so that each counts once however often and in whatever company it is sent.
    /// Without a guard it is refused as of a stale claim.
    pub ids: Vec<uuid::Uuid>,
    /// Artifacts to record; one of the same stage, substage and name is replaced.
    pub artifacts: Vec<Artifact>,
    /// Usage to add.
    pub usage: Vec<UsageEntry>,
}

/// What became of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// It is durable.
    At {
        /// Number of the next event.
        next_event: EventNumber,
        /// Bytes of log lines stored so far.
        log_bytes: u64,
    },
    /// This piece was written before.
    Known,
    /// These of its ids were told before under the same claim; nothing was written.
    Told(Vec<uuid::Uuid>),
    /// A piece before this one is missing.
    Gap {
        /// The one expected.
        expected: u64,
    },
    /// The claim is not live; nothing was written.
    StaleClaim,
    /// No such run.
    Unknown,
}

/// Place in a list of runs, newest first.
pub type RunCursor = (Timestamp, RunId);

/// Runs and their events.
///
/// Every write is atomic and durable on return; concurrent writes of one run leave the effects of some serial order.
/// Event numbers of a run rise without a number ever becoming visible before a lower one.
#[async_trait]
pub trait RunStore: Send + Sync {
    /// Creates a run. An id that is there already is corrupt.
    async fn create_run(&self, run: NewRun) -> Result<(), StoreError>;

    /// Changes a run if its revision is the expected one and the guard holds. One winner among racing writers. Of a write
    /// that both speak against, the claim is what is stale.
    async fn commit_run(&self, commit: Commit) -> Result<Committed, StoreError>;

    /// Adds events, artifacts and usage without changing the revision.
    async fn append_events(&self, append: Append) -> Result<Appended, StoreError>;

    /// A run in scope.
    async fn run(&self, scope: Scope, id: RunId) -> Result<Option<Run>, StoreError>;

    /// Runs in scope, newest first. Runs added meanwhile never make one repeat or go missing in later pages.
    async fn runs(
        &self,
        scope: Scope,
        filter: &RunFilter,
        page: PageRequest<RunCursor>,
    ) -> Result<Page<RunHead, RunCursor>, StoreError>;

    /// Events of a run with a number above `after`, in order, at most `limit`. Empty for an unknown run.
    async fn events(
        &self,
        scope: Scope,
        run: RunId,
        after: EventNumber,
        limit: u32,
    ) -> Result<Vec<NumberedEvent>, StoreError>;

    /// Those of a run's events that are of one kind, as [`Self::events`] gives them; the others cost next to nothing.
    async fn events_of(
        &self,
        scope: Scope,
        run: RunId,
        kind: EventKind,
        after: EventNumber,
        limit: u32,
    ) -> Result<Vec<NumberedEvent>, StoreError>;

    /// Artifacts of a run, ordered by stage, substage and name.
    async fn artifacts(&self, scope: Scope, run: RunId) -> Result<Vec<Artifact>, StoreError>;

    /// Usage of a run, ordered by stage, substage and model.
    async fn usage(&self, scope: Scope, run: RunId) -> Result<Vec<UsageEntry>, StoreError>;

    /// Runs of `project` that have not ended, counted up to `limit`.
    async fn live_run_count(&self, project: ProjectId, limit: u32) -> Result<u32, StoreError>;
}

/// Which engines are alive, and the runs they drive.
#[async_trait]
pub trait EngineStore: Send + Sync {
    /// Says that `engine` drives its runs until `until` at least.
    async fn beat(&self, engine: EngineId, until: Timestamp) -> Result<(), StoreError>;

    /// Says that `engine` drives nothing any more.
    async fn retire(&self, engine: EngineId) -> Result<(), StoreError>;

    /// Live runs that `engine` is written down for, at most `limit`.
    async fn runs_of(&self, engine: EngineId, limit: u32) -> Result<Vec<RunId>, StoreError>;

    /// Hands up to `limit` live runs, whose engine's time ended before `now` or which has none, over to `heir`, and says
    /// which. A run is handed to one heir only, and its revision rises, so that a former engine that is not dead after all
    /// learns of it at its next commit.
    async fn adopt_runs(&self, heir: EngineId, now: Timestamp, limit: u32) -> Result<Vec<RunId>, StoreError>;
}
