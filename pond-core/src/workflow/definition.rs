//! A checked definition.

use std::sync::Arc;
use std::time::Duration;

use super::Budget;
use crate::runs::executors::Executor;

/// One stage.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Its key, unique in the definition.
    pub key: String,
    /// Its name for people.
    pub name: String,
    /// A label of the caller's.
    pub category: Option<String>,
    /// What it runs.
    pub executor: Arc<dyn Executor>,
    /// How long it may take; the server's default when absent.
    pub timeout: Option<Duration>,
    /// Whether its failure counts as success for the run and for its successors.
    pub continue_on_error: bool,
    /// What it may spend.
    pub budget: Budget,
}

/// A checked workflow: stages in array order, each with its predecessors.
#[derive(Debug, Clone)]
pub struct Definition {
    /// The stages.
    pub stages: Vec<Stage>,
    /// For each stage the places of its predecessors, rising. Free of cycles.
    pub predecessors: Vec<Vec<usize>>,
}

impl Definition {
    /// Key of the stage at `index`.
    pub fn key(&self, index: usize) -> &str {
        &self.stages[index].key
    }

    /// Place of the stage with this key.
    pub fn index(&self, key: &str) -> Option<usize> {
        self.stages.iter().position(|stage| stage.key == key)
    }

    /// The stages in topological order; among those that could come next, the first in array order.
    pub fn topological(&self) -> Vec<usize> {
        super::order::topological(&self.predecessors).unwrap_or_default()
    }
}
