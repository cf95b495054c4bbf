//! `wall_sec` of a run or stage: until when it may go on, and what is told when it went on longer.

use std::time::Duration;

use super::{Failure, FailureCode, Inputs, RunPhase, RunState};
use crate::clock::Timestamp;
use crate::workflow::{Budget, Definition};

/// The end of the time that a budget allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wall {
    /// When it is up.
    pub(crate) until: Timestamp,
    limit: Duration,
    since: Timestamp,
    whose: &'static str,
}

impl Wall {
    /// The tighter of the run's and the stage's, when one has any. What has not started yet starts now.
    pub(crate) fn of(
        inputs: &Inputs,
        definition: &Definition,
        state: &RunState,
        stage: usize,
        now: Timestamp,
    ) -> Option<Self> {
        let run_since = match state.phase {
            RunPhase::Running { since } => since,
            RunPhase::Queued | RunPhase::Ended { .. } => now,
        };
        let stage_since = state.stages[stage].first_start().unwrap_or(now);
        let run = inputs.budget(None);
        let wall = |budget: &Budget, since: Timestamp, whose| {
            let limit = budget.wall()?;
            let until = since.plus(limit);
            Some(Self {
                until,
                limit,
                since,
                whose,
            })
        };
        let walls = [
            wall(&run, run_since, "run"),
            wall(&definition.stages[stage].budget, stage_since, "stage"),
        ];
        walls.into_iter().flatten().min_by_key(|wall| wall.until)
    }

    /// The failure, once the time is up.
    pub(crate) fn crossed(&self, now: Timestamp) -> Option<Failure> {
        if now < self.until {
            return None;
        }
        let (spent, limit, whose) = (now.since(self.since).as_secs(), self.limit.as_secs(), self.whose);
        let message = format!("{spent} s passed of the {limit} s that wall_sec of the {whose} allows");
        Some(Failure::new(FailureCode::BudgetExceeded, message))
    }
}
