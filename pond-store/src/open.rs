//! From a URL to a store.

use std::path::PathBuf;
use std::sync::Arc;

use pond_core::secret::Secret;
use pond_core::store::SharedStore;

use crate::front::Front;
use crate::hints::Hints;
use crate::line::Line;
use crate::memory::Memory;
use crate::sql::Sql;
use crate::{postgres, sqlite};

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A URL of no kind that is known.
    #[error("expected memory:, sqlite://PATH or postgres://…")]
    UnknownKind,
    /// A postgres URL that does not parse; it may hold a password, so it is not quoted.
    #[error("the postgres URL does not parse")]
    BadUrl,
    /// The file cannot be made or opened.
    #[error("the database file cannot be opened")]
    File(#[source] std::io::Error),
    /// The database was written by a newer version of this program.
    #[error("the database has schema version {0}, which is newer than this program; run a newer version")]
    Newer(i64),
    /// The schema cannot be brought up to date.
    #[error("the schema cannot be brought up to date")]
    Schema(#[source] sqlx::migrate::MigrateError),
    /// The database does not answer.
    #[error("the database does not answer")]
    Unavailable(#[from] sqlx::Error),
}

impl From<sqlx::migrate::MigrateError> for OpenError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        match error {
            sqlx::migrate::MigrateError::VersionMissing(version) => Self::Newer(version),
            other => Self::Schema(other),
        }
    }
}

/// Where a store is.
#[derive(Debug, Clone)]
pub enum StoreUrl {
    /// In memory.
    Memory,
    /// In a file.
    Sqlite(PathBuf),
    /// In a PostgreSQL database; the URL may hold a password.
    Postgres(Secret),
}

impl StoreUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// When it is of no kind that is known.
    pub fn parse(url: &str) -> Result<Self, OpenError> {
        if url == "memory:" {
            return Ok(Self::Memory);
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Self::Postgres(Secret::new(url)));
        }
        match url.strip_prefix("sqlite://") {
            Some(path) if !path.is_empty() => Ok(Self::Sqlite(path.into())),
            _ => Err(OpenError::UnknownKind),
        }
    }
}

/// Opens the store at `url`, and brings its schema up to date. Runs tasks on the current runtime until the store is closed.
///
/// # Errors
/// When it cannot be opened, or was written by a newer version.
pub async fn open(url: &StoreUrl) -> Result<SharedStore, OpenError> {
    match url {
        StoreUrl::Memory => Ok(memory()),
        StoreUrl::Sqlite(path) => {
            let backend = Arc::new(Sql::new(sqlite::open(path).await?));
            let line = Line::queue(backend.clone(), 1);
            Ok(Arc::new(Front::new(backend, line, Hints::new())))
        }
        StoreUrl::Postgres(url) => {
            let (db, hints) = postgres::open(url).await?;
            let backend = Arc::new(Sql::new(db));
            let line = Line::queue(backend.clone(), postgres::IN_FLIGHT);
            Ok(Arc::new(Front::new(backend, line, hints)))
        }
    }
}

/// A fresh store in memory; it ends with the last reference to it.
pub fn memory() -> SharedStore {
    let backend = Arc::new(Memory::default());
    Arc::new(Front::new(backend.clone(), Line::direct(backend), Hints::new()))
}
