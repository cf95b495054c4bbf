//! The record of a run: what never changes (definition, inputs) and the narrow row that does.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::RunState;
use crate::clock::Timestamp;
use crate::event::EventNumber;
use crate::id::{EngineId, ProjectId, RunId};
use crate::keys::Area;
use crate::sources::FolderScope;

/// A definition as it is stored: once per digest, whoever uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDefinition {
    /// SHA-256 of the RFC 8785 form.
    pub digest: [u8; 32],
    /// The JSON text in that form.
    pub json: Arc<str>,
}

/// What was submitted beside the definition; never changes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Inputs {
    /// The commit that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha: Option<String>,
    /// Opaque to Pond; echoed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<Box<RawValue>>,
    /// The sources as submitted (checked, without secrets).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sources: Option<Box<RawValue>>,
    /// The budget as submitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Box<RawValue>>,
    /// What the sources resolved to in the run that this one repeats.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<crate::sources::Resolved>,
    /// Which folders its sources may name: those of whoever submitted it, also when another repeats or adopts it.
    #[serde(skip_serializing_if = "FolderScope::is_root")]
    pub folders: FolderScope,
    /// The run that this one repeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<RunId>,
    /// The run that started this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<RunId>,
}

impl Inputs {
    /// Whether there are none, as for many runs; then nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.sha.is_none()
            && self.context.is_none()
            && self.sources.is_none()
            && self.budget.is_none()
            && self.pins.is_empty()
            && self.folders.is_root()
            && self.retry_of.is_none()
            && self.parent.is_none()
    }
}

/// The row of a run without its definition, as lists show it.
#[derive(Debug, Clone)]
pub struct RunHead {
    /// The run.
    pub id: RunId,
    /// Whose it is.
    pub project: ProjectId,
    /// What started it.
    pub trigger: Arc<str>,
    /// When it was created.
    pub created_at: Timestamp,
    /// Digest of its definition.
    pub definition_digest: [u8; 32],
    /// What was submitted beside it.
    pub inputs: Arc<Inputs>,
    /// What changes.
    pub state: RunState,
    /// Rises by one with each change of `state`.
    pub revision: i64,
    /// Number of the next event.
    pub next_event: EventNumber,
    /// Bytes of log lines stored so far.
    pub log_bytes: u64,
    /// The engine that drives it.
    pub owner: EngineId,
}

impl RunHead {
    /// The family that it belongs to. No other one starts runs in this version.
    pub fn family(&self) -> Area {
        Area::Runs
    }
}

/// A run with its definition.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its row.
    pub head: RunHead,
    /// Its definition.
    pub definition: StoredDefinition,
}
