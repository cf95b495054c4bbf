//! The record of a key. The token itself is in no record: its hash is, and only in what is written.

use std::collections::BTreeSet;

use super::KeyScope;
use crate::clock::Timestamp;
use crate::id::{KeyId, ProjectId};

/// What every key's token begins with.
pub const KEY_PREFIX: &str = "pond_pk_";

/// A key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The key.
    pub id: KeyId,
    /// The one project it may touch.
    pub project: ProjectId,
    /// Its name for people.
    pub name: String,
    /// How its token begins: enough to know it again, far too little to guess it.
    pub prefix: String,
    /// What it may do.
    pub scopes: BTreeSet<KeyScope>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ceases to work.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, give or take a minute.
    pub last_used_at: Option<Timestamp>,
}

/// A key to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// The key.
    pub key: ApiKey,
    /// SHA-256 of its token.
    pub hash: [u8; 32],
}
