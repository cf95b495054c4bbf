//! Runs: create, list, show, cancel, retry; and what they leave, one file each.

mod artifacts;
mod egress;
mod events;
mod logs;
mod shown;
mod usage;
mod view;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use pond_core::Error;
use pond_core::clock::Timestamp;
use pond_core::id::{ProjectId, RunId};
use pond_core::keys::{Action, Principal, may};
use pond_core::page::PageRequest;
use pond_core::preflight::{Problem, Severity};
use pond_core::runs::{Reach, Run, RunFilter, RunStatus, Runs};
use pond_core::scope::Scope;

pub(super) use self::artifacts::{ARTIFACT, ARTIFACTS, artifact, artifacts};
pub(super) use self::egress::{EGRESS, egress, reach};
pub(super) use self::events::events;
pub(super) use self::logs::{LOGS, logs};
use self::shown::{ShownDetail, ShownList, ShownRun};
pub(super) use self::usage::usage;
use self::view::View;
use crate::error::Answer;
use crate::extract::{JsonText, NoBody, Param, Query, RunPath, write_cursor};
use crate::state::AppState;

/// Runs of a page where the query says nothing.
const PAGE: u32 = 50;

pub(super) const LIST: &[Param] = &[
    Param {
        name: "projectId",
        about: "Runs of this project; all when left out",
    },
    Param {
        name: "status",
        about: "Some of queued, running, done, failed, cancelled, separated by commas",
    },
    Param {
        name: "trigger",
        about: "Runs set off by this",
    },
    Param {
        name: "since",
        about: "Runs created at this time (RFC 3339) or later",
    },
    Param {
        name: "limit",
        about: "Runs of a page, 1 to 500; 50 when left out",
    },
    Param {
        name: "cursor",
        about: "Where the page starts: the last answer's nextCursor",
    },
];

pub(super) async fn create(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    JsonText(body): JsonText,
) -> Answer<Response> {
    let project = project_of(&state, &principal, &body)?;
    let runs = state.pond().runs().with_folders(principal.folders());
    ensure_project(&state, &principal, &runs, project, &body).await?;
    let run = runs.submit(project, &body).await?;
    created(&state, &run, View::of(&principal))
}

/// A project that was never seen is made by admins alone, and only for a run that will be: what is refused leaves none behind.
async fn ensure_project(
    state: &AppState,
    principal: &Principal,
    runs: &Runs,
    project: ProjectId,
    body: &str,
) -> Answer<()> {
    let projects = state.pond().projects();
    let makes = may(principal, Action::Admin, Scope::Org).is_ok();
    let is_new = makes && project != projects.default_project() && !projects.is_there(project).await?;
    if is_new && would_run(&runs.preflight(project, body, Reach::Offline).await) {
        projects.ensure(project).await?;
    }
    Ok(())
}

fn would_run(checked: &pond_core::Result<Vec<Problem>>) -> bool {
    let problems = checked.as_ref();
    problems.is_ok_and(|problems| problems.iter().all(|problem| problem.severity != Severity::Error))
}

/// The project that a body names, else the caller's own, else the default one. Tells apart nothing that the body's own check
/// does not tell better, but for a project that is not the caller's: that one is not there, whether it is or not.
pub(super) fn project_of(state: &AppState, principal: &Principal, body: &str) -> Answer<ProjectId> {
    let named = match serde_json::from_str(body) {
        // A malformed id is one of the body's faults, told together with the others.
        Ok(body) => Runs::named_project(&body).unwrap_or_default(),
        Err(_) => None,
    };
    let project = principal.project_of(named)?;
    Ok(project.unwrap_or_else(|| state.pond().projects().default_project()))
}

fn created(state: &AppState, run: &Run, view: View) -> Answer<Response> {
    state.metrics().started(&run.head.trigger);
    let location = [(header::LOCATION, format!("/v1/runs/{}", run.head.id))];
    Ok((StatusCode::CREATED, location, Json(ShownRun::whole(run, view)?)).into_response())
}

pub(super) async fn list(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    mut query: Query,
) -> Answer<Response> {
    let project = query.parsed("projectId", "expected a UUID");
    let known = RunStatus::ALL.map(RunStatus::as_str);
    let filter = RunFilter {
        statuses: query.words("status", RunStatus::parse, &known),
        trigger: query.text("trigger").map(ToOwned::to_owned),
        since: query.time("since"),
    };
    let (limit, after) = (query.limit(PAGE), query.cursor::<(i64, String)>());
    let after = after.and_then(|(at, id)| {
        let id = id.parse::<RunId>();
        if id.is_err() {
            query.fault("cursor", "is not a cursor of this list");
        }
        Some((Timestamp::from_micros(at), id.ok()?))
    });
    query.done()?;
    let scope = principal.scope_of(project)?;
    let page = state
        .pond()
        .runs()
        .list(scope, &filter, PageRequest { limit, after })
        .await?;
    let view = View::of(&principal);
    let next_cursor = page.next.map(|(at, id)| write_cursor(&(at.micros(), id.to_string())));
    let runs = page.items.iter().map(|head| ShownRun::head(head, view));
    let runs = runs.collect::<Answer<Vec<_>>>()?;
    Ok(Json(ShownList { runs, next_cursor }).into_response())
}

pub(super) async fn get(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    RunPath(id): RunPath,
) -> Answer<Response> {
    let run = state.pond().runs().get(principal.scope(), id).await?;
    Ok(Json(ShownDetail::of(&run, View::of(&principal))?).into_response())
}

pub(super) async fn cancel(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    RunPath(id): RunPath,
    _: NoBody,
) -> Answer<Response> {
    let (runs, view) = (state.pond().runs(), View::of(&principal));
    let before = runs.get(principal.scope(), id).await?;
    if before.head.state.phase.status().is_terminal() {
        return Ok((StatusCode::OK, Json(ShownRun::whole(&before, view)?)).into_response());
    }
    let run = runs.cancel(principal.scope(), id).await?;
    // It may have ended on its own between the two calls.
    let status = match run.head.state.cancel_requested_at {
        Some(_) => StatusCode::ACCEPTED,
        None => StatusCode::OK,
    };
    Ok((status, Json(ShownRun::whole(&run, view)?)).into_response())
}

pub(super) async fn retry(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    RunPath(id): RunPath,
    _: NoBody,
) -> Answer<Response> {
    let run = state.pond().runs().retry(principal.scope(), id).await?;
    created(&state, &run, View::of(&principal))
}

/// A stored text that does not read.
fn unreadable(what: &str, id: RunId) -> Error {
    Error::internal(format!("the stored {what} of run {id} does not read"))
}
