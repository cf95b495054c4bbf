//! The events of a run, live: server-sent events whose ids are the run's event numbers.

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event as Sse, KeepAlive};
use axum::response::{IntoResponse, Response, Sse as SseResponse};
use futures::stream::StreamExt;
use pond_core::Error;
use pond_core::event::{EventBody, EventNumber, NumberedEvent};
use pond_core::keys::Principal;
use pond_sdk::api;

use super::egress::decision;
use super::logs::line;
use super::shown::run_error;
use super::usage::counts;
use super::view::View;
use crate::error::Answer;
use crate::extract::RunPath;
use crate::state::AppState;

/// A comment goes out when nothing else did for this long.
const HEARTBEAT: Duration = Duration::from_secs(15);
const LAST_EVENT_ID: &str = "last-event-id";

pub(in crate::routes) async fn events(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    RunPath(id): RunPath,
    headers: HeaderMap,
) -> Answer<Response> {
    let (after, view) = (after(&headers)?, View::of(&principal));
    let events = state.pond().runs().follow(principal.scope(), id, after).await?;
    // Events are read from the store as fast as the connection takes them; nothing queues up here. Where the store fails the
    // stream ends, and its reader resumes after the last event that came.
    let told = events
        .take_while(|event| std::future::ready(event.is_ok()))
        .filter_map(move |event| {
            let told = event.ok().as_ref().and_then(|event| told(event, view));
            std::future::ready(told.map(Ok::<_, Infallible>))
        })
        .take_until(state.closing().cancelled_owned());
    let heartbeat = KeepAlive::new().interval(HEARTBEAT);
    Ok(SseResponse::new(told).keep_alive(heartbeat).into_response())
}

fn after(headers: &HeaderMap) -> Answer<EventNumber> {
    let Some(value) = headers.get(LAST_EVENT_ID) else {
        return Ok(0);
    };
    let text = value.to_str().unwrap_or("?").trim();
    if text.is_empty() {
        return Ok(0);
    }
    let number = text.parse().ok().filter(|number: &EventNumber| *number >= 0);
    Ok(number.ok_or_else(|| Error::invalid("Last-Event-ID", "expected the id of an event of this stream"))?)
}

fn told(event: &NumberedEvent, view: View) -> Option<Sse> {
    let body = shown(event, view)?;
    let data = body.data().ok()?;
    Some(Sse::default().id(event.id.to_string()).event(body.kind()).data(data))
}

/// An event as the stream tells it.
fn shown(event: &NumberedEvent, view: View) -> Option<api::EventBody> {
    Some(match &event.event.body {
        EventBody::Log(_) => api::EventBody::Log(line(event, view)?),
        EventBody::Usage(totals) => api::EventBody::Usage(counts(totals)),
        EventBody::Egress(_) => api::EventBody::Egress(decision(event, view)?),
        EventBody::Reach(_) => return None,
        EventBody::Status(change) => api::EventBody::Status(api::StatusChange {
            scope: match (&change.stage, &change.area) {
                (Some(_), Some(_)) => api::StatusScope::Substage,
                (Some(_), None) => api::StatusScope::Stage,
                (None, _) => api::StatusScope::Run,
            },
            key: match (&change.stage, &change.area) {
                (Some(stage), Some(area)) => Some(format!("{stage}/{area}")),
                (stage, _) => stage.clone(),
            },
            from: Some(change.from.clone()).filter(|from| from != "none"),
            to: change.to.clone(),
            error: change.error.as_ref().map(|failure| run_error(failure, view)),
        }),
    })
}
