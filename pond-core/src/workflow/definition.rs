//! A checked definition.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Budget, Retries, When};
use crate::artifacts::ArtifactName;
use crate::runs::executors::{Executor, Fanout, Work};

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
    /// How often it is tried again.
    pub retries: Retries,
    /// The condition under which it runs; after success when absent.
    pub when: Option<When>,
    /// Whether its failure counts as success for the run and for its successors.
    pub continue_on_error: bool,
    /// What it may spend.
    pub budget: Budget,
}

impl Stage {
    /// The list that it has one job for each area of, when it fans out.
    pub fn fanout(&self) -> Option<&Fanout> {
        match self.executor.work() {
            Work::Pool(swarm) => swarm.fanout.as_ref(),
            Work::Engine(_) => None,
        }
    }
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

    /// All stages that come before this one, near and far.
    pub fn before(&self, index: usize) -> BTreeSet<usize> {
        super::order::before(&self.predecessors, index)
    }

    /// Whether a stage before this one can leave an artifact of this name.
    pub fn can_have(&self, index: usize, name: &ArtifactName) -> bool {
        let before = self.before(index);
        before.iter().any(|&stage| self.stages[stage].executor.leaves(name))
    }
}
