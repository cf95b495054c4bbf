//! What the store does for the pool.

use std::sync::Arc;

use async_trait::async_trait;

use super::{ClaimToken, ClaimedJob, Code, EnrolledWorker, JobRow, Needs, NeedsKey, NewJob, Orchestrator, WorkerSeen};
use crate::clock::Timestamp;
use crate::id::{BootId, JobId, OrchestratorId, ProjectId, WorkerId};
use crate::store::StoreError;

/// A change of a job that is committed together with a change of its run. One that the job's state does not allow has no
/// effect: what guards a commit is the revision of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobChange {
    /// Puts a job in line, behind its project's others; it is held as long as as many of those as may be are in line or
    /// claimed. See [`super::Lane`].
    Enqueue(NewJob),
    /// Puts a claimed job back in line, at its old place; a mark to stop goes with the claim.
    Release(JobId),
    /// Ends a waiting or claimed job; one that is held may come into line for it.
    End(JobId),
    /// Marks a claimed job, so that its worker is told to stop.
    Cancel(JobId),
    /// Keeps what was decided when a claimed job was started, for whichever server hears of the claim next; it goes with the
    /// claim.
    Dispatch(JobId, String),
    /// Keeps what the worker of a job that is over reported, so that the same report is known when it comes again.
    Reported(JobId, String),
}

/// A worker asks for work.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    /// The worker.
    pub worker: WorkerId,
    /// Its life.
    pub boot: BootId,
    /// The needs that it satisfies.
    pub fits: Vec<NeedsKey>,
    /// The only project that it serves, if it is one's own.
    pub only: Option<ProjectId>,
    /// One token for each job that it takes at most, drawn by the engine.
    pub tokens: Vec<ClaimToken>,
    /// When the leases end.
    pub lease_until: Timestamp,
}

/// A lease to renew.
#[derive(Debug, Clone)]
pub struct Renewal {
    /// The job.
    pub job: JobId,
    /// Hash of the claim token.
    pub token: [u8; 32],
    /// The time now: a lease that has ended is not renewed.
    pub now: Timestamp,
    /// When the lease ends if it is renewed.
    pub lease_until: Timestamp,
}

/// What became of a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    /// Renewed.
    Until {
        /// When it ends now.
        lease_until: Timestamp,
        /// Whether the worker is to stop the job.
        cancel: bool,
    },
    /// The claim was superseded, has expired or its job has ended.
    Stale,
    /// No such job.
    Unknown,
}

/// Jobs and claims. Enqueue, release and end travel with the run: see [`crate::runs::Commit`].
#[async_trait]
pub trait JobStore: Send + Sync {
    /// Takes jobs in line whose needs are among `fits`, lowest place first, at most one per token. No job is ever taken by
    /// two claims. Durable on return. Jobs that another server is just looking at may be passed over; a
    /// [`crate::store::Change::Work`] tells when that one left some.
    async fn claim_jobs(&self, request: ClaimRequest) -> Result<Vec<ClaimedJob>, StoreError>;

    /// Renews a lease if the token is the live one and the lease has not ended.
    async fn renew_lease(&self, renewal: Renewal) -> Result<Renewed, StoreError>;

    /// A job.
    async fn job(&self, id: JobId) -> Result<Option<JobRow>, StoreError>;

    /// Claimed jobs whose lease ended at or before `now`, at most `limit`, longest expired first.
    async fn expired_jobs(&self, now: Timestamp, limit: u32) -> Result<Vec<JobRow>, StoreError>;

    /// Jobs that `worker` claimed in another life than `but`, or in any.
    async fn jobs_of_worker(&self, worker: WorkerId, but: Option<BootId>) -> Result<Vec<JobRow>, StoreError>;

    /// The distinct needs of jobs in line. Cheap to ask, as long as nothing came into line since the last time. Some of which
    /// none is in line any more may be among them, until a claim has come away with less than it asked for.
    async fn waiting_needs(&self) -> Result<Arc<[Needs]>, StoreError>;

    /// How many jobs of `project` wait, in line or held, and how many are claimed.
    async fn job_counts(&self, project: ProjectId) -> Result<(u64, u64), StoreError>;
}

/// What became of a code that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enrolled {
    /// It is used up, and the record is there.
    Done,
    /// It is unknown, used, expired, or admits something else. Nothing was written.
    Refused,
}

/// Orchestrators, workers and codes. Every write, but of what was heard, tells [`crate::store::Change::Pool`] to all
/// servers of the store; one that was refused or found nothing tells nothing.
#[async_trait]
pub trait PoolStore: Send + Sync {
    /// Adds a code, unless one of its hash is there; those that have expired by `now` are dropped with it.
    async fn add_code(&self, code: Code, now: Timestamp) -> Result<(), StoreError>;

    /// A code that is neither used nor dropped; it may have expired.
    async fn code(&self, hash: [u8; 32]) -> Result<Option<Code>, StoreError>;

    /// Uses up a pairing code that has not expired, and adds the orchestrator, as one. Of racing callers one is done. An id
    /// that is there already is corrupt, and uses up nothing.
    async fn pair(&self, code: [u8; 32], now: Timestamp, orchestrator: Orchestrator) -> Result<Enrolled, StoreError>;

    /// Uses up an enrolment code of the worker's orchestrator that has not expired, and adds the worker, as one. Of racing
    /// callers one is done. Refused too when the orchestrator is not there. An id that is there already is corrupt, and
    /// uses up nothing.
    async fn enrol(&self, code: [u8; 32], now: Timestamp, worker: EnrolledWorker) -> Result<Enrolled, StoreError>;

    /// All orchestrators, by id.
    async fn orchestrators(&self) -> Result<Vec<Orchestrator>, StoreError>;

    /// All workers, by id.
    async fn enrolled_workers(&self) -> Result<Vec<EnrolledWorker>, StoreError>;

    /// Sets whether a worker gets no new jobs; whether there is such a worker.
    async fn set_draining(&self, worker: WorkerId, draining: bool) -> Result<bool, StoreError>;

    /// Takes a worker out; whether there was one. Its jobs stay claimed: see [`JobStore::jobs_of_worker`].
    async fn remove_worker(&self, worker: WorkerId) -> Result<bool, StoreError>;

    /// Takes an orchestrator out with its codes and workers, and says which those were; none when it was not there.
    async fn remove_orchestrator(&self, id: OrchestratorId) -> Result<Option<Vec<WorkerId>>, StoreError>;

    /// Writes what was heard, all of it in one statement per table. Who is not there, and who was heard of later than that,
    /// is passed over. Not told as a change.
    async fn note_seen(
        &self,
        orchestrators: Vec<(OrchestratorId, Timestamp)>,
        workers: Vec<(WorkerId, WorkerSeen)>,
    ) -> Result<(), StoreError>;
}
