//! The blob port on object_store: in memory, in a folder, or in a bucket. Bytes stream through in parts of a fixed size.

mod s3;

use std::io;
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::buffered::BufWriter;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};
use pond_core::artifacts::{BlobError, BlobStore, ByteStream};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

pub use s3::{BucketError, S3Place, blobs_in_bucket};

/// Bytes of a part: above what S3 takes as a part's least size.
const PART: usize = 8 << 20;
/// Parts under way, so a put holds three of them at most.
const PARTS_AT_ONCE: usize = 2;

/// Blobs in memory; they end with the last reference.
pub fn blobs_in_memory() -> Arc<dyn BlobStore> {
    Arc::new(Blobs {
        objects: Arc::new(InMemory::new()),
        files: None,
    })
}

/// Blobs in a folder, which is made for its owner alone if it is not there. A put is durable when it returns.
///
/// # Errors
/// When the folder cannot be made or opened.
pub fn blobs_in_folder(folder: &FilePath) -> io::Result<Arc<dyn BlobStore>> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let files = LocalFileSystem::new_with_prefix(folder).map_err(io::Error::other)?;
    Ok(Arc::new(Blobs {
        objects: Arc::new(files.with_fsync(true).with_automatic_cleanup(false)),
        files: Some(folder.to_owned()),
    }))
}

#[derive(Debug)]
struct Blobs {
    objects: Arc<dyn ObjectStore>,
    /// Where they are files: the folder of all, since what is left of an emptied folder is a folder.
    files: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
#[error("a key has letters, digits, `-` and `/` alone, and no empty part")]
struct BadKey;

/// A key as a path. Whatever could mean another place is refused here, whoever made the key.
fn path(key: &str) -> Result<Path, BlobError> {
    let part_fits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if key.len() <= 512 && key.split('/').all(part_fits) {
        Ok(Path::from(key))
    } else {
        Err(BlobError::Unavailable(Box::new(BadKey)))
    }
}

fn blob_error(error: object_store::Error) -> BlobError {
    match error {
        object_store::Error::NotFound { .. } => BlobError::NotFound,
        other => BlobError::Unavailable(Box::new(other)),
    }
}

/// Copies a stream, and gives its size and digest.
async fn copy(mut bytes: ByteStream, cap: u64, writer: &mut BufWriter) -> Result<(u64, [u8; 32]), BlobError> {
    let (mut size, mut digest) = (0u64, Sha256::new());
    while let Some(piece) = bytes.try_next().await? {
        size = size.saturating_add(piece.len() as u64);
        if size > cap {
            return Err(BlobError::TooLarge(cap));
        }
        digest.update(&piece);
        writer.put(piece).await.map_err(blob_error)?;
    }
    Ok((size, digest.finalize().into()))
}

#[async_trait]
impl BlobStore for Blobs {
    async fn put(&self, key: &str, bytes: ByteStream, cap: u64) -> Result<(u64, [u8; 32]), BlobError> {
        let writer = BufWriter::with_capacity(self.objects.clone(), path(key)?, PART);
        let mut writer = writer.with_max_concurrency(PARTS_AT_ONCE);
        match copy(bytes, cap, &mut writer).await {
            Ok(done) => {
                let finished = writer.shutdown().await;
                finished.map_err(|error| BlobError::Unavailable(Box::new(error)))?;
                Ok(done)
            }
            Err(error) => {
                // What has been sent is dropped; that it was is all there is to know.
                let _nothing_left = writer.abort().await;
                Err(error)
            }
        }
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<ByteStream, BlobError> {
        let path = path(key)?;
        let mut options = GetOptions::default();
        if let Some(range) = range {
            let size = self.objects.head(&path).await.map_err(blob_error)?.size;
            let range = range.start..range.end.min(size);
            if range.is_empty() {
                return Ok(stream::empty().boxed());
            }
            options.range = Some(GetRange::Bounded(range));
        }
        let object = self.objects.get_opts(&path, options).await.map_err(blob_error)?;
        Ok(object.into_stream().map_err(blob_error).boxed())
    }

    async fn delete(&self, key: &str) -> Result<(), BlobError> {
        match self.objects.delete(&path(key)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(blob_error(error)),
        }
    }

    async fn delete_under(&self, folder: &str) -> Result<(), BlobError> {
        let below = self
            .objects
            .list(Some(&path(folder)?))
            .map_ok(|found| found.location)
            .boxed();
        let mut deleted = self.objects.delete_stream(below);
        while let Some(one) = deleted.next().await {
            match one {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(blob_error(error)),
            }
        }
        if let Some(files) = &self.files {
            // One that is not empty, or not there, is not meant.
            let _kept = tokio::fs::remove_dir(files.join(folder)).await;
        }
        Ok(())
    }
}
