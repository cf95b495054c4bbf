//! Where engine work puts what it finds; the run's driver takes it from there and makes it durable.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::artifacts::ArtifactName;
use crate::clock::Timestamp;
use crate::runs::Progress;

/// What has been put and not yet taken.
#[derive(Debug, Default)]
pub struct Findings {
    /// Log lines with their times.
    pub lines: Vec<(Timestamp, String)>,
    /// The last progress.
    pub progress: Option<Progress>,
    /// Files to keep.
    pub artifacts: Vec<(ArtifactName, Vec<u8>)>,
}

impl Findings {
    /// Whether nothing was put.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.progress.is_none() && self.artifacts.is_empty()
    }
}

/// The sink of one attempt.
#[derive(Debug, Clone, Default)]
pub struct StageSink(Arc<Mutex<Findings>>);

impl StageSink {
    /// Puts a log line.
    pub fn line(&self, at: Timestamp, line: impl Into<String>) {
        self.lock().lines.push((at, line.into()));
    }

    /// Tells how far the work has come.
    pub fn progress(&self, done: u32, total: u32) {
        self.lock().progress = Some(Progress { done, total });
    }

    /// Keeps a file.
    pub fn artifact(&self, name: ArtifactName, bytes: Vec<u8>) {
        self.lock().artifacts.push((name, bytes));
    }

    /// Takes what was put since the last call.
    pub fn take(&self) -> Findings {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Findings> {
        self.0.lock().expect("no holder of this lock panics")
    }
}
