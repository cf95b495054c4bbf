//! For tests: databases of their own on a throw-away PostgreSQL, and buckets on a throw-away S3 service.
//!
//! `POND_TEST_POSTGRES_URL` names a maintenance database on a cluster that may be thrown away. Without it this process
//! starts one from the installed binaries, on a Unix socket, without fsync, and it ends with the process.

mod bucket;
mod cluster;

use pond_core::clock::SystemClock;
use pond_core::entropy::SystemEntropy;
use pond_core::id::BootId;
use pond_core::secret::Secret;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection, Executor};

pub use bucket::test_bucket;

use crate::open::StoreUrl;
use crate::postgres::MIGRATIONS;
use crate::sql::claims::{OF_ALL, OF_PROJECT};

/// A database with the current schema, and nothing in it.
#[derive(Debug, Clone)]
pub struct TestDatabase {
    url: String,
}

impl TestDatabase {
    /// Makes one.
    ///
    /// # Panics
    /// When no PostgreSQL can be had; the message says what is missing.
    pub async fn create() -> Self {
        Self::from_template(&template().await).await
    }

    /// Makes one without a schema.
    ///
    /// # Panics
    /// When no PostgreSQL can be had.
    pub async fn create_empty() -> Self {
        Self::from_template("template0").await
    }

    async fn from_template(template: &str) -> Self {
        let maintenance = cluster::maintenance_url().await;
        let name = format!("t_{}", BootId::mint(&SystemClock, &SystemEntropy).uuid().simple());
        let mut connection = connect(&maintenance).await;
        let create = format!("CREATE DATABASE {name} TEMPLATE {template}");
        connection
            .execute(AssertSqlSafe(create))
            .await
            .expect("a test database can be made");
        connection.close().await.expect("the connection closes");
        Self {
            url: with_database(&maintenance, &name),
        }
    }

    /// Its URL, for [`crate::open`].
    pub fn url(&self) -> StoreUrl {
        StoreUrl::Postgres(Secret::new(self.url.clone()))
    }

    /// Its URL as text; there is no password in it.
    pub fn text(&self) -> &str {
        &self.url
    }
}

/// The statements that look for jobs to claim: what for, on SQLite, on PostgreSQL. For those who ask how they are planned.
pub fn claim_statements() -> [(&'static str, &'static str, &'static str); 2] {
    [
        ("for a worker that serves all", &OF_ALL),
        ("for a worker of one project", &OF_PROJECT),
    ]
    .map(|(what, text)| (what, text.sqlite, text.postgres))
}

/// A database that was migrated once and is copied by each test; one per schema, whichever process comes first.
async fn template() -> String {
    let checksum = MIGRATIONS.iter().flat_map(|step| step.checksum.iter().take(4)).copied();
    let name = format!("pond_template_{}", hex::encode(checksum.collect::<Vec<_>>()));
    let maintenance = cluster::maintenance_url().await;
    let mut connection = connect(&maintenance).await;
    connection
        .execute("SELECT pg_advisory_lock(7063300)")
        .await
        .expect("the lock is had");
    let known: Option<i32> =
        sqlx::query_scalar("SELECT 1 FROM pg_database WHERE datname = $1 AND datallowconn = false")
            .bind(&name)
            .fetch_optional(&mut connection)
            .await
            .expect("databases are listed");
    if known.is_none() {
        for text in [
            format!("DROP DATABASE IF EXISTS {name}"),
            format!("CREATE DATABASE {name} TEMPLATE template0"),
        ] {
            connection
                .execute(AssertSqlSafe(text))
                .await
                .expect("the template can be made");
        }
        let mut fresh = connect(&with_database(&maintenance, &name)).await;
        MIGRATIONS.run(&mut fresh).await.expect("the schema can be made");
        fresh.close().await.expect("the connection closes");
        // Ready, and from now on nobody's session is in the way of a copy.
        let ready = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false");
        connection
            .execute(AssertSqlSafe(ready))
            .await
            .expect("the template can be closed");
    }
    connection.close().await.expect("the connection closes");
    name
}

async fn connect(url: &str) -> PgConnection {
    let options: PgConnectOptions = url.parse().expect("a PostgreSQL URL");
    PgConnection::connect_with(&options)
        .await
        .expect("the test PostgreSQL answers")
}

/// The URL of another database on the same cluster.
fn with_database(url: &str, name: &str) -> String {
    let (base, query) = url
        .split_once('?')
        .map_or((url, String::new()), |(base, query)| (base, format!("?{query}")));
    let server = base.rsplit_once('/').map_or(base, |(server, _)| server);
    format!("{server}/{name}{query}")
}
