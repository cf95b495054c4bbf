//! Requests that are carried out once, in memory.

use async_trait::async_trait;
use pond_core::clock::Timestamp;
use pond_core::idempotency::{Attempt, Begun, Kept, OnceStore};
use pond_core::store::StoreError;

use super::Memory;

/// A request, under way until there is an answer.
#[derive(Debug)]
pub(super) struct Once {
    body: [u8; 32],
    nonce: [u8; 16],
    until: Timestamp,
    kept: Option<Kept>,
}

#[async_trait]
impl OnceStore for Memory {
    async fn begin_once(&self, attempt: Attempt) -> Result<Begun, StoreError> {
        let mut state = self.state()?;
        let live = state.once.get(&attempt.id).filter(|known| known.until > attempt.now);
        if let Some(known) = live {
            return Ok(match &known.kept {
                _ if known.body != attempt.body => Begun::Mismatch,
                None => Begun::UnderWay,
                Some(kept) => Begun::Done(kept.clone()),
            });
        }
        let once = Once {
            body: attempt.body,
            nonce: attempt.nonce,
            until: attempt.until,
            kept: None,
        };
        state.once.insert(attempt.id, once);
        Ok(Begun::First)
    }

    async fn finish_once(
        &self,
        id: [u8; 32],
        nonce: [u8; 16],
        kept: Kept,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut state = self.state()?;
        let Some(known) = state.once.get_mut(&id).filter(|known| known.nonce == nonce) else {
            return Ok(false);
        };
        (known.kept, known.until) = (Some(kept), until);
        Ok(true)
    }

    async fn abandon_once(&self, id: [u8; 32], nonce: [u8; 16]) -> Result<(), StoreError> {
        let mut state = self.state()?;
        if state.once.get(&id).is_some_and(|known| known.nonce == nonce) {
            state.once.remove(&id);
        }
        Ok(())
    }

    async fn sweep_once(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let mut state = self.state()?;
        let over = state.once.iter().filter(|(_, known)| known.until <= now);
        let over: Vec<[u8; 32]> = over.map(|(id, _)| *id).take(limit as usize).collect();
        for id in &over {
            state.once.remove(id);
        }
        Ok(over.len() as u64)
    }
}
