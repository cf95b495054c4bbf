//! [`Pond`]: the builder takes the ports and gives the engine, with one service per domain.

use std::path::Path;
use std::sync::Arc;

use crate::artifacts::BlobStore;
use crate::audit::Audit;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::config::Config;
use crate::engine::{
    EngineSettings, Ledger, Parts, ServerKeys, Takeover, Tasks, Watches, Word, adopt, hear, keep, retain,
};
use crate::entropy::{Entropy, SystemEntropy};
use crate::error::{Error, Result};
use crate::id::EngineId;
use crate::idempotency::Idempotency;
use crate::keys::Keys;
use crate::pool::{Bindings, Claims, Pool, Presence, Rosters};
use crate::projects::Projects;
use crate::runs::{HostTools, Runs};
use crate::sealing::{Keyring, KeyringError, Sealer, server_key};
use crate::secret::SecretBytes;
use crate::secret_file;
use crate::sources::SourceFetch;
use crate::store::SharedStore;

/// Builds an engine from its ports.
pub struct PondBuilder {
    store: SharedStore,
    blobs: Arc<dyn BlobStore>,
    root_key: Option<SecretBytes>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    sources: Option<Arc<dyn SourceFetch>>,
    host: Option<Arc<dyn HostTools>>,
    settings: EngineSettings,
}

/// An engine that runs. Clones are the same engine; [`Pond::shutdown`] ends it.
#[derive(Clone)]
pub struct Pond {
    parts: Arc<Parts>,
    runs: Runs,
    pool: Pool,
    projects: Projects,
    keys: Keys,
    audit: Audit,
    idempotency: Idempotency,
}

impl PondBuilder {
    /// The key under which the store's keys are wrapped. Without one a key is drawn that lives as long as the engine: fit for
    /// a store in memory alone, as another life of the engine could not open what this one sealed.
    #[must_use]
    pub fn root_key(mut self, key: SecretBytes) -> Self {
        self.root_key = Some(key);
        self
    }

    /// The root key in a file, which is made with mode 0600 where there is none.
    ///
    /// # Errors
    /// When the file can be neither read nor written, or holds no key.
    pub fn root_key_file(self, path: &Path) -> Result<Self> {
        let entropy = self.entropy.clone();
        let kept = secret_file::keep(path, || Keyring::make_root_key(&*entropy));
        let (text, _) = kept.map_err(|error| Error::Internal("the root key's file".into(), Some(Box::new(error))))?;
        let key = Keyring::root_key(&text);
        Ok(self.root_key(key.map_err(|error| Error::Internal("the root key".into(), Some(Box::new(error))))?))
    }

    /// Another clock than the system's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Another source of random bytes than the system's.
    #[must_use]
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// What fetches sources; without it runs with sources are refused.
    #[must_use]
    pub fn sources(mut self, sources: Arc<dyn SourceFetch>) -> Self {
        self.sources = Some(sources);
        self
    }

    /// What runs programs of the engine's own host: `shell` stages, and the merge of what areas changed. Without it such stages are
    /// refused, and patches of areas stay apart.
    #[must_use]
    pub fn host(mut self, host: Arc<dyn HostTools>) -> Self {
        self.host = Some(host);
        self
    }

