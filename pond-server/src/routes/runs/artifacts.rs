//! The files that a run left: the list, and their bytes with everything a cautious browser needs to leave them alone.

use std::ops::Range;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use pond_core::artifacts::{Artifact, content_type};
use pond_core::keys::Principal;
use pond_core::page::Page;
use pond_sdk::api;

use crate::error::{Answer, Refusal};
use crate::extract::{ArtifactPath, Param, Query, RunPath, byte_range, write_cursor};
use crate::state::AppState;

/// Entries of a page where the query says nothing.
const PAGE: u32 = 500;

const STAGE: Param = Param {
    name: "stage",
    about: "Of this stage",
};
const SUBSTAGE: Param = Param {
    name: "substage",
    about: "Of this area of a fan-out",
};

pub(in crate::routes) const ARTIFACTS: &[Param] = &[
    STAGE,
    SUBSTAGE,
    Param {
        name: "limit",
        about: "Entries of a page, 1 to 500; 500 when left out",
    },
    Param {
        name: "cursor",
        about: "Where the page starts: the last answer's nextCursor",
    },
];
pub(in crate::routes) const ARTIFACT: &[Param] = &[STAGE, SUBSTAGE];

/// Place in the list: stage, substage, name.
type Place = (u32, Option<String>, String);

fn place(artifact: &Artifact) -> Place {
    (
        artifact.stage,
        artifact.substage.clone(),
        artifact.name.as_str().to_owned(),
    )
}

pub(in crate::routes) async fn artifacts(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    RunPath(id): RunPath,
    mut query: Query,
) -> Answer<Json<api::ArtifactList>> {
    let (limit, after) = (query.limit(PAGE), query.cursor::<Place>());
    let (stage, substage) = (
        query.text("stage").map(ToOwned::to_owned),
        query.text("substage").map(ToOwned::to_owned),
    );
    query.done()?;
    let runs = state.pond().runs();
    let mut artifacts = runs
        .artifacts(principal.scope(), id, stage.as_deref(), substage.as_deref())
        .await?;
    artifacts.sort_by_key(place);
    artifacts.retain(|artifact| after.as_ref().is_none_or(|after| place(artifact) > *after));
    let page = Page::cut(artifacts, limit, place);
    Ok(Json(api::ArtifactList {
        artifacts: page.items.iter().map(shown).collect(),
        next_cursor: page.next.as_ref().map(write_cursor),
    }))
}

fn shown(artifact: &Artifact) -> api::Artifact {
    api::Artifact {
        name: artifact.name.to_string(),
        stage: artifact.stage_key.clone(),
        substage: artifact.substage.clone(),
        size: artifact.size,
        sha256: hex::encode(artifact.sha256),
        content_type: content_type(&artifact.name).to_owned(),
        redacted: artifact.redacted,
        created_at: artifact.created_at.to_string(),
    }
}

pub(in crate::routes) async fn artifact(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    ArtifactPath(id, name): ArtifactPath,
    query: Query,
    headers: HeaderMap,
) -> Answer<Response> {
    let (stage, substage) = (query.text("stage"), query.text("substage"));
    let artifact = state
        .pond()
        .runs()
        .artifact(principal.scope(), id, stage, substage, &name)
        .await?;
    let etag = format!("\"{}\"", hex::encode(artifact.sha256));
    if matches(&headers, header::IF_NONE_MATCH, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, fixed(&artifact, &etag)).into_response());
    }
    // A range of another version than the caller has begun with would join two files.
    let same = !headers.contains_key(header::IF_RANGE) || matches(&headers, header::IF_RANGE, &etag);
    let range = match text(&headers, header::RANGE).filter(|_| same) {
        Some(range) => byte_range(range, artifact.size)?,
        None => None,
    };
    let length = range.as_ref().map_or(artifact.size, |range| range.end - range.start);
    let bytes = state.pond().runs().artifact_bytes(&artifact, range.clone()).await?;
    let mut answer = (
        fixed(&artifact, &etag),
        [(header::CONTENT_LENGTH, length)],
        Body::from_stream(bytes),
    )
        .into_response();
    if let Some(Range { start, end }) = range {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        let value = format!("bytes {start}-{}/{}", end - 1, artifact.size);
        answer
            .headers_mut()
            .insert(header::CONTENT_RANGE, value.parse().map_err(|_| Refusal::Panicked)?);
    }
    Ok(answer)
}

fn fixed(artifact: &Artifact, etag: &str) -> [(HeaderName, String); 8] {
    [
        (header::CONTENT_TYPE, content_type(&artifact.name).to_owned()),
        (header::ETAG, etag.to_owned()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::CACHE_CONTROL, "private, no-cache".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{}\"", artifact.name),
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (
            header::CONTENT_SECURITY_POLICY,
            "sandbox; default-src 'none'".to_owned(),
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin".to_owned(),
        ),
    ]
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn matches(headers: &HeaderMap, name: HeaderName, etag: &str) -> bool {
    let Some(text) = text(headers, name) else { return false };
    text.split(',')
        .map(|one| one.trim().trim_start_matches("W/"))
        .any(|one| one == etag || one == "*")
}
