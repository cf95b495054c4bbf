//! Which runs a list shows.

use super::RunStatus;
use crate::clock::Timestamp;

/// Narrows a list of runs; what is absent does not narrow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Any of these; all when empty.
    pub statuses: Vec<RunStatus>,
    /// Exactly this trigger.
    pub trigger: Option<String>,
    /// Created at this time or later.
    pub since: Option<Timestamp>,
}

impl RunFilter {
    /// Whether a run with these values is shown.
    pub fn admits(&self, status: RunStatus, trigger: &str, created_at: Timestamp) -> bool {
        (self.statuses.is_empty() || self.statuses.contains(&status))
            && self.trigger.as_deref().is_none_or(|wanted| wanted == trigger)
            && self.since.is_none_or(|since| created_at >= since)
    }
}
