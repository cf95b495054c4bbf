//! The audit log.

use serde::{Deserialize, Serialize};

/// A row of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditEntry {
    /// Its number, from 1 without gaps.
    pub id: u64,
    /// When it was written.
    pub ts: String,
    /// Who did it: `service`, `key:<id>`, `orchestrator:<id>` or `worker:<id>`.
    pub actor: String,
    /// What was done, such as `key.create`.
    pub action: String,
    /// To which record.
    pub target: String,
    /// Whose that is; null for the org's.
    pub project_id: Option<String>,
    /// Names of the fields that were sent, never their values.
    pub changed: Vec<String>,
    /// The request, for the server's log.
    pub request_id: Option<String>,
    /// The hash of the row before, in hex.
    pub prev_hash: String,
    /// The row's own hash, in hex.
    pub hash: String,
    /// The HMAC of the hash under the server's key, in hex.
    pub mac: String,
}

/// A page of the audit log, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditList {
    /// The rows.
    pub entries: Vec<AuditEntry>,
    /// Where the next page begins; null at the end.
    pub next_cursor: Option<String>,
}

/// The answer of `GET /v1/admin/audit/verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditVerification {
    /// Whether the chain is whole.
    pub ok: bool,
    /// How many rows are good, from the first.
    pub rows: u64,
    /// The last good row, signed: `<id>.<microseconds>.<hash>.<mac>`.
    pub head: String,
    /// The first flaw.
    pub flaw: Option<AuditFlaw>,
}

/// What is wrong with the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditFlaw {
    /// The number of the row.
    pub id: u64,
    /// `edited`, `broken`, `forged`, `head_forged` or `cut`.
    pub kind: String,
}
