//! A worker played by the test: it polls, and does what the test says.

use std::collections::BTreeSet;
use std::time::Duration;

use pond_core::Pond;
use pond_core::clock::SystemClock;
use pond_core::dispatch::{Chunk, Job, Poll, Polled, Report, WorkerInfo, WorkerLink};
use pond_core::entropy::SystemEntropy;
use pond_core::id::{BootId, WorkerId};
use pond_core::logs::{LogSource, LogStream};
use pond_core::pool::{Claim, InProcessLink, JobEnd};

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
        self.link
            .finish(
                &claim(job),
                Report {
                    end,
                    parse: None,
                    spent: None,
                },
            )
            .await
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
