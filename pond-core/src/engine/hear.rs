//! Passes the store's hints on: to those who watch, and to what is kept of live runs in memory.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;

use super::Parts;
use crate::id::RunId;
use crate::store::Change;

/// Passes hints on until the store closes.
pub(crate) async fn hear(parts: Arc<Parts>, mut changes: broadcast::Receiver<Change>) {
    loop {
        match changes.recv().await {
            Ok(Change::Run(id)) => parts.watches.wake_run(id),
            Ok(Change::RunElsewhere(id)) => {
                parts.ledger.outdate(id);
                parts.watches.wake_run(id);
                look_after(&parts, id);
            }
            Ok(Change::Pool) => {
                parts.rosters.outdate();
                parts.bindings.wake_all();
            }
            Ok(Change::Work) => parts.watches.wake_work(),
            Ok(Change::Missed) | Err(broadcast::error::RecvError::Lagged(_)) => {
                parts.ledger.outdate_all();
                parts.rosters.outdate();
                parts.watches.wake_all();
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// Changes of a run that come this close together are looked at once.
const CLOSE: Duration = Duration::from_millis(200);

/// Another server may have cancelled a run whose jobs are held through this one.
fn look_after(parts: &Arc<Parts>, run: RunId) {
    if !parts.claims.is_to_be_looked_after(run) {
        return;
    }
    let own = parts.clone();
    parts.tasks.spawn(async move {
        own.clock.sleep(CLOSE).await;
        own.claims.looks_after(run);
        own.hear_cancel(run).await;
    });
}
