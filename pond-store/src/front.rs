//! The store as callers see it: the domain traits over a line and a backend, and the hints that follow durable writes.

mod records;

use std::sync::Arc;

use async_trait::async_trait;
use pond_core::artifacts::Artifact;
use pond_core::clock::Timestamp;
use pond_core::config::{ConfigChange, ConfigCommitted, ConfigRevision, ConfigSnapshot, ConfigStore};
use pond_core::event::{EventKind, EventNumber, NumberedEvent};
use pond_core::id::{BootId, EngineId, JobId, KeyId, OrchestratorId, ProjectId, RunId, WorkerId};
use pond_core::keys::{ApiKey, KeyOfProject, KeyStore};
use pond_core::page::{Page, PageRequest};
use pond_core::pool::{
    ClaimRequest, ClaimedJob, Code, Enrolled, EnrolledWorker, JobRow, JobStore, Needs, Orchestrator, PoolStore,
    Renewal, Renewed, WorkerSeen,
};
use pond_core::projects::{Project, ProjectDeleted, ProjectStore, Slug};
use pond_core::runs::{
    Append, Appended, Commit, Committed, Emptied, EngineStore, NewRun, RetentionStore, Run, RunCursor, RunFilter,
    RunHead, RunStore,
};
use pond_core::scope::Scope;
use pond_core::sealing::{KeyringStore, Sealed, WrappedKey};
use pond_core::store::{Change, Store, StoreError};
use pond_core::usage::{BudgetStore, Draw, Drawn, UsageEntry};
use tokio::sync::broadcast;
use tokio::time::Instant;

use crate::fact::{Backend, Claimed, Fact, Outcome, Touches};
use crate::hints::Hints;
use crate::line::Line;
use crate::waiting::WaitingNeeds;

/// A store over a backend.
pub(crate) struct Front<B: Backend> {
    backend: Arc<B>,
    line: Line<B>,
    hints: Hints,
    waiting: WaitingNeeds,
}

impl<B: Backend> Front<B> {
    /// Puts the parts together.
    pub(crate) fn new(backend: Arc<B>, line: Line<B>, hints: Hints) -> Self {
        Self {
            backend,
            line,
            hints,
            waiting: WaitingNeeds::default(),
        }
    }

    /// Has a fact written, and tells watchers once it is durable.
    async fn write(&self, fact: Fact) -> Result<Outcome, StoreError> {
        let touches = fact.touches();
        let outcome = self.line.submit(fact).await?;
        if outcome.wrote() {
            let line = touches.line && outcome.in_line();
            self.hints.tell(Touches { line, ..touches });
        }
        Ok(outcome)
    }

    /// Tells of a write of the pool's records, if it was one.
    fn tell_pool(&self, wrote: bool) {
        if wrote {
            self.hints.tell(Touches {
                pool: true,
                ..Touches::default()
            });
        }
    }
}

/// The outcome of the fact that was asked for; a backend that mixes them up is broken.
macro_rules! expect_outcome {
    ($outcome:expr, $variant:ident) => {
        match $outcome {
            Outcome::$variant(outcome) => Ok(outcome),
            other => unreachable!("a backend answers each fact in kind, not {other:?}"),
        }
    };
}

#[async_trait]
impl<B: Backend> RunStore for Front<B> {
    async fn create_run(&self, run: NewRun) -> Result<(), StoreError> {
        self.write(Fact::Create(run)).await.map(drop)
    }

    async fn commit_run(&self, commit: Commit) -> Result<Committed, StoreError> {
        match self.write(Fact::Commit(commit)).await? {
            Outcome::Committed { committed, .. } => Ok(committed),
            other => unreachable!("a backend answers each fact in kind, not {other:?}"),
        }
    }

    async fn append_events(&self, append: Append) -> Result<Appended, StoreError> {
        expect_outcome!(self.write(Fact::Append(append)).await?, Appended)
    }

    async fn run(&self, scope: Scope, id: RunId) -> Result<Option<Run>, StoreError> {
        self.backend.run(scope, id).await
    }

    async fn runs(
        &self,
        scope: Scope,
        filter: &RunFilter,
        page: PageRequest<RunCursor>,
    ) -> Result<Page<RunHead, RunCursor>, StoreError> {
        self.backend.runs(scope, filter, page).await
    }

    async fn events(
        &self,
        scope: Scope,
        run: RunId,
        after: EventNumber,
        limit: u32,
    ) -> Result<Vec<NumberedEvent>, StoreError> {
        self.backend.events(scope, run, after, limit).await
    }

    async fn events_of(
        &self,
        scope: Scope,
        run: RunId,
        kind: EventKind,
        after: EventNumber,
        limit: u32,
    ) -> Result<Vec<NumberedEvent>, StoreError> {
        self.backend.events_of(scope, run, kind, after, limit).await
    }

