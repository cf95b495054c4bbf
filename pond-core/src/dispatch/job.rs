//! The job as a worker gets it. Holds no secret and no key: those come by [`super::WorkerLink::seal`].

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::artifacts::ArtifactName;
use crate::clock::Timestamp;
use crate::config::HarnessFile;
use crate::egress::{Ruled, SealedRule};
use crate::id::{JobId, ProjectId, RunId, WorkerId};
use crate::pool::ClaimToken;
use crate::runs::executors::{Parse, SandboxBlock};
use crate::secret::Secret;
use crate::usage::Prices;
use crate::workflow::Budget;

/// The model of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobModel {
    /// The provider, which says what the broker speaks.
    pub provider: String,
    /// The stage's model, as the provider names it.
    pub model_id: String,
    /// All models that the agent may call, those registered on the same credential, with what each costs.
    pub models: BTreeMap<String, Prices>,
    /// Features that the credential opens by which the provider itself fetches, runs or keeps something.
    pub remote_features: Vec<String>,
}

/// The credential of a job; its secrets come sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialRequest {
    /// Its name.
    pub name: String,
    /// Whose it is; the org's when absent.
    pub project_id: Option<ProjectId>,
}

/// The sources of a job, as they can be had with its claim.
#[derive(Debug, Clone)]
pub struct BundleOffer {
    /// Proves that they were offered to this claim.
    pub token: Secret,
    /// SHA-256 of the sealed bundle, in hex.
    pub sha256: String,
    /// Its size in bytes.
    pub size: u64,
}

/// One attempt of a stage, for one worker.
#[derive(Debug, Clone)]
pub struct Job {
    /// The job.
    pub id: JobId,
    /// Its run.
    pub run: RunId,
    /// Whose it is.
    pub project: ProjectId,
    /// Key of the stage.
    pub stage: String,
    /// Key of the area, of a job that is one of several of its stage.
    pub substage: Option<String>,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Proves the claim.
    pub claim: ClaimToken,
    /// When the lease ends unless it is renewed.
    pub lease_until: Timestamp,
    /// The worker it is for.
    pub worker: WorkerId,
    /// Key of the harness.
    pub harness: String,
    /// Program and arguments, with placeholders.
    pub command: Vec<String>,
    /// What the agent is asked to do.
    pub prompt: String,
    /// Files for its home folder, with placeholders.
    pub files: Vec<HarnessFile>,
    /// Variables.
    pub env: BTreeMap<String, String>,
    /// How far it is confined.
    pub sandbox: SandboxBlock,
    /// The egress rules in scope when it was handed out; none for a profile without egress.
    pub egress: Vec<Ruled>,
    /// The granted secrets that it holds as tokens, and where those are swapped.
    pub sealed: Vec<SealedRule>,
    /// The model, when the harness takes one.
    pub model: Option<JobModel>,
    /// The credential to ask for, when it has one.
    pub cred_request: Option<CredentialRequest>,
    /// The sources to ask for, when it has any.
    pub source_bundle: Option<BundleOffer>,
    /// What the sources resolved to, for the list of changed files.
    pub base: Option<String>,
    /// What it may spend before it asks for more: the tighter of run and stage, as far as it was not spent at dispatch.
    pub budget: Budget,
    /// Records to take from fenced blocks of its output.
    pub parse: Option<Parse>,
    /// The file that it must leave.
    pub writes_artifact: Option<ArtifactName>,
    /// How long it may take.
    pub timeout: Duration,
    /// How long a process may go on after it was asked to end.
    pub cancel_grace: Duration,
    /// Bytes that its artifacts may have.
    pub artifact_cap: u64,
}