    /// Other settings than the default ones.
    #[must_use]
    pub fn settings(mut self, settings: EngineSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Opens the keyring, takes over the runs that a former life left, and starts.
    ///
    /// # Errors
    /// When the root key is not the store's, or the store does not answer.
    pub async fn start(self) -> Result<Pond> {
        let Self {
            store,
            blobs,
            root_key,
            clock,
            entropy,
            sources,
            host,
            settings,
        } = self;
        let root_key = root_key.unwrap_or_else(|| SecretBytes::new(entropy.draw::<32>().to_vec()));
        let keyring = Keyring::open(&*store, &root_key, entropy.clone())
            .await
            .map_err(|error| match error {
                KeyringError::Store(error) => error.into(),
                error => Error::Internal("the keyring".into(), Some(Box::new(error))),
            })?;
        let sealer: Arc<dyn Sealer> = Arc::new(keyring);
        let parts = Arc::new(Parts {
            id: EngineId::mint(&*clock, &*entropy),
            config: Config::new(store.clone(), sealer.clone(), clock.clone()),
            sealer: sealer.clone(),
            ledger: Ledger::new(store.clone(), clock.clone(), settings.log_cap),
            watches: Arc::new(Watches::default()),
            keys: ServerKeys::open(&*store, &*sealer, &*entropy).await?,
            claims: Claims::default(),
            rosters: Rosters::default(),
            bindings: Bindings::default(),
            presence: Presence::default(),
            tasks: Tasks::default(),
            word: Word::default(),
            driven: Arc::default(),
            settings,
            store,
            blobs,
            clock,
            entropy,
            sources,
            host,
        });
        let projects = Projects::new(parts.store.clone(), parts.clock.clone(), parts.entropy.clone());
        projects.ensure_default().await?;
        let (audit, idempotency) = records(&parts).await?;
        let changes = parts.store.changes();
        parts.tasks.spawn(hear(parts.clone(), changes));
        take_over(&parts).await?;
        parts.tasks.spawn(keep(parts.clone()));
        parts.tasks.spawn(retain(parts.clone()));
        parts.tasks.spawn(audit.clone().tell_heads());
        parts.tasks.spawn(idempotency.clone().sweep());
        let (runs, pool) = (Runs::new(parts.clone()), Pool::new(parts.clone()));
        let keys = Keys::new(
            parts.store.clone(),
            parts.clock.clone(),
            parts.entropy.clone(),
            projects.clone(),
        );
        Ok(Pond {
            parts,
            runs,
            pool,
            projects,
            keys,
            audit,
            idempotency,
        })
    }
}

/// The records of what was done: each with a key of its own.
async fn records(parts: &Parts) -> Result<(Audit, Idempotency)> {
    let key = async |name| server_key(&*parts.store, &*parts.sealer, &*parts.entropy, name).await;
    let (store, clock, entropy) = (parts.store.clone(), parts.clock.clone(), parts.entropy.clone());
    let file = parts.settings.audit_head_file.clone();
    Ok((
        Audit::new(store.clone(), clock.clone(), key("audit").await?, file),
        Idempotency::new(store, clock, entropy, key("idempotency").await?),
    ))
}

async fn take_over(parts: &Arc<Parts>) -> Result<()> {
    let silent_since = match parts.settings.takeover {
        Takeover::All => Timestamp::from_micros(i64::MAX),
        Takeover::Silent(former) => {
            if let Some(former) = former {
                parts.store.retire(former).await?;
            }
            parts.clock.now()
        }
    };
    let runs = adopt(parts, silent_since).await?;
    if runs > 0 {
        tracing::info!(runs, "took over the runs of a former life");
    }
    Ok(())
}

impl Pond {
    /// Starts to build an engine on a store and a place for blobs.
    pub fn builder(store: SharedStore, blobs: Arc<dyn BlobStore>) -> PondBuilder {
        PondBuilder {
            store,
            blobs,
            root_key: None,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            sources: None,
            host: None,
            settings: EngineSettings::default(),
        }
    }

    /// This life of the engine.
    pub fn id(&self) -> EngineId {
        self.parts.id
    }

    /// Runs.
    pub fn runs(&self) -> &Runs {
        &self.runs
    }

    /// Config.
    pub fn config(&self) -> &Config {
        &self.parts.config
    }

    /// The pool.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Projects.
    pub fn projects(&self) -> &Projects {
        &self.projects
    }

    /// API keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The audit log.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Requests that are carried out once.
    pub fn idempotency(&self) -> &Idempotency {
        &self.idempotency
    }

    /// The settings it was built with.
    pub fn settings(&self) -> &EngineSettings {
        &self.parts.settings
    }

    /// The engine's time.
    pub fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    /// Whether the store answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ready(&self) -> Result<()> {
        Ok(self.parts.store.ping().await?)
    }

    /// Stops all loops of this engine and closes its store. Runs that live go on when an engine takes them over.
    pub async fn shutdown(&self) {
        self.parts.tasks.stop().await;
        if let Err(error) = self.parts.store.retire(self.parts.id).await {
            tracing::warn!(%error, "the engine could not say that it leaves; its runs wait for its lease");
        }
        self.parts.store.close().await;
    }
}
