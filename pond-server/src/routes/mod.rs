//! Every path, in one table. A line says who may call, what the query may hold, and how the document describes it.

#[cfg(test)]
mod access_table;
mod admin;
mod carry;
mod endpoint;
mod health;
mod keys;
mod metrics;
mod pool;
mod preflight;
mod projects;
mod runs;
mod whoami;

use axum::Router;
use axum::middleware::from_fn_with_state;
use pond_sdk::api;
use tower::ServiceBuilder;
use tower_http::compression::CompressionLayer;

use self::carry::Rows;
pub(crate) use self::endpoint::{Endpoint, Given, Routes};
use crate::auth::Access::{Admin, Caller, Metrics, Open, Orchestrator, ReadRun, ReadRuns, WriteRun, WriteRuns};
use crate::error::Refusal;
use crate::openapi;
use crate::state::AppState;
use crate::telemetry::observe;

/// Bodies that may hold a whole definition or many files.
const LARGE: u64 = 4 << 20;
/// Log lines in one call.
const CHUNK: u64 = 256 << 10;

/// The whole API over one engine.
pub fn app(state: AppState) -> Router {
    let routes = whole();
    let around = ServiceBuilder::new()
        .layer(CompressionLayer::new().compress_when(endpoint::Compressible))
        .layer(from_fn_with_state(state.clone(), observe));
    routes
        .into_router(&state)
        .fallback(async || Refusal::NoRoute)
        .method_not_allowed_fallback(async || Refusal::MethodNotAllowed)
        .layer(around)
        .with_state(state)
}

/// The table, with the pages that tell of it.
fn whole() -> Routes {
    let mut routes = table();
    openapi::add_pages(&mut routes);
    routes
}

/// All endpoints, for tests.
#[cfg(test)]
pub(crate) fn endpoints() -> Vec<Endpoint> {
    whole().endpoints()
}

