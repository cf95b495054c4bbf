//! Where engine work puts what it finds; the run's driver takes it from there and makes it durable.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::artifacts::ArtifactName;
use crate::clock::Timestamp;
use crate::logs::LogStream;
use crate::runs::Progress;

/// One line that was found: Pond's own, or one that a program wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundLine {
    /// When it was written.
    pub at: Timestamp,
    /// Where: [`LogStream::System`] for Pond's own word.
    pub stream: LogStream,
    /// The text, without its line end.
    pub line: String,
}

/// What has been put and not yet taken.
#[derive(Debug, Default)]
pub struct Findings {
    /// Log lines.
    pub lines: Vec<FoundLine>,
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
    /// Puts a log line of Pond's own.
    pub fn line(&self, at: Timestamp, line: impl Into<String>) {
        self.output(at, LogStream::System, line);
    }

    /// Puts a line that a program wrote to `stream`; at most 64 KiB each, longer ones are for the caller to split.
    pub fn output(&self, at: Timestamp, stream: LogStream, line: impl Into<String>) {
        let line = line.into();
        self.lock().lines.push(FoundLine { at, stream, line });
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

    /// Puts findings back in front of what came meanwhile.
    pub(crate) fn put_back(&self, mut findings: Findings) {
        let mut found = self.lock();
        findings.lines.append(&mut found.lines);
        findings.artifacts.append(&mut found.artifacts);
        findings.progress = found.progress.or(findings.progress);
        *found = findings;
    }

    fn lock(&self) -> MutexGuard<'_, Findings> {
        self.0.lock().expect("no holder of this lock panics")
    }
}