    async fn artifacts(&self, scope: Scope, run: RunId) -> Result<Vec<Artifact>, StoreError> {
        self.backend.artifacts(scope, run).await
    }

    async fn usage(&self, scope: Scope, run: RunId) -> Result<Vec<UsageEntry>, StoreError> {
        self.backend.usage(scope, run).await
    }

    async fn live_run_count(&self, project: ProjectId, limit: u32) -> Result<u32, StoreError> {
        self.backend.live_run_count(project, limit).await
    }
}

#[async_trait]
impl<B: Backend> EngineStore for Front<B> {
    async fn beat(&self, engine: EngineId, until: Timestamp) -> Result<(), StoreError> {
        self.backend.beat(engine, until).await
    }

    async fn retire(&self, engine: EngineId) -> Result<(), StoreError> {
        self.backend.retire(engine).await
    }

    async fn runs_of(&self, engine: EngineId, limit: u32) -> Result<Vec<RunId>, StoreError> {
        self.backend.runs_of(engine, limit).await
    }

    async fn adopt_runs(&self, heir: EngineId, now: Timestamp, limit: u32) -> Result<Vec<RunId>, StoreError> {
        self.backend.adopt_runs(heir, now, limit).await
    }
}

#[async_trait]
impl<B: Backend> RetentionStore for Front<B> {
    async fn due_runs(&self, cutoff: Timestamp, page: PageRequest<RunId>) -> Result<Page<RunId, RunId>, StoreError> {
        self.backend.due_runs(cutoff, page).await
    }

    async fn empty_run(&self, run: RunId, cutoff: Timestamp, limit: u32) -> Result<Emptied, StoreError> {
        self.backend.empty_run(run, cutoff, limit).await
    }
}

#[async_trait]
impl<B: Backend> JobStore for Front<B> {
    async fn claim_jobs(&self, request: ClaimRequest) -> Result<Vec<ClaimedJob>, StoreError> {
        if request.tokens.is_empty() || request.fits.is_empty() {
            return Ok(Vec::new());
        }
        let asked = request.tokens.len();
        let claimed: Claimed = expect_outcome!(self.write(Fact::Claim(request)).await?, Claimed)?;
        if claimed.jobs.len() < asked {
            self.waiting.forget();
        }
        Ok(claimed.jobs)
    }

    async fn renew_lease(&self, renewal: Renewal) -> Result<Renewed, StoreError> {
        expect_outcome!(self.write(Fact::Renew(renewal)).await?, Renewed)
    }

    async fn job(&self, id: JobId) -> Result<Option<JobRow>, StoreError> {
        self.backend.job(id).await
    }

    async fn expired_jobs(&self, now: Timestamp, limit: u32) -> Result<Vec<JobRow>, StoreError> {
        self.backend.expired_jobs(now, limit).await
    }

    async fn jobs_of_worker(&self, worker: WorkerId, but: Option<BootId>) -> Result<Vec<JobRow>, StoreError> {
        self.backend.jobs_of_worker(worker, but).await
    }

    async fn waiting_needs(&self) -> Result<Arc<[Needs]>, StoreError> {
        if self.line.is_direct() {
            // As cheap as what is kept of it would be.
            return self.backend.waiting_needs().await;
        }
        let read = self.backend.waiting_needs();
        self.waiting.get(self.hints.line_news(), Instant::now(), read).await
    }

    async fn job_counts(&self, project: ProjectId) -> Result<(u64, u64), StoreError> {
        self.backend.job_counts(project).await
    }
}

#[async_trait]
impl<B: Backend> BudgetStore for Front<B> {
    async fn draw(&self, draw: Draw) -> Result<Drawn, StoreError> {
        self.backend.draw(draw).await
    }
}

#[async_trait]
impl<B: Backend> PoolStore for Front<B> {
    async fn add_code(&self, code: Code, now: Timestamp) -> Result<(), StoreError> {
        self.backend.add_code(code, now).await?;
        self.tell_pool(true);
        Ok(())
    }

    async fn code(&self, hash: [u8; 32]) -> Result<Option<Code>, StoreError> {
        self.backend.code(hash).await
    }

    async fn pair(&self, code: [u8; 32], now: Timestamp, orchestrator: Orchestrator) -> Result<Enrolled, StoreError> {
        let enrolled = self.backend.pair(code, now, orchestrator).await?;
        self.tell_pool(enrolled == Enrolled::Done);
        Ok(enrolled)
    }

