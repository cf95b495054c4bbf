//! The port to the engine's own host: what it has done there by programs. An engine that was built without it runs no `shell`
//! stage and merges no patches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::executors::StageSink;
use super::{Failure, StageOutcome};
use crate::artifacts::ByteStream;
use crate::clock::Clock;

/// What the engine has done by programs of its own host.
#[async_trait]
pub trait HostTools: Send + Sync + 'static {
    /// Runs a `shell` stage to its end. Dropping the future kills what runs.
    async fn shell(&self, shell: ShellRun) -> StageOutcome;

    /// Merges the patches of areas, in order, on the tree of `bundle` (a plain tar); one that does not apply is left out and
    /// named.
    ///
    /// # Errors
    /// When the tree cannot be laid out or the merge itself fails; what one area sent is no such error.
    async fn merge(&self, bundle: ByteStream, areas: Vec<AreaPatch>) -> Result<MergedPatch, Failure>;
}

/// A `shell` stage to run.
pub struct ShellRun {
    /// The program and its arguments; executed directly, never by a shell.
    pub argv: Vec<String>,
    /// What the stage adds to the fixed minimal environment.
    pub env: BTreeMap<String, String>,
    /// The sources, a plain tar, when the run has any.
    pub bundle: Option<ByteStream>,
    /// How long it may take; longer is a failure `timeout`.
    pub timeout: Duration,
    /// How long a process may go on after it was asked to end.
    pub grace: Duration,
    /// Where lines and artifacts go.
    pub sink: StageSink,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Bytes that its artifacts may have together.
    pub artifact_cap: u64,
}

/// What one area changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AreaPatch {
    /// Key of the area.
    pub substage: String,
    /// Its `changes.patch`.
    pub patch: Vec<u8>,
    /// Its `changed-files.json`.
    pub changed: Vec<u8>,
}

/// What the areas of a stage changed together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MergedPatch {
    /// The stage's `changes.patch`.
    pub patch: Vec<u8>,
    /// The stage's `changed-files.json`, with `conflicts`.
    pub changed: Vec<u8>,
    /// Keys of the areas that were left out, as their patch does not apply after those before it.
    pub conflicts: Vec<String>,
}
