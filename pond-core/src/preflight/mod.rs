//! Checks that tell before a run is created what would stop it. One file and one line in `CHECKS` per subject.

use async_trait::async_trait;

mod config;
mod definition;
mod egress;
mod key;
mod problem;
mod sandbox;
mod secrets;
mod source;
mod worker;

pub use problem::{Problem, Severity};
pub(crate) use worker::no_capable_worker_message;

use crate::clock::Timestamp;
use crate::config::{Config, Effective};
use crate::engine::EngineSettings;
use crate::id::ProjectId;
use crate::pool::Presence;
use crate::runs::executors::{Swarm, Work};
use crate::sources::{FolderScope, Source, SourceFetch};
use crate::workflow::{Definition, Stage};

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
    &egress::Egress,
    &config::Config,
    &secrets::Secrets,
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
    }
}

/// Pointer to a field of a stage's executor.
fn pointer(index: usize, field: &str) -> Option<String> {
    Some(format!("/definition/stages/{index}/executor/{field}"))
}
