//! SQLite: one file, one writer, readers that cannot write.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use crate::open::OpenError;
use crate::sql::db::Db;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

const READERS: u32 = 4;
/// Only this process writes, so a lock is held by a checkpoint at most.
const BUSY: Duration = Duration::from_secs(10);

/// Opens a file, makes it if it is not there, and brings its schema up to date.
pub(crate) async fn open(path: &Path) -> Result<Db, OpenError> {
    create_private(path).map_err(OpenError::File)?;
    let writer = pool(1).connect_with(options(path)).await.map_err(OpenError::from)?;
    MIGRATIONS.run(&writer).await?;
    let readers = pool(READERS).connect_lazy_with(options(path).pragma("query_only", "ON"));
    Ok(Db::Sqlite { writer, readers })
}

/// Connections stay as long as the store: a new one would forget prepared statements and its cache.
fn pool(size: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(size)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(Duration::from_secs(60))
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY)
        .foreign_keys(false)
        // 64 MiB of pages, and temporary tables never in a file.
        .pragma("cache_size", "-65536")
        .pragma("temp_store", "MEMORY")
        .pragma("mmap_size", "268435456")
        // 16 MiB of log before it is moved into the file.
        .pragma("wal_autocheckpoint", "4000")
}

/// The file holds sealed secrets and logs: for its owner alone. SQLite gives its log files the same mode.
fn create_private(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    drop(file);
    Ok(())
}
