//! An idle store writes nothing and asks nothing.

use std::time::{Duration, SystemTime};

use pond_core::testing::Samples;
use pond_store::StoreUrl;
use pond_store::testing::TestDatabase;
use sqlx::{Connection, Row};
use tempfile::TempDir;

/// The span that is watched; here the wall clock is the subject.
const IDLE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn an_idle_file_stays_as_it_is() {
    let folder = TempDir::new().unwrap();
    let store = pond_store::open(&StoreUrl::Sqlite(folder.path().join("pond.db")))
        .await
        .unwrap();
    let samples = Samples::new(1);
    samples.enqueue(&*store, "a").await;
    let look = || -> Vec<(String, u64, SystemTime)> {
        let files = std::fs::read_dir(folder.path()).unwrap().map(|file| {
            let (file, meta) = file.map(|file| (file.file_name(), file.metadata().unwrap())).unwrap();
            (file.into_string().unwrap(), meta.len(), meta.modified().unwrap())
        });
        // The shared-memory index has no say: readers mark it.
        let mut files: Vec<_> = files.filter(|(name, ..)| !name.ends_with("-shm")).collect();
        files.sort();
        files
    };
    let before = look();
    tokio::time::sleep(IDLE).await;
    assert_eq!(look(), before);
    store.close().await;
}

#[tokio::test]
async fn an_idle_database_sees_no_transaction() {
    let database = TestDatabase::create().await;
    let store = pond_store::open(&database.url()).await.unwrap();
    Samples::new(2).enqueue(&*store, "a").await;
    let mut watcher = sqlx::PgConnection::connect(database.text()).await.unwrap();
    let mut queries = async || {
        // When each of the store's connections was last asked something.
        let text = "SELECT pid, state_change::text FROM pg_stat_activity
                    WHERE datname = current_database() AND application_name = 'pond' ORDER BY pid";
        let rows = sqlx::query(text).fetch_all(&mut watcher).await.unwrap();
        rows.iter()
            .map(|row| (row.get::<i32, _>(0), row.get::<String, _>(1)))
            .collect::<Vec<_>>()
    };
    // The last wake-up goes out within its quiet span; then nothing more does.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = queries().await;
    assert!(before.len() >= 2, "{before:?}");
    tokio::time::sleep(IDLE).await;
    assert_eq!(queries().await, before);
    store.close().await;
}
