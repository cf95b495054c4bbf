//! The pool: jobs that wait for workers, the claims that workers hold, and who is there.

mod bindings;
mod budget;
mod bundle_token;
mod claims;
mod desk;
mod handout;
mod in_process;
mod job;
mod lane;
mod needs;
mod place;
mod presence;
mod record;
mod remote;
mod roster;
mod service;
mod signing;
mod store;
mod tries;
mod worker_keys;

use std::time::Duration;

pub(crate) use bindings::Bindings;
pub use bundle_token::job_of_bundle_token;
pub(crate) use claims::Claims;
pub use desk::Finished;
pub(crate) use handout::sealed;
pub use in_process::InProcessLink;
pub use job::{Claim, ClaimToken, ClaimedJob, JobEnd, JobEvent, JobPhase, JobRow, JobStatus, NewJob};
pub use lane::{Lane, reached};
pub use needs::{Needs, NeedsKey, Serves};
pub(crate) use place::{Unplaced, lacking_key, likely_needs, needs_of, provider_fault, resolve};
pub(crate) use presence::Presence;
pub use presence::{Missing, WorkerView};
pub use record::{Admits, Code, EnrolledWorker, Orchestrator, WorkerKeys, WorkerSeen};
pub use remote::{
    OfferedBundle, RedeemedBundle, Remote, RemoteBeat, RemoteLease, RemotePoll, RemotePolled, RemoteSnapshot, Room,
    SealedCredential, SignedBox, SnapshotAnswer,
};
pub(crate) use roster::Rosters;
pub use service::{Enrolment, NewCode, OrchestratorView, Pool};
pub use signing::{EngineKey, EnginePublic, Signature, Unsigned};
pub use store::{ClaimRequest, Enrolled, JobChange, JobStore, PoolStore, Renewal, Renewed};
pub use tries::Tries;
pub use worker_keys::WorkerSecretKeys;

/// Jobs handed out in one poll.
pub const MAX_CLAIMS: u32 = 64;
/// The longest that a poll is held.
pub const MAX_WAIT: Duration = Duration::from_secs(30);
/// A held poll looks for work again after this, whatever it heard.
const SWEEP: Duration = Duration::from_secs(5);
