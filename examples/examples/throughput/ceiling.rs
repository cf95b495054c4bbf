//! The ceiling: what a run writes, as bare statements in batches, without an engine. Two commits per batch of runs: create
//! (run row, first segment) and finish (row changed, second segment).

use std::path::Path;
use std::time::{Duration, Instant};

use pond_store::StoreUrl;
use serde_json::json;
use sqlx::{Connection, Executor};

use super::Failure;

/// Of the size that a one-stage noop run writes.
const STATE: &str =
    r#"{"n":1,"s":{"0":{"p":{"e":{"n":1,"t":1735689600000000,"u":1735689600000100,"o":"d"}},"g":{"d":1,"t":1}}}}"#;
const FIRST: &str = r#"[{"t":1735689600000000,"s":{"f":"none","o":"queued"}}]"#;
const SECOND: &str = r#"[{"t":1735689600000000,"s":{"f":"queued","o":"running"}},{"t":1735689600000000,"s":{"k":"a","f":"queued","o":"running"}},{"t":1735689600000000,"l":{"k":"a","r":"s","w":"e","x":"tick 1 of 1"}},{"t":1735689600000000,"s":{"k":"a","f":"running","o":"done"}},{"t":1735689600000000,"s":{"f":"running","o":"done"}}]"#;

/// Runs per second on a fresh SQLite file with the schema and the settings of the store.
pub(crate) async fn sqlite(path: &Path, batch: usize, span: Duration) -> Result<f64, Failure> {
    pond_store::open(&StoreUrl::Sqlite(path.to_owned()))
        .await?
        .close()
        .await;
    let mut db = sqlx::SqliteConnection::connect(&format!("sqlite://{}", path.display())).await?;
    db.execute(
        "PRAGMA synchronous=FULL; PRAGMA cache_size=-65536; PRAGMA temp_store=MEMORY; PRAGMA wal_autocheckpoint=4000",
    )
    .await?;
    let (started, mut runs) = (Instant::now(), 0usize);
    while started.elapsed() < span {
        let ids: Vec<String> = (0..batch).map(|i| format!("{:032x}", runs + i)).collect();
        let ids = json!(ids).to_string();
        let mut tx = db.begin_with("BEGIN IMMEDIATE").await?;
        let create = "INSERT INTO runs (id, project, trigger, definition, created_at, owner, revision, next_event,
                log_bytes, status, state)
            SELECT unhex(value), zeroblob(16), 'api', zeroblob(32), 1735689600000000, zeroblob(16), 1, 2, 0, 0, '{\"n\":1}'
            FROM json_each($1)";
        tx.execute(sqlx::query(create).bind(&ids)).await?;
        let segment = "INSERT INTO segments SELECT unhex(value), $2, $3, CAST($4 AS BLOB) FROM json_each($1)";
        tx.execute(sqlx::query(segment).bind(&ids).bind(1).bind(1).bind(FIRST))
            .await?;
        tx.commit().await?;
        let mut tx = db.begin_with("BEGIN IMMEDIATE").await?;
        let finish = "UPDATE runs SET revision = revision + 1, next_event = next_event + 5, log_bytes = 12, status = 2,
                started_at = 1735689600000000, finished_at = 1735689600000100, state = $2
            FROM json_each($1) AS c WHERE runs.id = unhex(c.value) AND runs.revision = 1
            RETURNING id, revision, next_event, log_bytes";
        tx.fetch_all(sqlx::query(finish).bind(&ids).bind(STATE)).await?;
        tx.execute(sqlx::query(segment).bind(&ids).bind(2).bind(6).bind(SECOND))
            .await?;
        tx.commit().await?;
        runs += batch;
    }
    Ok(runs as f64 / started.elapsed().as_secs_f64())
}

/// Runs per second on a PostgreSQL database, which gets the schema.
pub(crate) async fn postgres(url: &str, batch: usize, span: Duration) -> Result<f64, Failure> {
    let store = StoreUrl::parse(url)?;
    pond_store::open(&store).await?.close().await;
    let mut db = sqlx::PgConnection::connect(url).await?;
    let mut settings = Vec::new();
    for name in ["fsync", "synchronous_commit", "full_page_writes"] {
        let value: String = sqlx::query_scalar("SELECT current_setting($1)")
            .bind(name)
            .fetch_one(&mut db)
            .await?;
        settings.push(format!("{name}={value}"));
    }
    println!("(postgres: {})", settings.join(" "));
    let (started, mut runs) = (Instant::now(), 0u128);
    let base = u128::from(std::process::id()) << 64;
    while started.elapsed() < span {
        let ids: Vec<Vec<u8>> = (0..batch)
            .map(|i| (base + runs + i as u128).to_be_bytes().to_vec())
            .collect();
        let create = "WITH new AS (SELECT id FROM UNNEST($1::bytea[]) AS new (id)),
            events AS (INSERT INTO segments (run_id, first_event, last_event, body) SELECT id, 1, 1, $2 FROM new)
            INSERT INTO runs (id, project, trigger, definition, created_at, owner, revision, next_event, log_bytes,
                status, state)
            SELECT id, '\\x00', 'api', '\\x00', 1735689600000000, '\\x00', 1, 2, 0, 0, '{\"n\":1}' FROM new";
        db.execute(sqlx::query(create).bind(&ids).bind(FIRST.as_bytes()))
            .await?;
        let finish = "WITH changed AS (
                UPDATE runs SET revision = runs.revision + 1, next_event = runs.next_event + 5, log_bytes = 12, status = 2,
                    started_at = 1735689600000000, finished_at = 1735689600000100, state = $2
                FROM UNNEST($1::bytea[]) AS c (id) WHERE runs.id = c.id AND runs.revision = 1
                RETURNING runs.id, runs.revision, runs.next_event, runs.log_bytes),
            events AS (INSERT INTO segments (run_id, first_event, last_event, body) SELECT id, 2, 6, $3 FROM changed)
            SELECT id, revision, next_event, log_bytes FROM changed";
        db.fetch_all(sqlx::query(finish).bind(&ids).bind(STATE).bind(SECOND.as_bytes()))
            .await?;
        runs += batch as u128;
    }
    Ok(runs as f64 / started.elapsed().as_secs_f64())
}
