//! What would keep a run from running well.

use serde::{Deserialize, Serialize};

use super::open_enum::open_enum;

open_enum! {
    /// How bad a problem is. Only errors keep a run from being created.
    Severity {
        /// The run cannot succeed and is not created.
        Error = "error",
        /// The run may fail.
        Warning = "warning",
        /// Worth knowing.
        Info = "info",
    }
}

/// One thing that preflight found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PreflightProblem {
    /// The stage it is about; null for the whole run.
    pub stage: Option<String>,
    /// How bad it is.
    pub severity: Severity,
    /// Stable code, such as `no_capable_worker`.
    pub code: String,
    /// What is wrong; starts with `stage '<key>': ` when it is about one.
    pub message: String,
    /// One sentence naming the command or field to change.
    #[serde(default)]
    pub fix: String,
    /// JSON pointer into the request body, where one field is at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// What the stage is likely to cost, with code `cost_estimate` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate_usd: Option<CostEstimate>,
    /// What the estimate rests on, with code `cost_estimate` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<String>,
}

/// A range of likely cost: decimal texts in USD.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CostEstimate {
    /// Likely not less.
    pub low: String,
    /// Likely not more.
    pub high: String,
}

/// The answer of `POST /v1/runs/preflight`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Preflight {
    /// Whether there is no problem of severity `error`.
    pub ok: bool,
    /// What was found.
    pub problems: Vec<PreflightProblem>,
}
