//! What is told to a worker that is refused: the same problems that the engine tells.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pond_sdk::api::Problem;

use crate::link::peer::PeerError;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no token.
    NoToken,
    /// The token is nobody's.
    UnknownToken,
    /// There is no such route.
    NoRoute,
    /// The method is another one.
    Method,
    /// The job is not this worker's.
    NotFound,
    /// The body does not read.
    Unreadable(String),
    /// A field is not valid.
    Invalid(&'static str, &'static str),
    /// The body is too long.
    TooLarge(usize),
    /// Too many failed tries.
    Tries(Duration),
    /// The engine does not answer.
    Unavailable,
    /// The engine refuses.
    Engine(crate::link::peer::Refusal),
    /// The orchestrator's own fault.
    Internal,
}

impl Refusal {
    fn row(&self) -> (StatusCode, &str, &str, String) {
        use StatusCode as S;
        match self {
            Self::NoToken => (
                S::UNAUTHORIZED,
                "unauthenticated",
                "A token is needed",
                "send the worker's token".into(),
            ),
            Self::UnknownToken => (
                S::FORBIDDEN,
                "forbidden",
                "Not allowed",
                "the token opens nothing here".into(),
            ),
            Self::NoRoute => (
                S::NOT_FOUND,
                "not_found",
                "There is no such thing",
                "no such route".into(),
            ),
            Self::Method => (
                S::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "Another method",
                "not with this method".into(),
            ),
            Self::NotFound => (
                S::NOT_FOUND,
                "not_found",
                "There is no such thing",
                "no such job".into(),
            ),
            Self::Unreadable(why) => (S::BAD_REQUEST, "unreadable", "The body cannot be read", why.clone()),
            Self::Invalid(field, why) => (
                S::UNPROCESSABLE_ENTITY,
                "invalid",
                "Some fields are not valid",
                format!("{field}: {why}"),
            ),
            Self::TooLarge(most) => (
                S::PAYLOAD_TOO_LARGE,
                "body_too_large",
                "The body is too large",
                format!("larger than {most} bytes"),
            ),
            Self::Tries(_) => (
                S::TOO_MANY_REQUESTS,
                "busy",
                "Too many tries",
                "too many codes that were no good".into(),
            ),
            Self::Unavailable => (
                S::SERVICE_UNAVAILABLE,
                "unavailable",
                "The engine does not answer",
                "try again".into(),
            ),
            Self::Engine(refusal) => (
                S::from_u16(refusal.status).unwrap_or(S::BAD_GATEWAY),
                &refusal.code,
                "The engine refuses",
                refusal.detail.clone(),
            ),
            Self::Internal => (
                S::INTERNAL_SERVER_ERROR,
                "internal",
                "Pond itself failed",
                "its log tells more".into(),
            ),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Tries(after) => Some(*after),
            Self::Unavailable => Some(Duration::from_secs(1)),
            Self::Engine(refusal) => refusal.retry_after,
            _ => None,
        }
    }
}

impl From<PeerError> for Refusal {
    fn from(error: PeerError) -> Self {
        match error {
            // The orchestrator's own token is refused: no fault of the worker's, and nothing that it should be told.
            error if error.is_shut_out() => Self::Unavailable,
            PeerError::Refused(refusal) => Self::Engine(refusal),
            PeerError::Unreachable(_) | PeerError::Malformed(_) => Self::Unavailable,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code, title, detail) = self.row();
        let problem = Problem::new(status.as_u16(), code, title, detail);
        let body = serde_json::to_vec(&problem).expect("plain fields serialise");
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if let Some(after) = self.retry_after() {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}
