//! What a worker tells of a running job: its model calls and what its egress proxy decided.

use serde::{Deserialize, Serialize};

use super::EgressVerdict;

/// One model call or one egress decision. Each has an id: one that was sent before is ignored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type")]
pub enum TelemetryEvent {
    /// A model call.
    #[serde(rename = "model.call")]
    ModelCall(ModelCallEvent),
    /// A place that the job asked for.
    #[serde(rename = "egress.decision")]
    EgressDecision(EgressDecisionEvent),
}

/// One model call.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ModelCallEvent {
    /// A UUID.
    pub id: String,
    /// When.
    pub ts: String,
    /// The provider.
    pub provider: String,
    /// The model.
    pub model: String,
    /// The status that the agent saw.
    pub status: u16,
    /// From the request to the end of the answer.
    pub latency_ms: u64,
    /// Uncached input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Input tokens from the provider's cache.
    pub cache_read_tokens: u64,
    /// Input tokens to the provider's cache.
    pub cache_write_tokens: u64,
    /// Whether the counts are estimated.
    pub estimated: bool,
}

/// One egress decision. The stage is that of the job.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EgressDecisionEvent {
    /// A UUID.
    pub id: String,
    /// When it was taken.
    pub ts: String,
    /// The host that was asked for, at most 255 bytes.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The address that was dialled.
    pub ip: Option<String>,
    /// What was decided.
    pub decision: EgressVerdict,
    /// The rule that decided.
    pub rule: Option<String>,
    /// Why it was denied, and what to add.
    pub reason: Option<String>,
    /// Bytes from the job to the place.
    pub bytes_up: u64,
    /// Bytes from the place to the job.
    pub bytes_down: u64,
}
