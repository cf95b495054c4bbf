//! The one port that a worker sees: in process it is the engine itself, over HTTP it is the orchestrator.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;

use super::Job;
use crate::artifacts::{ArtifactName, ByteStream};
use crate::clock::Timestamp;
use crate::egress::EgressDecision;
use crate::error::Result;
use crate::id::{BootId, JobId, WorkerId};
use crate::logs::{LogSource, LogStream};
use crate::outbound::HostPattern;
use crate::pool::{Claim, JobEnd};
use crate::runs::ParseCount;
use crate::secret::Secret;
use crate::usage::{Amounts, Granted, ModelCall};

/// Who a worker is and what it can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerInfo {
    /// The worker.
    pub id: WorkerId,
    /// This life of it.
    pub boot: BootId,
    /// Its name for people.
    pub name: String,
    /// Its tags.
    pub tags: BTreeSet<String>,
    /// What it has shown that it can do.
    pub capabilities: BTreeSet<String>,
    /// What it was to do and cannot, and why.
    pub problems: BTreeMap<String, String>,
    /// Places that its jobs may reach whatever the operator lists, unless a rule denies them: the package registries that its
    /// host is set up with.
    pub egress_defaults: Vec<HostPattern>,
    /// Jobs it takes at once.
    pub concurrency: u32,
}

/// Asks for work and commands.
#[derive(Debug, Clone)]
pub struct Poll {
    /// Jobs it can take now; with none it waits for commands alone.
    pub free: u32,
    /// How long the answer may take when there is nothing.
    pub wait: Duration,
}

/// Work and commands.
#[derive(Debug, Default)]
pub struct Polled {
    /// Jobs, claimed for this worker.
    pub jobs: Vec<Job>,
    /// What its running jobs are to be told.
    pub commands: Vec<Command>,
}

/// What a running job is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Stop it.
    Cancel(JobId),
}

/// Renews a lease.
#[derive(Debug, Clone)]
pub struct Beat {
    /// The claim.
    pub claim: Claim,
}

/// What became of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeatAnswer {
    /// It is renewed.
    Until {
        /// When it ends now.
        lease_until: Timestamp,
        /// Whether the job is to be stopped.
        cancel: bool,
    },
    /// The claim is not live: the job is another worker's, or over. Stop it and change nothing.
    Stale,
}

/// Whole log lines of one stream of a job.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// Which stream.
    pub stream: LogStream,
    /// Who wrote them.
    pub source: LogSource,
    /// Number of the chunk in its stream, from 0. One that was sent before is acknowledged and not stored twice.
    pub seq: u64,
    /// The lines with their times.
    pub lines: Vec<(Timestamp, String)>,
}

/// Model calls and egress decisions of a job, each with an id of its own: one that was sent before under the same claim is not
/// kept twice, in whatever batch it comes, also across restarts of the engine.
#[derive(Debug, Clone, Default)]
pub struct Telemetry {
    /// The calls.
    pub calls: Vec<ModelCall>,
    /// The decisions.
    pub decisions: Vec<EgressDecision>,
}

impl Telemetry {
    /// Calls and decisions in one batch, at most.
    pub const MOST: usize = 500;

    /// How many there are.
    pub fn len(&self) -> usize {
        self.calls.len() + self.decisions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A file that a job leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Its name.
    pub name: ArtifactName,
    /// Whether a secret was cut from it.
    pub redacted: bool,
    /// Its SHA-256, where the sender says it: other bytes are refused.
    pub sha256: Option<[u8; 32]>,
}

/// The secrets of a job, for its worker alone.
#[derive(Debug, Clone, Default)]
pub struct Grant {
    /// Settings that are no secret, such as the base URL.
    pub env: BTreeMap<String, String>,
    /// Secrets by environment name.
    pub secrets: BTreeMap<String, Secret>,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How.
    pub end: JobEnd,
    /// What its model calls used under this claim, as the worker counted; none when it made none.
    pub spent: Option<Amounts>,
    /// What was found in the blocks that its `parse` asks for.
    pub parse: Option<ParseCount>,
}

/// What a worker may ask and tell. Every call about a job carries its claim; a stale one is refused with
/// [`crate::Conflict::StaleClaim`] and has no effect.
#[async_trait]
pub trait WorkerLink: Send + Sync + 'static {
    /// Waits for work and commands. The first poll of a life gives back at once what an earlier life held.
    async fn poll(&self, poll: Poll) -> Result<Polled>;

    /// Renews leases; answers in the order of `beats`.
    async fn heartbeat(&self, beats: Vec<Beat>) -> Result<Vec<BeatAnswer>>;

    /// Adds log lines. A gap before `seq` is a conflict.
    async fn chunk(&self, claim: &Claim, chunk: Chunk) -> Result<()>;

    /// Adds model calls.
    async fn telemetry(&self, claim: &Claim, telemetry: Telemetry) -> Result<()>;

    /// Draws a slice of the budgets of the job's run and stage: `want` at least, if it is there; nothing when a budget is
    /// spent. What is not spent comes back when the claim ends.
    async fn draw(&self, claim: &Claim, want: Amounts) -> Result<Granted>;

    /// Keeps a file.
    async fn artifact(&self, claim: &Claim, upload: Upload, bytes: ByteStream) -> Result<()>;

    /// The secrets of the job.
    async fn seal(&self, claim: &Claim) -> Result<Grant>;

    /// The sources of the job: a tar file.
    async fn bundle(&self, claim: &Claim) -> Result<ByteStream>;

    /// The job is over. The same report again is acknowledged.
    async fn finish(&self, claim: &Claim, report: Report) -> Result<()>;
}
