//! The worker's port in process: the engine itself.

use std::sync::Arc;

use async_trait::async_trait;

use super::desk::{Desk, Live, Place, Taker};
use super::{Claim, MAX_CLAIMS, MAX_WAIT, SWEEP};
use crate::artifacts::ByteStream;
use crate::dispatch::{
    Beat, BeatAnswer, Chunk, Grant, Job, Poll, Polled, Report, Telemetry, Upload, WorkerInfo, WorkerLink,
};
use crate::engine::{Parts, reclaim_or_tell};
use crate::error::Result;
use crate::usage::{Amounts, Granted};

/// The link of one worker in this process.
pub struct InProcessLink {
    desk: Desk,
    info: WorkerInfo,
    greeted: tokio::sync::OnceCell<()>,
}

impl InProcessLink {
    pub(crate) fn new(parts: Arc<Parts>, info: WorkerInfo) -> Self {
        parts.presence.attach(&info, parts.clock.now());
        Self {
            desk: Desk { parts },
            info,
            greeted: tokio::sync::OnceCell::new(),
        }
    }

    fn parts(&self) -> &Parts {
        &self.desk.parts
    }

    /// Gives back what an earlier life of this worker held.
    async fn greet(&self) -> Result<()> {
        let greet = async || -> Result<()> {
            let former = self.parts().store.jobs_of_worker(self.info.id, Some(self.info.boot));
            for job in former.await? {
                reclaim_or_tell(self.parts(), &job).await;
            }
            Ok(())
        };
        self.greeted.get_or_try_init(greet).await.copied()
    }

    /// Claims what fits and starts it.
    async fn claim(&self, free: u32) -> Result<Vec<Job>> {
        let waiting = self.parts().store.waiting_needs().await?;
        let taker = Taker {
            worker: self.info.id,
            boot: self.info.boot,
            tags: &self.info.tags,
            capabilities: &self.info.capabilities,
            defaults: &self.info.egress_defaults,
            place: Place::Here,
        };
        let started = self.desk.claim(taker, &waiting, free.min(MAX_CLAIMS)).await?;
        Ok(started.into_iter().map(|started| started.job).collect())
    }
}

/// A held poll keeps its worker online.
struct Polling<'a>(&'a InProcessLink);

impl<'a> Polling<'a> {
    fn new(link: &'a InProcessLink) -> Self {
        let parts = link.parts();
        parts.presence.polling(link.info.id, parts.clock.now(), true);
        Self(link)
    }
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        let parts = self.0.parts();
        parts.presence.polling(self.0.info.id, parts.clock.now(), false);
    }
}

impl Drop for InProcessLink {
    fn drop(&mut self) {
        self.parts().presence.gone(&self.info);
    }
}

#[async_trait]
impl WorkerLink for InProcessLink {
    async fn poll(&self, poll: Poll) -> Result<Polled> {
        let parts = self.parts();
        parts.presence.seen(&self.info, parts.clock.now());
        self.greet().await?;
        let _polling = Polling::new(self);
        let until = parts.clock.now().plus(poll.wait.min(MAX_WAIT));
        let wake = parts.presence.wake(self.info.id);
        loop {
            // Registered before looking, so that work which comes meanwhile is not missed.
            let work = parts.watches.work();
            tokio::pin!(work);
            work.as_mut().enable();
            let jobs = if poll.free > 0 {
                self.claim(poll.free).await?
            } else {
                Vec::new()
            };
            // Taken last: what is taken is answered.
            let commands = parts.presence.take_commands(self.info.id);
            let left = until.since(parts.clock.now());
            if !jobs.is_empty() || !commands.is_empty() || left.is_zero() || parts.tasks.stopping() {
                return Ok(Polled { jobs, commands });
            }
            tokio::select! {
                biased;
                () = wake.notified() => {}
                () = work, if poll.free > 0 => {}
                () = parts.clock.sleep(left.min(SWEEP)) => {}
            }
        }
    }

    async fn heartbeat(&self, beats: Vec<Beat>) -> Result<Vec<BeatAnswer>> {
        let parts = self.parts();
        parts.presence.seen(&self.info, parts.clock.now());
        futures::future::try_join_all(beats.into_iter().map(|beat| self.desk.beat(beat))).await
    }

    async fn chunk(&self, claim: &Claim, chunk: Chunk) -> Result<()> {
        self.desk.chunk(claim, chunk).await
    }

    async fn telemetry(&self, claim: &Claim, telemetry: Telemetry) -> Result<()> {
        self.desk.telemetry(claim, telemetry).await
    }

    async fn draw(&self, claim: &Claim, want: Amounts) -> Result<Granted> {
        self.desk.draw(claim, want).await
    }

    async fn artifact(&self, claim: &Claim, upload: Upload, bytes: ByteStream) -> Result<()> {
        self.desk.artifact(claim, upload, bytes).await
    }

    async fn seal(&self, claim: &Claim) -> Result<Grant> {
        let Live { held, .. } = self.desk.live(claim).await?;
        self.desk.grant(&held).await
    }

    async fn bundle(&self, claim: &Claim) -> Result<ByteStream> {
        let Live { held, .. } = self.desk.live(claim).await?;
        let (bundle, key) = self.desk.bundle(&held).await?;
        Ok(key.open(self.parts().blobs.get(&bundle.key, None).await?))
    }

    async fn finish(&self, claim: &Claim, report: Report) -> Result<()> {
        self.desk.finish(claim, &report).await.map(drop)
    }
}
