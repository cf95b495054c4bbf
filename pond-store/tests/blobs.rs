//! The public conformance suite on every blob store.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use pond_core::artifacts::BlobStore;
use pond_core::blob_conformance;
use tempfile::TempDir;

async fn in_memory() -> (Arc<dyn BlobStore>, ()) {
    (pond_store::blobs_in_memory(), ())
}

async fn in_folder() -> (Arc<dyn BlobStore>, TempDir) {
    let folder = TempDir::new().unwrap();
    (
        pond_store::blobs_in_folder(&folder.path().join("blobs")).unwrap(),
        folder,
    )
}

blob_conformance!(memory, in_memory);
blob_conformance!(folder, in_folder);

#[test]
fn the_folder_is_for_its_owner_alone() {
    let folder = TempDir::new().unwrap();
    let blobs = folder.path().join("state/blobs");
    pond_store::blobs_in_folder(&blobs).unwrap();
    assert_eq!(blobs.metadata().unwrap().permissions().mode() & 0o777, 0o700);
}
