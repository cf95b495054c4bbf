//! Blobs in memory, stricter than a real store: keys are held to the port's alphabet.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use sha2::{Digest, Sha256};

use crate::artifacts::{BlobError, BlobStore, ByteStream};

/// Blobs in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryBlobs(Arc<Mutex<HashMap<String, Bytes>>>);

impl MemoryBlobs {
    /// The keys of all blobs, sorted.
    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self
            .0
            .lock()
            .expect("no holder of this lock panics")
            .keys()
            .cloned()
            .collect();
        keys.sort();
        keys
    }
}

#[async_trait]
impl BlobStore for MemoryBlobs {
    async fn put(&self, key: &str, mut bytes: ByteStream, cap: u64) -> Result<(u64, [u8; 32]), BlobError> {
        assert!(
            !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'/'),
            "not a blob key: {key}"
        );
        let mut whole = BytesMut::new();
        while let Some(piece) = bytes.next().await {
            whole.extend_from_slice(&piece?);
            if whole.len() as u64 > cap {
                return Err(BlobError::TooLarge(cap));
            }
        }
        let digest = Sha256::digest(&whole).into();
        let size = whole.len() as u64;
        self.0
            .lock()
            .expect("no holder of this lock panics")
            .insert(key.to_owned(), whole.freeze());
        Ok((size, digest))
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<ByteStream, BlobError> {
        let blobs = self.0.lock().expect("no holder of this lock panics");
        let whole = blobs.get(key).ok_or(BlobError::NotFound)?;
        let (start, end) = range.map_or((0, whole.len()), |r| {
            (r.start as usize, (r.end as usize).min(whole.len()))
        });
        let part = whole.slice(start.min(end)..end);
        Ok(futures::stream::once(async move { Ok(part) }).boxed())
    }

    async fn delete(&self, key: &str) -> Result<(), BlobError> {
        self.0.lock().expect("no holder of this lock panics").remove(key);
        Ok(())
    }

    async fn delete_under(&self, folder: &str) -> Result<(), BlobError> {
        let below = format!("{folder}/");
        let mut blobs = self.0.lock().expect("no holder of this lock panics");
        blobs.retain(|key, _| !key.starts_with(&below));
        Ok(())
    }
}