    async fn enrol(&self, code: [u8; 32], now: Timestamp, worker: EnrolledWorker) -> Result<Enrolled, StoreError> {
        let enrolled = self.backend.enrol(code, now, worker).await?;
        self.tell_pool(enrolled == Enrolled::Done);
        Ok(enrolled)
    }

    async fn orchestrators(&self) -> Result<Vec<Orchestrator>, StoreError> {
        self.backend.orchestrators().await
    }

    async fn enrolled_workers(&self) -> Result<Vec<EnrolledWorker>, StoreError> {
        self.backend.enrolled_workers().await
    }

    async fn set_draining(&self, worker: WorkerId, draining: bool) -> Result<bool, StoreError> {
        let known = self.backend.set_draining(worker, draining).await?;
        self.tell_pool(known);
        Ok(known)
    }

    async fn remove_worker(&self, worker: WorkerId) -> Result<bool, StoreError> {
        let known = self.backend.remove_worker(worker).await?;
        self.tell_pool(known);
        Ok(known)
    }

    async fn remove_orchestrator(&self, id: OrchestratorId) -> Result<Option<Vec<WorkerId>>, StoreError> {
        let workers = self.backend.remove_orchestrator(id).await?;
        self.tell_pool(workers.is_some());
        Ok(workers)
    }

    async fn note_seen(
        &self,
        orchestrators: Vec<(OrchestratorId, Timestamp)>,
        workers: Vec<(WorkerId, WorkerSeen)>,
    ) -> Result<(), StoreError> {
        self.backend.note_seen(orchestrators, workers).await
    }
}

#[async_trait]
impl<B: Backend> ConfigStore for Front<B> {
    async fn config_revision(&self) -> Result<ConfigRevision, StoreError> {
        self.backend.config_revision().await
    }

    async fn config(&self) -> Result<ConfigSnapshot, StoreError> {
        self.backend.config().await
    }

    async fn commit_config(
        &self,
        expected: ConfigRevision,
        change: ConfigChange,
    ) -> Result<ConfigCommitted, StoreError> {
        self.backend.commit_config(expected, change).await
    }
}

#[async_trait]
impl<B: Backend> ProjectStore for Front<B> {
    async fn create_project(&self, project: Project) -> Result<Option<Project>, StoreError> {
        self.backend.create_project(project).await
    }

    async fn project(&self, id: ProjectId) -> Result<Option<Project>, StoreError> {
        self.backend.project(id).await
    }

    async fn project_by_slug(&self, slug: &Slug) -> Result<Option<Project>, StoreError> {
        self.backend.project_by_slug(slug).await
    }

    async fn projects(&self) -> Result<Vec<Project>, StoreError> {
        self.backend.projects().await
    }

    async fn delete_project(&self, id: ProjectId) -> Result<ProjectDeleted, StoreError> {
        self.backend.delete_project(id).await
    }
}

#[async_trait]
impl<B: Backend> KeyStore for Front<B> {
    async fn add_key(&self, key: ApiKey) -> Result<bool, StoreError> {
        self.backend.add_key(key).await
    }

    async fn key_by_hash(&self, hash: [u8; 32]) -> Result<Option<KeyOfProject>, StoreError> {
        self.backend.key_by_hash(hash).await
    }

    async fn keys(&self, scope: Scope, page: PageRequest<KeyId>) -> Result<Page<ApiKey, KeyId>, StoreError> {
        self.backend.keys(scope, page).await
    }

    async fn revoke_key(&self, scope: Scope, id: KeyId) -> Result<bool, StoreError> {
        self.backend.revoke_key(scope, id).await
    }

    async fn touch_key(&self, id: KeyId, at: Timestamp, but_since: Timestamp) -> Result<bool, StoreError> {
        self.backend.touch_key(id, at, but_since).await
    }
}

#[async_trait]
impl<B: Backend> KeyringStore for Front<B> {
    async fn wrapped_keys(&self) -> Result<Vec<WrappedKey>, StoreError> {
        self.backend.wrapped_keys().await
    }

    async fn add_wrapped_key(&self, key: WrappedKey) -> Result<bool, StoreError> {
        self.backend.add_wrapped_key(key).await
    }

    async fn server_key(&self, name: &str) -> Result<Option<Sealed>, StoreError> {
        self.backend.server_key(name).await
    }

    async fn add_server_key(&self, name: &str, sealed: Sealed) -> Result<bool, StoreError> {
        self.backend.add_server_key(name, sealed).await
    }
}

#[async_trait]
impl<B: Backend> Store for Front<B> {
    fn changes(&self) -> broadcast::Receiver<Change> {
        self.hints.subscribe()
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.backend.ping().await
    }

    async fn close(&self) {
        self.line.close().await;
        self.hints.close().await;
        self.backend.close().await;
    }
}
