//! Requests that are carried out once, as the server sees them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{Attempt, Begun, Content, Kept, Repeatable};
use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::error::{Error, Result};
use crate::scope::Scope;
use crate::secret::SecretBytes;
use crate::store::SharedStore;

/// How long an answer is kept.
const KEEP: Duration = Duration::from_secs(24 * 3600);
/// How long a request that nobody said the end of counts as under way: a server that died must not block a key for ever.
const UNDER_WAY: Duration = Duration::from_secs(300);
/// Bytes of an answer that are kept; of a larger one its id is. A run with the largest definition fits.
pub const MAX_KEPT: usize = 2 << 20;
const SWEEP_EVERY: Duration = Duration::from_secs(600);
const SWEEP: u32 = 500;

/// A key as it was sent: 1 to 255 visible characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnceKey(String);

impl OnceKey {
    /// Checks a key.
    ///
    /// # Errors
    /// [`Error::Invalid`] at the header's name.
    pub fn new(text: &str) -> Result<Self> {
        if (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::invalid(
            "Idempotency-Key",
            "expected 1 to 255 visible ASCII characters",
        ))
    }
}

/// Requests that are carried out once.
#[derive(Clone)]
pub struct Idempotency {
    parts: Arc<Parts>,
}

struct Parts {
    store: SharedStore,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    key: SecretBytes,
    /// Whether anything was begun since the last sweep.
    used: AtomicBool,
    /// When the last of what is kept will have had its time, in microseconds; 0 when nothing is owed.
    owed: AtomicI64,
}

/// What is to be done with a request.
#[derive(Debug)]
pub enum Entered {
    /// Carry it out, and say how it ended.
    First(Keeping),
    /// The first one is under way.
    UnderWay,
    /// The key was sent with another body.
    Mismatch,
    /// Answer this.
    Done(Kept),
}

/// The right to say how a first try ended.
#[derive(Debug)]
pub struct Keeping {
    id: [u8; 32],
    nonce: [u8; 16],
}

impl Idempotency {
    pub(crate) fn new(store: SharedStore, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>, key: SecretBytes) -> Self {
        // What a former life left is swept too.
        let owed = AtomicI64::new(clock.now().plus(KEEP).micros());
        let parts = Parts {
            store,
            clock,
            entropy,
            key,
            used: AtomicBool::new(true),
            owed,
        };
        Self { parts: Arc::new(parts) }
    }

    /// Enters a request: `route` is its method and path. Bodies may hold secrets, so hashes are keyed.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn enter(&self, scope: Scope, route: &str, key: &OnceKey, body: &[u8]) -> Result<Entered> {
        let parts = &self.parts;
        parts.used.store(true, Ordering::Release);
        let last = parts.clock.now().plus(KEEP + UNDER_WAY);
        parts.owed.fetch_max(last.micros(), Ordering::AcqRel);
        let scope = scope.project().map(|project| project.as_bytes().to_vec());
        let scope = scope.unwrap_or_default();
        let id = self.hash(&[b"id", &scope, route.as_bytes(), key.0.as_bytes()]);
        let nonce = parts.entropy.draw::<16>();
        let now = parts.clock.now();
        let attempt = Attempt {
            id,
            body: self.hash(&[b"body", body]),
            nonce,
            now,
            until: now.plus(UNDER_WAY),
        };
        Ok(match parts.store.begin_once(attempt).await? {
            Begun::First => Entered::First(Keeping { id, nonce }),
            Begun::UnderWay => Entered::UnderWay,
            Begun::Mismatch => Entered::Mismatch,
            Begun::Done(kept) => Entered::Done(kept),
        })
    }

    fn hash(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.parts.key.expose()).expect("HMAC takes a key of any length");
        for part in parts {
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// Keeps the answer of a first try: its body, or only the `id` in it.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn keep(
        &self,
        keeping: Keeping,
        status: u16,
        location: Option<String>,
        body: &[u8],
        repeatable: Repeatable,
    ) -> Result<()> {
        let content = if repeatable == Repeatable::Whole && body.len() <= MAX_KEPT {
            Content::Whole(body.to_vec())
        } else {
            Content::Id(id_of(body))
        };
        let kept = Kept {
            status,
            location,
            content,
        };
        let until = self.parts.clock.now().plus(KEEP);
        let Keeping { id, nonce } = keeping;
        if !self.parts.store.finish_once(id, nonce, kept, until).await? {
            tracing::warn!("an answer came after its request had counted as lost; it is not kept");
        }
        Ok(())
    }

    /// Forgets a first try that made nothing.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn forget(&self, keeping: Keeping) -> Result<()> {
        Ok(self.parts.store.abandon_once(keeping.id, keeping.nonce).await?)
    }

    /// Sweeps until the engine stops: while requests are entered, and once more when the last of them has had its time. So an
    /// idle system writes nothing.
    pub(crate) async fn sweep(self) {
        loop {
            self.parts.clock.sleep(SWEEP_EVERY).await;
            let used = self.parts.used.swap(false, Ordering::AcqRel);
            let (owed, now) = (self.parts.owed.load(Ordering::Acquire), self.parts.clock.now());
            let over = owed != 0 && now.micros() >= owed;
            if !used && !over {
                continue;
            }
            match self.sweep_now().await {
                Ok(()) if over => {
                    // Something that was entered meanwhile is owed later.
                    let _ = self
                        .parts
                        .owed
                        .compare_exchange(owed, 0, Ordering::AcqRel, Ordering::Acquire);
                }
                Ok(()) => {}
                Err(error) => {
                    self.parts.used.store(true, Ordering::Release);
                    tracing::warn!(%error, "old answers could not be swept; trying again");
                }
            }
        }
    }

    async fn sweep_now(&self) -> Result<()> {
        while self.parts.store.sweep_once(self.parts.clock.now(), SWEEP).await? == u64::from(SWEEP) {}
        Ok(())
    }
}

/// The `id` of a JSON answer; empty where there is none.
fn id_of(body: &[u8]) -> String {
    let read = serde_json::from_slice::<serde_json::Value>(body).ok();
    read.and_then(|body| Some(body.get("id")?.as_str()?.to_owned()))
        .unwrap_or_default()
}
