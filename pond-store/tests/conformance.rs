//! The public conformance suite on every store.

use pond_core::store::SharedStore;
use pond_core::store_conformance;
use pond_store::StoreUrl;
use tempfile::TempDir;

async fn in_memory() -> (SharedStore, ()) {
    (pond_store::memory(), ())
}

pub(crate) async fn in_file() -> (SharedStore, TempDir) {
    let folder = TempDir::new().unwrap();
    let url = StoreUrl::Sqlite(folder.path().join("pond.db"));
    (pond_store::open(&url).await.unwrap(), folder)
}

store_conformance!(memory, in_memory);
store_conformance!(sqlite, in_file);
