//! The hot facts, as they stand in line; and what a backend must do with a batch of them.

use std::sync::Arc;

use async_trait::async_trait;
use pond_core::audit::AuditStore;
use pond_core::config::ConfigStore;
use pond_core::event::{EventKind, EventNumber, NumberedEvent};
use pond_core::id::{JobId, ProjectId, RunId};
use pond_core::idempotency::OnceStore;
use pond_core::keys::KeyStore;
use pond_core::page::{Page, PageRequest};
use pond_core::pool::{ClaimRequest, ClaimedJob, JobRow, Needs, PoolStore, Renewal, Renewed};
use pond_core::projects::ProjectStore;
use pond_core::runs::{
    Append, Appended, Commit, Committed, EngineStore, NewRun, RetentionStore, Run, RunCursor, RunFilter, RunHead,
};
use pond_core::scope::Scope;
use pond_core::sealing::KeyringStore;
use pond_core::store::StoreError;
use pond_core::usage::BudgetStore;

/// A fact that travels in batches. The others are rare, and each is a transaction of its own.
#[derive(Debug)]
pub(crate) enum Fact {
    /// Create a run.
    Create(NewRun),
    /// Change a run.
    Commit(Commit),
    /// Add events to a run.
    Append(Append),
    /// Take jobs.
    Claim(ClaimRequest),
    /// Renew a lease.
    Renew(Renewal),
}

/// What became of a fact.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The run was created.
    Created,
    /// Of a commit.
    Committed {
        /// What became of it.
        committed: Committed,
        /// Whether jobs may have come into line with it.
        in_line: bool,
    },
    /// Of an append.
    Appended(Appended),
    /// Of a claim.
    Claimed(Claimed),
    /// Of a renewal.
    Renewed(Renewed),
}

/// What a claim took.
#[derive(Debug, Default)]
pub(crate) struct Claimed {
    /// The jobs.
    pub(crate) jobs: Vec<ClaimedJob>,
    /// Whether it held waiting jobs that it then did not take: others may have passed them over meanwhile.
    pub(crate) passed_over: bool,
}

/// The answer to one fact of a batch.
pub(crate) type Answer = Result<Outcome, StoreError>;

/// What two facts of one batch must not share, so that each batch is one set and its order does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// A run and its jobs.
    Run(RunId),
    /// A lease.
    Lease(JobId),
}

/// What a fact writes, as far as watchers care.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Touches {
    /// The run.
    pub(crate) run: Option<RunId>,
    /// The line, if jobs came into it.
    pub(crate) line: bool,
    /// Whether it is of the pool's records.
    pub(crate) pool: bool,
}

impl Fact {
    /// What it must not share with another one of its batch.
    pub(crate) fn subject(&self) -> Option<Subject> {
        match self {
            Self::Create(new) => Some(Subject::Run(new.id)),
            Self::Commit(commit) => Some(Subject::Run(commit.run)),
            Self::Append(append) => Some(Subject::Run(append.run)),
            Self::Renew(renewal) => Some(Subject::Lease(renewal.job)),
            Self::Claim(_) => None,
        }
    }

    /// What it writes.
    pub(crate) fn touches(&self) -> Touches {
        let run = match self.subject() {
            Some(Subject::Run(run)) => Some(run),
            _ => None,
        };
        let line = match self {
            Self::Commit(commit) => !commit.jobs.is_empty(),
            Self::Claim(_) => true,
            _ => false,
        };
        Touches { run, line, pool: false }
    }
}

impl Outcome {
    /// Whether watchers are to look at what the fact touches.
    pub(crate) fn wrote(&self) -> bool {
        match self {
            Self::Created => true,
            Self::Committed { committed, .. } => matches!(committed, Committed::At { .. }),
            Self::Appended(appended) => matches!(appended, Appended::At { .. }),
            Self::Claimed(claimed) => claimed.passed_over,
            Self::Renewed(_) => false,
        }
    }

    /// Whether jobs may have come into line, or were passed over there.
    pub(crate) fn in_line(&self) -> bool {
        match self {
            Self::Committed { in_line, .. } => *in_line,
            Self::Claimed(claimed) => claimed.passed_over,
            Self::Created | Self::Appended(_) | Self::Renewed(_) => false,
        }
    }
}

/// A storage: batches of hot facts, the rare facts one at a time, and reads.
#[async_trait]
pub(crate) trait Backend:
    RunReads
    + JobReads
    + EngineStore
    + RetentionStore
    + PoolStore
    + BudgetStore
    + ConfigStore
    + ProjectStore
    + KeyStore
    + KeyringStore
    + AuditStore
    + OnceStore
{
    /// A fact made ready for writing.
    type Item: Send + 'static;

    /// Makes a fact ready; runs in the caller's task, so the writer does as little as can be.
    fn prepare(&self, fact: Fact) -> Self::Item;

    /// Roughly how many bytes an item makes the database write.
    fn weight(item: &Self::Item) -> usize;

    /// Writes a batch, durable on return, and answers each item in order. A refused one leaves the others as they are.
    async fn apply(&self, batch: Vec<Self::Item>) -> Vec<Answer>;

    /// Whether it answers.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Closes it.
    async fn close(&self);
}

/// Reads of runs: see [`pond_core::runs::RunStore`].
#[async_trait]
pub(crate) trait RunReads: Send + Sync + 'static {
    async fn run(&self, scope: Scope, id: RunId) -> Result<Option<Run>, StoreError>;

    async fn runs(
        &self,
        scope: Scope,
        filter: &RunFilter,
        page: PageRequest<RunCursor>,
    ) -> Result<Page<RunHead, RunCursor>, StoreError>;

    async fn events(
        &self,
        scope: Scope,
        run: RunId,
        after: EventNumber,
        limit: u32,
    ) -> Result<Vec<NumberedEvent>, StoreError>;

    async fn events_of(
        &self,
        scope: Scope,
        run: RunId,
        kind: EventKind,
        after: EventNumber,
        limit: u32,
    ) -> Result<Vec<NumberedEvent>, StoreError>;

    async fn artifacts(&self, scope: Scope, run: RunId) -> Result<Vec<pond_core::artifacts::Artifact>, StoreError>;

    async fn usage(&self, scope: Scope, run: RunId) -> Result<Vec<pond_core::usage::UsageEntry>, StoreError>;

    async fn live_run_count(&self, project: ProjectId, limit: u32) -> Result<u32, StoreError>;
}

/// Reads of jobs: see [`pond_core::pool::JobStore`].
#[async_trait]
pub(crate) trait JobReads: Send + Sync + 'static {
    async fn job(&self, id: JobId) -> Result<Option<JobRow>, StoreError>;

    async fn expired_jobs(&self, now: pond_core::clock::Timestamp, limit: u32) -> Result<Vec<JobRow>, StoreError>;

    async fn jobs_of_worker(
        &self,
        worker: pond_core::id::WorkerId,
        but: Option<pond_core::id::BootId>,
    ) -> Result<Vec<JobRow>, StoreError>;

    /// Those of which a job is in line right now.
    async fn waiting_needs(&self) -> Result<Arc<[Needs]>, StoreError>;

    async fn job_counts(&self, project: ProjectId) -> Result<(u64, u64), StoreError>;
}
