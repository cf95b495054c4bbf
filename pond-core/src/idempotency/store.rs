//! What the store does for requests that are carried out once.

use async_trait::async_trait;

use super::{Attempt, Begun, Kept};
use crate::clock::Timestamp;
use crate::store::StoreError;

/// Requests that are carried out once.
#[async_trait]
pub trait OnceStore: Send + Sync {
    /// Begins a request, or says what is known of its first try. Of racing tries one is [`Begun::First`]; what was kept past
    /// its time, or under way past its, counts as not there.
    async fn begin_once(&self, attempt: Attempt) -> Result<Begun, StoreError>;

    /// Keeps the answer of the try `nonce` until `until`; false, without effect, when another try has taken its place.
    async fn finish_once(
        &self,
        id: [u8; 32],
        nonce: [u8; 16],
        kept: Kept,
        until: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Forgets the try `nonce`: nothing was made.
    async fn abandon_once(&self, id: [u8; 32], nonce: [u8; 16]) -> Result<(), StoreError>;

    /// Forgets at most `limit` of those whose time ended before `now`, and says how many.
    async fn sweep_once(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError>;
}
