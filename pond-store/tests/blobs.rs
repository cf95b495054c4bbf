//! The public conformance suite on every blob store.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use pond_core::artifacts::{BlobError, BlobStore};
use pond_core::blob_conformance;
use pond_core::secret::Secret;
use pond_store::S3Place;
use pond_store::testing::test_bucket;
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

async fn in_bucket() -> (Arc<dyn BlobStore>, ()) {
    (pond_store::blobs_in_bucket(&test_bucket()).unwrap(), ())
}

blob_conformance!(bucket, in_bucket);
blob_conformance!(memory, in_memory);
blob_conformance!(folder, in_folder);

/// What one server stores, another one reads: of a bucket they share nothing but its place.
#[tokio::test]
async fn c17_109_a_blob_of_one_server_is_read_by_another() {
    let place = test_bucket();
    let bytes: Vec<u8> = (0..20u32 << 20).map(|at| (at % 251) as u8).collect();
    let pieces: Vec<_> = bytes
        .chunks(1 << 20)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    let one = pond_store::blobs_in_bucket(&place).unwrap();
    let (size, _) = one
        .put("artifacts/a/1", stream::iter(pieces).boxed(), 1 << 30)
        .await
        .unwrap();
    assert_eq!(size, bytes.len() as u64);
    let other = pond_store::blobs_in_bucket(&place).unwrap();
    for range in [0..10, (9 << 20)..(17 << 20), (20 << 20) - 5..(20 << 20)] {
        let read: Vec<Bytes> = other
            .get("artifacts/a/1", Some(range.clone()))
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        assert_eq!(
            read.concat(),
            bytes[range.start as usize..range.end as usize],
            "{range:?}"
        );
    }
    other.delete("artifacts/a/1").await.unwrap();
    assert!(matches!(one.get("artifacts/a/1", None).await, Err(BlobError::NotFound)));
}

/// A wrong key or a service that is not there is an error, and neither tells a secret.
#[tokio::test]
async fn a_bucket_that_refuses_is_not_available() {
    let good = test_bucket();
    let wrong = S3Place {
        secret_access_key: Secret::new("CANARY-wrong"),
        ..good.clone()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = S3Place {
        endpoint: Some(format!("http://{}", listener.local_addr().unwrap())),
        ..wrong.clone()
    };
    drop(listener);
    for place in [wrong, gone] {
        let blobs = pond_store::blobs_in_bucket(&place).unwrap();
        let refused = blobs.get("a", None).await.err().expect("it is refused");
        assert!(matches!(refused, BlobError::Unavailable(_)), "{refused:?}");
        assert!(!format!("{refused:?} {place:?}").contains("CANARY"), "{refused:?}");
    }
}

#[tokio::test]
async fn an_emptied_folder_leaves_no_folder() {
    let folder = TempDir::new().unwrap();
    let blobs = pond_store::blobs_in_folder(folder.path()).unwrap();
    let piece = || stream::iter([Ok(Bytes::from_static(b"x"))]).boxed();
    for key in ["artifacts/a/1", "artifacts/b/1"] {
        blobs.put(key, piece(), 9).await.unwrap();
    }
    blobs.delete_under("artifacts/a").await.unwrap();
    assert!(!folder.path().join("artifacts/a").exists() && folder.path().join("artifacts/b/1").exists());
    blobs.put("artifacts/a/1", piece(), 9).await.unwrap();
}

#[test]
fn the_folder_is_for_its_owner_alone() {
    let folder = TempDir::new().unwrap();
    let blobs = folder.path().join("state/blobs");
    pond_store::blobs_in_folder(&blobs).unwrap();
    assert_eq!(blobs.metadata().unwrap().permissions().mode() & 0o777, 0o700);
}
