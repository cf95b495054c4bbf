//! What the store does for budgets.

use async_trait::async_trait;

use super::{Amounts, Granted, Slice};
use crate::id::RunId;
use crate::runs::Guard;
use crate::store::StoreError;

/// A job draws from the budgets of its run and its stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draw {
    /// The run.
    pub run: RunId,
    /// Place of the stage in the definition.
    pub stage: u32,
    /// The claim it depends on.
    pub guard: Guard,
    /// What is wanted at least, beyond all that was granted before.
    pub want: Amounts,
    /// The limit of the run.
    pub run_limit: Slice,
    /// The limit of the stage, all of its attempts and areas together.
    pub stage_limit: Slice,
}

/// What became of a draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drawn {
    /// A slice, or nothing when there is none left.
    Granted(Granted),
    /// The claim is not live; nothing was written.
    StaleClaim,
}

/// Budgets.
///
/// For a job that has drawn, what it was granted and what it has spent are kept: spending grows with the usage that is
/// appended under its claim ([`crate::runs::Append::usage`]), in that very write, and what was granted and not spent is given
/// back by the write that releases or ends the job. So the limit of a run less what its jobs have spent, or hold if that is
/// more, is left at every moment, however many servers draw at once.
#[async_trait]
pub trait BudgetStore: Send + Sync {
    /// Draws a slice as [`super::draw`] gives it; durable on return. Draws of one run follow one another.
    async fn draw(&self, draw: Draw) -> Result<Drawn, StoreError>;
}
