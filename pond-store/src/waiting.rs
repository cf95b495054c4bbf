//! The needs of jobs in line, kept at hand: polls of idle workers cost the database nothing.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pond_core::pool::Needs;
use pond_core::store::StoreError;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Hints may be lost: after this long the database is asked again.
const KEPT: Duration = Duration::from_secs(10);

/// What was last read, and when it is out of date.
#[derive(Debug, Default)]
pub(crate) struct WaitingNeeds {
    kept: Mutex<Option<Kept>>,
    /// Claims that came away with less than they asked for.
    vain: AtomicU64,
}

#[derive(Debug)]
struct Kept {
    /// News of the line, and vain claims, before it was read.
    as_of: (u64, u64),
    read_at: Instant,
    needs: Arc<[Needs]>,
}

impl WaitingNeeds {
    /// What is kept, or what `read` says when there is news of the line since; those who ask at once share one read.
    pub(crate) async fn get(
        &self,
        line_news: u64,
        now: Instant,
        read: impl Future<Output = Result<Arc<[Needs]>, StoreError>>,
    ) -> Result<Arc<[Needs]>, StoreError> {
        let mut kept = self.kept.lock().await;
        let vain = self.vain.load(Ordering::Acquire);
        if let Some(kept) = &*kept
            && kept.as_of.0 >= line_news
            && kept.as_of.1 == vain
            && now.duration_since(kept.read_at) < KEPT
        {
            return Ok(kept.needs.clone());
        }
        let needs = read.await?;
        *kept = Some(Kept {
            as_of: (line_news, vain),
            read_at: now,
            needs: needs.clone(),
        });
        Ok(needs)
    }

    /// A claim found less than it asked for: what is kept may name lines that are empty.
    pub(crate) fn forget(&self) {
        self.vain.fetch_add(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn reads(waiting: &WaitingNeeds, line_news: u64, now: Instant) -> u32 {
        let mut reads = 0;
        let read = async {
            reads += 1;
            Ok(Arc::default())
        };
        waiting.get(line_news, now, read).await.unwrap();
        reads
    }

    #[tokio::test]
    async fn the_database_is_asked_when_there_is_news_and_now_and_then() {
        let (waiting, now) = (WaitingNeeds::default(), Instant::now());
        assert_eq!(reads(&waiting, 0, now).await, 1, "nothing is kept yet");
        assert_eq!(reads(&waiting, 0, now).await, 0);
        assert_eq!(reads(&waiting, 1, now).await, 1, "something came into line");
        assert_eq!(reads(&waiting, 1, now).await, 0);
        assert_eq!(reads(&waiting, 0, now).await, 0, "whoever asked before the news came");
        waiting.forget();
        assert_eq!(reads(&waiting, 1, now).await, 1, "a claim was in vain");
        assert_eq!(reads(&waiting, 1, now).await, 0);
        assert_eq!(reads(&waiting, 1, now + KEPT).await, 1, "it is old");
    }
}
