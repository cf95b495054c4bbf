//! What the store does for keys.

use async_trait::async_trait;

use super::{ApiKey, NewKey};
use crate::clock::Timestamp;
use crate::id::KeyId;
use crate::page::{Page, PageRequest};
use crate::projects::Slug;
use crate::scope::Scope;
use crate::store::StoreError;

/// A key with what must be known of its project when it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownKey {
    /// The key.
    pub key: ApiKey,
    /// Its project's short name.
    pub slug: Slug,
}

/// Keys. Reads see every write of every server that was acknowledged before them: a revoked key is gone at once.
#[async_trait]
pub trait KeyStore: Send + Sync {
    /// Adds a key; false, without effect, where its project is not there. An id or hash that is taken is unavailable.
    async fn create_key(&self, key: NewKey) -> Result<bool, StoreError>;

    /// The key whose token has this hash, as long as its project is there.
    async fn key_by_hash(&self, hash: [u8; 32]) -> Result<Option<KnownKey>, StoreError>;

    /// Keys in scope, oldest first.
    async fn keys(&self, scope: Scope, page: PageRequest<KeyId>) -> Result<Page<ApiKey, KeyId>, StoreError>;

    /// Removes a key in scope, and gives it; none where there is none.
    async fn revoke_key(&self, scope: Scope, id: KeyId) -> Result<Option<ApiKey>, StoreError>;

    /// Says that a key was used at `at`, unless a use after `known_since` is known already.
    async fn touch_key(&self, id: KeyId, at: Timestamp, known_since: Timestamp) -> Result<(), StoreError>;
}
