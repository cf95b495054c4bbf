//! Errors by meaning. The server's one table turns meanings into statuses; nothing here knows of HTTP.

use std::time::Duration;

use crate::preflight::Problem;
use crate::store::StoreError;

/// A fault in what a caller sent: where, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// JSON pointer into the body (RFC 6901), or the bare name of a query parameter.
    pub pointer: String,
    /// What is wrong, and what would be right. Never holds a secret, even when that is the bad value.
    pub message: String,
}

impl Fault {
    /// A fault at `pointer`.
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            message: message.into(),
        }
    }
}

/// Which conflict; the code is stable and part of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// The run has not ended yet.
    NotTerminal,
    /// The run or job has ended already, in another way.
    AlreadyTerminal,
    /// The claim was superseded or has expired.
    StaleClaim,
    /// The record is used by others.
    InUse,
    /// Another record has this name.
    Taken,
    /// A chunk is missing before this one.
    ChunkGap {
        /// Number of the one that is expected.
        expected: u64,
    },
    /// The list of workers is not known up to here: send all of it.
    Resync,
    /// The worker's keys are not those that the code expects.
    FingerprintMismatch,
    /// The worker has no pinned key, or was revoked.
    WorkerNotPinned,
    /// The token was given to another claim.
    TokenUsed,
}

/// Why a known caller may not do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// A code that is unknown, used, expired or another's.
    #[error("the code is not valid")]
    CodeInvalid,
    /// A signature that does not prove the keys it came with.
    #[error("the proof is not of these keys and this code")]
    ProofInvalid,
    /// A call about a job without its claim.
    #[error("send the claim of the job as X-Claim-Token")]
    ClaimRequired,
    /// A worker of another orchestrator.
    #[error("the worker is behind another orchestrator")]
    ForeignWorker,
}

/// What went wrong, by meaning. Closed, so that a new meaning makes the server's table ask for its status.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such record in the caller's scope.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// The record's state does not allow this.
    #[error("{message}")]
    Conflict {
        /// Which conflict.
        kind: Conflict,
        /// What is in the way.
        message: String,
        /// Who uses the record, for [`Conflict::InUse`].
        users: Vec<User>,
    },
    /// What was sent is well-formed but not valid.
    #[error("{} invalid fields", .0.len())]
    Invalid(Vec<Fault>),
    /// A secret would be drawn to a new place without being sent again.
    #[error("{0} changed: send the secrets again with it")]
    ResendRequired(&'static str),
    /// What was sent is no JSON; the text says where it breaks off.
    #[error("not JSON: {0}")]
    Unreadable(String),
    /// Preflight found errors; nothing was created.
    #[error("preflight found errors")]
    Preflight {
        /// All problems, errors among them.
        problems: Vec<Problem>,
        /// Faults of fields, those of the definition too.
        faults: Vec<Fault>,
    },
    /// The record's content was kept for its time and is gone.
    #[error("{0} expired")]
    Expired(&'static str),
    /// What was sent is not what its digest says.
    #[error("the content does not have the digest that was sent with it")]
    DigestMismatch,
    /// The caller is known and may not do this.
    #[error("{0}")]
    Forbidden(Denial),
    /// What was sent is larger than its limit in bytes.
    #[error("larger than {0} bytes")]
    TooLarge(u64),
    /// Too much waits already; try again after the given time.
    #[error("{message}")]
    Busy {
        /// What is full.
        message: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// As many runs of the project wait as may; try again after the given time.
    #[error("{message}")]
    QueueFull {
        /// How many that is.
        message: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// A part that is needed does not answer now.
    #[error("{0} is not available now")]
    Unavailable(&'static str, #[source] Option<Box<dyn std::error::Error + Send + Sync>>),
    /// Pond's own fault, or its disk's.
    #[error("internal: {0}")]
    Internal(String, #[source] Option<Box<dyn std::error::Error + Send + Sync>>),
}

/// A record that uses another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Kind of the user, such as `model`.
    pub kind: &'static str,
    /// Its key.
    pub key: String,
    /// The project it belongs to; none for the org.
    pub project: Option<crate::id::ProjectId>,
}

impl Error {
    /// One fault.
    pub fn invalid(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Fault::new(pointer, message)])
    }

    /// A conflict without users.
    pub fn conflict(kind: Conflict, message: impl Into<String>) -> Self {
        Self::Conflict {
            kind,
            message: message.into(),
            users: Vec::new(),
        }
    }

    /// A fault of Pond's own, told in words.
    pub fn internal(what: impl Into<String>) -> Self {
        Self::Internal(what.into(), None)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(source) => Self::Unavailable("the store", Some(source)),
            corrupt @ StoreError::Corrupt { .. } => Self::Internal("the store".into(), Some(Box::new(corrupt))),
        }
    }
}

/// The usual result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
