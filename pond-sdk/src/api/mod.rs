//! Wire types, one file per domain. Field names are the contract's: camelCase at the run surface, snake_case elsewhere.
//!
//! What a server answers is read tolerantly: unknown fields are passed over and unknown words of a closed list become
//! `Other`, so that an old client goes on working against a newer server. What a client sends is closed.
//! Timestamps are RFC 3339 texts in UTC, ids are texts, money is a decimal text in USD.

mod artifacts;
mod audit;
mod config;
mod egress;
mod events;
mod health;
mod keys;
mod logs;
mod open_enum;
mod pool;
mod preflight;
mod problem;
mod projects;
mod runs;
mod telemetry;
mod usage;
mod workflow;

pub use artifacts::{Artifact, ArtifactList};
pub use audit::{AuditEntry, AuditFlaw, AuditList, AuditVerification};
pub use config::{
    Credential, CredentialList, EgressAction, EgressRule, EgressRuleList, Harness, HarnessFile, HarnessFromPreset,
    HarnessList, HarnessPreset, HarnessPresetList, Model, ModelList, PutCredential, PutEgressRule, PutHarness,
    PutModel, PutVariable, Scope, Variable, VariableList,
};
pub use egress::{EgressDecision, EgressDecisionList, EgressVerdict, Reach, ReachHost, ReachSecret, RuleOrigin};
pub use events::{Event, EventBody, StatusChange, StatusScope};
pub use health::{Health, Principal, PrincipalKind, Whoami};
pub use keys::{CreateKey, CreatedKey, Key, KeyList};
pub use logs::{LogLine, LogList, LogSource, LogStream};
pub use pool::{
    Acknowledged, BundleToken, CreateEnrollmentCode, CreatePairingCode, Drain, DrawBudget, DrawnBudget, Enroll,
    Enrolled, Heartbeat, Heartbeats, JobFailure, JobParse, JobState, JobStatus, Lease, Leases, LogChunk, OfJob,
    OrchPoll, OrchPolled, OrchWhoami, Orchestrator, OrchestratorStatus, Pair, Paired, PollWorker, PoolCode, Protocol,
    PublicKeys, RedeemBundle, RedeemedBundle, SealedBox, Snapshot, SnapshotTaken, SnapshotWorker, Spend,
    TelemetryBatch, Worker, WorkerPoll, WorkerPolled, WorkerStatus, WorkerWhoami,
};
pub use preflight::{CostEstimate, Preflight, PreflightProblem, Severity};
pub use problem::{FieldError, Problem, ProblemUser};
pub use projects::{CreateProject, Project, ProjectList};
pub use runs::{
    Budget, CreateRun, ParseCounts, Progress, ReceiptState, ResolvedSource, Run, RunDetail, RunError, RunList,
    RunSource, RunStatus, Stage, StageError, StageStatus, Substage,
};
pub use telemetry::{EgressDecisionEvent, ModelCallEvent, TelemetryEvent};
pub use usage::{ModelUsage, StageUsage, SubstageUsage, Usage, UsageCounts};
pub use workflow::{
    Definition, Edge, Executor, Fanout, Parse, ParseShape, Profile, Retries, Sandbox, SandboxOverrides, Source,
    StageDefinition, Swarm,
};
