//! Files that a run left.

use serde::{Deserialize, Serialize};

/// One file that a stage left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Its name: letters, digits, `.`, `_` and `-`, at most 128, not starting with a dot.
    pub name: String,
    /// The stage that made it.
    pub stage: String,
    /// The area that made it; null at stage level.
    pub substage: Option<String>,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of the content, in hex.
    pub sha256: String,
    /// Content type by its extension, from a list of harmless ones.
    pub content_type: String,
    /// Whether a known secret was removed from it.
    pub redacted: bool,
    /// When it was stored.
    pub created_at: String,
}

/// A page of artifacts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ArtifactList {
    /// The artifacts.
    pub artifacts: Vec<Artifact>,
    /// Where the next page begins; null at the end.
    pub next_cursor: Option<String>,
}
