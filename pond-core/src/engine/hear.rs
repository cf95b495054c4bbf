//! Passes the store's hints on: to those who watch, and to what is kept of live runs in memory.

use std::sync::Arc;

use tokio::sync::broadcast;

use super::Parts;
use crate::store::Change;

/// Passes hints on until the store closes.
pub(crate) async fn hear(parts: Arc<Parts>, mut changes: broadcast::Receiver<Change>) {
    loop {
        match changes.recv().await {
            Ok(Change::Run(id)) => parts.watches.wake_run(id),
            Ok(Change::RunElsewhere(id)) => {
                parts.ledger.outdate(id);
                parts.watches.wake_run(id);
            }
            // Nothing is kept of the records yet.
            Ok(Change::Pool) => {}
            Ok(Change::Work) => parts.watches.wake_work(),
            Ok(Change::Missed) | Err(broadcast::error::RecvError::Lagged(_)) => {
                parts.ledger.outdate_all();
                parts.watches.wake_all();
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}
