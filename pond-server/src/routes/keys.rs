//! API keys.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::{Extension, Json};
use pond_core::id::{KeyId, ProjectId};
use pond_core::keys::ApiKey;
use pond_core::page::PageRequest;
use pond_core::scope::Scope;
use pond_sdk::api;

use super::carry::Audited;
use crate::auth::{Principal, scope_of};
use crate::error::Answer;
use crate::extract::{JsonBody, KeyPath, Param, Query, write_cursor};
use crate::state::AppState;

pub(super) const LIST: &[Param] = &[
    Param {
        name: "project_id",
        about: "Keys of this project; all when left out",
    },
    Param {
        name: "limit",
        about: "Keys of a page, 1 to 500; 500 when left out",
    },
    Param {
        name: "cursor",
        about: "Where the page starts: the last answer's next_cursor",
    },
];

pub(super) async fn create(State(state): State<AppState>, JsonBody(body): JsonBody) -> Answer<impl IntoResponse> {
    let issued = state.pond().keys().create(&body).await?;
    let key = shown(&issued.key);
    let told = Audited::new("key.create", &key.id)
        .of(Some(issued.key.project))
        .fields(&body);
    let answer = api::IssuedKey {
        id: key.id,
        key: pond_sdk::Secret::new(issued.token.expose()),
        prefix: key.prefix,
        name: key.name,
        project_id: key.project_id,
        scopes: key.scopes,
        created_at: key.created_at,
        expires_at: key.expires_at,
        last_used_at: key.last_used_at,
    };
    Ok((
        StatusCode::CREATED,
        [(header::CACHE_CONTROL, "no-store")],
        Extension(told),
        Json(answer),
    ))
}

pub(super) async fn list(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    mut query: Query,
) -> Answer<Json<api::ApiKeyList>> {
    let project = query.parsed::<ProjectId>("project_id", "expected a UUID");
    let (limit, after) = (query.limit(500), query.cursor::<String>());
    let after = after.and_then(|after| {
        let after = after.parse::<KeyId>();
        if after.is_err() {
            query.fault("cursor", "is not a cursor of this list");
        }
        after.ok()
    });
    query.done()?;
    let scope = scope_of(&principal, project)?;
    let page = state.pond().keys().list(scope, PageRequest { limit, after }).await?;
    Ok(Json(api::ApiKeyList {
        keys: page.items.iter().map(shown).collect(),
        next_cursor: page.next.map(|id| write_cursor(&id.to_string())),
    }))
}

pub(super) async fn revoke(State(state): State<AppState>, KeyPath(id): KeyPath) -> Answer<impl IntoResponse> {
    let key = state.pond().keys().revoke(Scope::Org, id).await?;
    let told = Audited::new("key.revoke", id.to_string()).of(Some(key.project));
    Ok((Extension(told), StatusCode::NO_CONTENT))
}

fn shown(key: &ApiKey) -> api::ApiKey {
    api::ApiKey {
        id: key.id.to_string(),
        prefix: key.prefix.clone(),
        name: key.name.clone(),
        project_id: key.project.to_string(),
        scopes: key.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
        created_at: key.created_at.to_string(),
        expires_at: key.expires_at.map(|at| at.to_string()),
        last_used_at: key.last_used_at.map(|at| at.to_string()),
    }
}
