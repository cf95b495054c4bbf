//! The record of one model call, and the place where budgets have their say.

use async_trait::async_trait;
use pond_core::clock::Timestamp;
use pond_core::usage::{Amounts, Pico, Tokens, UsageTotals};
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

/// Pays for calls out of a budget.
#[async_trait]
pub trait Spend: Send + Sync + 'static {
    /// Asked before each billed call, with what it is expected to use. A call that it lets pass is told of by
    /// [`Spend::end`], however it ends.
    ///
    /// # Errors
    /// When the budget is spent; the call is then refused as `budget_exceeded`.
    async fn begin(&self, call: Uuid, expected: Amounts) -> Result<(), Exceeded>;

    /// Told what a call under way is known to have used so far; whether that is paid for.
    fn covers(&self, call: Uuid, used: Amounts) -> bool;

    /// Asks for more, for a call that is not paid for.
    ///
    /// # Errors
    /// When there is no more; the call is then cut off.
    async fn more(&self, call: Uuid) -> Result<(), Exceeded>;

    /// Told of each billed call when it has ended.
    fn end(&self, call: &ModelCall);
}

/// No budget at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unlimited;

#[async_trait]
impl Spend for Unlimited {
    async fn begin(&self, _: Uuid, _: Amounts) -> Result<(), Exceeded> {
        Ok(())
    }

    fn covers(&self, _: Uuid, _: Amounts) -> bool {
        true
    }

    async fn more(&self, _: Uuid) -> Result<(), Exceeded> {
        Ok(())
    }

    fn end(&self, _: &ModelCall) {}
}
