//! API keys in memory.

use async_trait::async_trait;
use pond_core::clock::Timestamp;
use pond_core::id::KeyId;
use pond_core::keys::{ApiKey, KeyOfProject, KeyStore};
use pond_core::page::{Page, PageRequest};
use pond_core::scope::Scope;
use pond_core::store::StoreError;

use super::Memory;

#[async_trait]
impl KeyStore for Memory {
    async fn add_key(&self, key: ApiKey) -> Result<bool, StoreError> {
        let mut state = self.state()?;
        let taken = state
            .api_keys
            .values()
            .any(|known| known.id == key.id || known.hash == key.hash);
        if taken || !state.projects.contains_key(&key.project) {
            return Ok(false);
        }
        state.api_keys.insert(key.hash, key);
        Ok(true)
    }

    async fn key_by_hash(&self, hash: [u8; 32]) -> Result<Option<KeyOfProject>, StoreError> {
        let state = self.state()?;
        let of_project = |key: &ApiKey| {
            let project = state.projects.get(&key.project)?;
            Some(KeyOfProject {
                key: key.clone(),
                slug: project.slug.clone(),
            })
        };
        Ok(state.api_keys.get(&hash).and_then(of_project))
    }

    async fn keys(&self, scope: Scope, page: PageRequest<KeyId>) -> Result<Page<ApiKey, KeyId>, StoreError> {
        let state = self.state()?;
        let seen = |key: &&ApiKey| scope.admits(key.project) && page.after.is_none_or(|after| key.id < after);
        let mut keys: Vec<ApiKey> = state.api_keys.values().filter(seen).cloned().collect();
        keys.sort_by_key(|key| std::cmp::Reverse(key.id));
        Ok(Page::cut(keys, page.limit, |key| key.id))
    }

    async fn revoke_key(&self, scope: Scope, id: KeyId) -> Result<bool, StoreError> {
        let mut state = self.state()?;
        let before = state.api_keys.len();
        state
            .api_keys
            .retain(|_, key| key.id != id || !scope.admits(key.project));
        Ok(state.api_keys.len() < before)
    }

    async fn touch_key(&self, id: KeyId, at: Timestamp, but_since: Timestamp) -> Result<bool, StoreError> {
        let mut state = self.state()?;
        let key = state.api_keys.values_mut().find(|key| key.id == id);
        let stale = key.filter(|key| key.last_used_at.is_none_or(|used| used <= but_since));
        Ok(stale.map(|key| key.last_used_at = Some(at)).is_some())
    }
}
