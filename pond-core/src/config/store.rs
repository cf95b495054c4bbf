//! What the store does for config. Entries are few and read often: one revision over all of them makes every change
//! conditional and lets readers keep what they have read.

use async_trait::async_trait;

use super::{Entry, EntryKind, Owner};
use crate::store::StoreError;

/// Rises with each change of config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigRevision(pub i64);

/// The entries that one owner or everyone has, at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSnapshot {
    /// The revision.
    pub revision: ConfigRevision,
    /// The entries, ordered by kind, owner (org first) and name.
    pub entries: Vec<Entry>,
}

/// A change of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    /// Writes an entry over the one of the same kind, owner and name.
    Put(Entry),
    /// Deletes an entry.
    Delete {
        /// Its kind.
        kind: EntryKind,
        /// Whose it is.
        owner: Owner,
        /// Its name.
        name: String,
    },
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigCommitted {
    /// It is durable.
    At(ConfigRevision),
    /// Config was changed meanwhile; nothing was written.
    Stale,
}

/// Config entries.
#[async_trait]
pub trait ConfigStore: Send + Sync {
    /// The revision now.
    async fn config_revision(&self) -> Result<ConfigRevision, StoreError>;

    /// All entries.
    async fn config(&self) -> Result<ConfigSnapshot, StoreError>;

    /// Changes one entry if nothing was changed since `expected`.
    async fn commit_config(
        &self,
        expected: ConfigRevision,
        change: ConfigChange,
    ) -> Result<ConfigCommitted, StoreError>;
}
