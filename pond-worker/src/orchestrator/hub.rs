//! What all parts of a running orchestrator share.

use std::sync::{Arc, Mutex, MutexGuard};

use pond_core::clock::{Clock, Timestamp};
use pond_core::entropy::Entropy;
use pond_core::id::{JobId, OrchestratorId, WorkerId};
use pond_core::pool::Tries;
use pond_core::secret::Secret;
use serde_json::Value;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::address::TrustedProxies;
use super::beats::Beat;
use super::roster::Roster;
use super::tokens::Tokens;
use crate::link::Skew;
use crate::link::peer::Peer;

/// The shared parts.
pub(super) struct Hub {
    pub(super) id: OrchestratorId,
    pub(super) engine: Peer,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) secret: Secret,
    pub(super) proxies: TrustedProxies,
    pub(super) tokens: Tokens,
    pub(super) beats: mpsc::Sender<Beat>,
    /// The engine's clock against ours.
    pub(super) skew: Skew,
    /// Rung when a list may have to be told.
    pub(super) changed: Notify,
    /// Rung when a worker has left, and may not come back.
    pub(super) left: Notify,
    /// Told to stop: nothing new is begun.
    pub(super) stop: CancellationToken,
    /// The engine refuses our token.
    pub(super) shut_out: CancellationToken,
    pub(super) roster: Mutex<Roster>,
    pub(super) tries: Tries,
}

impl Hub {
    pub(super) fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().expect("no holder of this lock panics")
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A worker speaks of a job, so it has it. Whether the job is its own, as far as is known.
    pub(super) fn speaks(&self, worker: WorkerId, job: JobId, ack: Option<u64>) -> bool {
        let own = self.roster().speaks(worker, job, ack);
        self.changed.notify_one();
        own
    }

    /// A job is over.
    pub(super) fn over(&self, job: JobId) {
        self.roster().over(job);
        self.changed.notify_one();
    }

    /// Refuses these workers from now on.
    pub(super) fn revoke(&self, workers: impl Iterator<Item = WorkerId>) {
        let revoked = self.roster().revoke(workers);
        for worker in revoked {
            tracing::warn!(%worker, "a worker was revoked and is refused from now on");
            if let Err(error) = self.tokens.revoke(worker) {
                // The engine refuses it all the same.
                tracing::error!(%worker, %error, "that a worker was revoked could not be written down");
            }
        }
        self.changed.notify_one();
    }

    /// When a lease that the engine tells of ends by our clock.
    pub(super) fn lease_until(&self, job: &Value) -> Option<Timestamp> {
        let text = job.get("lease_expires_at")?.as_str()?;
        Timestamp::parse(text).ok().map(|theirs| self.skew.ours(theirs))
    }
}
