//! A world: an engine on the store of choice, with what a story needs at hand.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pond_core::clock::Clock;
use pond_core::config::Owner;
use pond_core::event::{EventBody, NumberedEvent};
use pond_core::id::{ProjectId, RunId};
use pond_core::runs::{HostTools, Run, RunStatus};
use pond_core::scope::Scope;
use pond_core::secret::SecretBytes;
use pond_core::store::SharedStore;
use pond_core::testing::MemoryBlobs;
use pond_core::{EngineSettings, Pond};
use pond_store::StoreUrl;
use pond_store::testing::TestDatabase;
use pond_worker::net::{Dialer, DialerSettings, Fetcher, FetcherSettings};
use serde_json::{Value, json};
use sqlx::Connection;

/// Which store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// In memory.
    Memory,
    /// A SQLite file.
    Sqlite,
    /// A database of a real PostgreSQL.
    Postgres,
}

/// What an engine of a world is made with beside its store.
#[derive(Default)]
pub struct Outfit {
    /// Its settings.
    pub settings: EngineSettings,
    /// The tools of its host.
    pub host: Option<Arc<dyn HostTools>>,
    /// Another clock than the system's.
    pub clock: Option<Arc<dyn Clock>>,
}

impl From<EngineSettings> for Outfit {
    fn from(settings: EngineSettings) -> Self {
        Self {
            settings,
            ..Self::default()
        }
    }
}

/// An engine on a store.
pub struct World {
    /// The engine.
    pub pond: Pond,
    /// Its store.
    pub store: SharedStore,
    /// Its blobs.
    pub blobs: MemoryBlobs,
    /// Which store it is.
    pub backend: Backend,
    /// The root key of the store.
    pub root_key: SecretBytes,
    /// A folder that goes with it.
    pub folder: tempfile::TempDir,
    database: Option<TestDatabase>,
}

impl World {
    /// A world on a fresh store.
    pub async fn on(backend: Backend) -> Self {
        Self::with(backend, EngineSettings::default()).await
    }

    /// A world on a fresh store, with settings.
    pub async fn with(backend: Backend, settings: EngineSettings) -> Self {
        Self::furnished(backend, settings.into()).await
    }

    /// A world on a fresh store, with an engine of this outfit.
    pub async fn furnished(backend: Backend, outfit: Outfit) -> Self {
        let (store, folder, database) = fresh(backend).await;
        let blobs = MemoryBlobs::default();
        let root_key = SecretBytes::new(vec![7; 32]);
        let pond = engine(&store, &blobs, folder.path(), &root_key, outfit).await;
        Self {
            pond,
            store,
            blobs,
            backend,
            root_key,
            folder,
            database,
        }
    }

    /// Another engine on the same store, as after a crash of the first: that one is not told.
    pub async fn another_engine(&self, settings: EngineSettings) -> Pond {
        self.engine_with(settings.into()).await
    }

    /// Another engine of this outfit on the same store.
    pub async fn engine_with(&self, outfit: Outfit) -> Pond {
        engine(&self.store, &self.blobs, self.folder.path(), &self.root_key, outfit).await
    }

    /// Registers the shell harness for everyone.
    pub async fn with_shell(self) -> Self {
        self.pond
            .config()
            .put_preset(Owner::Org, "shell", None, None)
            .await
            .expect("the preset is there");
        self
    }

    /// The default project.
    pub fn project(&self) -> ProjectId {
        self.pond.projects().default_project()
    }

    /// Submits a body and gives the run.
    pub async fn submit(&self, body: &Value) -> Run {
        self.pond
            .runs()
            .submit(self.project(), &body.to_string())
            .await
            .expect("the body is good")
    }

    /// Waits for a run's end, at most a minute.
    pub async fn ended(&self, id: RunId) -> Run {
        let wait = self.pond.runs().wait(Scope::Org, id);
        tokio::time::timeout(Duration::from_secs(60), wait)
            .await
            .expect("the run ends")
            .expect("the run is there")
    }

    /// The database of a PostgreSQL world.
    pub fn database_url(&self) -> Option<&str> {
        self.database.as_ref().map(TestDatabase::text)
    }

