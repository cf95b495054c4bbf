//! The audit log in memory.

use async_trait::async_trait;
use pond_core::audit::{AuditFilter, AuditHead, AuditRow, AuditStore};
use pond_core::page::{Page, PageRequest};
use pond_core::store::StoreError;

use super::Memory;

fn head(rows: &[AuditRow]) -> Option<AuditHead> {
    rows.last().map(|row| AuditHead {
        id: row.id,
        hash: row.hash,
    })
}

#[async_trait]
impl AuditStore for Memory {
    async fn audit_head(&self) -> Result<Option<AuditHead>, StoreError> {
        Ok(head(&self.state()?.audit))
    }

    async fn append_audit(&self, after: Option<AuditHead>, rows: Vec<AuditRow>) -> Result<bool, StoreError> {
        let mut state = self.state()?;
        let fits = head(&state.audit) == after;
        if fits {
            state.audit.extend(rows);
        }
        Ok(fits)
    }

    async fn audit_rows(
        &self,
        filter: &AuditFilter,
        page: PageRequest<i64>,
    ) -> Result<Page<AuditRow, i64>, StoreError> {
        let state = self.state()?;
        let rows = state.audit.iter().rev();
        let rows = rows
            .filter(|row| filter.admits(row) && page.after.is_none_or(|after| row.id < after))
            .take(page.limit as usize + 1)
            .cloned()
            .collect();
        Ok(Page::cut(rows, page.limit, |row| row.id))
    }

    async fn audit_chain(&self, after: i64, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        let state = self.state()?;
        let rows = state.audit.iter().filter(|row| row.id > after);
        Ok(rows.take(limit as usize).cloned().collect())
    }
}
