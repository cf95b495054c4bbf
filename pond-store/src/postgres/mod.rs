//! PostgreSQL: any number of servers on one database.

mod wake;

use std::time::Duration;

use pond_core::secret::Secret;
use sqlx::Connection;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::hints::Hints;
use crate::open::OpenError;
use crate::sql::db::Db;

pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// Connections of a store: batches in flight, rare facts and reads share them.
const CONNECTIONS: u32 = 12;
/// Batches in flight: while one waits for its commit the next one is under way.
pub(crate) const IN_FLIGHT: usize = 2;

/// Opens a database, and brings its schema up to date.
pub(crate) async fn open(url: &Secret) -> Result<(Db, Hints), OpenError> {
    // The parser's errors may quote the URL, which may hold a password.
    let options: PgConnectOptions = url.expose().parse().map_err(|_| OpenError::BadUrl)?;
    let options = options.application_name("pond");
    let mut connection = sqlx::PgConnection::connect_with(&options).await?;
    MIGRATIONS.run(&mut connection).await?;
    connection.close().await?;
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(Duration::from_secs(30))
        .connect_lazy_with(options.clone());
    let hints = wake::start(&pool, options).await?;
    Ok((Db::Postgres(pool), hints))
}
