//! Schemas: made once, kept, and never opened by a program that is too old.

use std::os::unix::fs::PermissionsExt;

use pond_core::scope::Scope;
use pond_core::store::SharedStore;
use pond_core::testing::Samples;
use pond_store::testing::TestDatabase;
use pond_store::{OpenError, StoreUrl};
use sqlx::{Connection, Executor};
use tempfile::TempDir;

async fn keeps_what_was_written(url: &StoreUrl) {
    let samples = Samples::new(1);
    let run = samples.new_run();
    let open = || async { pond_store::open(url).await.unwrap() };
    let store: SharedStore = open().await;
    store.create_run(run.clone()).await.unwrap();
    store.close().await;
    let store = open().await;
    assert!(store.run(Scope::Org, run.id).await.unwrap().is_some());
    store.close().await;
}

#[tokio::test]
async fn a_file_opens_again_and_is_for_its_owner_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("pond.db");
    let url = StoreUrl::Sqlite(path.clone());
    keeps_what_was_written(&url).await;
    let store = pond_store::open(&url).await.unwrap();
    store.create_run(Samples::new(2).new_run()).await.unwrap();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
    store.close().await;

    let mut newer = sqlx::SqliteConnection::connect(path.to_str().unwrap()).await.unwrap();
    let text = "INSERT INTO _sqlx_migrations VALUES (9999, 'newer', 0, 1, x'00', 0)";
    newer.execute(text).await.unwrap();
    newer.close().await.unwrap();
    assert!(matches!(
        pond_store::open(&url).await.err(),
        Some(OpenError::Newer(9999))
    ));
}

#[tokio::test]
async fn a_database_opens_again_and_a_newer_one_does_not() {
    let database = TestDatabase::create_empty().await;
    keeps_what_was_written(&database.url()).await;
    let mut newer = sqlx::PgConnection::connect(database.text()).await.unwrap();
    let text = "INSERT INTO _sqlx_migrations VALUES (9999, 'newer', now(), true, ''::bytea, 0)";
    newer.execute(text).await.unwrap();
    newer.close().await.unwrap();
    assert!(matches!(
        pond_store::open(&database.url()).await.err(),
        Some(OpenError::Newer(9999))
    ));
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    assert!(matches!(StoreUrl::parse("mysql://x"), Err(OpenError::UnknownKind)));
    assert!(matches!(StoreUrl::parse("sqlite://"), Err(OpenError::UnknownKind)));
    let nowhere = StoreUrl::parse("sqlite:///nowhere/at/all.db").unwrap();
    assert!(matches!(
        pond_store::open(&nowhere).await.err(),
        Some(OpenError::File(_))
    ));
    let bad = StoreUrl::parse("postgres://user:hunter2@host:port/x").unwrap();
    let error = pond_store::open(&bad).await.err().unwrap();
    assert!(matches!(error, OpenError::BadUrl));
    assert!(!format!("{bad:?} {error:?} {error}").contains("hunter2"));
}
