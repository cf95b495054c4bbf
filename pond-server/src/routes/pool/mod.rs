//! The pool: what operators do with it, and the engine's side of orchestrators.

mod admin;
mod jobs;
mod orch;
mod read;
mod spend;

pub(super) use self::admin::LIST;
pub(super) use self::admin::{
    drain, enrollment_code, orchestrators, pairing_code, remove_orchestrator, remove_worker, workers,
};
pub(super) use self::jobs::{ARTIFACT, artifact, bundle, bundle_token, chunk, redeem, seal, state};
pub(super) use self::orch::{consume, heartbeats, pair, poll, snapshot, whoami};
pub(super) use self::spend::{budget, telemetry};
