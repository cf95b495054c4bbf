//! What a claim costs with 1,000 and with 1,000,000 jobs in line, and how the databases plan it.
//!
//! ```text
//! cargo bench -p pond-store --bench claims -- [--queued N] [--rounds N] [--postgres URL]
//! ```
//! Each claim is one call of the store's port: one transaction, durable on return, for one job that a worker with eight
//! needs fits. A thousand projects share the line; short and long lines take turns, round by round, each filled up between.
//! SQLite runs with `synchronous=FULL`; PostgreSQL as its server is set. Two new databases are made beside the one at URL,
//! and dropped at the end.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pond_core::clock::{Clock, SystemClock};
use pond_core::entropy::SystemEntropy;
use pond_core::id::{BootId, WorkerId};
use pond_core::pool::{ClaimRequest, ClaimToken, Needs, NeedsKey};
use pond_core::secret::Secret;
use pond_core::store::SharedStore;
use pond_store::StoreUrl;
use pond_store::testing::claim_statements;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row, SqliteConnection};

const SHORT: u64 = 1_000;
/// Claims of one line in one round; less than [`SHORT`].
const CLAIMS: u64 = 500;
const PROJECTS: u64 = 1_000;
const NEEDS: usize = 8;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    // `cargo bench` adds an argument of its own.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (mut queued, mut rounds, mut postgres) = (1_000_000, 4, None);
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next()) {
            ("--queued", Some(value)) => queued = value.parse()?,
            ("--rounds", Some(value)) => rounds = value.parse()?,
            ("--postgres", Some(value)) => postgres = Some(value),
            _ => return Err("usage: claims [--queued N] [--rounds N] [--postgres URL]".into()),
        }
    }
    let folder = tempfile::tempdir()?;
    println!(
        "{:<10} {:>10} {:>8} {:>9} {:>9} {:>9}",
        "store", "in line", "claims", "p50 ms", "p99 ms", "max ms"
    );
    let file = |name: &str| Database::Sqlite(folder.path().join(name));
    measure("sqlite", [file("short.db"), file("long.db")], queued, rounds).await?;
    if let Some(url) = postgres {
        let databases = [
            make_database(&url, "pond_claims_short").await?,
            make_database(&url, "pond_claims_long").await?,
        ];
        let measured = measure("postgres", databases, queued, rounds).await;
        for name in ["pond_claims_short", "pond_claims_long"] {
            drop_database(&url, name).await?;
        }
        measured?;
    }
    Ok(())
}

/// A database to fill behind the store's back: a million submits would take longer than they teach.
enum Database {
    Sqlite(PathBuf),
    Postgres(String),
}

/// A line of some length.
struct Line {
    database: Database,
    store: SharedStore,
    length: u64,
    took: Vec<Duration>,
}

async fn measure(name: &str, databases: [Database; 2], queued: u64, rounds: u64) -> Result<(), Failure> {
    let mut lines = Vec::new();
    for (database, length) in databases.into_iter().zip([SHORT, queued]) {
        let store = pond_store::open(&database.url()).await?;
        database.begin().await?;
        database.add(0, length).await?;
        lines.push(Line {
            database,
            store,
            length,
            took: Vec::new(),
        });
    }
    for round in 0..rounds {
        for line in &mut lines {
            // The first few warm the connection's statements and pages.
            for claim in 0..CLAIMS {
                let request = request();
                let start = Instant::now();
                let claimed = line.store.claim_jobs(request).await?;
                let took = start.elapsed();
                assert_eq!(claimed.len(), 1, "the line is long enough");
                if claim >= 20 {
                    line.took.push(took);
                }
            }
            line.database.add(line.length + round * CLAIMS, CLAIMS).await?;
        }
    }
    for line in &mut lines {
        line.took.sort_unstable();
        let at = |share: usize| line.took[(line.took.len() - 1) * share / 1000].as_secs_f64() * 1000.0;
        let count = line.took.len();
        println!(
            "{name:<10} {:>10} {count:>8} {:>9.3} {:>9.3} {:>9.3}",
            line.length,
            at(500),
            at(990),
            at(1000)
        );
    }
    for line in lines {
        if line.length == queued {
            line.database.explain().await?;
        }
        line.store.close().await;
    }
    Ok(())
}

fn need(number: usize) -> Needs {
    Needs {
        tags: ["pool:trusted".to_owned()].into(),
        capabilities: [format!("harness.{number}")].into(),
        ..Needs::default()
    }
}

fn request() -> ClaimRequest {
    ClaimRequest {
        worker: WorkerId::mint(&SystemClock, &SystemEntropy),
        boot: BootId::mint(&SystemClock, &SystemEntropy),
        fits: (0..NEEDS).map(|number| need(number).key()).collect(),
        only: None,
        tokens: vec![ClaimToken::draw(&SystemEntropy)],
        lease_until: SystemClock.now().plus(Duration::from_secs(3600)),
    }
}

/// Rows of jobs `$1` to `$1 + $2`, in dialect: id, project and need from the number.
fn fill(ids: &str, projects: &str, needs: &str, numbers: &str) -> String {
    format!(
        "INSERT INTO jobs (id, run_id, project, stage, need, place, enqueued_at, status, claims, cancelled, pieces)
         SELECT {ids}, {ids}, {projects}, 0, {needs}, n, n, 0, 0, 0, '{{}}' FROM {numbers}"
    )
}

