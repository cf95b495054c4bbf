//! What was taken from the fenced blocks of a stage's output.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// How much was found in the fenced blocks that a stage's `parse` asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParseCount {
    /// Blocks with the label.
    #[serde(rename = "b")]
    pub blocks: u64,
    /// Valid records in them.
    #[serde(rename = "r")]
    pub records: u64,
    /// Records left out as invalid.
    #[serde(rename = "i")]
    pub invalid: u64,
}

impl AddAssign for ParseCount {
    fn add_assign(&mut self, other: Self) {
        self.blocks = self.blocks.saturating_add(other.blocks);
        self.records = self.records.saturating_add(other.records);
        self.invalid = self.invalid.saturating_add(other.invalid);
    }
}
