//! Calls about jobs, passed on as they are: bodies are streamed both ways and never held whole.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use super::hub::Hub;
use super::refusal::Refusal;
use crate::link::peer::{CLAIM_TOKEN, CONTENT_SHA256};

/// How long the head of an ordinary answer may take.
pub(super) const WITHIN: Duration = Duration::from_secs(60);
/// How long an artifact may take on its way up.
pub(super) const UPLOAD_WITHIN: Duration = Duration::from_secs(1800);

/// Headers that go up with a call.
fn goes_up() -> [HeaderName; 7] {
    [
        header::CONTENT_TYPE,
        header::CONTENT_LENGTH,
        header::RANGE,
        header::IF_RANGE,
        HeaderName::from_static(CLAIM_TOKEN),
        HeaderName::from_static(CONTENT_SHA256),
        HeaderName::from_static("x-request-id"),
    ]
}

/// Headers that come back with its answer.
fn comes_back() -> [HeaderName; 7] {
    [
        header::CONTENT_TYPE,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        header::ACCEPT_RANGES,
        header::ETAG,
        header::RETRY_AFTER,
        HeaderName::from_static("x-request-id"),
    ]
}

/// A call to pass on.
pub(super) struct Call {
    pub(super) method: Method,
    /// Path and query on the engine.
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// Bytes that the body may have.
    pub(super) most: usize,
    pub(super) within: Duration,
}

/// Passes a call on; the engine's answer comes back whatever its status.
pub(super) async fn relay(hub: &Hub, call: Call) -> Result<Response, Refusal> {
    let Call {
        method,
        path,
        headers,
        body,
        most,
        within,
    } = call;
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    if length
        .and_then(|text| text.parse::<u64>().ok())
        .is_some_and(|length| length > most as u64)
    {
        return Err(Refusal::TooLarge(most));
    }
    let mut builder = hub.engine.request(method, &path);
    for name in goes_up() {
        if let Some(value) = headers.get(&name) {
            builder = builder.header(name, value.clone());
        }
    }
    let body = Limited::new(body, most).boxed_unsync();
    let request = builder.body(body).map_err(|_| Refusal::NoRoute)?;
    let answer = hub.engine.send_any(request, within).await.map_err(|error| {
        tracing::warn!(error = %error.told(), "a call about a job could not be passed on");
        Refusal::Unavailable
    })?;
    back(hub, answer)
}

fn back(hub: &Hub, answer: hyper::Response<Incoming>) -> Result<Response, Refusal> {
    if answer.status() == StatusCode::UNAUTHORIZED {
        // The orchestrator's own token; no fault of the worker's.
        hub.shut_out.cancel();
        return Err(Refusal::Unavailable);
    }
    let (head, body) = answer.into_parts();
    let mut response = Body::new(body).into_response();
    *response.status_mut() = head.status;
    response.headers_mut().clear();
    for name in comes_back() {
        if let Some(value) = head.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    Ok(response)
}
