//! Forgetting in memory.

use async_trait::async_trait;
use pond_core::clock::Timestamp;
use pond_core::id::RunId;
use pond_core::page::{Page, PageRequest};
use pond_core::runs::{Emptied, RetentionStore, first_id};
use pond_core::store::StoreError;

use super::Memory;

#[async_trait]
impl RetentionStore for Memory {
    async fn due_runs(&self, cutoff: Timestamp, page: PageRequest<RunId>) -> Result<Page<RunId, RunId>, StoreError> {
        let state = self.state()?;
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let mut old: Vec<RunId> = state
            .runs
            .iter()
            .filter(|(id, record)| {
                page.after.is_none_or(|after| **id > after) && **id < first_id(cutoff) && record.has_events()
            })
            .map(|(id, _)| *id)
            .collect();
        old.sort_unstable();
        old.truncate(limit);
        let due = |id: &RunId| state.runs.get(id).is_some_and(|record| record.ended_before(cutoff));
        Ok(Page {
            next: old.last().copied().filter(|_| old.len() >= limit),
            items: old.into_iter().filter(due).collect(),
        })
    }

    async fn empty_run(&self, run: RunId, cutoff: Timestamp, limit: u32) -> Result<Emptied, StoreError> {
        let mut state = self.state()?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let record = state.runs.get_mut(&run).filter(|record| record.ended_before(cutoff));
        Ok(record.map_or(Emptied::Whole, |record| record.empty(limit)))
    }
}
