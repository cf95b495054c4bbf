//! How the statements that look for jobs to claim are planned: straight to the fronts of the lines that are asked for, however
//! many jobs there are.

use pond_core::store::SharedStore;
use pond_core::testing::Samples;
use pond_store::StoreUrl;
use pond_store::testing::{TestDatabase, claim_statements};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row, SqliteConnection};
use tempfile::TempDir;

/// Needs that are asked for.
const TAGS: [&str; 3] = ["a", "b", "c"];
/// Jobs that are there besides, in line and ended.
const JOBS: u32 = 20_000;

/// A few jobs in line, as the store writes them.
async fn some_in_line(store: &SharedStore, samples: &Samples) {
    for tag in TAGS {
        for _ in 0..3 {
            samples.enqueue(&**store, tag).await;
        }
    }
}

async fn sqlite_plan(connection: &mut SqliteConnection, text: &str, samples: &Samples) -> Vec<String> {
    let needs = TAGS.map(|tag| hex::encode(samples.needs(tag).key().0));
    let needs = serde_json::to_string(&needs).unwrap();
    let mut query = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}")))
        .bind(needs)
        .bind(4i64);
    if text.contains("$3") {
        query = query.bind(samples.project.as_bytes().to_vec());
    }
    let rows = query.fetch_all(connection).await.unwrap();
    rows.iter().map(|row| row.get("detail")).collect()
}

#[tokio::test]
async fn a_file_gives_the_fronts_of_lines_by_a_covering_index() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("pond.db");
    let store = pond_store::open(&StoreUrl::Sqlite(path.clone())).await.unwrap();
    let samples = Samples::new(1);
    some_in_line(&store, &samples).await;
    store.close().await;
    let mut file = SqliteConnection::connect(path.to_str().unwrap()).await.unwrap();
    // Without statistics, as the store runs, and with those of a file that somebody analysed.
    for statistics in ["SELECT 1", "ANALYZE"] {
        file.execute(statistics).await.unwrap();
        let lines = [
            "jobs_in_line (need=?)",
            "jobs_in_line_of_project (project=? AND need=?)",
        ];
        for ((what, text, _), line) in claim_statements().into_iter().zip(lines) {
            let plan = sqlite_plan(&mut file, text, &samples).await;
            let front = format!("SEARCH k USING COVERING INDEX {line}");
            assert!(plan.contains(&front), "{what}: {plan:#?}");
            for step in &plan {
                // The list of needs alone is gone through.
                let whole = step.starts_with("SCAN") && !step.starts_with("SCAN f ");
                assert!(!whole && !step.contains("TEMP B-TREE"), "{what}: {plan:#?}");
            }
        }
    }
    file.close().await.unwrap();
}

/// Fills the table by copies of one job: most have ended, the others are in line behind it.
async fn fill(database: &mut PgConnection) {
    let text = "
        INSERT INTO jobs (id, run_id, project, stage, need, place, enqueued_at, status, claims, cancelled, pieces)
        SELECT decode(md5(n::text), 'hex'), j.run_id,
               CASE WHEN n % 2 = 0 THEN j.project ELSE decode(md5((n % 50)::text), 'hex') END,
               j.stage, d.digest, j.place + n, j.enqueued_at, CASE WHEN n % 10 = 0 THEN 0 ELSE 2 END, 0, 0, '{}'
        FROM generate_series(1, $1) AS n, (SELECT * FROM jobs LIMIT 1) AS j,
             LATERAL (SELECT digest FROM needs ORDER BY digest OFFSET n % 3 LIMIT 1) AS d";
    let filled = sqlx::query(text)
        .bind(i64::from(JOBS))
        .execute(&mut *database)
        .await
        .unwrap();
    assert_eq!(filled.rows_affected(), u64::from(JOBS));
    database.execute("ANALYZE").await.unwrap();
}

/// The plan of a prepared statement, as often used ones have it or made for these values.
async fn postgres_plan(database: &mut PgConnection, text: &str, samples: &Samples) -> String {
    let needs = TAGS.map(|tag| format!("'\\x{}'", hex::encode(samples.needs(tag).key().0)));
    let (types, project) = if text.contains("$3") {
        let project = hex::encode(samples.project.as_bytes());
        ("bytea[], bigint, bytea", format!(", '\\x{project}'"))
    } else {
        ("bytea[], bigint", String::new())
    };
    let prepare = format!("PREPARE fronts ({types}) AS {text}");
    database.execute(AssertSqlSafe(prepare)).await.unwrap();
    let explain = format!(
        "EXPLAIN (COSTS OFF) EXECUTE fronts (ARRAY[{}]::bytea[], 4{project})",
        needs.join(", ")
    );
    let rows = database.fetch_all(AssertSqlSafe(explain)).await.unwrap();
    database.execute("DEALLOCATE fronts").await.unwrap();
    let lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    lines.join("\n")
}

#[tokio::test]
async fn a_database_gives_the_fronts_of_lines_by_an_index() {
    let database = TestDatabase::create().await;
    let store = pond_store::open(&database.url()).await.unwrap();
    let samples = Samples::new(2);
    some_in_line(&store, &samples).await;
    store.close().await;
    let mut database = PgConnection::connect(database.text()).await.unwrap();
    fill(&mut database).await;
    for mode in ["force_custom_plan", "force_generic_plan"] {
        let set = format!("SET plan_cache_mode = {mode}");
        database.execute(AssertSqlSafe(set)).await.unwrap();
        for ((what, _, text), line) in claim_statements()
            .into_iter()
            .zip(["jobs_in_line", "jobs_in_line_of_project"])
        {
            let plan = postgres_plan(&mut database, text, &samples).await;
            let front = format!("Index Scan using {line} on jobs k");
            assert!(plan.contains(&front), "{what}, {mode}:\n{plan}");
            for whole in ["Seq Scan on jobs", "Bitmap Heap Scan on jobs", "Sort"] {
                assert!(!plan.contains(whole), "{what}, {mode}:\n{plan}");
            }
        }
    }
    database.close().await.unwrap();
}
