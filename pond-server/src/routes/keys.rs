//! API keys.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use pond_core::id::KeyId;
use pond_core::keys::{ApiKey, Principal};
use pond_core::page::PageRequest;
use pond_sdk::api;

use super::carry::Audited;
use crate::error::Answer;
use crate::extract::{JsonBody, KeyPath, Param, Query, write_cursor};
use crate::state::AppState;

/// Keys of a page where the query says nothing.
const PAGE: u32 = 500;

pub(super) const LIST: &[Param] = &[
    Param {
        name: "project_id",
        about: "Keys of this project; all when left out",
    },
    Param {
        name: "limit",
        about: "Entries of a page, 1 to 500; 500 when left out",
    },
    Param {
        name: "cursor",
        about: "Where the page starts: the last answer's next_cursor",
    },
];

pub(super) async fn create(
    State(state): State<AppState>,
    JsonBody(body): JsonBody,
) -> Answer<(StatusCode, Extension<Audited>, Json<api::CreatedKey>)> {
    let minted = state.pond().keys().create(&body).await?;
    let audited = Audited::new("key.create", minted.key.id.to_string())
        .of(Some(minted.key.project))
        .fields(&body);
    let created = api::CreatedKey {
        key: pond_sdk::Secret::new(minted.token.expose()),
        record: shown(&minted.key),
    };
    Ok((StatusCode::CREATED, Extension(audited), Json(created)))
}

pub(super) async fn list(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    mut query: Query,
) -> Answer<Json<api::KeyList>> {
    let project = query.parsed("project_id", "expected a UUID");
    let (limit, after) = (query.limit(PAGE), query.cursor::<String>());
    let after = after.and_then(|id| {
        let id = id.parse::<KeyId>();
        if id.is_err() {
            query.fault("cursor", "is not a cursor of this list");
        }
        id.ok()
    });
    query.done()?;
    let scope = principal.scope_of(project)?;
    let page = state.pond().keys().list(scope, PageRequest { limit, after }).await?;
    Ok(Json(api::KeyList {
        keys: page.items.iter().map(shown).collect(),
        next_cursor: page.next.map(|id| write_cursor(&id.to_string())),
    }))
}

pub(super) async fn revoke(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    KeyPath(id): KeyPath,
) -> Answer<(Extension<Audited>, StatusCode)> {
    state.pond().keys().revoke(principal.scope(), id).await?;
    let audited = Audited::new("key.revoke", id.to_string()).of(principal.scope().project());
    Ok((Extension(audited), StatusCode::NO_CONTENT))
}

fn shown(key: &ApiKey) -> api::Key {
    api::Key {
        id: key.id.to_string(),
        prefix: key.prefix.clone(),
        name: key.name.clone(),
        project_id: key.project.to_string(),
        scopes: key.scopes.words(),
        created_at: key.created_at.to_string(),
        expires_at: key.expires_at.map(|at| at.to_string()),
        last_used_at: key.last_used_at.map(|at| at.to_string()),
    }
}
