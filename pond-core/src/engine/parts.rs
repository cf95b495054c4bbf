//! The parts of one engine, shared by its services and loops.

use std::collections::HashSet;
use std::future::Future;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use super::{EngineSettings, Ledger, Tasks, Watches};
use crate::artifacts::BlobStore;
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::entropy::Entropy;
use crate::error::{Error, Result};
use crate::id::{EngineId, RunId};
use crate::pool::{Bindings, Claims, EngineKey, Presence, Rosters};
use crate::runs::HostTools;
use crate::sealing::{KeyringStore, Sealer, server_key};
use crate::secret::SecretBytes;
use crate::sources::SourceFetch;
use crate::store::SharedStore;

/// The parts.
pub(crate) struct Parts {
    pub(crate) id: EngineId,
    pub(crate) settings: EngineSettings,
    pub(crate) store: SharedStore,
    pub(crate) blobs: Arc<dyn BlobStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) sources: Option<Arc<dyn SourceFetch>>,
    pub(crate) host: Option<Arc<dyn HostTools>>,
    pub(crate) sealer: Arc<dyn Sealer>,
    pub(crate) config: Config,
    pub(crate) ledger: Ledger,
    pub(crate) watches: Arc<Watches>,
    pub(crate) keys: ServerKeys,
    pub(crate) claims: Claims,
    pub(crate) rosters: Rosters,
    pub(crate) bindings: Bindings,
    pub(crate) presence: Presence,
    pub(crate) tasks: Tasks,
    pub(crate) word: Word,
    /// Runs that are followed here.
    pub(crate) driven: Arc<Mutex<HashSet<RunId>>>,
}

/// Keys that all servers of a store share.
pub(crate) struct ServerKeys {
    /// Signs jobs and commands.
    pub(crate) signing: EngineKey,
    /// Makes tokens for bundles.
    pub(crate) bundle_tokens: SecretBytes,
}

impl ServerKeys {
    /// The keys of a store; made when there are none.
    pub(crate) async fn open(store: &dyn KeyringStore, sealer: &dyn Sealer, entropy: &dyn Entropy) -> Result<Self> {
        let signing = server_key(store, sealer, entropy, "signing").await?;
        Ok(Self {
            signing: EngineKey::new(&signing).map_err(|_| Error::internal("the signing key"))?,
            bundle_tokens: server_key(store, sealer, entropy, "bundle_tokens").await?,
        })
    }
}

/// Until when other engines leave this one's runs alone.
#[derive(Debug, Default)]
pub(crate) struct Word(AtomicI64);

impl Parts {
    /// Sees to it that this engine's word holds for at least half a lease: before it takes a run on.
    pub(crate) async fn give_word(&self) -> Result<()> {
        let now = self.clock.now();
        let lease = self.settings.lease;
        if self.word.0.load(Ordering::Acquire) >= now.plus(lease / 2).micros() {
            return Ok(());
        }
        self.renew_word(now).await
    }

    /// Follows a run in a task of its own; a run that is followed already is not followed twice.
    pub(crate) fn follow(&self, run: RunId, drive: impl Future<Output = ()> + Send + 'static) {
        let Some(driven) = Driven::new(&self.driven, run) else {
            return;
        };
        self.tasks.spawn(async move {
            let _driven = driven;
            drive.await;
        });
    }

    /// Whether a run is followed here.
    pub(crate) fn follows(&self, run: RunId) -> bool {
        self.driven
            .lock()
            .expect("no holder of this lock panics")
            .contains(&run)
    }

    /// How many runs are followed here.
    pub(crate) fn driven_here(&self) -> u64 {
        u64::try_from(self.driven.lock().expect("no holder of this lock panics").len()).unwrap_or(u64::MAX)
    }

    /// Whether any run is followed here.
    pub(crate) fn drives(&self) -> bool {
        self.driven_here() > 0
    }

    /// Gives this engine's word for another lease.
    pub(crate) async fn renew_word(&self, now: Timestamp) -> Result<()> {
        let until = now.plus(self.settings.lease);
        self.store.beat(self.id, until).await?;
        self.word.0.fetch_max(until.micros(), Ordering::AcqRel);
        Ok(())
    }
}

/// A run that is followed here, as long as this lives.
struct Driven {
    all: Arc<Mutex<HashSet<RunId>>>,
    run: RunId,
}

impl Driven {
    fn new(all: &Arc<Mutex<HashSet<RunId>>>, run: RunId) -> Option<Self> {
        let new = all.lock().expect("no holder of this lock panics").insert(run);
        new.then(|| Self { all: all.clone(), run })
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.all
            .lock()
            .expect("no holder of this lock panics")
            .remove(&self.run);
    }
}
