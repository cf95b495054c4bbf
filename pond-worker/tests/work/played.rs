//! A link played by the test: it hands one job out, keeps its lease, and takes what the worker tells, by the engine's rules.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use pond_core::artifacts::{ArtifactName, ByteStream};
use pond_core::clock::{Clock, SystemClock, Timestamp};
use pond_core::dispatch::{
    Beat, BeatAnswer, BundleOffer, Chunk, Grant, Job, Poll, Polled, Report, Telemetry, Upload, WorkerLink,
};
use pond_core::entropy::SystemEntropy;
use pond_core::id::{JobId, ProjectId, RunId, WorkerId};
use pond_core::logs::LogStream;
use pond_core::pool::{Claim, ClaimToken};
use pond_core::runs::executors::{Parse, SandboxBlock, Shape, Tier};
use pond_core::sandbox::{Limits, Profile};
use pond_core::secret::Secret;
use pond_core::usage::{Amounts, Granted};
use pond_core::{Conflict, Error, Result};
use pond_worker::work::{Worker, WorkerSettings};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::world::PATIENCE;

/// The link.
pub(super) struct Played {
    job: Mutex<Option<Job>>,
    grant: Grant,
    lease: Duration,
    heard: Mutex<Heard>,
    over: Notify,
    /// Where another process can read what is told here.
    diary: Option<PathBuf>,
}

/// What a worker has told.
#[derive(Debug)]
pub(super) struct Heard {
    lease_until: Timestamp,
    pub(super) lines: Vec<(LogStream, String)>,
    /// Bytes, and whether a secret was cut from them.
    pub(super) artifacts: BTreeMap<String, (Vec<u8>, bool)>,
    pub(super) report: Option<Report>,
}

impl Heard {
    #[track_caller]
    pub(super) fn text(&self, artifact: &str) -> &str {
        let (bytes, _) = self
            .artifacts
            .get(artifact)
            .unwrap_or_else(|| panic!("{artifact} of {self:?}"));
        std::str::from_utf8(bytes).expect("text")
    }

    /// Code and message of the failure.
    #[track_caller]
    pub(super) fn failure(&self) -> (&'static str, &str) {
        match self.report.as_ref().map(|report| &report.end) {
            Some(pond_core::pool::JobEnd::Failed(failure)) => (failure.code.as_str(), &failure.message),
            other => panic!("{other:?} {self:?}"),
        }
    }
}

/// A job that runs a script as it stands, on a source with one file, `a.txt`.
pub(super) fn job(script: &str, profile: Profile, lease: Duration) -> Job {
    let id = Uuid::from_u128(7);
    Job {
        egress: Vec::new(),
        sealed: Vec::new(),
        id: JobId::from(id),
        run: RunId::from(id),
        project: ProjectId::from(id),
        stage: "a".into(),
        substage: Some("area-001".into()),
        attempt: 1,
        claim: ClaimToken::from_text("the-claim-token-of-this-job"),
        lease_until: SystemClock.now().plus(lease),
        worker: WorkerId::from(id),
        harness: "shell".into(),
        command: ["/bin/sh", "-c", "{{PROMPT}}"].map(str::to_owned).into(),
        prompt: script.into(),
        files: Vec::new(),
        env: BTreeMap::new(),
        sandbox: SandboxBlock {
            profile,
            tier: Tier::Trusted,
            backend: None,
            allow_hosts: Vec::new(),
            limits: Limits::default(),
            image: None,
        },
        model: None,
        cred_request: None,
        source_bundle: Some(BundleOffer {
            token: Secret::new("t"),
            sha256: String::new(),
            size: 0,
        }),
        base: Some("base".into()),
        budget: Default::default(),
        parse: None,
        writes_artifact: None,
        timeout: Duration::from_secs(120),
        cancel_grace: Duration::from_secs(1),
        artifact_cap: 1 << 20,
    }
}

pub(super) fn parse(fence: &str, output: &str, shape: Shape) -> Option<Parse> {
    let output = name(output);
    let fence = fence.into();
    Some(Parse { fence, output, shape })
}

pub(super) fn name(text: &str) -> ArtifactName {
    ArtifactName::new(text).expect("a name")
}

/// Gives one job to a worker of its own and says what it told.
pub(super) async fn worked(job: Job, grant: Grant) -> Heard {
    let folder = tempfile::tempdir().expect("a folder");
    let link = Played::new(job, grant, Duration::from_secs(30), None);
    let (stop, running) = start(&link, folder.path()).await;
    tokio::time::timeout(PATIENCE, link.over.notified())
        .await
        .expect("it ends in time");
    stop.cancel();
    running.await.expect("it ends well");
    drop(stop);
    let link = Arc::into_inner(link).expect("nobody else has it");
    link.heard.into_inner().expect("no holder of this lock panics")
}

