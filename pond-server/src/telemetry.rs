//! What is seen of a request: its id, one line in the access log, one count; and the one place where problems are written.
//!
//! Outside strings are fields of the log, never part of its message.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;

use crate::error::{PROBLEM_JSON, Refusal, Refused};
use crate::routes::Endpoint;
use crate::state::AppState;

const REQUEST_ID: &str = "x-request-id";
/// The longest request id that is taken over.
const MAX_REQUEST_ID: usize = 128;

/// The id of a request.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

/// Puts an id on the request, answers it whatever happens, and tells of it.
pub(crate) async fn observe(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(&state, &request);
    let method = request.method().clone();
    request.extensions_mut().insert(RequestId(id.clone()));
    let answer = if state.hosts().admits(&request) {
        let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
        answer.unwrap_or_else(|_| Refusal::Panicked.into_response())
    } else {
        Refusal::Misdirected.into_response()
    };
    let mut answer = written(answer, &id);
    if let Ok(value) = HeaderValue::from_str(&id) {
        answer.headers_mut().insert(REQUEST_ID, value);
    }
    let endpoint = answer.extensions().get::<Arc<Endpoint>>();
    let (known, route) = endpoint.map_or(("other", "none"), |endpoint| (endpoint.method_name(), endpoint.path));
    let status = answer.status().as_u16();
    state.metrics().answered(known, route, status);
    let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(target: "pond::access", method = method.as_str(), route, status, ms, request_id = %id, "answered");
    answer
}

fn request_id(state: &AppState, request: &Request) -> String {
    let sent = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let sane = |id: &&str| {
        (1..=MAX_REQUEST_ID).contains(&id.len())
            && id
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    };
    sent.filter(sane)
        .map_or_else(|| hex::encode(state.entropy().draw::<12>()), ToOwned::to_owned)
}

/// Writes the body of a refusal. What a library refused on its own is told in the same form.
fn written(answer: Response, id: &str) -> Response {
    let refused = answer.extensions().get::<Refused>().map(|refused| refused.0.clone());
    let status = answer.status();
    let refused = match refused {
        Some(refused) => refused,
        None if status.is_client_error() || status.is_server_error() => Arc::new(of_status(status)),
        None => return answer,
    };
    if let Some(internal) = refused.internal() {
        tracing::error!(request_id = %id, error = %internal, "a request failed");
    }
    let problem = serde_json::to_vec(&refused.problem(id)).unwrap_or_default();
    let (mut head, _) = answer.into_parts();
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    head.headers
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    head.status = refused.row().0;
    Response::from_parts(head, Body::from(problem))
}

fn of_status(status: StatusCode) -> Refusal {
    match status {
        StatusCode::NOT_FOUND => Refusal::NoRoute,
        StatusCode::METHOD_NOT_ALLOWED => Refusal::MethodNotAllowed,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Refusal::MediaType("the content encoding is not gzip or identity"),
        status if status.is_client_error() => Refusal::BrokenBody,
        _ => Refusal::Panicked,
    }
}
