//! The port to large bytes: artifacts and source bundles.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

/// Bytes that arrive piece by piece.
pub type ByteStream = BoxStream<'static, Result<Bytes, BlobError>>;

/// Why bytes could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// No blob of this key.
    #[error("no such blob")]
    NotFound,
    /// The stream is longer than its cap.
    #[error("larger than {0} bytes")]
    TooLarge(u64),
    /// The storage does not answer, or the stream that was to be stored broke.
    #[error("the blob store is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Storage of blobs by key. Keys are made by Pond, never by a caller: letters, digits, `-` and `/`.
#[async_trait]
pub trait BlobStore: Send + Sync + 'static {
    /// Stores a stream under `key` and gives its size and SHA-256. A blob is there whole or not at all; a second put replaces
    /// the first. Memory use does not depend on the size.
    ///
    /// # Errors
    /// [`BlobError::TooLarge`] as soon as more than `cap` bytes have come; then nothing is stored.
    async fn put(&self, key: &str, bytes: ByteStream, cap: u64) -> Result<(u64, [u8; 32]), BlobError>;

    /// Reads a blob, or the given part of it.
    ///
    /// # Errors
    /// [`BlobError::NotFound`] when there is none.
    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<ByteStream, BlobError>;

    /// Deletes a blob; one that is not there is no error.
    ///
    /// # Errors
    /// When the storage does not answer.
    async fn delete(&self, key: &str) -> Result<(), BlobError>;

    /// Deletes every blob whose key starts with `folder` and a `/`; that there is none is no error. Not atomic: what came
    /// meanwhile may stay, and after an error some may be left.
    ///
    /// # Errors
    /// When the storage does not answer.
    async fn delete_under(&self, folder: &str) -> Result<(), BlobError>;
}
