//! The pool: jobs that wait for workers, the claims that workers hold, and who is there.

mod budget;
mod in_process;
mod job;
mod needs;
mod place;
mod presence;
mod record;
mod service;
mod store;

pub use in_process::InProcessLink;
pub use job::{Claim, ClaimToken, ClaimedJob, JobEnd, JobEvent, JobPhase, JobRow, JobStatus, NewJob};
pub use needs::{Needs, NeedsKey};
pub(crate) use place::{Unplaced, lacking_key, likely_needs, needs_of, provider_fault, resolve};
pub(crate) use presence::Presence;
pub use presence::{Missing, WorkerView};
pub use record::{Admits, Code, EnrolledWorker, Orchestrator, WorkerKeys, WorkerSeen};
pub use service::Pool;
pub use store::{ClaimRequest, Enrolled, JobChange, JobStore, PoolStore, Renewal, Renewed};
