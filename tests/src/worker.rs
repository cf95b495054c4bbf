//! A worker played by the test: it polls, and does what the test says.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use pond_core::Pond;
use pond_core::artifacts::ArtifactName;
use pond_core::clock::SystemClock;
use pond_core::dispatch::{Chunk, Job, Poll, Polled, Report, Telemetry, Upload, WorkerInfo, WorkerLink};
use pond_core::entropy::SystemEntropy;
use pond_core::id::{BootId, WorkerId};
use pond_core::logs::{LogSource, LogStream};
use pond_core::pool::{Claim, InProcessLink, JobEnd};
use pond_core::runs::{Failure, FailureCode};
use pond_core::usage::{ModelCall, Tokens};

/// A worker that does nothing by itself.
pub struct PlayedWorker {
    /// Who it is.
    pub info: WorkerInfo,
    /// Its link to the engine.
    pub link: InProcessLink,
}

impl PlayedWorker {
    /// A worker that can run the shell harness in bubblewrap.
    pub fn attach(pond: &Pond) -> Self {
        Self::with(
            pond,
            WorkerId::mint(&SystemClock, &SystemEntropy),
            &["harness.shell", "sandbox.bubblewrap"],
        )
    }

    /// A new life of the worker with this id, with these capabilities.
    pub fn with(pond: &Pond, id: WorkerId, capabilities: &[&str]) -> Self {
        let info = WorkerInfo {
            id,
            boot: BootId::mint(&SystemClock, &SystemEntropy),
            name: "played".into(),
            tags: BTreeSet::from(["pool:trusted".to_owned()]),
            capabilities: capabilities.iter().map(|&capability| capability.to_owned()).collect(),
            problems: std::collections::BTreeMap::new(),
            egress_defaults: Vec::new(),
            concurrency: 4,
        };
        Self {
            link: pond.pool().attach(info.clone()),
            info,
        }
    }

    /// Polls once.
    pub async fn poll(&self, free: u32, wait: Duration) -> Polled {
        self.link.poll(Poll { free, wait }).await.expect("a poll answers")
    }

    /// The next job, within ten seconds.
    pub async fn job(&self) -> Job {
        let polled = self.poll(1, Duration::from_secs(10)).await;
        polled.jobs.into_iter().next().expect("a job within ten seconds")
    }

    /// Ends a job.
    pub async fn finish(&self, job: &Job, end: JobEnd) -> pond_core::Result<()> {
        self.report(
            job,
            Report {
                end,
                parse: None,
                spent: None,
            },
        )
        .await
    }

    /// Ends a job, with what was found in its output.
    pub async fn report(&self, job: &Job, report: Report) -> pond_core::Result<()> {
        self.link.finish(&claim(job), report).await
    }

    /// Ends a job with a failure.
    pub async fn fail(&self, job: &Job, code: FailureCode, message: &str) -> pond_core::Result<()> {
        self.finish(job, JobEnd::Failed(Failure::new(code, message))).await
    }

    /// Tells of one model call with this many output tokens.
    pub async fn call(&self, job: &Job, seq: u64, model: &str, output: u64) -> pond_core::Result<()> {
        let call = ModelCall {
            id: uuid::Uuid::from_u128(seq.into()),
            at: job.lease_until,
            provider: "anthropic".into(),
            model: model.into(),
            status: 200,
            latency_ms: 1,
            tokens: Tokens {
                output,
                ..Tokens::default()
            },
            estimated: false,
        };
        let telemetry = Telemetry {
            calls: vec![call],
            ..Telemetry::default()
        };
        self.link.telemetry(&claim(job), telemetry).await
    }

    /// Leaves a file.
    pub async fn leave(&self, job: &Job, name: &str, content: &str) -> pond_core::Result<()> {
        let upload = Upload {
            name: ArtifactName::new(name).expect("the name is one"),
            sha256: None,
            redacted: false,
        };
        let bytes = Bytes::from(content.to_owned());
        let bytes = futures::stream::once(async move { Ok(bytes) }).boxed();
        self.link.artifact(&claim(job), upload, bytes).await
    }

    /// Sends lines of standard output as one chunk.
    pub async fn lines(&self, job: &Job, seq: u64, lines: &[&str]) -> pond_core::Result<()> {
        let lines = lines.iter().map(|&line| (job.lease_until, line.to_owned())).collect();
        let chunk = Chunk {
            stream: LogStream::Stdout,
            source: LogSource::Agent,
            seq,
            lines,
        };
        self.link.chunk(&claim(job), chunk).await
    }
}

/// The claim of a job.
pub fn claim(job: &Job) -> Claim {
    Claim {
        job: job.id,
        token: job.claim.clone(),
    }
}
