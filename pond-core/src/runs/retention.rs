//! How long the logs and artifacts of ended runs are kept. What is due answers as expired by the clock alone; the store is then
//! emptied behind it, bit by bit, and the runs themselves stay.

use std::time::Duration;

use async_trait::async_trait;

use super::RunPhase;
use crate::clock::Timestamp;
use crate::id::RunId;
use crate::page::{Page, PageRequest};
use crate::store::StoreError;

const DAY: Duration = Duration::from_secs(86_400);

/// How long logs and artifacts outlive their run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention(Duration);

impl Retention {
    /// So many days.
    pub fn days(days: u32) -> Self {
        Self(DAY * days)
    }

    /// What ended before this is due.
    pub fn cutoff(self, now: Timestamp) -> Timestamp {
        now.minus(self.0)
    }

    /// Whether what a run left is due.
    pub fn is_over(self, phase: &RunPhase, now: Timestamp) -> bool {
        phase.ended_at().is_some_and(|ended| ended < self.cutoff(now))
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self::days(90)
    }
}

/// The lowest id that a run made at `at` can have: ids begin with their time.
pub fn first_id(at: Timestamp) -> RunId {
    let millis = u64::try_from(at.millis()).unwrap_or(0);
    uuid::Uuid::from_u128(u128::from(millis) << 80).into()
}

/// How far a run was emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emptied {
    /// Nothing is left, or nothing was due.
    Whole,
    /// There may be more.
    Part,
}

/// What the store does to forget.
#[async_trait]
pub trait RetentionStore: Send + Sync {
    /// Runs that ended before `cutoff` and still have events, ordered by id. Looks at `limit` runs at most, of those made before
    /// `cutoff` that have events: a page may hold fewer than there are, or none, and still have a next one. A read; where
    /// nothing is old enough it costs one look at an index.
    async fn due_runs(&self, cutoff: Timestamp, page: PageRequest<RunId>) -> Result<Page<RunId, RunId>, StoreError>;

    /// Deletes up to `limit` artifact records, ended jobs and segments of events, each, of a run that ended before `cutoff`;
    /// events last, so that a run that was begun is found again. One transaction; of another run, or a live one, it deletes
    /// nothing.
    async fn empty_run(&self, run: RunId, cutoff: Timestamp, limit: u32) -> Result<Emptied, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ManualClock, SeededEntropy};

    #[test]
    fn ids_of_a_later_time_are_above() {
        let (clock, entropy) = (ManualClock::new(), SeededEntropy::new(1));
        use crate::clock::Clock;
        let early = RunId::mint(&*clock, &entropy);
        clock.advance(Duration::from_millis(1));
        let border = first_id(clock.now());
        let late = RunId::mint(&*clock, &entropy);
        assert!(early < border && border <= late);
    }
}
