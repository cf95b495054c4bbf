//! Codes, orchestrators and workers, for operators.

use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::{Extension, Json};
use pond_core::page::Page;
use pond_core::pool::{NewCode, OrchestratorView, WorkerView};
use pond_sdk::api;

use super::read::typed;
use crate::error::Answer;
use crate::extract::{JsonBody, MaybeJson, OrchestratorPath, Param, Query, WorkerPath, write_cursor};
use crate::routes::carry::Audited;
use crate::state::AppState;

pub(in crate::routes) const LIST: &[Param] = &[
    Param {
        name: "limit",
        about: "Entries of a page, 1 to 500",
    },
    Param {
        name: "cursor",
        about: "Where the page starts: from the last answer's Link",
    },
];

pub(in crate::routes) async fn pairing_code(
    State(state): State<AppState>,
    MaybeJson(body): MaybeJson,
) -> Answer<(StatusCode, Extension<Audited>, Json<api::PoolCode>)> {
    let code = state.pond().pool().pairing_code(&body).await?;
    let audited = Audited::new("pairing_code.create", "pairing code").fields(&body);
    Ok((StatusCode::CREATED, Extension(audited), Json(shown_code(&code))))
}

pub(in crate::routes) async fn enrollment_code(
    State(state): State<AppState>,
    JsonBody(body): JsonBody,
) -> Answer<(StatusCode, Extension<Audited>, Json<api::PoolCode>)> {
    let code = state.pond().pool().enrolment_code(&body).await?;
    let audited = Audited::new("enrollment_code.create", "enrolment code").fields(&body);
    Ok((StatusCode::CREATED, Extension(audited), Json(shown_code(&code))))
}

pub(in crate::routes) async fn orchestrators(State(state): State<AppState>, mut query: Query) -> Answer<Response> {
    let (limit, after) = (query.limit(500), query.cursor::<String>());
    query.done()?;
    let mut all = state.pond().pool().orchestrators().await?;
    all.retain(|view| {
        after
            .as_deref()
            .is_none_or(|after| view.id.to_string().as_str() > after)
    });
    let page = Page::cut(all, limit, |view| view.id.to_string());
    let next = page.next.as_ref().map(write_cursor);
    let shown: Vec<api::Orchestrator> = page.items.iter().map(shown_orchestrator).collect();
    Ok((next_page("orchestrators", limit, next), Json(shown)).into_response())
}

pub(in crate::routes) async fn workers(State(state): State<AppState>, mut query: Query) -> Answer<Response> {
    let (limit, after) = (query.limit(500), query.cursor::<String>());
    query.done()?;
    let pool = state.pond().pool();
    let mut all = pool.workers().await?;
    all.retain(|view| {
        after
            .as_deref()
            .is_none_or(|after| view.info.id.to_string().as_str() > after)
    });
    let page = Page::cut(all, limit, |view| view.info.id.to_string());
    let next = page.next.as_ref().map(write_cursor);
    let embedded = pool.embedded().to_string();
    let shown: Vec<api::Worker> = page.items.iter().map(|view| shown_worker(view, &embedded)).collect();
    Ok((next_page("workers", limit, next), Json(shown)).into_response())
}

pub(in crate::routes) async fn drain(
    State(state): State<AppState>,
    WorkerPath(id): WorkerPath,
    MaybeJson(body): MaybeJson,
) -> Answer<(Extension<Audited>, Json<api::Worker>)> {
    let api::Drain { drain } = typed(&body)?;
    let pool = state.pond().pool();
    let worker = pool.drain(id, drain.unwrap_or(true)).await?;
    let audited = Audited::new("worker.drain", id.to_string()).fields(&body);
    Ok((
        Extension(audited),
        Json(shown_worker(&worker, &pool.embedded().to_string())),
    ))
}

pub(in crate::routes) async fn remove_worker(
    State(state): State<AppState>,
    WorkerPath(id): WorkerPath,
) -> Answer<(Extension<Audited>, StatusCode)> {
    state.pond().pool().remove_worker(id).await?;
    let audited = Audited::new("worker.remove", id.to_string());
    Ok((Extension(audited), StatusCode::NO_CONTENT))
}

pub(in crate::routes) async fn remove_orchestrator(
    State(state): State<AppState>,
    OrchestratorPath(id): OrchestratorPath,
) -> Answer<(Extension<Audited>, StatusCode)> {
    state.pond().pool().remove_orchestrator(id).await?;
    let audited = Audited::new("orchestrator.remove", id.to_string());
    Ok((Extension(audited), StatusCode::NO_CONTENT))
}

/// These lists are bare, so the next page stands in a header.
fn next_page(list: &str, limit: u32, cursor: Option<String>) -> AppendHeaders<Option<(HeaderName, String)>> {
    let link = |cursor| format!("</v1/admin/pool/{list}?limit={limit}&cursor={cursor}>; rel=\"next\"");
    AppendHeaders(cursor.map(|cursor| (header::LINK, link(cursor))))
}

fn shown_code(code: &NewCode) -> api::PoolCode {
    api::PoolCode {
        code: pond_sdk::Secret::new(code.code.expose()),
        expires_at: code.expires_at.to_string(),
    }
}

fn shown_orchestrator(view: &OrchestratorView) -> api::Orchestrator {
    api::Orchestrator {
        orch_id: view.id.to_string(),
        name: view.name.clone(),
        status: match view.online {
            true => api::OrchestratorStatus::Online,
            false => api::OrchestratorStatus::Offline,
        },
        paired_at: view.paired_at.map(|at| at.to_string()),
        last_seen_at: view.last_seen.map(|at| at.to_string()),
        embedded: view.embedded,
    }
}

fn shown_worker(view: &WorkerView, embedded: &str) -> api::Worker {
    api::Worker {
        worker_id: view.info.id.to_string(),
        orch_id: view
            .orchestrator
            .map_or_else(|| embedded.to_owned(), |id| id.to_string()),
        name: view.info.name.clone(),
        status: match (view.online, view.draining) {
            (false, _) => api::WorkerStatus::Offline,
            (true, true) => api::WorkerStatus::Draining,
            (true, false) => api::WorkerStatus::Online,
        },
        tags: view.info.tags.iter().cloned().collect(),
        capabilities: view.info.capabilities.iter().cloned().collect(),
        capability_problems: view.info.problems.clone(),
        egress_defaults: view.info.egress_defaults.iter().map(ToString::to_string).collect(),
        fingerprint: view.fingerprint.clone(),
        running: view.running,
        concurrency: view.info.concurrency,
        version: view.version.clone(),
        last_seen_at: view.last_seen.map(|at| at.to_string()),
    }
}
