//! The store port: the domains' store traits together.
//!
//! Every method is one atomic fact. A fact that is refused is an outcome, never an error: errors are for storage that
//! does not answer or makes no sense. Reads take a [`crate::scope::Scope`].

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::broadcast;

use crate::audit::AuditStore;
use crate::config::ConfigStore;
use crate::id::RunId;
use crate::idempotency::OnceStore;
use crate::keys::KeyStore;
use crate::pool::{JobStore, PoolStore};
use crate::projects::ProjectStore;
use crate::runs::{EngineStore, RetentionStore, RunStore};
use crate::sealing::KeyringStore;
use crate::usage::BudgetStore;

/// Why a store could not answer. A refused fact is an outcome of its method and never one of these.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database does not answer now; the same call may go through later.
    #[error("the store is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A stored value makes no sense.
    #[error("corrupt value in {table}.{column} of {id}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row.
        id: String,
    },
}

/// A hint that something was written; the store alone is the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A run was created or changed, or has new events, through this store. Sent after each write of it is durable.
    Run(RunId),
    /// The same, through the store of another server: what is kept of the run in memory is out of date.
    RunElsewhere(RunId),
    /// A job was put in line.
    Work,
    /// The records of the pool changed, perhaps through another server.
    Pool,
    /// Hints were lost: whatever is watched may have changed.
    Missed,
}

/// All that Pond stores.
#[async_trait]
pub trait Store:
    RunStore
    + EngineStore
    + RetentionStore
    + JobStore
    + PoolStore
    + BudgetStore
    + ConfigStore
    + ProjectStore
    + KeyStore
    + KeyringStore
    + AuditStore
    + OnceStore
    + Send
    + Sync
    + 'static
{
    /// Hints about writes of every server on this store, from now on. A receiver that lags treats that as
    /// [`Change::Missed`].
    fn changes(&self) -> broadcast::Receiver<Change>;

    /// Whether the storage answers.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Waits for writes that are under way, and closes. Later calls fail.
    async fn close(&self);
}

/// A store, shared.
pub type SharedStore = Arc<dyn Store>;
