//! The pool: what operators see of it, and what orchestrators and workers say to the engine.
//!
//! Jobs and commands travel as the engine signed them, so they are JSON values here: a relay must not spell them anew.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::open_enum::open_enum;
use crate::secret::{self, Secret};

/// Every type of this file: serialisable, with a schema where the feature asks for it.
macro_rules! wire {
    ($($(#[$meta:meta])* pub struct $name:ident { $($body:tt)* })+) => {$(
        #[derive(Debug, Clone, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        $(#[$meta])*
        pub struct $name { $($body)* }
    )+};
}

open_enum! {
    /// Whether a worker is there.
    WorkerStatus {
        /// It is, and gets jobs.
        Online = "online",
        /// It is, and gets no new jobs.
        Draining = "draining",
        /// It was not heard of for a while.
        Offline = "offline",
    }
}

open_enum! {
    /// Whether an orchestrator is there.
    OrchestratorStatus {
        /// It is.
        Online = "online",
        /// It was not heard of for a while.
        Offline = "offline",
    }
}

open_enum! {
    /// What a worker tells of a job.
    JobStatus {
        /// It has begun.
        Running = "running",
        /// It did well.
        Done = "done",
        /// It failed.
        Failed = "failed",
        /// It was stopped.
        Cancelled = "cancelled",
    }
}

wire! {
    /// The body of `POST /v1/admin/pool/pairing-codes`.
    #[serde(deny_unknown_fields)]
    pub struct CreatePairingCode {
        /// Name of the orchestrator, unless it brings one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub name: Option<String>,
    }

    /// A code, shown once.
    pub struct PoolCode {
        /// The code.
        #[serde(with = "secret::wire")]
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub code: Secret,
        /// Until when it may be used.
        pub expires_at: String,
    }

    /// An orchestrator.
    pub struct Orchestrator {
        /// The orchestrator.
        pub orch_id: String,
        /// Its name for people.
        pub name: String,
        /// Whether it is there.
        pub status: OrchestratorStatus,
        /// When it was paired.
        pub paired_at: Option<String>,
        /// When it was last heard of.
        pub last_seen_at: Option<String>,
        /// Whether it is the server's own embedded pool.
        pub embedded: bool,
    }

    /// The body of `POST /v1/admin/pool/enrollment-codes`.
    #[serde(deny_unknown_fields)]
    pub struct CreateEnrollmentCode {
        /// The orchestrator that the worker will be behind.
        pub orch_id: String,
        /// Name of the worker, unless it brings one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub suggested_name: Option<String>,
        /// The tags that it may have.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub tags: Option<Vec<String>>,
        /// What it may do.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub capabilities: Option<Vec<String>>,
        /// The only keys that are let in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub expected_fingerprint: Option<String>,
    }

    /// A worker.
    pub struct Worker {
        /// The worker.
        pub worker_id: String,
        /// The orchestrator that it is behind.
        pub orch_id: String,
        /// Its name for people.
        pub name: String,
        /// Whether it is there.
        pub status: WorkerStatus,
        /// Its tags.
        pub tags: Vec<String>,
        /// What it has shown that it can do.
        pub capabilities: Vec<String>,
        /// What it was to do and cannot, and why.
        pub capability_problems: BTreeMap<String, String>,
        /// Host rules that its jobs may reach unless a rule denies them: the package registries of its host.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub egress_defaults: Vec<String>,
        /// Its pinned keys; none for the embedded pool.
        pub fingerprint: Option<String>,
        /// Jobs it runs.
        pub running: u32,
        /// Jobs it takes at once.
        pub concurrency: u32,
        /// Version of its program.
        pub version: String,
        /// When it was last heard of.
        pub last_seen_at: Option<String>,
    }

    /// The body of `POST /v1/admin/pool/workers/{id}/drain`.
    #[serde(deny_unknown_fields)]
    pub struct Drain {
        /// Whether it is to get no new jobs; left out: it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub drain: Option<bool>,
    }

    /// The versions of the pool's protocol that the engine speaks.
    #[derive(Copy, PartialEq, Eq)]
    pub struct Protocol {
        /// The oldest.
        pub min: u32,
        /// The newest.
        pub max: u32,
    }

    /// The body of `POST /v1/orch/pair`.
    #[serde(deny_unknown_fields)]
    pub struct Pair {
        /// A pairing code.
        #[serde(with = "secret::wire")]
        #[cfg_attr(feature = "openapi", schema(value_type = String, write_only))]
        pub code: Secret,
        /// Name for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub name: Option<String>,
    }

    /// What an orchestrator gets for its code, once.
    pub struct Paired {
        /// The orchestrator.
        pub orch_id: String,
        /// Its token for everything under `/v1/orch`.
        #[serde(with = "secret::wire")]
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub token: Secret,
        /// What the engine speaks.
        pub protocol: Protocol,
    }

    /// An orchestrator as it sees itself.
    pub struct OrchWhoami {
        /// The orchestrator.
        pub orch_id: String,
        /// Its name.
        pub name: String,
        /// What the engine speaks.
        pub protocol: Protocol,
        /// When it was paired.
        pub paired_at: String,
        /// The engine's time.
        pub server_time: String,
    }

    /// A worker with room, in a poll.
    #[serde(deny_unknown_fields)]
    pub struct PollWorker {
        /// The worker.
        pub worker_id: String,
        /// This life of it.
        pub boot_id: String,
        /// Jobs it can take now.
        pub free_slots: u32,
    }

    /// A lease to renew.
    #[serde(deny_unknown_fields)]
    pub struct Heartbeat {
        /// The job.
        pub job_id: String,
        /// The claim.
        #[serde(with = "secret::wire")]
        #[cfg_attr(feature = "openapi", schema(value_type = String, write_only))]
        pub claim_token: Secret,
        /// Number of the last command that was carried out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub ack: Option<u64>,
    }

    /// The body of `POST /v1/orch/poll`.
    #[serde(deny_unknown_fields)]
    pub struct OrchPoll {
        /// Jobs to get at most; 1 when left out, up to 64.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub max: Option<u32>,
        /// How long the answer may take when there is nothing, in milliseconds; up to 30,000.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub wait_ms: Option<u32>,
        /// The generation that the list below changes; 0 or left out: the list is whole, or its first part.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub generation: Option<u64>,
        /// Workers that changed since that generation.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub workers: Option<Vec<PollWorker>>,
        /// Leases to renew.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub heartbeats: Option<Vec<Heartbeat>>,
    }

    /// The answer to a poll.
    pub struct OrchPolled {
        /// The generation of the list of workers now.
        pub generation: u64,
        /// Jobs, each signed and for one worker.
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
        pub jobs: Vec<Value>,
        /// Commands, each signed.
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
        pub commands: Vec<Value>,
        /// What became of the leases, in the order of the heartbeats.
        pub leases: Vec<Lease>,
    }

    /// What became of a lease.
    pub struct Lease {
        /// The job.
        pub job_id: String,
        /// When it ends now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub lease_expires_at: Option<String>,
        /// Whether the job is to be stopped.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub cancel: Option<bool>,
        /// Why it was not renewed: `stale_claim`, `not_found` or `forbidden`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub code: Option<String>,
    }

    /// The body of `POST …/heartbeats`.
    #[serde(deny_unknown_fields)]
    pub struct Heartbeats {
        /// The leases, at most 500.
        pub jobs: Vec<Heartbeat>,
    }

    /// The answer to heartbeats, in their order.
    pub struct Leases {
        /// The leases.
        pub jobs: Vec<Lease>,
    }

    /// Tokens and money of a job.
    #[derive(PartialEq, Eq)]
    pub struct Spend {
        /// Money, in decimal USD.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub usd: Option<String>,
        /// Tokens of all four kinds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub tokens: Option<u64>,
        /// Model calls.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub calls: Option<u64>,
    }

    /// Why a job failed.
    pub struct JobFailure {
        /// A failure code.
        pub code: String,
        /// What happened.
        pub message: String,
    }

    /// What was found in fenced blocks.
    #[derive(Copy, PartialEq, Eq)]
    pub struct JobParse {
        /// Blocks.
        pub blocks: u64,
        /// Records that were kept.
        pub records: u64,
        /// Records that made no sense.
        pub invalid: u64,
    }

    /// The body of `POST …/jobs/{id}/state`.
    #[serde(deny_unknown_fields)]
    pub struct JobState {
        /// How it stands.
        pub state: JobStatus,
        /// Exit code of its program.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub rc: Option<i32>,
        /// Why it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub error: Option<JobFailure>,
        /// What was found in fenced blocks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub parse: Option<JobParse>,
        /// A receipt; kept for later.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
        pub receipt: Option<Value>,
        /// What it spent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub spent: Option<Spend>,
    }

    /// The body of `POST …/jobs/{id}/chunk`, at most 256 KiB.
    #[serde(deny_unknown_fields)]
    pub struct LogChunk {
        /// `stdout`, `stderr` or `system`.
        pub stream: String,
        /// Who wrote the lines.
        pub source: String,
        /// Number of the chunk in its stream, from 0.
        pub seq: u64,
        /// Whole lines, each with its Unix time in milliseconds.
        pub lines: Vec<(i64, String)>,
    }

    /// The answer to a chunk or to telemetry.
    #[derive(Copy, PartialEq, Eq)]
    pub struct Acknowledged {
        /// Always true: what is refused is answered with a problem.
        pub ok: bool,
    }

    /// The body of `POST …/jobs/{id}/budget`.
    #[serde(deny_unknown_fields)]
    pub struct DrawBudget {
        /// What is asked for.
        pub want: Spend,
    }

    /// A slice of the budget.
    pub struct DrawnBudget {
        /// What may be spent more; a kind that does not bind is left out.
        pub granted: Spend,
        /// What is left for others.
        pub remaining: Spend,
    }

    /// The body of `POST …/jobs/{id}/telemetry`, at most 500 events.
    #[serde(deny_unknown_fields)]
    pub struct TelemetryBatch {
        /// The events.
        pub events: Vec<super::TelemetryEvent>,
    }

    /// A worker, in a snapshot.
    #[serde(deny_unknown_fields)]
    pub struct SnapshotWorker {
        /// The worker.
        pub worker_id: String,
        /// Whether the orchestrator has it connected.
        pub status: WorkerStatus,
        /// Jobs it runs.
        pub running: u32,
        /// Jobs it takes at once.
        pub concurrency: u32,
        /// Version of its program.
        pub version: String,
        /// What it was to do and cannot, and why.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        pub capability_problems: BTreeMap<String, String>,
        /// Host rules that its jobs may reach unless a rule denies them: the package registries of its host.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub egress_defaults: Vec<String>,
    }

    /// The body of `POST /v1/orch/workers/snapshot`: at most 1,000 entries.
    #[serde(deny_unknown_fields)]
    pub struct Snapshot {
        /// The generation that this changes; 0: all that is known follows from here.
        pub generation: u64,
        /// Workers that changed.
        #[serde(default)]
        pub workers: Vec<SnapshotWorker>,
        /// Workers that are connected no more.
        #[serde(default)]
        pub gone: Vec<String>,
    }

    /// The answer to a snapshot.
    pub struct SnapshotTaken {
        /// The generation now.
        pub generation: u64,
        /// Workers whose tokens are to be refused.
        pub revoked: Vec<String>,
        /// Workers that get no new jobs.
        pub draining: Vec<String>,
    }

    /// Public keys, each in base64.
    pub struct PublicKeys {
        /// What secrets are sealed to.
        pub x25519: String,
        /// What it signs with.
        pub ed25519: String,
    }

    /// The body of `POST /v1/orch/enrollment/consume` and of `POST /v1/worker/enroll`.
    #[serde(deny_unknown_fields)]
    pub struct Enroll {
        /// An enrolment code.
        #[serde(with = "secret::wire")]
        #[cfg_attr(feature = "openapi", schema(value_type = String, write_only))]
        pub code: Secret,
        /// Name for people.
        pub name: String,
        /// The worker's keys.
        pub public_keys: PublicKeys,
        /// Ed25519 signature over `pond-enroll-v1`, SHA-256 of the code as sent, and the X25519 key.
        pub proof: String,
        /// Its tags; left out: those of the code.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub tags: Option<Vec<String>>,
        /// What it can do; left out: what the code says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub capabilities: Option<Vec<String>>,
    }

    /// A worker that is in.
    pub struct Enrolled {
        /// The worker.
        pub worker_id: String,
        /// Its tags.
        pub tags: Vec<String>,
        /// What it may do.
        pub capabilities: Vec<String>,
        /// The engine's Ed25519 key, in base64; its digest is the second half of the code.
        pub engine_key: String,
        /// Its token for everything under `/v1/worker`, from the orchestrator alone.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "secret::wire_option")]
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
        pub token: Option<Secret>,
    }

    /// Names a job.
    #[serde(deny_unknown_fields)]
    pub struct OfJob {
        /// The job.
        pub job_id: String,
    }

    /// A sealed box.
    #[derive(PartialEq, Eq)]
    pub struct SealedBox {
        /// How it is sealed.
        pub alg: String,
        /// The encapsulated key, in base64.
        pub enc: String,
        /// The ciphertext, in base64.
        pub ciphertext: String,
        /// The engine's signature: `{kid, sig}`.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        pub signature: Value,
    }

    /// A token for a bundle.
    pub struct BundleToken {
        /// The token, good for the live claim alone.
        #[serde(with = "secret::wire")]
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub token: Secret,
        /// SHA-256 of the sealed bundle.
        pub sha256: String,
        /// Its size in bytes.
        pub size: u64,
    }

    /// The body of `POST …/bundle/redeem`.
    #[serde(deny_unknown_fields)]
    pub struct RedeemBundle {
        /// The token.
        #[serde(with = "secret::wire")]
        #[cfg_attr(feature = "openapi", schema(value_type = String, write_only))]
        pub token: Secret,
        /// The worker.
        pub worker_id: String,
    }

    /// Where a bundle is, and its key for the worker alone.
    pub struct RedeemedBundle {
        /// The encapsulated key, in base64.
        pub enc: String,
        /// The sealed bundle key, in base64.
        pub ciphertext: String,
        /// The engine's signature on the box: `{kid, sig}`.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        pub signature: Value,
        /// A path on the peer that answered.
        pub url: String,
        /// When the lease ends, and with it the access.
        pub expires_at: String,
    }

    /// The body of `POST /v1/worker/poll`.
    #[serde(deny_unknown_fields)]
    pub struct WorkerPoll {
        /// This life of the worker.
        pub boot_id: String,
        /// Jobs it can take now.
        pub free_slots: u32,
        /// Jobs it runs.
        #[serde(default)]
        pub running: u32,
        /// Jobs it takes at once.
        pub concurrency: u32,
        /// Version of its program.
        #[serde(default)]
        pub version: String,
        /// How long the answer may take when there is nothing, in milliseconds; up to 30,000.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub wait_ms: Option<u32>,
        /// Leases to renew.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub heartbeats: Option<Vec<Heartbeat>>,
        /// What it was to do and cannot, and why.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        pub capability_problems: BTreeMap<String, String>,
        /// Host rules that its jobs may reach unless a rule denies them: the package registries of its host.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub egress_defaults: Vec<String>,
    }

    /// The answer to a worker's poll.
    pub struct WorkerPolled {
        /// Jobs, each signed.
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
        pub jobs: Vec<Value>,
        /// Commands, each signed.
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
        pub commands: Vec<Value>,
        /// What became of the leases, in the order of the heartbeats.
        pub leases: Vec<Lease>,
    }

    /// A worker as its orchestrator sees it.
    pub struct WorkerWhoami {
        /// The worker.
        pub worker_id: String,
        /// The orchestrator.
        pub orch_id: String,
        /// Its time.
        pub server_time: String,
    }
}
