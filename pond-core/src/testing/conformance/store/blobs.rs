//! What every blob store must do. `blob_conformance!(folder, factory)` makes one named test per function here; `factory`
//! is an `async fn() -> (Arc<dyn BlobStore>, G)`.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};

use crate::artifacts::{BlobError, BlobStore, ByteStream};

/// Makes a module of tests, one per case.
#[macro_export]
macro_rules! blob_conformance {
    ($module:ident, $factory:path) => {
        mod $module {
            use super::*;

            $crate::__blob_cases!($factory:
                what_is_put_is_got
                a_range_is_the_part_within
                a_second_put_replaces_the_first
                too_much_is_stored_not_at_all
                a_broken_stream_is_stored_not_at_all
                what_is_not_there_is_not_found
                a_folder_is_emptied_and_its_neighbours_stay
                no_key_leads_outside
            );
        }
    };
}

/// One test per case.
#[doc(hidden)]
#[macro_export]
macro_rules! __blob_cases {
    ($factory:path: $($case:ident)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            let (blobs, _alive) = $factory().await;
            $crate::testing::conformance::store::blobs::$case(blobs).await;
        })+
    };
}

const CAP: u64 = 64 << 20;

fn pieces(bytes: &[u8], piece: usize) -> ByteStream {
    let pieces: Vec<_> = bytes
        .chunks(piece)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    stream::iter(pieces).boxed()
}

async fn read(stream: ByteStream) -> Vec<u8> {
    stream
        .try_collect::<Vec<Bytes>>()
        .await
        .expect("the blob store answers")
        .concat()
}

fn sample(size: usize) -> Vec<u8> {
    (0..size).map(|place| (place % 251) as u8).collect()
}

/// Any size, from nothing to more than one part of an upload.
pub async fn what_is_put_is_got(blobs: Arc<dyn BlobStore>) {
    for size in [0, 1, 70_000, 20 << 20] {
        let bytes = sample(size);
        let key = format!("artifacts/0-{size}/A");
        let put = blobs.put(&key, pieces(&bytes, 65_000), CAP).await.unwrap();
        assert_eq!(put, (size as u64, Sha256::digest(&bytes).into()));
        assert!(read(blobs.get(&key, None).await.unwrap()).await == bytes, "{size}");
    }
}

/// A range beyond the end is cut; an empty one is empty.
pub async fn a_range_is_the_part_within(blobs: Arc<dyn BlobStore>) {
    let bytes = sample(1000);
    blobs.put("b", pieces(&bytes, 100), CAP).await.unwrap();
    for (range, part) in [
        (0..1, 0..1),
        (10..20, 10..20),
        (990..2000, 990..1000),
        (5..5, 0..0),
        (1000..1001, 0..0),
    ] {
        let read = read(blobs.get("b", Some(range.clone())).await.unwrap()).await;
        assert_eq!(read, bytes[part], "{range:?}");
    }
    assert!(matches!(blobs.get("c", Some(0..1)).await, Err(BlobError::NotFound)));
}

/// The last put counts.
pub async fn a_second_put_replaces_the_first(blobs: Arc<dyn BlobStore>) {
    for text in ["a long first text", "second"] {
        blobs.put("a/b", pieces(text.as_bytes(), 4), CAP).await.unwrap();
        assert_eq!(read(blobs.get("a/b", None).await.unwrap()).await, text.as_bytes());
    }
}

/// One byte over the cap stores nothing, and leaves what was there; exactly the cap is fine.
pub async fn too_much_is_stored_not_at_all(blobs: Arc<dyn BlobStore>) {
    blobs.put("a", pieces(b"first", 9), 5).await.unwrap();
    for size in [6, 20 << 20] {
        let cap = size as u64 - 1;
        let put = blobs.put("a", pieces(&sample(size), 65_000), cap).await;
        assert!(
            matches!(put, Err(BlobError::TooLarge(limit)) if limit == cap),
            "{put:?}"
        );
        let put = blobs.put("new", pieces(&sample(size), 65_000), cap).await;
        assert!(matches!(put, Err(BlobError::TooLarge(_))), "{put:?}");
    }
    assert_eq!(read(blobs.get("a", None).await.unwrap()).await, b"first");
    assert!(matches!(blobs.get("new", None).await, Err(BlobError::NotFound)));
}

/// Bytes whose stream breaks are not there.
pub async fn a_broken_stream_is_stored_not_at_all(blobs: Arc<dyn BlobStore>) {
    for size in [10, 20 << 20] {
        let broken = stream::iter([Err(BlobError::Unavailable("the line went dead".into()))]);
        let bytes = pieces(&sample(size), 65_000).chain(broken).boxed();
        assert!(matches!(
            blobs.put("a", bytes, CAP).await,
            Err(BlobError::Unavailable(_))
        ));
        assert!(matches!(blobs.get("a", None).await, Err(BlobError::NotFound)));
    }
}

/// A blob that was deleted is gone; deleting it again is fine.
pub async fn what_is_not_there_is_not_found(blobs: Arc<dyn BlobStore>) {
    assert!(matches!(blobs.get("a/b", None).await, Err(BlobError::NotFound)));
    blobs.put("a/b", pieces(b"x", 1), CAP).await.unwrap();
    for _ in 0..2 {
        blobs.delete("a/b").await.unwrap();
        assert!(matches!(blobs.get("a/b", None).await, Err(BlobError::NotFound)));
    }
}

/// All below a folder goes, and nothing beside it; a folder that is not there is fine.
pub async fn a_folder_is_emptied_and_its_neighbours_stay(blobs: Arc<dyn BlobStore>) {
    let gone: Vec<String> = (0..30)
        .map(|number| format!("a/b/{number}"))
        .chain(["a/b/c/d".to_owned()])
        .collect();
    let kept = ["a/bc/1", "a/b-1", "b/a/b/1"];
    for key in gone.iter().map(String::as_str).chain(kept) {
        blobs.put(key, pieces(b"x", 1), CAP).await.unwrap();
    }
    blobs.delete_under("nowhere").await.unwrap();
    for _ in 0..2 {
        blobs.delete_under("a/b").await.unwrap();
        for key in &gone {
            assert!(matches!(blobs.get(key, None).await, Err(BlobError::NotFound)), "{key}");
        }
    }
    for key in kept {
        assert_eq!(read(blobs.get(key, None).await.unwrap()).await, b"x", "{key}");
    }
    for folder in ["", "/", "a/", "..", "a/../b"] {
        assert!(blobs.delete_under(folder).await.is_err(), "{folder:?}");
    }
}

/// A key with anything but letters, digits, `-` and `/` is refused by each call.
pub async fn no_key_leads_outside(blobs: Arc<dyn BlobStore>) {
    for key in [
        "", "/", "a//b", "/a", "a/", "..", "a/../b", "a b", "a.b", "a%2e", "a\\b", "a\0", "ä", "a#1",
    ] {
        assert!(
            matches!(
                blobs.put(key, pieces(b"x", 1), CAP).await,
                Err(BlobError::Unavailable(_))
            ),
            "{key:?}"
        );
        assert!(
            matches!(blobs.get(key, None).await, Err(BlobError::Unavailable(_))),
            "{key:?}"
        );
        assert!(
            matches!(blobs.delete(key).await, Err(BlobError::Unavailable(_))),
            "{key:?}"
        );
    }
}
