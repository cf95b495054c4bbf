//! Runs, their stages, and what a client sends to create one.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Source;
use super::open_enum::open_enum;

open_enum! {
    /// Where a run stands.
    RunStatus {
        /// Waits for its first stage.
        Queued = "queued",
        /// Its sources are being fetched, or a stage has started.
        Running = "running",
        /// Ended well.
        Done = "done",
        /// Ended with a failure.
        Failed = "failed",
        /// Ended because somebody asked.
        Cancelled = "cancelled",
    }
}

impl RunStatus {
    /// Whether nothing can follow.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

open_enum! {
    /// Where a stage, or one area of it, stands.
    StageStatus {
        /// Waits for its predecessors, a worker, or its next attempt.
        Queued = "queued",
        /// Runs.
        Running = "running",
        /// Ended well.
        Done = "done",
        /// Ended with a failure.
        Failed = "failed",
        /// Ended because the run was cancelled.
        Cancelled = "cancelled",
        /// Never started.
        Skipped = "skipped",
    }
}

impl StageStatus {
    /// Whether nothing can follow.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled | Self::Skipped)
    }
}

open_enum! {
    /// What is known of a stage's receipt.
    ReceiptState {
        /// Its signature and chain hold.
        Verified = "verified",
        /// It does not hold.
        Invalid = "invalid",
        /// The worker sent none.
        Missing = "missing",
    }
}

/// Limits on what a run or a stage may use; each is greater than zero, and the tighter one binds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Money, in USD.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<f64>))]
    pub usd: Option<serde_json::Number>,
    /// Tokens of all four kinds together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Model calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls: Option<u64>,
    /// Wall-clock seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_sec: Option<u64>,
}

/// The body of `POST /v1/runs` and `POST /v1/runs/preflight`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateRun {
    /// The project it belongs to; left out: the key's own, or `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    /// What set it off; left out: `api`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
    /// The workflow; see [`super::Definition`] for a typed one.
    #[cfg_attr(feature = "openapi", schema(value_type = super::Definition))]
    pub definition: Value,
    /// What the stages work on; at most 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<Vec<Source>>,
    /// The commit to work on, for exactly one git source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha: Option<String>,
    /// Anything of the caller's own, echoed unchanged; at most 64 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub context: Option<Value>,
    /// Limits on the whole run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
}

impl CreateRun {
    /// A run of this workflow, raw or a [`super::Definition`].
    pub fn new(definition: impl Into<Value>) -> Self {
        Self {
            definition: definition.into(),
            ..Self::default()
        }
    }

    /// In this project.
    #[must_use]
    pub fn project(mut self, id: impl Into<String>) -> Self {
        self.project_id = Some(id.into());
        self
    }

    /// Says what set it off.
    #[must_use]
    pub fn trigger(mut self, trigger: impl Into<String>) -> Self {
        self.trigger = Some(trigger.into());
        self
    }

    /// Works on this source too.
    #[must_use]
    pub fn source(mut self, source: Source) -> Self {
        self.sources.get_or_insert_default().push(source);
        self
    }

    /// Works on this commit of its one git source.
    #[must_use]
    pub fn sha(mut self, sha: impl Into<String>) -> Self {
        self.sha = Some(sha.into());
        self
    }

    /// Carries this object, for the caller and for `{{INPUT:…}}`.
    #[must_use]
    pub fn context(mut self, context: Value) -> Self {
        self.context = Some(context);
        self
    }

    /// Uses at most this.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }
}

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Its id.
    pub id: String,
    /// The project it belongs to.
    pub project_id: String,
    /// Where it stands.
    pub status: RunStatus,
    /// What set it off.
    pub trigger: String,
    /// The commit that was asked for.
    pub sha: Option<String>,
    /// The caller's own object, unchanged.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub context: Option<Value>,
    /// What the stages work on.
    #[serde(default)]
    pub sources: Vec<RunSource>,
    /// Limits on the whole run.
    pub budget: Option<Budget>,
    /// The workflow as it was sent; left out in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub definition: Option<Value>,
    /// SHA-256 of the workflow in its canonical form (RFC 8785), in hex.
    pub definition_digest: String,
    /// When it was created.
    pub created_at: String,
    /// When it became `running`.
    pub started_at: Option<String>,
    /// When it ended.
    pub finished_at: Option<String>,
    /// When its cancel was asked for.
    pub cancel_requested_at: Option<String>,
    /// Why it failed; null otherwise.
    pub error: Option<RunError>,
    /// The run that it retries.
    pub retry_of: Option<String>,
    /// The run whose stage started it.
    pub parent_run_id: Option<String>,
}

/// A source as a run shows it, never with a secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RunSource {
    /// Its name in the run, and its folder when there are several.
    pub label: String,
    /// `git_https`, `folder`, `tarball` or `s3`.
    pub kind: String,
    /// Where it is, by kind.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub config: Value,
    /// What it was found to be; null before it is fetched.
    pub resolved: Option<ResolvedSource>,
}

/// What a fetched source was found to be: one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ResolvedSource {
    /// The commit, for git.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The digest of the content, for other kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// Why a run failed: the failure of its first failed stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RunError {
    /// Stable code, such as `exit_nonzero`.
    pub code: String,
    /// What happened.
    pub message: String,
    /// The stage; null when the run itself failed, as when a fetch did.
    pub stage: Option<String>,
}

/// Why a stage, or one area of it, failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StageError {
    /// Stable code, such as `exit_nonzero`.
    pub code: String,
    /// What happened.
    pub message: String,
}

/// A stage of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Stage {
    /// Its key in the workflow.
    pub key: String,
    /// Its name.
    pub name: String,
    /// The author's own grouping.
    pub category: Option<String>,
    /// Kind of its executor.
    pub kind: String,
    /// Where it stands.
    pub status: StageStatus,
    /// Number of the latest attempt; 0 before the first.
    pub attempt: u32,
    /// How far it is; null when that is not known.
    pub progress: Option<Progress>,
    /// When its latest attempt started.
    pub started_at: Option<String>,
    /// When it ended.
    pub finished_at: Option<String>,
    /// The worker of its latest attempt.
    pub worker_id: Option<String>,
    /// Why it failed; null otherwise.
    pub error: Option<StageError>,
    /// The run that it started.
    pub child_run_id: Option<String>,
    /// What was parsed from its output.
    pub parse: Option<ParseCounts>,
    /// What is known of its receipt.
    pub receipt: Option<ReceiptState>,
    /// Its areas, for a fan-out.
    #[serde(default)]
    pub substages: Vec<Substage>,
}

/// How far a stage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Progress {
    /// Steps done.
    pub done: u64,
    /// Steps in all.
    pub total: u64,
}

/// What was parsed from a stage's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ParseCounts {
    /// Fenced blocks found.
    pub blocks: u64,
    /// Valid records in them.
    pub records: u64,
    /// Records skipped as invalid.
    pub invalid: u64,
}

/// One area of a fan-out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Substage {
    /// `area-001` and so on.
    pub key: String,
    /// The area's title.
    pub title: String,
    /// Where it stands.
    pub status: StageStatus,
    /// Number of the latest attempt; 0 before the first.
    pub attempt: u32,
    /// Why it failed; null otherwise.
    pub error: Option<StageError>,
}

/// The answer of `GET /v1/runs/{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RunDetail {
    /// The run.
    pub run: Run,
    /// Its stages, in the workflow's order.
    pub stages: Vec<Stage>,
}

/// A page of runs, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RunList {
    /// The runs, without their definitions.
    pub runs: Vec<Run>,
    /// Where the next page begins; null at the end.
    pub next_cursor: Option<String>,
}