#[rustfmt::skip]
fn table() -> Routes {
    let mut r = Routes::default();
    // Runs
    r.post("/v1/runs", WriteRuns, runs::create).creates().takes::<api::CreateRun>().up_to(LARGE).gives::<api::Run>(201).about("Creates a run and starts it");
    r.get("/v1/runs", ReadRuns, runs::list).query(runs::LIST).gives::<api::RunList>(200).about("Lists runs, newest first");
    r.post("/v1/runs/preflight", WriteRuns, preflight::preflight).query(preflight::QUERY).takes::<api::CreateRun>().up_to(LARGE).gives::<api::Preflight>(200).about("Tells what would keep a run from running well; creates nothing");
    r.get("/v1/runs/{id}", ReadRun, runs::get).gives::<api::RunDetail>(200).about("Shows a run and its stages");
    r.get("/v1/runs/{id}/logs", ReadRun, runs::logs).query(runs::LOGS).gives::<api::LogList>(200).about("Reads the log by the page; with Accept: application/x-ndjson all of it as a stream of lines");
    r.get("/v1/runs/{id}/events", ReadRun, runs::events).streams("text/event-stream").about("Follows a run until it ends; resumes by Last-Event-ID");
    r.get("/v1/runs/{id}/usage", ReadRun, runs::usage).gives::<api::Usage>(200).about("Shows calls, tokens and cost");
    r.get("/v1/runs/{id}/egress", ReadRun, runs::egress).query(runs::EGRESS).gives::<api::EgressDecisionList>(200).about("Lists what a run asked to reach and what was decided, oldest first");
    r.get("/v1/runs/{id}/reach", ReadRun, runs::reach).gives::<api::Reach>(200).about("Shows what a run can reach and which secret goes where, before and while it runs");
    r.get("/v1/runs/{id}/artifacts", ReadRun, runs::artifacts).query(runs::ARTIFACTS).gives::<api::ArtifactList>(200).about("Lists the files that a run left");
    r.get("/v1/runs/{id}/artifacts/{name}", ReadRun, runs::artifact).query(runs::ARTIFACT).streams("application/octet-stream").about("Reads a file that a run left, or a range of it");
    r.post("/v1/runs/{id}/cancel", WriteRun, runs::cancel).gives::<api::Run>(202).about("Asks for a run's cancel; an ended run is answered with 200, unchanged");
    r.post("/v1/runs/{id}/retry", WriteRuns, runs::retry).creates().gives::<api::Run>(201).about("Starts a new run like this one, on the same resolved sources");
    // Admin config
    admin::entries::<api::Credential>(&mut r, "/v1/admin/credentials", "/v1/admin/credentials/{name}");
    admin::entries::<api::EgressRule>(&mut r, "/v1/admin/egress", "/v1/admin/egress/{name}");
    admin::entries::<api::Harness>(&mut r, "/v1/admin/harnesses", "/v1/admin/harnesses/{name}").up_to(LARGE);
    admin::entries::<api::Model>(&mut r, "/v1/admin/models", "/v1/admin/models/{name}");
    admin::entries::<api::Variable>(&mut r, "/v1/admin/variables", "/v1/admin/variables/{name}");
    r.get("/v1/admin/harness-presets", Admin, admin::presets).gives::<api::HarnessPresetList>(200).about("Lists the agent programs that Pond knows how to set up");
    r.post("/v1/admin/harnesses/from-preset", Admin, admin::from_preset).creates().takes::<api::HarnessFromPreset>().gives::<api::Harness>(201).about("Registers a preset as a harness");
    // Projects
    r.post("/v1/admin/projects", Admin, projects::create).creates().takes::<api::CreateProject>().gives::<api::Project>(201).about("Creates a project");
    r.get("/v1/admin/projects", Admin, projects::list).query(projects::LIST).gives::<api::ProjectList>(200).about("Lists projects");
    r.delete("/v1/admin/projects/{id}", Admin, projects::delete).about("Deletes a project that has neither runs nor config");
    // Keys
    r.post("/v1/keys", Admin, keys::create).creates_secret().takes::<api::CreateKey>().gives::<api::CreatedKey>(201).about("Makes a key of a project; the key itself is shown here and nowhere else");
    r.get("/v1/keys", Admin, keys::list).query(keys::LIST).gives::<api::KeyList>(200).about("Lists keys, newest first");
    r.delete("/v1/keys/{id}", Admin, keys::revoke).about("Revokes a key: from now on it opens nothing");
    // The record of what was done
    r.get("/v1/admin/audit", Admin, admin::audit).query(admin::AUDIT).gives::<api::AuditList>(200).about("Lists who changed what, newest first");
    r.get("/v1/admin/audit/verify", Admin, admin::verify).query(admin::VERIFY).gives::<api::AuditVerification>(200).about("Checks the chain of the audit log, and that it leads past a signed head");
    // The pool, for operators
    r.post("/v1/admin/pool/pairing-codes", Admin, pool::pairing_code).creates_secret().takes::<api::CreatePairingCode>().gives::<api::PoolCode>(201).about("Mints a code that pairs one orchestrator");
    r.get("/v1/admin/pool/orchestrators", Admin, pool::orchestrators).query(pool::LIST).gives::<Vec<api::Orchestrator>>(200).about("Lists orchestrators; the next page is in Link");
    r.delete("/v1/admin/pool/orchestrators/{id}", Admin, pool::remove_orchestrator).about("Takes an orchestrator out with its workers; their jobs wait again");
    r.post("/v1/admin/pool/enrollment-codes", Admin, pool::enrollment_code).creates_secret().takes::<api::CreateEnrollmentCode>().gives::<api::PoolCode>(201).about("Mints a code that lets one worker in behind an orchestrator");
    r.get("/v1/admin/pool/workers", Admin, pool::workers).query(pool::LIST).gives::<Vec<api::Worker>>(200).about("Lists workers; the next page is in Link");
    r.post("/v1/admin/pool/workers/{id}/drain", Admin, pool::drain).takes::<api::Drain>().gives::<api::Worker>(200).about("Keeps new jobs from a worker, or lets it have them again");
    r.delete("/v1/admin/pool/workers/{id}", Admin, pool::remove_worker).about("Takes a worker out; its jobs wait again");
    // The pool, for orchestrators
    r.post("/v1/orch/pair", Open, pool::pair).takes::<api::Pair>().gives::<api::Paired>(201).audited(Rows::Always).about("Pairs an orchestrator by its code");
    r.get("/v1/orch/whoami", Orchestrator, pool::whoami).gives::<api::OrchWhoami>(200).about("Shows an orchestrator to itself");
    r.post("/v1/orch/poll", Orchestrator, pool::poll).takes::<api::OrchPoll>().gives::<api::OrchPolled>(200).about("Waits for jobs and commands; a newer poll ends an older one at once");
    r.post("/v1/orch/heartbeats", Orchestrator, pool::heartbeats).takes::<api::Heartbeats>().gives::<api::Leases>(200).about("Renews leases");
    r.post("/v1/orch/workers/snapshot", Orchestrator, pool::snapshot).takes::<api::Snapshot>().gives::<api::SnapshotTaken>(200).about("Tells which workers are connected, as changes of a known list");
    r.post("/v1/orch/enrollment/consume", Orchestrator, pool::consume).takes::<api::Enroll>().gives::<api::Enrolled>(200).audited(Rows::Always).about("Lets a worker in by its code, and pins its keys");
    r.post("/v1/orch/jobs/{id}/state", Orchestrator, pool::state).takes::<api::JobState>().gives::<api::Acknowledged>(200).audited(Rows::Told).about("Tells how a job stands");
    r.post("/v1/orch/jobs/{id}/chunk", Orchestrator, pool::chunk).takes::<api::LogChunk>().up_to(CHUNK).gives::<api::Acknowledged>(200).about("Adds log lines of a job");
    r.post("/v1/orch/jobs/{id}/budget", Orchestrator, pool::budget).takes::<api::DrawBudget>().gives::<api::DrawnBudget>(200).about("Draws a slice of the budgets of a job's run and stage");
    r.post("/v1/orch/jobs/{id}/telemetry", Orchestrator, pool::telemetry).takes::<api::TelemetryBatch>().gives::<api::Acknowledged>(200).about("Tells of model calls; an event that was told before is ignored");
    r.post("/v1/orch/jobs/{id}/artifacts", Orchestrator, pool::artifact).query(pool::ARTIFACT).gives::<api::Acknowledged>(200).about("Keeps a file of a job: raw bytes with X-Content-SHA256");
    r.post("/v1/orch/seal", Orchestrator, pool::seal).takes::<api::OfJob>().gives::<api::SealedBox>(200).audited(Rows::Always).about("Seals a job's secrets to its worker");
    r.post("/v1/orch/bundle/token", Orchestrator, pool::bundle_token).takes::<api::OfJob>().gives::<api::BundleToken>(200).about("Offers the sources of a job");
    r.post("/v1/orch/bundle/redeem", Orchestrator, pool::redeem).takes::<api::RedeemBundle>().gives::<api::RedeemedBundle>(200).audited(Rows::Always).about("Seals the key of a job's sources to its worker");
    r.get("/v1/orch/bundles/{id}", Orchestrator, pool::bundle).streams("application/octet-stream").about("Reads the sealed sources of a job, or a range of them");
    // The server itself
    r.get("/v1/whoami", Caller, whoami::whoami).gives::<api::Whoami>(200).about("Shows who the token belongs to");
    r.get("/health", Open, health::health).gives::<api::Health>(200).about("Shows label and version");
    r.get("/health/live", Open, health::live).gives::<api::Health>(200).about("Whether the process answers");
    r.get("/health/ready", Open, health::ready).gives::<api::Health>(200).about("Whether the store answers");
    r.get("/metrics", Metrics, metrics::metrics).streams("text/plain").about("Counters, as Prometheus text");
    // Next: /v1/admin/{backup,keyring}, runs/{id}/{egress,reach,receipt}.
    r
}
