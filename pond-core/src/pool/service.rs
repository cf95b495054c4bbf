//! The pool, as callers see it.

use std::sync::Arc;

use super::{InProcessLink, WorkerView};
use crate::dispatch::WorkerInfo;
use crate::engine::Parts;

/// The pool.
#[derive(Clone)]
pub struct Pool {
    parts: Arc<Parts>,
}

impl Pool {
    pub(crate) fn new(parts: Arc<Parts>) -> Self {
        Self { parts }
    }

    /// Attaches a worker that runs in this process; it is there as long as its link is.
    pub fn attach(&self, info: WorkerInfo) -> InProcessLink {
        InProcessLink::new(self.parts.clone(), info)
    }

    /// All workers that this engine knows.
    pub fn workers(&self) -> Vec<WorkerView> {
        self.parts
            .presence
            .list(self.parts.clock.now(), self.parts.settings.worker_offline)
    }
}