/// Starts a worker on a state folder, behind the link.
pub(super) async fn start(link: &Arc<Played>, state: &Path) -> (CancellationToken, tokio::task::JoinHandle<()>) {
    let settings = WorkerSettings {
        allow_unconfined: true,
        ..WorkerSettings::new(state)
    };
    let worker = Worker::start(settings, Arc::new(SystemClock), Arc::new(SystemEntropy)).await;
    let stop = CancellationToken::new();
    let link = Arc::clone(link) as Arc<dyn WorkerLink>;
    let running = tokio::spawn(worker.expect("a worker").run(link, stop.clone()));
    (stop, running)
}

impl Played {
    pub(super) fn new(job: Job, grant: Grant, lease: Duration, diary: Option<PathBuf>) -> Arc<Self> {
        let heard = Heard {
            lease_until: job.lease_until,
            lines: Vec::new(),
            artifacts: BTreeMap::new(),
            report: None,
        };
        Arc::new(Self {
            job: Mutex::new(Some(job)),
            grant,
            lease,
            heard: Mutex::new(heard),
            over: Notify::new(),
            diary,
        })
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().expect("no holder of this lock panics")
    }

    fn note(&self, line: &str) {
        use std::io::Write as _;
        if let Some(diary) = &self.diary {
            let mut file = std::fs::File::options()
                .create(true)
                .append(true)
                .open(diary)
                .expect("own file");
            writeln!(file, "{line}").expect("own file");
        }
    }

    /// A write of the job: taken while its lease lives, and refused after.
    fn write(&self, what: &str) -> Result<MutexGuard<'_, Heard>> {
        let heard = self.heard();
        if SystemClock.now() >= heard.lease_until {
            self.note(&format!("stale {what}"));
            return Err(Error::conflict(Conflict::StaleClaim, "the claim is not live"));
        }
        self.note(&format!("taken {what}"));
        Ok(heard)
    }
}

#[async_trait]
impl WorkerLink for Played {
    async fn poll(&self, poll: Poll) -> Result<Polled> {
        let job = (poll.free > 0).then(|| self.job.lock().expect("no holder of this lock panics").take());
        if let Some(job) = job.flatten() {
            self.heard().lease_until = job.lease_until;
            self.note(&format!("lease {}", job.lease_until.millis()));
            return Ok(Polled {
                jobs: vec![job],
                commands: Vec::new(),
            });
        }
        SystemClock.sleep(poll.wait).await;
        Ok(Polled::default())
    }

    async fn heartbeat(&self, beats: Vec<Beat>) -> Result<Vec<BeatAnswer>> {
        let mut heard = self.heard();
        let now = SystemClock.now();
        let answer = match now < heard.lease_until {
            true => {
                heard.lease_until = now.plus(self.lease);
                self.note(&format!("lease {}", heard.lease_until.millis()));
                BeatAnswer::Until {
                    lease_until: heard.lease_until,
                    cancel: false,
                }
            }
            false => {
                self.note("stale heartbeat");
                BeatAnswer::Stale
            }
        };
        Ok(vec![answer; beats.len()])
    }

    async fn chunk(&self, _: &Claim, chunk: Chunk) -> Result<()> {
        let mut heard = self.write("chunk")?;
        let lines = chunk.lines.into_iter().map(|(_, line)| (chunk.stream, line));
        heard.lines.extend(lines);
        Ok(())
    }

    async fn telemetry(&self, _: &Claim, _: Telemetry) -> Result<()> {
        self.write("telemetry").map(drop)
    }

    async fn draw(&self, _: &Claim, _: Amounts) -> Result<Granted> {
        unreachable!("no job here has a budget")
    }

    async fn artifact(&self, _: &Claim, upload: Upload, bytes: ByteStream) -> Result<()> {
        let bytes: Vec<bytes::Bytes> = bytes.try_collect().await.expect("whole");
        let mut heard = self.write("artifact")?;
        let again = heard
            .artifacts
            .insert(upload.name.to_string(), (bytes.concat(), upload.redacted));
        assert!(again.is_none(), "{} is sent twice", upload.name);
        Ok(())
    }

    async fn seal(&self, _: &Claim) -> Result<Grant> {
        Ok(self.grant.clone())
    }

    async fn bundle(&self, _: &Claim) -> Result<ByteStream> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut head = tar::Header::new_gnu();
        head.set_size(4);
        head.set_mode(0o644);
        tar.append_data(&mut head, "a.txt", &b"one\n"[..]).expect("in memory");
        let bytes = bytes::Bytes::from(tar.into_inner().expect("in memory"));
        Ok(Box::pin(futures::stream::iter([Ok(bytes)])))
    }

    async fn finish(&self, _: &Claim, report: Report) -> Result<()> {
        self.write("finish")?.report = Some(report);
        self.over.notify_one();
        Ok(())
    }
}
