//! What preflight finds.

use super::Estimate;

/// How bad a problem is. Only errors keep a run from being created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// The run may fail.
    Warning,
    /// The run cannot succeed and is not created.
    Error,
}

impl Severity {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that would keep a workflow from running well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The stage it is about; none for the whole run.
    pub stage: Option<String>,
    /// How bad it is.
    pub severity: Severity,
    /// Stable code.
    pub code: &'static str,
    /// What is wrong; starts with `stage '<key>': ` when it is about one.
    pub message: String,
    /// One sentence naming the command or field to change.
    pub fix: String,
    /// JSON pointer into the request body, where one field is at fault.
    pub pointer: Option<String>,
    /// What the stage is likely to cost, of code `cost_estimate`.
    pub estimate: Option<Estimate>,
}
