//! The pool: jobs that wait for workers, the claims that workers hold, and who is there.

mod job;
mod needs;
mod store;

pub use job::{Claim, ClaimToken, ClaimedJob, JobEnd, JobEvent, JobPhase, JobRow, JobStatus, NewJob};
pub use needs::{Needs, NeedsKey};
pub use store::{ClaimRequest, JobChange, JobStore, Renewal, Renewed};
