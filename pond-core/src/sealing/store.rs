//! What the store does for the keyring.

use async_trait::async_trait;

use super::Sealed;
use crate::store::StoreError;

/// A key of the ring, sealed under the root key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// Its version, from 1.
    pub version: u32,
    /// 12-byte nonce, ciphertext, 16-byte tag.
    pub wrapped: Vec<u8>,
}

/// The keys of the ring.
#[async_trait]
pub trait KeyringStore: Send + Sync {
    /// All keys, by version.
    async fn wrapped_keys(&self) -> Result<Vec<WrappedKey>, StoreError>;

    /// Adds a key unless its version is there; false when it was. So of two servers that start at once, one makes the key.
    async fn add_wrapped_key(&self, key: WrappedKey) -> Result<bool, StoreError>;

    /// A key that all servers of this store share, sealed under the ring.
    async fn server_key(&self, name: &str) -> Result<Option<Sealed>, StoreError>;

    /// Adds a shared key unless there is one of its name; false when there was.
    async fn add_server_key(&self, name: &str, sealed: Sealed) -> Result<bool, StoreError>;
}
