//! Projects.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use pond_core::projects::Project;
use pond_sdk::api;

use super::carry::Audited;
use crate::error::Answer;
use crate::extract::{JsonBody, Param, ProjectPath, Query, write_cursor};
use crate::state::AppState;

pub(super) const LIST: &[Param] = &[
    Param {
        name: "limit",
        about: "Entries of a page, 1 to 500",
    },
    Param {
        name: "cursor",
        about: "Where the page starts: the last answer's next_cursor",
    },
];

pub(super) async fn create(
    State(state): State<AppState>,
    JsonBody(body): JsonBody,
) -> Answer<(StatusCode, Extension<Audited>, Json<api::Project>)> {
    let project = state.pond().projects().create(&body).await?;
    let audited = Audited::new("project.create", project.slug.as_str())
        .of(Some(project.id))
        .fields(&body);
    Ok((StatusCode::CREATED, Extension(audited), Json(shown(&project))))
}

pub(super) async fn list(State(state): State<AppState>, mut query: Query) -> Answer<Json<api::ProjectList>> {
    let (limit, after) = (query.limit(500), query.cursor::<String>());
    query.done()?;
    let mut projects = state.pond().projects().list().await?;
    projects.retain(|project| after.as_deref().is_none_or(|after| project.slug.as_str() > after));
    let page = pond_core::page::Page::cut(projects, limit, |project| project.slug.to_string());
    Ok(Json(api::ProjectList {
        projects: page.items.iter().map(shown).collect(),
        next_cursor: page.next.as_ref().map(write_cursor),
    }))
}

pub(super) async fn delete(
    State(state): State<AppState>,
    ProjectPath(id): ProjectPath,
) -> Answer<(Extension<Audited>, StatusCode)> {
    state.pond().projects().delete(id).await?;
    let audited = Audited::new("project.delete", id.to_string()).of(Some(id));
    Ok((Extension(audited), StatusCode::NO_CONTENT))
}

fn shown(project: &Project) -> api::Project {
    api::Project {
        id: project.id.to_string(),
        slug: project.slug.to_string(),
        name: project.name.clone(),
        created_at: project.created_at.to_string(),
    }
}
