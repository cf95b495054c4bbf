//! What a row says.

use crate::clock::Timestamp;
use crate::id::ProjectId;

/// What happened, as the one who did it tells it. Never holds a value that was sent: names of fields and records only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Who did it.
    pub actor: String,
    /// What was done, such as `credential.put`.
    pub action: String,
    /// To which record.
    pub target: String,
    /// Whose that is; none for the org's.
    pub project: Option<ProjectId>,
    /// Names of the fields that were sent.
    pub changed: Vec<String>,
    /// The request, for the server's log.
    pub request_id: Option<String>,
}

/// A row of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// Its number: 1 for the first, without gaps.
    pub id: i64,
    /// When it was written.
    pub at: Timestamp,
    /// What happened.
    pub entry: Entry,
    /// The hash of the row before; zeros for the first.
    pub prev_hash: [u8; 32],
    /// SHA-256 of all of the above.
    pub hash: [u8; 32],
    /// HMAC-SHA256 of the hash.
    pub mac: [u8; 32],
}
