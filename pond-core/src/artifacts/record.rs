//! The record of an artifact; its bytes are a blob.

use super::ArtifactName;
use crate::clock::Timestamp;

/// A file that a stage left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Place of the stage in the definition.
    pub stage: u32,
    /// Key of the stage.
    pub stage_key: String,
    /// Key of the substage.
    pub substage: Option<String>,
    /// Its name.
    pub name: ArtifactName,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: [u8; 32],
    /// Whether a secret was cut from it.
    pub redacted: bool,
    /// When it was stored.
    pub created_at: Timestamp,
    /// Key of its bytes in the blob store.
    pub blob: String,
}
