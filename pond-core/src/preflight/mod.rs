//! Checks that tell before a run is created what would stop it. One file and one line in `CHECKS` per subject.

use async_trait::async_trait;
use serde_json::value::RawValue;

mod budget;
mod config;
mod definition;
mod egress;
mod key;
mod problem;
mod prompt;
mod sandbox;
mod secrets;
mod shell;
mod source;
mod worker;

pub use budget::Estimate;
pub use problem::{Problem, Severity};
pub(crate) use worker::no_capable_worker_message;

use crate::clock::Timestamp;
use crate::config::{Config, Effective};
use crate::engine::EngineSettings;
use crate::id::ProjectId;
use crate::pool::Presence;
use crate::runs::executors::{Replay, Swarm, Work};
use crate::sources::{FolderScope, Source, SourceFetch};
use crate::store::SharedStore;
use crate::workflow::{Budget, Definition, Stage};

pub(crate) use definition::problems as definition_problems;
pub(crate) use source::Reachability;

/// What checks look at.
pub(crate) struct Subject<'a> {
    pub(crate) project: ProjectId,
    pub(crate) definition: &'a Definition,
    pub(crate) sources: &'a [Source],
    pub(crate) effective: &'a Effective,
    pub(crate) settings: &'a EngineSettings,
    pub(crate) presence: &'a Presence,
    pub(crate) now: Timestamp,
    /// What the run may spend, and whether money is what the request itself bounds.
    pub(crate) budget: Budget,
    pub(crate) sent_budget_usd: bool,
    /// The caller's own object.
    pub(crate) context: Option<&'a RawValue>,
    /// The digest of the definition.
    pub(crate) digest: [u8; 32],
    /// Where past runs are.
    pub(crate) store: &'a SharedStore,
    /// Whether programs can run on this host.
    pub(crate) has_host: bool,
    /// Fetches and dials; none when only what needs no network is checked.
    pub(crate) dial: Option<Dial<'a>>,
}

/// What the dialling check needs.
pub(crate) struct Dial<'a> {
    pub(crate) fetch: &'a dyn SourceFetch,
    pub(crate) reachability: &'a Reachability,
    /// Opens the credentials of sources.
    pub(crate) config: &'a Config,
    pub(crate) scope: FolderScope,
}

/// One subject of preflight.
#[async_trait]
trait Check: Sync {
    async fn check(&self, subject: &Subject<'_>, found: &mut Vec<Problem>);
}

/// All checks, in the order in which their problems are told.
const CHECKS: &[&dyn Check] = &[
    &sandbox::Sandbox,
    &shell::Shell,
    &egress::Egress,
    &config::Config,
    &prompt::Prompt,
    &secrets::Secrets,
    &budget::Budgets,
    &key::SourceKeys,
    &worker::CapableWorker,
    &source::Reachable,
];

/// All problems of a submission whose definition reads.
pub(crate) async fn check(subject: &Subject<'_>) -> Vec<Problem> {
    let mut found = Vec::new();
    for check in CHECKS {
        check.check(subject, &mut found).await;
    }
    found
}

/// Whether any check looks at a stage: none does at what runs in the engine and may run again.
pub(crate) fn looks_at(stage: &Stage) -> bool {
    match stage.executor.work() {
        Work::Engine(work) => work.replay() == Replay::Once,
        Work::Pool(_) => true,
    }
}

/// The swarm stages of a workflow, with their places.
fn swarms(definition: &Definition) -> impl Iterator<Item = (usize, &Stage, &Swarm)> {
    definition
        .stages
        .iter()
        .enumerate()
        .filter_map(|(index, stage)| match stage.executor.work() {
            Work::Pool(swarm) => Some((index, stage, swarm)),
            Work::Engine(_) => None,
        })
}

/// A problem of one stage.
fn of_stage(stage: &Stage, severity: Severity, code: &'static str, message: &str, fix: impl Into<String>) -> Problem {
    Problem {
        stage: Some(stage.key.clone()),
        severity,
        code,
        message: format!("stage '{}': {message}", stage.key),
        fix: fix.into(),
        pointer: None,
        estimate: None,
    }
}

/// Pointer to a field of a stage's executor.
fn pointer(index: usize, field: &str) -> Option<String> {
    Some(format!("/definition/stages/{index}/executor/{field}"))
}
