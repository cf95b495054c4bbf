//! From settings to a server that answers: state folder, keys, store, engine, embedded pool, listener.

use std::future::Future;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pond_core::artifacts::BlobStore;
use pond_core::clock::SystemClock;
use pond_core::entropy::SystemEntropy;
use pond_core::sealing::Keyring;
use pond_core::secret::{Secret, SecretBytes};
use pond_core::{Pond, Takeover};
use pond_store::{BucketError, OpenError};
use pond_worker::host::{HostToolsSettings, LocalTools};
use pond_worker::net::{Dialer, Fetcher, FetcherSettings, SetupError};
use pond_worker::work::{EmbeddedPool, WorkerError, embed};
use tokio::net::TcpListener;

use crate::home::{Home, HomeError};
use crate::hosts::HostRule;
use crate::settings::{Blobs, RootKey, Settings, StoreSettings};
use crate::state::{AppSettings, AppState};
use crate::{app, serve};

/// Host uids of `shell` stages, where the server runs as root: none that a worker of this host takes by default.
const TOOL_UIDS: RangeInclusive<u32> = 266_000..=266_255;
/// How long requests under way may take after the server was told to stop.
const DRAIN: Duration = Duration::from_secs(20);

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The state folder.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The root key.
    #[error("{0}")]
    RootKey(String),
    /// The store.
    #[error("POND_DATABASE_URL: {0}")]
    Store(#[from] OpenError),
    /// The place of blobs.
    #[error("POND_BLOB_URL: the folder cannot be used: {}", .0.kind())]
    Blobs(std::io::Error),
    /// The bucket of blobs.
    #[error("POND_BLOB_URL: {0}")]
    Bucket(#[from] BucketError),
    /// The way out.
    #[error("the network cannot be set up")]
    Network(#[from] SetupError),
    /// The engine.
    #[error("the engine does not start: {0}")]
    Engine(pond_core::Error),
    /// The embedded pool.
    #[error("the embedded pool does not start: {0}")]
    Pool(#[from] WorkerError),
    /// The listener.
    #[error("POND_BIND: cannot listen on {0}: {kind}", kind = .1.kind())]
    Listen(SocketAddr, std::io::Error),
}

/// A server that is ready to answer.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Its token.
    pub service_token: Secret,
    /// The file that the token was made in, when it was not given.
    pub token_path: Option<PathBuf>,
    state: AppState,
    listener: TcpListener,
    pool: Option<EmbeddedPool>,
    // Last: the state folder is let go when nothing works in it any more.
    home: Home,
}

impl Server {
    /// Starts everything, but answers nobody yet.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn start(settings: Settings) -> Result<Self, LaunchError> {
        let home = Home::open(&settings.store.state_dir)?;
        let addr = settings.server.bind;
        let listener = TcpListener::bind(addr)
            .await
            .map_err(|error| LaunchError::Listen(addr, error))?;
        let addr = listener
            .local_addr()
            .map_err(|error| LaunchError::Listen(addr, error))?;
        let pond = engine(&settings, &home).await?;
        let (service_token, token_path) = match &settings.server.service_token {
            Some(token) => (token.clone(), None),
            None => (home.service_token(&SystemEntropy)?, Some(home.service_token_path())),
        };
        let pool = match &settings.pool {
            Some(pool) => Some(embed(&pond, pool.worker(home.path().join("worker"))).await?),
            None => None,
        };
        let app = AppSettings {
            label: settings.server.label,
            service_token: service_token.clone(),
            hosts: HostRule::of(addr.ip(), settings.server.public_url.as_ref()),
            open_metrics: addr.ip().is_loopback(),
            proxies: settings.server.proxies.clone(),
        };
        let state = AppState::new(pond, app);
        Ok(Self {
            addr,
            service_token,
            token_path,
            state,
            listener,
            pool,
            home,
        })
    }

    /// The engine.
    pub fn pond(&self) -> &Pond {
        self.state.pond()
    }

    /// The embedded pool, where it is on.
    pub fn pool(&self) -> Option<&EmbeddedPool> {
        self.pool.as_ref()
    }

    /// Where it can be reached from this host.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Answers until `stop` completes, then drains: requests under way end, jobs go back to the engine, the store closes.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn run(self, stop: impl Future<Output = ()> + Send + 'static) -> std::io::Result<()> {
        let Self {
            state,
            listener,
            pool,
            home,
            ..
        } = self;
        let (closing, streams) = (state.closing(), state.clone());
        let stopped = async move {
            stop.await;
            streams.close_streams();
        };
        let answering = serve(listener, app(state.clone()), stopped);
        let overdue = async {
            closing.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        let served = tokio::select! {
            biased;
            served = answering => served,
            () = overdue => Ok(()),
        };
        if let Some(pool) = pool {
            pool.shutdown().await;
        }
        state.pond().shutdown().await;
        drop(home);
        served
    }
}

async fn engine(settings: &Settings, home: &Home) -> Result<Pond, LaunchError> {
    let key = root_key(&settings.store, home).await?;
    let store = pond_store::open(&settings.store.url).await?;
    let mut engine = settings.engine.clone();
    engine.takeover = match settings.store.is_shared() {
        true => Takeover::Silent(home.former_engine()),
        // The lock says that nobody else works here.
        false => Takeover::All,
    };
    let scratch = home.folder("checkouts")?;
    engine.work_dir = Some(scratch.clone());
    let fetcher = FetcherSettings {
        folder_root: settings.sources.folder_root.clone(),
        scratch,
        caps: settings.sources.caps,
    };
    let fetcher = Fetcher::new(Dialer::new(settings.sources.dialer.clone())?, fetcher);
    let tools = HostToolsSettings {
        shell: settings.shell,
        sources: settings.sources.caps.bundle(),
        uid_range: Some(TOOL_UIDS),
        ..HostToolsSettings::new(home.folder("host")?)
    };
    let tools = LocalTools::open(tools, &SystemClock).await?;
    let pond = Pond::builder(store, blobs(&settings.store.blobs)?)
        .host(Arc::new(tools))
        .root_key(key)
        .sources(Arc::new(fetcher))
        .settings(engine)
        .start()
        .await
        .map_err(LaunchError::Engine)?;
    home.remember_engine(pond.id())?;
    warn_of_bare_entries(&pond).await?;
    Ok(pond)
}

/// An entry without a use opens its place to the sources, webhooks and tools of every project: fine for one, odd for two.
async fn warn_of_bare_entries(pond: &Pond) -> Result<(), LaunchError> {
    if !pond.settings().outbound.has_bare_entry() {
        return Ok(());
    }
    let projects = pond.projects().list().await.map_err(LaunchError::Engine)?.len();
    if projects > 1 {
        tracing::warn!(
            projects,
            "POND_OUTBOUND_ALLOW_PRIVATE has an entry that names no use, so every project reaches it by sources, webhooks and \
             tools alike; write use=host:port"
        );
    }
    Ok(())
}

fn blobs(place: &Blobs) -> Result<Arc<dyn BlobStore>, LaunchError> {
    match place {
        Blobs::Memory => Ok(pond_store::blobs_in_memory()),
        Blobs::Folder(folder) => pond_store::blobs_in_folder(folder).map_err(LaunchError::Blobs),
        Blobs::Bucket(place) => Ok(pond_store::blobs_in_bucket(place)?),
    }
}

async fn root_key(store: &StoreSettings, home: &Home) -> Result<SecretBytes, LaunchError> {
    let text = match &store.root_key {
        RootKey::Given(key) => return Ok(key.clone()),
        RootKey::Command(command) => {
            let printed = command.run().await;
            printed.map_err(|why| LaunchError::RootKey(format!("POND_MASTER_KEY_COMMAND: {why}")))?
        }
        RootKey::Kept => {
            let (key, made) = home.kept("master-key", || Keyring::make_root_key(&SystemEntropy))?;
            if made {
                let path = home.path().join("master-key");
                tracing::warn!(path = %path.display(), "made a root key: without this file stored credentials do not open");
            }
            key
        }
    };
    let bad = |_| {
        LaunchError::RootKey(format!(
            "{}: expected 32 bytes in base64",
            key_place(&store.root_key, home.path())
        ))
    };
    Keyring::root_key(&text).map_err(bad)
}

fn key_place(key: &RootKey, home: &Path) -> String {
    match key {
        RootKey::Given(_) => "POND_MASTER_KEY".into(),
        RootKey::Command(_) => "POND_MASTER_KEY_COMMAND".into(),
        RootKey::Kept => home.join("master-key").display().to_string(),
    }
}
