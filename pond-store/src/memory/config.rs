//! Config in memory.

use async_trait::async_trait;
use pond_core::config::{ConfigChange, ConfigCommitted, ConfigRevision, ConfigSnapshot, ConfigStore};
use pond_core::store::StoreError;

use super::Memory;

#[async_trait]
impl ConfigStore for Memory {
    async fn config_revision(&self) -> Result<ConfigRevision, StoreError> {
        Ok(ConfigRevision(self.state()?.config_revision))
    }

    async fn config(&self) -> Result<ConfigSnapshot, StoreError> {
        let state = self.state()?;
        Ok(ConfigSnapshot {
            revision: ConfigRevision(state.config_revision),
            entries: state.config.values().cloned().collect(),
        })
    }

    async fn commit_config(
        &self,
        expected: ConfigRevision,
        change: ConfigChange,
    ) -> Result<ConfigCommitted, StoreError> {
        let mut state = self.state()?;
        if state.config_revision != expected.0 {
            return Ok(ConfigCommitted::Stale);
        }
        match change {
            ConfigChange::Put(entry) => {
                state
                    .config
                    .insert((entry.kind, entry.owner, entry.name.clone()), entry);
            }
            ConfigChange::Delete { kind, owner, name } => {
                state.config.remove(&(kind, owner, name));
            }
        }
        state.config_revision += 1;
        Ok(ConfigCommitted::At(ConfigRevision(state.config_revision)))
    }
}
