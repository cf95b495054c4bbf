//! The record of one model call, and the place where budgets have their say.

use pond_core::clock::Timestamp;
use pond_core::usage::{Pico, Tokens, UsageTotals};
use uuid::Uuid;

/// One call to a model that the provider bills, or tried to: the `model.call` telemetry with its cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCall {
    /// Fresh, so that telling it twice counts once.
    pub id: Uuid,
    /// When the request was sent on.
    pub ts: Timestamp,
    /// The provider's name.
    pub provider: &'static str,
    /// The model, as the grant names it.
    pub model: String,
    /// The status that the client saw; 499 when it hung up before there was one.
    pub status: u16,
    /// From the request being sent on until the answer's end.
    pub latency_ms: u64,
    /// What the provider counted; the four kinds are disjoint.
    pub tokens: Tokens,
    /// Whether `tokens` is (partly) an estimate, because the answer was cut off or held no usage.
    pub estimated: bool,
    /// What it cost; none when the model has no price for what it used.
    pub cost: Option<Pico>,
}

impl ModelCall {
    /// The call as a sum of one.
    pub fn totals(&self) -> UsageTotals {
        UsageTotals {
            calls: 1,
            tokens: self.tokens,
            cost: self.cost.unwrap_or_default(),
            unpriced_calls: u64::from(self.cost.is_none()),
            estimated_calls: u64::from(self.estimated),
        }
    }
}

/// No further call is paid for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Exceeded {
    /// Names the limit and the spend.
    pub message: String,
}

/// Draws calls from a budget.
pub trait Spend: Send + Sync + 'static {
    /// Asked before each billed call.
    ///
    /// # Errors
    /// When the budget is spent; the call is then refused as `budget_exceeded`.
    fn before(&self) -> Result<(), Exceeded>;

    /// Told of each billed call when it has ended.
    fn after(&self, call: &ModelCall);
}

/// No budget at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unlimited;

impl Spend for Unlimited {
    fn before(&self) -> Result<(), Exceeded> {
        Ok(())
    }

    fn after(&self, _: &ModelCall) {}
}
