//! API keys in memory.

use async_trait::async_trait;
use pond_core::clock::Timestamp;
use pond_core::id::KeyId;
use pond_core::keys::{ApiKey, KeyStore, KnownKey, NewKey};
use pond_core::page::{Page, PageRequest};
use pond_core::scope::Scope;
use pond_core::store::StoreError;

use super::Memory;
use crate::error::taken;

#[async_trait]
impl KeyStore for Memory {
    async fn create_key(&self, new: NewKey) -> Result<bool, StoreError> {
        let mut state = self.state()?;
        if !state.projects.contains_key(&new.key.project) {
            return Ok(false);
        }
        let same_hash = state.api_keys.values().any(|known| known.hash == new.hash);
        if same_hash || state.api_keys.contains_key(&new.key.id) {
            return Err(taken("key"));
        }
        state.api_keys.insert(new.key.id, new);
        Ok(true)
    }

    async fn key_by_hash(&self, hash: [u8; 32]) -> Result<Option<KnownKey>, StoreError> {
        let state = self.state()?;
        let found = state.api_keys.values().find(|known| known.hash == hash);
        Ok(found.and_then(|known| {
            let project = state.projects.get(&known.key.project)?;
            Some(KnownKey {
                key: known.key.clone(),
                slug: project.slug.clone(),
            })
        }))
    }

    async fn keys(&self, scope: Scope, page: PageRequest<KeyId>) -> Result<Page<ApiKey, KeyId>, StoreError> {
        let state = self.state()?;
        let keys = state.api_keys.values().map(|known| &known.key);
        let keys = keys
            .filter(|key| scope.admits(key.project) && page.after.is_none_or(|after| key.id > after))
            .take(page.limit as usize + 1)
            .cloned()
            .collect();
        Ok(Page::cut(keys, page.limit, |key| key.id))
    }

    async fn revoke_key(&self, scope: Scope, id: KeyId) -> Result<Option<ApiKey>, StoreError> {
        let mut state = self.state()?;
        let within = state
            .api_keys
            .get(&id)
            .is_some_and(|known| scope.admits(known.key.project));
        let gone = if within { state.api_keys.remove(&id) } else { None };
        Ok(gone.map(|known| known.key))
    }

    async fn touch_key(&self, id: KeyId, at: Timestamp, known_since: Timestamp) -> Result<(), StoreError> {
        let mut state = self.state()?;
        if let Some(known) = state.api_keys.get_mut(&id)
            && known.key.last_used_at.is_none_or(|used| used <= known_since)
        {
            known.key.last_used_at = Some(at);
        }
        Ok(())
    }
}
