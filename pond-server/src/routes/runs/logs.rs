//! The log of a run, by the page or whole.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use futures::stream::{self, TryStreamExt};
use pond_core::event::{EventBody, EventNumber, NumberedEvent};
use pond_core::id::RunId;
use pond_core::keys::Principal;
use pond_core::scope::Scope;
use pond_sdk::api;

use super::view::View;
use crate::error::Answer;
use crate::extract::{Param, Query, RunPath};
use crate::state::AppState;

/// Lines of a page where the query says nothing, and of one step of a stream.
const PAGE: u32 = 500;
const NDJSON: &str = "application/x-ndjson";

pub(in crate::routes) const LOGS: &[Param] = &[
    Param {
        name: "since",
        about: "Lines after this id",
    },
    Param {
        name: "limit",
        about: "Lines of a page, 1 to 500; 500 when left out",
    },
    Param {
        name: "stage",
        about: "Lines of this stage",
    },
];

pub(in crate::routes) async fn logs(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    RunPath(id): RunPath,
    headers: HeaderMap,
    mut query: Query,
) -> Answer<Response> {
    let (since, limit) = (query.integer("since", 0..=EventNumber::MAX), query.limit(PAGE));
    let stage = query.text("stage").map(ToOwned::to_owned);
    query.done()?;
    let reader = Reader {
        state,
        scope: principal.scope(),
        view: View::of(&principal),
        id,
        stage,
    };
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .unwrap_or_default();
    if accept.contains(NDJSON) {
        return reader.all(since.unwrap_or(0)).await;
    }
    let logs = reader.page(since.unwrap_or(0), limit).await?;
    let next_cursor = logs
        .last()
        .map(|line| line.id)
        .or_else(|| since.and_then(|since| u64::try_from(since).ok()));
    Ok(Json(api::LogList { logs, next_cursor }).into_response())
}

struct Reader {
    state: AppState,
    scope: Scope,
    view: View,
    id: RunId,
    stage: Option<String>,
}

impl Reader {
    async fn page(&self, since: EventNumber, limit: u32) -> Answer<Vec<api::LogLine>> {
        let runs = self.state.pond().runs();
        let lines = runs
            .logs(self.scope, self.id, since, limit, self.stage.as_deref())
            .await?;
        Ok(lines.iter().filter_map(|event| line(event, self.view)).collect())
    }

    /// All lines that are there by now, a page at a time: memory use does not depend on the log's length.
    async fn all(self, since: EventNumber) -> Answer<Response> {
        // The first page before the head goes out: an unknown run is 404.
        let first = self.page(since, PAGE).await?;
        let pages = stream::try_unfold((self, Some(first)), async |(reader, page)| {
            let Some(page) = page.filter(|page| !page.is_empty()) else {
                return Ok(None);
            };
            let text = ndjson(&page);
            let full = page.len() == PAGE as usize;
            let last = page.last().and_then(|line| EventNumber::try_from(line.id).ok());
            let next = match last.filter(|_| full) {
                Some(last) => Some(reader.page(last, PAGE).await.map_err(|_| Broken)?),
                None => None,
            };
            Ok(Some((text, (reader, next))))
        });
        let body = Body::from_stream(pages.map_err(|broken: Broken| broken));
        Ok(([(header::CONTENT_TYPE, NDJSON)], body).into_response())
    }
}

/// A stream that cannot go on breaks off: its reader resumes after the last line.
#[derive(Debug, thiserror::Error)]
#[error("the log cannot be read on")]
struct Broken;

fn ndjson(lines: &[api::LogLine]) -> Bytes {
    let mut text = Vec::new();
    for line in lines {
        // Writing to memory does not fail.
        let _ = serde_json::to_writer(&mut text, line);
        text.push(b'\n');
    }
    text.into()
}

/// A log line as the API shows it; none for other events.
pub(super) fn line(event: &NumberedEvent, view: View) -> Option<api::LogLine> {
    let EventBody::Log(line) = &event.event.body else {
        return None;
    };
    Some(api::LogLine {
        id: u64::try_from(event.id).unwrap_or_default(),
        ts: event.event.at.to_string(),
        stage: line.stage.clone(),
        substage: line.substage.clone(),
        stream: line.stream.as_str().into(),
        source: line.source.as_str().into(),
        line: view.text(&line.line),
    })
}