/// The need of job `n`, in turn.
fn needs(literal: impl Fn(&str) -> String) -> String {
    let case = |number: usize| format!("WHEN {number} THEN {}", literal(&hex::encode(need(number).key().0)));
    let cases: Vec<String> = (0..NEEDS).map(case).collect();
    format!("CASE (n / {PROJECTS}) % {NEEDS} {} END", cases.join(" "))
}

impl Database {
    fn url(&self) -> StoreUrl {
        match self {
            Self::Sqlite(path) => StoreUrl::Sqlite(path.clone()),
            Self::Postgres(url) => StoreUrl::Postgres(Secret::new(url.clone())),
        }
    }

    /// Writes the needs.
    async fn begin(&self) -> Result<(), Failure> {
        for number in 0..NEEDS {
            let NeedsKey(digest) = need(number).key();
            let body = serde_json::to_string(&need(number))?;
            let text = "INSERT INTO needs (digest, body) VALUES ($1, $2)";
            match self {
                Self::Sqlite(path) => {
                    let query = sqlx::query(text).bind(digest.to_vec()).bind(body);
                    query.execute(&mut open(path).await?).await?;
                }
                Self::Postgres(url) => {
                    let query = sqlx::query(text).bind(digest.to_vec()).bind(body);
                    query.execute(&mut PgConnection::connect(url).await?).await?;
                }
            }
        }
        Ok(())
    }

    /// Puts jobs in line, from this number on.
    async fn add(&self, from: u64, count: u64) -> Result<(), Failure> {
        let (from, to) = (i64::try_from(from)?, i64::try_from(from + count)?);
        match self {
            Self::Sqlite(path) => {
                let text = fill(
                    "unhex(printf('%032x', n))",
                    &format!("unhex(printf('%032x', n % {PROJECTS}))"),
                    &needs(|hex| format!("x'{hex}'")),
                    "(WITH RECURSIVE s (n) AS (SELECT $1 UNION ALL SELECT n + 1 FROM s WHERE n + 1 < $2) SELECT n FROM s)",
                );
                let mut connection = open(path).await?;
                let query = sqlx::query(AssertSqlSafe(text)).bind(from).bind(to);
                query.execute(&mut connection).await?;
                connection.close().await?;
            }
            Self::Postgres(url) => {
                let text = fill(
                    "decode(lpad(to_hex(n), 32, '0'), 'hex')",
                    &format!("decode(lpad(to_hex(n % {PROJECTS}), 32, '0'), 'hex')"),
                    &needs(|hex| format!("decode('{hex}', 'hex')")),
                    "generate_series($1::bigint, $2::bigint - 1) AS s (n)",
                );
                let mut connection = PgConnection::connect(url).await?;
                let query = sqlx::query(AssertSqlSafe(text)).bind(from).bind(to);
                query.execute(&mut connection).await?;
                if from == 0 {
                    // As autovacuum would before long.
                    connection.execute("VACUUM ANALYZE jobs").await?;
                }
                connection.close().await?;
            }
        }
        Ok(())
    }

    /// Prints the plans of the statements that look at the fronts.
    async fn explain(&self) -> Result<(), Failure> {
        for (what, sqlite, postgres) in claim_statements() {
            let needs: Vec<[u8; 16]> = (0..NEEDS).map(|number| need(number).key().0).collect();
            let project = vec![0u8; 16];
            println!("\n{what}:");
            match self {
                Self::Sqlite(path) => {
                    let needs: Vec<String> = needs.iter().map(hex::encode).collect();
                    let needs = serde_json::to_string(&needs)?;
                    let text = format!("EXPLAIN QUERY PLAN {sqlite}");
                    let mut query = sqlx::query(AssertSqlSafe(text)).bind(needs).bind(1i64);
                    if sqlite.contains("$3") {
                        query = query.bind(project);
                    }
                    for row in query.fetch_all(&mut open(path).await?).await? {
                        println!("  {}", row.get::<String, _>(3));
                    }
                }
                Self::Postgres(url) => {
                    let text = format!("EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) {postgres}");
                    let mut query = sqlx::query(AssertSqlSafe(text)).bind(needs).bind(1i64);
                    if postgres.contains("$3") {
                        query = query.bind(project);
                    }
                    for row in query.fetch_all(&mut PgConnection::connect(url).await?).await? {
                        println!("  {}", row.get::<String, _>(0));
                    }
                }
            }
        }
        Ok(())
    }
}

async fn open(path: &Path) -> Result<SqliteConnection, Failure> {
    let path = path.to_str().ok_or("a path in UTF-8")?;
    Ok(SqliteConnection::connect(path).await?)
}

async fn drop_database(url: &str, name: &str) -> Result<(), Failure> {
    let mut connection = PgConnection::connect(url).await?;
    let text = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
    connection.execute(AssertSqlSafe(text)).await?;
    connection.close().await?;
    Ok(())
}

async fn make_database(url: &str, name: &str) -> Result<Database, Failure> {
    drop_database(url, name).await?;
    let mut connection = PgConnection::connect(url).await?;
    connection
        .execute(AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .await?;
    connection.close().await?;
    let (base, query) = url
        .split_once('?')
        .map_or((url, String::new()), |(base, query)| (base, format!("?{query}")));
    let server = base.rsplit_once('/').map_or(base, |(server, _)| server);
    Ok(Database::Postgres(format!("{server}/{name}{query}")))
}
