//! A link that fails: what is passing is tried again, and a job whose lease cannot be kept is gone before the lease ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pond_core::artifacts::ByteStream;
use pond_core::clock::SystemClock;
use pond_core::dispatch::{Beat, BeatAnswer, Chunk, Grant, Poll, Polled, Report, Telemetry, Upload, WorkerLink};
use pond_core::entropy::SystemEntropy;
use pond_core::pool::{Claim, InProcessLink};
use pond_core::usage::{Amounts, Granted};
use pond_core::{EngineSettings, Error, Result};
use pond_worker::work::{Worker, WorkerSettings};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::world::{PATIENCE, World, napping, quick};

/// A link that can be cut, and that answers some calls only the second time.
struct Shaky {
    link: InProcessLink,
    cut: AtomicBool,
    /// Every second chunk, artifact, batch and report is refused once.
    stumbles: bool,
    calls: AtomicU32,
}

impl Shaky {
    fn passes(&self) -> Result<()> {
        let odd = self.calls.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
        if self.cut.load(Ordering::SeqCst) || (self.stumbles && odd) {
            return Err(Error::Unavailable("the link", None));
        }
        Ok(())
    }

    fn holds(&self) -> Result<()> {
        if self.cut.load(Ordering::SeqCst) {
            return Err(Error::Unavailable("the link", None));
        }
        Ok(())
    }
}

#[async_trait]
impl WorkerLink for Shaky {
    async fn poll(&self, poll: Poll) -> Result<Polled> {
        self.holds()?;
        self.link.poll(poll).await
    }

    async fn heartbeat(&self, beats: Vec<Beat>) -> Result<Vec<BeatAnswer>> {
        self.holds()?;
        self.link.heartbeat(beats).await
    }

    async fn chunk(&self, claim: &Claim, chunk: Chunk) -> Result<()> {
        self.passes()?;
        self.link.chunk(claim, chunk).await
    }

    async fn telemetry(&self, claim: &Claim, telemetry: Telemetry) -> Result<()> {
        self.passes()?;
        self.link.telemetry(claim, telemetry).await
    }

    async fn draw(&self, claim: &Claim, want: Amounts) -> Result<Granted> {
        self.passes()?;
        self.link.draw(claim, want).await
    }

    async fn artifact(&self, claim: &Claim, upload: Upload, bytes: ByteStream) -> Result<()> {
        self.passes()?;
        self.link.artifact(claim, upload, bytes).await
    }

    async fn seal(&self, claim: &Claim) -> Result<Grant> {
        self.passes()?;
        self.link.seal(claim).await
    }

    async fn bundle(&self, claim: &Claim) -> Result<ByteStream> {
        self.passes()?;
        self.link.bundle(claim).await
    }

    async fn finish(&self, claim: &Claim, report: Report) -> Result<()> {
        self.passes()?;
        self.link.finish(claim, report).await
    }
}

/// A world whose worker is behind a shaky link.
async fn shaky(engine: EngineSettings, stumbles: bool) -> (World, Arc<Shaky>, impl AsyncFnOnce()) {
    let mut world = World::with(engine, |_| {}).await;
    world.pool.take().expect("a worker").shutdown().await;
    let settings = WorkerSettings::new(world.folder.path().join("other"));
    let worker = Worker::start(settings, Arc::new(SystemClock), Arc::new(SystemEntropy))
        .await
        .expect("a worker");
    let link = Arc::new(Shaky {
        link: world.pond.pool().attach(worker.info().clone()),
        cut: AtomicBool::new(false),
        stumbles,
        calls: AtomicU32::new(0),
    });
    let stop = CancellationToken::new();
    let running = tokio::spawn(worker.run(link.clone(), stop.clone()));
    let close = async move || {
        stop.cancel();
        running.await.expect("it ends well");
    };
    (world, link, close)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_for_now_is_told_again_and_nothing_is_lost_or_told_twice() {
    let (world, _link, close) = shaky(quick(), true).await;
    let script =
        "for n in 1 2 3; do echo line $n; sleep 0.2; done; echo kept > $POND_OUTPUT_DIR/r.txt; echo x > new.txt";
    let ended = world.run(script, json!({})).await;
    ended.is_done();
    let said: Vec<&str> = ended
        .lines
        .iter()
        .map(|line| line.line.as_str())
        .filter(|line| line.starts_with("line"))
        .collect();
    assert_eq!(said, ["line 1", "line 2", "line 3"]);
    assert_eq!(ended.text("r.txt"), "kept\n");
    ended.patched(&world);
    close().await;
    world.pond.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_lease_cannot_be_kept_is_killed_before_it_ends_and_done_again() {
    let lease = Duration::from_secs(3);
    let engine = EngineSettings { lease, ..quick() };
    let (world, link, close) = shaky(engine, false).await;
    // The first attempt waits for ever, the second one finds the time come.
    let now = std::process::Command::new("date")
        .arg("+%s")
        .output()
        .expect("date runs");
    let now: u64 = String::from_utf8_lossy(&now.stdout).trim().parse().expect("a number");
    let script = format!(
        "trap '' TERM; echo ready; if [ $(date +%s) -lt {} ]; then sleep @901; fi; exit 0",
        now + 3
    );
    let run = world.submit(&script, json!({})).await;
    world.said(run, "ready").await;
    assert_eq!(napping("901").len(), 1);
    link.cut.store(true, Ordering::SeqCst);
    let cut = Instant::now();
    let gone = async {
        while !napping("901").is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("it is killed");
    assert!(cut.elapsed() < lease, "while the lease lived: {:?}", cut.elapsed());
    link.cut.store(false, Ordering::SeqCst);
    let ended = world.ended(run).await;
    ended.is_done();
    assert_eq!(ended.attempt(), 2);
    close().await;
    world.pond.shutdown().await;
}
