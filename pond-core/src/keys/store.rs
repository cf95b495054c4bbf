//! What the store does for keys.

use async_trait::async_trait;

use super::{ApiKey, KeyOfProject};
use crate::clock::Timestamp;
use crate::id::KeyId;
use crate::page::{Page, PageRequest};
use crate::scope::Scope;
use crate::store::StoreError;

/// API keys.
#[async_trait]
pub trait KeyStore: Send + Sync {
    /// Adds a key; whether it did. It does not when the key's project is not there, or its id or hash is.
    async fn add_key(&self, key: ApiKey) -> Result<bool, StoreError>;

    /// The key of this hash as it is now, whatever server wrote it; none when its project is gone. The one read without a
    /// scope: the token that was hashed is what says whose it is.
    async fn key_by_hash(&self, hash: [u8; 32]) -> Result<Option<KeyOfProject>, StoreError>;

    /// Keys, newest first.
    async fn keys(&self, scope: Scope, page: PageRequest<KeyId>) -> Result<Page<ApiKey, KeyId>, StoreError>;

    /// Drops a key for good; whether there was one in the scope. On return it opens nothing on any server.
    async fn revoke_key(&self, scope: Scope, id: KeyId) -> Result<bool, StoreError>;

    /// Notes that a key was used at `at`, unless a use after `but_since` is noted already; whether it did. Racing calls with
    /// the same times note one.
    async fn touch_key(&self, id: KeyId, at: Timestamp, but_since: Timestamp) -> Result<bool, StoreError>;
}
