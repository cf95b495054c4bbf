//! What the store does for the audit log. There is no method that changes or deletes a row.

use async_trait::async_trait;

use super::AuditRow;
use crate::clock::Timestamp;
use crate::page::{Page, PageRequest};
use crate::store::StoreError;

/// The last row of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditHead {
    /// Its number; 0 before there is one.
    pub id: i64,
    /// Its hash.
    pub hash: [u8; 32],
}

/// Narrows a list of rows; what is absent does not narrow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Written at this time or later.
    pub since: Option<Timestamp>,
    /// Of exactly this actor.
    pub actor: Option<String>,
    /// Of exactly this action.
    pub action: Option<String>,
}

impl AuditFilter {
    /// Whether a row is shown.
    pub fn admits(&self, row: &AuditRow) -> bool {
        self.since.is_none_or(|since| row.at >= since)
            && self.actor.as_ref().is_none_or(|actor| *actor == row.entry.actor)
            && self.action.as_ref().is_none_or(|action| *action == row.entry.action)
    }
}

/// The audit log.
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// The last row; none before there is one.
    async fn audit_head(&self) -> Result<Option<AuditHead>, StoreError>;

    /// Adds rows, all or none, if `after` is the last row (none: there is none) and they are numbered on from it. Of servers
    /// that race for a number one wins; the others get false, and nothing of theirs is written.
    async fn append_audit(&self, after: Option<AuditHead>, rows: Vec<AuditRow>) -> Result<bool, StoreError>;

    /// Rows, newest first; the cursor is a row's number.
    async fn audit_rows(&self, filter: &AuditFilter, page: PageRequest<i64>)
    -> Result<Page<AuditRow, i64>, StoreError>;

    /// Rows with a number above `after`, oldest first, at most `limit`.
    async fn audit_chain(&self, after: i64, limit: u32) -> Result<Vec<AuditRow>, StoreError>;
}
