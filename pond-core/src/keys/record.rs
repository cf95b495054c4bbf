//! The record of an API key.

use super::KeyScopes;
use crate::clock::Timestamp;
use crate::id::{KeyId, ProjectId};
use crate::projects::Slug;

/// A key as it is stored: nothing here opens anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The key.
    pub id: KeyId,
    /// The one project that it opens.
    pub project: ProjectId,
    /// Its name for people.
    pub name: String,
    /// How its token begins, so that a holder can tell which one it is.
    pub prefix: String,
    /// SHA-256 of its token.
    pub hash: [u8; 32],
    /// What it may do.
    pub scopes: KeyScopes,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it opens nothing.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
}

/// A key whose project is there, with that project's short name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyOfProject {
    /// The key.
    pub key: ApiKey,
    /// Short name of its project.
    pub slug: Slug,
}
