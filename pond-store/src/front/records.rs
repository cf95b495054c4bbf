//! The audit log and requests that are carried out once: rare facts, each a transaction of its own.

use async_trait::async_trait;
use pond_core::audit::{AuditFilter, AuditHead, AuditRow, AuditStore};
use pond_core::clock::Timestamp;
use pond_core::idempotency::{Attempt, Begun, Kept, OnceStore};
use pond_core::page::{Page, PageRequest};
use pond_core::store::StoreError;

use super::Front;
use crate::fact::Backend;

#[async_trait]
impl<B: Backend> AuditStore for Front<B> {
    async fn audit_head(&self) -> Result<Option<AuditHead>, StoreError> {
        self.backend.audit_head().await
    }

    async fn append_audit(&self, after: Option<AuditHead>, rows: Vec<AuditRow>) -> Result<bool, StoreError> {
        self.backend.append_audit(after, rows).await
    }

    async fn audit_rows(
        &self,
        filter: &AuditFilter,
        page: PageRequest<i64>,
    ) -> Result<Page<AuditRow, i64>, StoreError> {
        self.backend.audit_rows(filter, page).await
    }

    async fn audit_chain(&self, after: i64, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        self.backend.audit_chain(after, limit).await
    }
}

#[async_trait]
impl<B: Backend> OnceStore for Front<B> {
    async fn begin_once(&self, attempt: Attempt) -> Result<Begun, StoreError> {
        self.backend.begin_once(attempt).await
    }

    async fn finish_once(
        &self,
        id: [u8; 32],
        nonce: [u8; 16],
        kept: Kept,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        self.backend.finish_once(id, nonce, kept, until).await
    }

    async fn abandon_once(&self, id: [u8; 32], nonce: [u8; 16]) -> Result<(), StoreError> {
        self.backend.abandon_once(id, nonce).await
    }

    async fn sweep_once(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        self.backend.sweep_once(now, limit).await
    }
}
