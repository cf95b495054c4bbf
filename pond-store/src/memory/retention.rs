//! Forgetting in memory.

use async_trait::async_trait;
use pond_core::clock::Timestamp;
use pond_core::id::RunId;
use pond_core::page::{Page, PageRequest};
use pond_core::runs::{Emptied, RetentionStore, first_id};
use pond_core::store::StoreError;

use super::runs::RunRecord;
use super::{Memory, State};

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
        Ok(state.empty(run, cutoff, limit))
    }
}

impl State {
    /// Forgets what a run left: artifacts, then jobs, then events, up to `limit` of each, and no later ones while there may be
    /// more of the earlier.
    fn empty(&mut self, run: RunId, cutoff: Timestamp, limit: usize) -> Emptied {
        let due = |record: &&mut RunRecord| record.ended_before(cutoff);
        let Some(record) = self.runs.get_mut(&run).filter(due) else {
            return Emptied::Whole;
        };
        if record.forget_artifacts(limit) >= limit || self.forget_jobs(run, limit) >= limit {
            return Emptied::Part;
        }
        let gone = self.runs.get_mut(&run).map_or(0, |record| record.forget_events(limit));
        if gone >= limit { Emptied::Part } else { Emptied::Whole }
    }
}
