//! What a run used: calls, tokens, money. The parts sum exactly to the totals.

use serde::{Deserialize, Serialize};

/// Counts over model calls. The four kinds of tokens are disjoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UsageCounts {
    /// Model calls.
    pub calls: u64,
    /// Input tokens that neither came from nor went to a cache.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Input tokens read from the provider's cache.
    pub cache_read_tokens: u64,
    /// Input tokens written to the provider's cache.
    pub cache_write_tokens: u64,
    /// Cost of the priced calls in USD: a decimal text of up to 12 places.
    pub cost_usd: String,
}

impl Default for UsageCounts {
    fn default() -> Self {
        Self {
            calls: 0,
            input_tokens: 0,
            output_tokens: 0,
            cache_read_tokens: 0,
            cache_write_tokens: 0,
            cost_usd: "0".to_owned(),
        }
    }
}

impl UsageCounts {
    /// All four kinds of tokens together, as budgets count them.
    pub fn tokens(&self) -> u64 {
        [
            self.input_tokens,
            self.output_tokens,
            self.cache_read_tokens,
            self.cache_write_tokens,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }
}

/// What one stage used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StageUsage {
    /// Key of the stage.
    pub stage: String,
    /// Its counts.
    #[serde(flatten)]
    pub counts: UsageCounts,
}

/// What one area of a fan-out used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SubstageUsage {
    /// Key of the stage.
    pub stage: String,
    /// Key of the area.
    pub substage: String,
    /// Its counts.
    #[serde(flatten)]
    pub counts: UsageCounts,
}

/// What was used of one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelUsage {
    /// The model as the provider names it.
    pub model: String,
    /// Its counts.
    #[serde(flatten)]
    pub counts: UsageCounts,
}

/// The answer of `GET /v1/runs/{id}/usage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Usage {
    /// The run.
    #[serde(rename = "runId")]
    pub run_id: String,
    /// The sum of all.
    pub totals: UsageCounts,
    /// By stage.
    #[serde(default)]
    pub stages: Vec<StageUsage>,
    /// By area of a fan-out.
    #[serde(default)]
    pub substages: Vec<SubstageUsage>,
    /// By model.
    #[serde(default)]
    pub models: Vec<ModelUsage>,
    /// Calls without a known price, which `cost_usd` leaves out.
    #[serde(default)]
    pub unpriced_calls: u64,
    /// Whether some counts are estimates, because an answer was cut off.
    #[serde(default)]
    pub estimated: bool,
}