    /// All that the store has written: files and, from PostgreSQL, every row of every table as text.
    pub async fn stored_bytes(&self) -> Vec<(String, Vec<u8>)> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(self.folder.path())
            .expect("the folder is there")
            .flatten()
        {
            if entry.path().is_file() {
                let bytes = std::fs::read(entry.path()).expect("a file of the store can be read");
                all.push((entry.path().display().to_string(), bytes));
            }
        }
        if let Some(database) = &self.database {
            all.extend(tables(database.text()).await);
        }
        all
    }

    /// Waits until a run has this status, at most a minute.
    pub async fn reaches(&self, id: RunId, status: RunStatus) -> Run {
        for _ in 0..6000 {
            let run = self.pond.runs().get(Scope::Org, id).await.expect("the run is there");
            if run.head.state.phase.status() == status {
                return run;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("run {id} does not become {}", status.as_str());
    }

    /// All events of a run.
    pub async fn events(&self, id: RunId) -> Vec<NumberedEvent> {
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let events = self
                .pond
                .runs()
                .events(Scope::Org, id, after, 500)
                .await
                .expect("the run is there");
            let Some(last) = events.last() else { return all };
            after = last.id;
            all.extend(events);
        }
    }

    /// The status changes of a run, as `key: from > to`, the run itself as `run`.
    pub async fn story(&self, id: RunId) -> Vec<String> {
        let events = self.events(id).await;
        let changes = events.into_iter().filter_map(|event| match event.event.body {
            EventBody::Status(change) => {
                let mut key = change.stage.unwrap_or_else(|| "run".into());
                if let Some(area) = change.area {
                    key = format!("{key}/{area}");
                }
                Some(format!("{key}: {} > {}", change.from, change.to))
            }
            _ => None,
        });
        changes.collect()
    }
}

async fn engine(
    store: &SharedStore,
    blobs: &MemoryBlobs,
    folder: &Path,
    root_key: &SecretBytes,
    outfit: Outfit,
) -> Pond {
    let Outfit { settings, host, clock } = outfit;
    let scratch = folder.join("scratch");
    std::fs::create_dir_all(&scratch).expect("a folder can be made");
    let root = folder.join("sources");
    std::fs::create_dir_all(&root).expect("a folder can be made");
    let dialer = DialerSettings {
        resolver: None,
        extra_ca: Vec::new(),
        allow: settings.outbound.clone(),
    };
    let dialer = Dialer::new(dialer).expect("the system has a resolver");
    let fetcher = FetcherSettings {
        folder_root: Some(root),
        scratch,
        caps: settings.source_caps,
    };
    let mut builder = Pond::builder(store.clone(), Arc::new(blobs.clone()))
        .root_key(root_key.clone())
        .sources(Arc::new(Fetcher::new(dialer, fetcher)))
        .settings(settings);
    if let Some(host) = host {
        builder = builder.host(host);
    }
    if let Some(clock) = clock {
        builder = builder.clock(clock);
    }
    builder.start().await.expect("an engine starts")
}

/// A fresh store, the folder that goes with it, and its database.
pub async fn fresh(backend: Backend) -> (SharedStore, tempfile::TempDir, Option<TestDatabase>) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let database = match backend {
        Backend::Postgres => Some(TestDatabase::create().await),
        Backend::Memory | Backend::Sqlite => None,
    };
    let url = match (&database, backend) {
        (Some(database), _) => database.url(),
        (None, Backend::Sqlite) => StoreUrl::Sqlite(folder.path().join("pond.db")),
        (None, _) => StoreUrl::Memory,
    };
    (
        pond_store::open(&url).await.expect("a fresh store opens"),
        folder,
        database,
    )
}

/// A `swarm` executor of the shell harness under a confined profile.
pub fn shell(script: &str) -> Value {
    json!({"kind": "swarm", "harness": "shell", "prompt": script, "sandbox": {"profile": "untrusted-code-write"}})
}

/// A stage of a definition.
pub fn stage(key: &str, executor: &Value) -> Value {
    json!({"key": key, "name": key, "executor": executor})
}

/// A body with these stages in array order.
pub fn body(stages: &[Value]) -> Value {
    json!({"definition": {"stages": stages}})
}

/// What the tables of a database hold: bytes as text too, so that nothing hides in hex.
///
/// # Panics
/// When it does not answer, or is no store of ours.
pub async fn tables(url: &str) -> Vec<(String, Vec<u8>)> {
    let mut db = sqlx::PgConnection::connect(url).await.expect("the database answers");
    let tables: Vec<String> = sqlx::query_scalar("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'")
        .fetch_all(&mut db)
        .await
        .expect("tables are listed");
    assert!(tables.contains(&"config".to_owned()), "{tables:?}");
    let mut all = Vec::new();
    for table in tables {
        let rows = format!("SELECT encode(t::text::bytea, 'escape') FROM {table} AS t");
        let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(rows))
            .fetch_all(&mut db)
            .await
            .expect("rows are read");
        all.push((table, rows.join("\n").into_bytes()));
    }
    all
}

/// A `noop` executor.
pub fn noop(ticks: u32, interval_sec: f64) -> Value {
    json!({"kind": "noop", "ticks": ticks, "interval_sec": interval_sec})
}
