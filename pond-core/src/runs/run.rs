//! The record of a run: what never changes (definition, inputs) and the narrow row that does.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::RunState;
use crate::body::{Faults, Object};
use crate::clock::Timestamp;
use crate::event::EventNumber;
use crate::id::{EngineId, ProjectId, RunId};
use crate::keys::Area;
use crate::usage::Pico;
use crate::workflow::Budget;

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
    /// The folders that the submitter might name; there where sources are, and kept by a retry whoever asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folders: Option<crate::sources::FolderScope>,
    /// The budget as submitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Box<RawValue>>,
    /// What the sources resolved to in the run that this one repeats.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<crate::sources::Resolved>,
    /// The run that this one repeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<RunId>,
    /// The run that started this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<RunId>,
}

impl Inputs {
    /// The budget of the run: as submitted, and `default_usd` where that bounds no model call.
    pub fn budget(&self, default_usd: Option<Pico>) -> Budget {
        let raw = self
            .budget
            .as_deref()
            .map(|raw| serde_json::from_str::<Value>(raw.get()));
        let faults = Faults::new();
        let read = |value: &Value| Object::read(value, "/budget", &faults).map(Budget::read);
        // What was admitted reads.
        let budget = raw
            .and_then(Result::ok)
            .and_then(|value| read(&value))
            .unwrap_or_default();
        match default_usd {
            Some(_) if !budget.bounds_models() => Budget {
                usd: default_usd,
                ..budget
            },
            _ => budget,
        }
    }

    /// Whether there are none, as for many runs; then nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.sha.is_none()
            && self.context.is_none()
            && self.sources.is_none()
            && self.folders.is_none()
            && self.budget.is_none()
            && self.pins.is_empty()
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
    /// The family that it is of: whoever may read or write there may read or cancel it.
    pub fn area(&self) -> Area {
        // Runs that stand for records of the other families come with those.
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
