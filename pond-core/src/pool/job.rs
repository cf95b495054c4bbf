//! A job: one attempt of a stage that waits for, or runs on, a worker; and the claim that a worker holds on it.

use sha2::{Digest, Sha256};

use super::Needs;
use crate::clock::Timestamp;
use crate::entropy::Entropy;
use crate::id::{BootId, JobId, ProjectId, RunId, WorkerId};
use crate::runs::Illegal;
use crate::secret::Secret;

/// A random token that names one claim; the store keeps its hash alone.
#[derive(Debug, Clone)]
pub struct ClaimToken(Secret);

impl ClaimToken {
    /// Draws 256 random bits.
    pub fn draw(entropy: &dyn Entropy) -> Self {
        Self(Secret::new(hex::encode(entropy.draw::<32>())))
    }

    /// A token as a worker sends it.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(Secret::new(text))
    }

    /// The clear text, for the worker it is handed to.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// What the store keeps.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.expose().as_bytes()).into()
    }
}

/// A claim as a worker proves it with every call about its job.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The job.
    pub job: JobId,
    /// The token.
    pub token: ClaimToken,
}

/// A job to put in line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// The job; it keeps its id over lost leases, its attempt number rises.
    pub id: JobId,
    /// Its run.
    pub run: RunId,
    /// Whose it is.
    pub project: ProjectId,
    /// Place of its stage in the definition.
    pub stage: u32,
    /// Number of its area, of a stage that fans out.
    pub area: Option<u32>,
    /// What it needs.
    pub needs: Needs,
    /// When it was put in line.
    pub enqueued_at: Timestamp,
    /// Jobs of its project that may be in line and claimed at once, from now on; the others are held.
    pub project_limit: u32,
}

/// The name of a job's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobStatus {
    /// In line, or held until its project has room there.
    Waiting,
    /// A worker holds it.
    Claimed,
    /// Over.
    Ended,
}

/// The state of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobPhase {
    /// In line, or held until its project has room there.
    Waiting {
        /// Claims it has had before.
        claims: u32,
    },
    /// A worker holds it.
    Claimed {
        /// Number of this claim, from 1.
        claim: u32,
        /// Hash of the claim token.
        token: [u8; 32],
        /// The worker.
        worker: WorkerId,
        /// The life of the worker that took it.
        boot: BootId,
        /// When the lease ends unless it is renewed.
        lease_until: Timestamp,
    },
    /// Over.
    Ended {
        /// Claims it had.
        claims: u32,
    },
}

/// What may happen to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEvent {
    /// A worker takes it.
    Claim {
        /// Hash of the claim token.
        token: [u8; 32],
        /// The worker.
        worker: WorkerId,
        /// Its life.
        boot: BootId,
        /// When the lease ends.
        lease_until: Timestamp,
    },
    /// The lease is renewed.
    Renew {
        /// When it ends now.
        lease_until: Timestamp,
    },
    /// The claim is lost; the job waits again.
    Release,
    /// The job is over.
    End,
}

impl JobPhase {
    /// The name of the state.
    pub fn status(&self) -> JobStatus {
        match self {
            Self::Waiting { .. } => JobStatus::Waiting,
            Self::Claimed { .. } => JobStatus::Claimed,
            Self::Ended { .. } => JobStatus::Ended,
        }
    }

    /// Number of the last claim, 0 before the first.
    pub fn claims(&self) -> u32 {
        match self {
            Self::Waiting { claims } | Self::Ended { claims } => *claims,
            Self::Claimed { claim, .. } => *claim,
        }
    }

    /// The state after `event`.
    ///
    /// # Errors
    /// When the table has no such transition.
    pub fn next(&self, event: JobEvent) -> Result<Self, Illegal> {
        match (self, event) {
            (
                Self::Waiting { claims },
                JobEvent::Claim {
                    token,
                    worker,
                    boot,
                    lease_until,
                },
            ) => Ok(Self::Claimed {
                claim: claims.saturating_add(1),
                token,
                worker,
                boot,
                lease_until,
            }),
            (Self::Waiting { claims }, JobEvent::End) => Ok(Self::Ended { claims: *claims }),
            (Self::Waiting { .. }, JobEvent::Renew { .. }) => Err(illegal("waiting", "renew")),
            (Self::Waiting { .. }, JobEvent::Release) => Err(illegal("waiting", "release")),
            (
                Self::Claimed {
                    claim,
                    token,
                    worker,
                    boot,
                    ..
                },
                JobEvent::Renew { lease_until },
            ) => Ok(Self::Claimed {
                claim: *claim,
                token: *token,
                worker: *worker,
                boot: *boot,
                lease_until,
            }),
            (Self::Claimed { claim, .. }, JobEvent::Release) => Ok(Self::Waiting { claims: *claim }),
            (Self::Claimed { claim, .. }, JobEvent::End) => Ok(Self::Ended { claims: *claim }),
            (Self::Claimed { .. }, JobEvent::Claim { .. }) => Err(illegal("claimed", "claim")),
            (Self::Ended { .. }, JobEvent::Claim { .. }) => Err(illegal("ended", "claim")),
            (Self::Ended { .. }, JobEvent::Renew { .. }) => Err(illegal("ended", "renew")),
            (Self::Ended { .. }, JobEvent::Release) => Err(illegal("ended", "release")),
            (Self::Ended { .. }, JobEvent::End) => Err(illegal("ended", "end")),
        }
    }
}

fn illegal(from: &'static str, event: &'static str) -> Illegal {
    Illegal {
        what: "job",
        from,
        event,
    }
}

/// A job as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRow {
    /// The job.
    pub id: JobId,
    /// Its run.
    pub run: RunId,
    /// Whose it is.
    pub project: ProjectId,
    /// Place of its stage in the definition.
    pub stage: u32,
    /// Number of its area, of a stage that fans out.
    pub area: Option<u32>,
    /// What it needs.
    pub needs: Needs,
    /// When it was put in line.
    pub enqueued_at: Timestamp,
    /// Its state.
    pub phase: JobPhase,
    /// Whether its worker is to be told to stop.
    pub cancelled: bool,
    /// What was decided when its live claim was started, as the engine wrote it; once it is over, what was reported of it.
    pub dispatch: Option<String>,
}

impl JobRow {
    /// The worker that holds it.
    pub fn worker(&self) -> Option<WorkerId> {
        match self.phase {
            JobPhase::Claimed { worker, .. } => Some(worker),
            JobPhase::Waiting { .. } | JobPhase::Ended { .. } => None,
        }
    }
}

/// A job that a worker has just claimed.
#[derive(Debug, Clone)]
pub struct ClaimedJob {
    /// The job, claimed.
    pub job: JobRow,
    /// The token of the claim.
    pub token: ClaimToken,
}

/// How a job's process ended, as its worker reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEnd {
    /// Well.
    Done,
    /// It failed.
    Failed(crate::runs::Failure),
    /// It was cancelled.
    Cancelled,
}
