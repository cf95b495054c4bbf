//! The public conformance suite on every store.

use pond_core::store::SharedStore;
use pond_core::store_conformance;
use pond_store::StoreUrl;
use pond_store::testing::TestDatabase;
use tempfile::TempDir;

async fn in_memory() -> (SharedStore, ()) {
    (pond_store::memory(), ())
}

pub(crate) async fn in_file() -> (SharedStore, TempDir) {
    let folder = TempDir::new().unwrap();
    let url = StoreUrl::Sqlite(folder.path().join("pond.db"));
    (pond_store::open(&url).await.unwrap(), folder)
}

pub(crate) async fn in_postgres() -> (SharedStore, TestDatabase) {
    let database = TestDatabase::create().await;
    (pond_store::open(&database.url()).await.unwrap(), database)
}

store_conformance!(memory, in_memory);
store_conformance!(sqlite, in_file);
store_conformance!(postgres, in_postgres);
