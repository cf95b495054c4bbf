//! An idle system writes nothing.

use std::time::Duration;

use pond_tests::world::{body, noop, stage};
use pond_tests::{Backend, PlayedWorker, World};
use sqlx::Connection;

/// What tells whether anything was written: bytes and times of files, or per table the rows and the transaction that last
/// wrote one.
async fn marks(world: &World) -> Vec<String> {
    if world.backend == Backend::Postgres {
        let url = world.database_url().expect("a PostgreSQL world has a database");
        let mut db = sqlx::PgConnection::connect(url).await.expect("the database answers");
        let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY 1";
        let tables: Vec<String> = sqlx::query_scalar(tables)
            .fetch_all(&mut db)
            .await
            .expect("tables are listed");
        let mut marks = Vec::new();
        for table in tables {
            let text =
                format!("SELECT '{table} ' || count(*) || ' ' || coalesce(max(xmin::text::bigint), 0) FROM {table}");
            marks.push(
                sqlx::query_scalar(sqlx::AssertSqlSafe(text))
                    .fetch_one(&mut db)
                    .await
                    .expect("a table is read"),
            );
        }
        return marks;
    }
    let mut files: Vec<String> = std::fs::read_dir(world.folder.path())
        .expect("the folder is there")
        .flatten()
        .filter_map(|entry| {
            let about = entry.metadata().ok()?;
            Some(format!(
                "{:?} {} {:?}",
                entry.file_name(),
                about.len(),
                about.modified().ok()?
            ))
        })
        .collect();
    files.sort();
    files
}

async fn idle(backend: Backend) {
    let world = World::on(backend).await.with_shell().await;
    let worker = PlayedWorker::attach(&world.pond);
    let id = world.submit(&body(&[stage("a", &noop(1, 0.0))])).await.head.id;
    world.ended(id).await;
    // A worker that polls is part of an idle system.
    let polled = tokio::spawn(async move { worker.poll(4, Duration::from_secs(9)).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = marks(&world).await;
    assert!(!before.is_empty());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(marks(&world).await, before);
    assert!(polled.await.unwrap().jobs.is_empty());
    // The marks do move when something is written.
    world
        .ended(world.submit(&body(&[stage("a", &noop(1, 0.0))])).await.head.id)
        .await;
    assert_ne!(marks(&world).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_in_five_idle_seconds_on_sqlite() {
    idle(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_in_five_idle_seconds_on_postgres() {
    idle(Backend::Postgres).await;
}
