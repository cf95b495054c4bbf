//! Usage records: counts per call, per entry, and the report of a run.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use super::Pico;

/// Token counts of one or more calls. The four kinds are disjoint on every provider's wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// Input tokens that neither came from nor went to a cache.
    pub input: u64,
    /// Output tokens.
    pub output: u64,
    /// Input tokens read from the provider's cache.
    pub cache_read: u64,
    /// Input tokens written to the provider's cache.
    pub cache_write: u64,
}

impl Tokens {
    /// All four kinds together, as budgets count them.
    pub fn total(&self) -> u64 {
        [self.input, self.output, self.cache_read, self.cache_write]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

impl AddAssign for Tokens {
    fn add_assign(&mut self, other: Self) {
        self.input = self.input.saturating_add(other.input);
        self.output = self.output.saturating_add(other.output);
        self.cache_read = self.cache_read.saturating_add(other.cache_read);
        self.cache_write = self.cache_write.saturating_add(other.cache_write);
    }
}

/// Sums over calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageTotals {
    /// Number of calls.
    pub calls: u64,
    /// Their tokens.
    pub tokens: Tokens,
    /// Their cost, of priced calls only.
    pub cost: Pico,
    /// Calls without a known price.
    pub unpriced_calls: u64,
    /// Calls whose counts are estimates, because the answer was cut off.
    pub estimated_calls: u64,
}

impl AddAssign for UsageTotals {
    fn add_assign(&mut self, other: Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.tokens += other.tokens;
        self.cost += other.cost;
        self.unpriced_calls = self.unpriced_calls.saturating_add(other.unpriced_calls);
        self.estimated_calls = self.estimated_calls.saturating_add(other.estimated_calls);
    }
}

/// What one (stage, substage, model) of a run used: the unit that stores keep, and that all sums are made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageEntry {
    /// Key of the stage.
    pub stage: String,
    /// Key of the substage, for fan-out areas.
    pub substage: Option<String>,
    /// The model as the provider names it.
    pub model: String,
    /// The sums.
    pub totals: UsageTotals,
}

/// Usage of a whole run; every view is a sum over the same entries, so the parts always add up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageReport {
    /// The entries, ordered by stage, substage and model.
    pub entries: Vec<UsageEntry>,
}

impl UsageReport {
    /// The sum of all.
    pub fn totals(&self) -> UsageTotals {
        sum(self.entries.iter())
    }

    /// Sums by a key, in order of first appearance.
    pub fn by<K: PartialEq>(&self, key: impl Fn(&UsageEntry) -> Option<K>) -> Vec<(K, UsageTotals)> {
        let mut groups: Vec<(K, UsageTotals)> = Vec::new();
        for entry in &self.entries {
            let Some(name) = key(entry) else { continue };
            match groups.iter_mut().find(|(known, _)| *known == name) {
                Some((_, totals)) => *totals += entry.totals,
                None => groups.push((name, entry.totals)),
            }
        }
        groups
    }
}

fn sum<'a>(entries: impl Iterator<Item = &'a UsageEntry>) -> UsageTotals {
    let mut totals = UsageTotals::default();
    for entry in entries {
        totals += entry.totals;
    }
    totals
}

/// One call of a model, as the broker saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCall {
    /// Its own: one that was told before under the same claim is not counted twice.
    pub id: uuid::Uuid,
    /// When it began.
    pub at: crate::clock::Timestamp,
    /// The provider.
    pub provider: String,
    /// The model, as the provider names it.
    pub model: String,
    /// HTTP status of the answer.
    pub status: u16,
    /// How long it took, in milliseconds.
    pub latency_ms: u64,
    /// Its tokens.
    pub tokens: Tokens,
    /// Whether the counts are an estimate, because the answer was cut off.
    pub estimated: bool,
}
