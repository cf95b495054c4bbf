//! The only table from meaning to status, code and outward text.
//!
//! A handler answers a [`Refusal`]; the response carries it to [`crate::telemetry`], which knows the request's id and
//! writes the body (RFC 9457). Internal text goes to the log beside that id, never to the body.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pond_core::config::EntryKind;
use pond_core::error::User;
use pond_core::preflight::Problem as Found;
use pond_core::{Conflict, Denial, Error, Fault};
use pond_sdk::api;

/// The media type of every error answer.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// Why a request is refused.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// What the engine says.
    Engine(Error),
    /// No token, or a header that holds none; the text says which.
    NoToken(&'static str),
    /// A token that opens nothing. One answer, whether it is unknown, revoked or expired.
    UnknownToken,
    /// A good key without this scope.
    MissingScope(&'static str),
    /// The first request with this key is under way.
    UnderWay,
    /// The key was sent with another body.
    OtherBody,
    /// The first request with this key made this record, and its answer held a secret that is shown once.
    AlreadyCreated(String),
    /// No route of this path.
    NoRoute,
    /// The route has no such method.
    MethodNotAllowed,
    /// A body is needed and there is none.
    EmptyBody,
    /// The body broke off, or its encoding does not open.
    BrokenBody,
    /// The body is of another media type.
    MediaType(&'static str),
    /// The `Host` header names another server.
    Misdirected,
    /// The range lies outside of so many bytes.
    Range(u64),
    /// A handler panicked.
    Panicked,
}

/// A result of a handler.
pub(crate) type Answer<T> = Result<T, Refusal>;

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl From<pond_core::artifacts::BlobError> for Refusal {
    fn from(error: pond_core::artifacts::BlobError) -> Self {
        Self::Engine(error.into())
    }
}

/// Status, stable code and title of a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row(pub(crate) StatusCode, pub(crate) &'static str, pub(crate) &'static str);

impl Refusal {
    /// The table.
    pub(crate) fn row(&self) -> Row {
        use StatusCode as S;
        match self {
            Self::Engine(error) => engine_row(error),
            Self::NoToken(_) => Row(S::UNAUTHORIZED, "unauthenticated", "A token is needed"),
            Self::UnknownToken => Row(S::FORBIDDEN, "forbidden", "The token opens nothing here"),
            Self::MissingScope(_) => Row(S::FORBIDDEN, "missing_scope", "The key lacks a scope"),
            Self::UnderWay => Row(
                S::CONFLICT,
                "idempotency_in_flight",
                "The first such request is under way",
            ),
            Self::OtherBody => Row(
                S::UNPROCESSABLE_ENTITY,
                "idempotency_mismatch",
                "The key was used for another request",
            ),
            Self::AlreadyCreated(_) => Row(S::CONFLICT, "already_created", "It was created before"),
            Self::NoRoute => Row(S::NOT_FOUND, "not_found", "There is no such thing"),
            Self::MethodNotAllowed => Row(
                S::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "The path has no such method",
            ),
            Self::EmptyBody => Row(S::BAD_REQUEST, "unreadable", "The body cannot be read"),
            Self::BrokenBody => Row(S::BAD_REQUEST, "unreadable", "The body cannot be read"),
            Self::MediaType(_) => Row(
                S::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "The body is of another type",
            ),
            Self::Misdirected => Row(S::MISDIRECTED_REQUEST, "misdirected", "Another server is meant"),
            Self::Range(_) => Row(
                S::RANGE_NOT_SATISFIABLE,
                "range_not_satisfiable",
                "The range lies outside",
            ),
            Self::Panicked => Row(S::INTERNAL_SERVER_ERROR, "internal", "Pond itself failed"),
        }
    }

    /// What is told outside beside the table's row. Engine texts are made for it, but for those of its own failures.
    fn detail(&self) -> String {
        match self {
            Self::Engine(error) => engine_detail(error),
            Self::NoToken(why) => (*why).to_owned(),
            Self::UnknownToken => "the token is unknown, revoked or expired".into(),
            Self::MissingScope("admin") => "this needs admin, which no project key has".into(),
            Self::MissingScope(scope) => format!("the key lacks the scope {scope}"),
            Self::UnderWay => {
                "ask again in a moment for the answer of the first request with this Idempotency-Key".into()
            }
            Self::OtherBody => "this Idempotency-Key came with another body before: draw a new one".into(),
            Self::AlreadyCreated(_) => {
                "the first request with this Idempotency-Key made it; what it was shown once is not kept".into()
            }
            Self::NoRoute => "no such path".into(),
            Self::MethodNotAllowed => "see the Allow header".into(),
            Self::EmptyBody => "a JSON body is required".into(),
            Self::BrokenBody => "the body broke off, or its encoding does not open".into(),
            Self::MediaType(what) => (*what).to_owned(),
            Self::Misdirected => {
                "this server listens on loopback and answers to localhost and its public URL only".into()
            }
            Self::Range(size) => format!("the content has {size} bytes"),
            Self::Panicked => INTERNAL.into(),
        }
    }

    /// The body, for the request of this id.
    pub(crate) fn problem(&self, request_id: &str) -> api::Problem {
        let Row(status, code, title) = self.row();
        let mut problem = api::Problem::new(status.as_u16(), code, title, self.detail());
        request_id.clone_into(&mut problem.request_id);
        if let Self::AlreadyCreated(id) = self {
            problem.id = Some(id.clone()).filter(|id| !id.is_empty());
        }
        if let Self::MissingScope(scope) = self {
            problem.required_scopes = vec![(*scope).to_owned()];
        }
        if let Self::Engine(error) = self {
            match error {
                Error::Invalid(faults) => problem.errors = faults.iter().map(field_error).collect(),
                Error::Preflight { problems, faults } => {
                    problem.problems = problems.iter().map(found).collect();
                    problem.errors = faults.iter().map(field_error).collect();
                }
                Error::ResendRequired(field) => problem.errors = vec![field_error(&resend(field))],
                Error::Conflict { users, kind, .. } => {
                    problem.users = users.iter().map(user).collect();
                    if let Conflict::ChunkGap { expected } = kind {
                        problem.expected = Some(*expected);
                    }
                }
                _ => {}
            }
        }
        problem
    }

    /// What only the log may tell, for answers that are Pond's own fault.
    pub(crate) fn internal(&self) -> Option<String> {
        match self {
            Self::Engine(error @ (Error::Internal(..) | Error::Unavailable(..))) => Some(chain(error)),
            Self::Panicked => Some("a handler panicked".into()),
            _ => None,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Engine(Error::Busy { retry_after, .. } | Error::QueueFull { retry_after, .. }) => Some(*retry_after),
            Self::Engine(Error::Unavailable(..)) | Self::UnderWay => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}

const INTERNAL: &str = "the server's log tells more under this request id";

fn engine_row(error: &Error) -> Row {
    use StatusCode as S;
    match error {
        Error::NotFound(_) => Row(S::NOT_FOUND, "not_found", "There is no such thing"),
        Error::Conflict { kind, .. } => conflict_row(*kind),
        Error::Invalid(_) => Row(S::UNPROCESSABLE_ENTITY, "invalid", "Some fields are not valid"),
        Error::ResendRequired(_) => Row(
            S::UNPROCESSABLE_ENTITY,
            "credential_resend_required",
            "The secrets must be sent again",
        ),
        Error::Unreadable(_) => Row(S::BAD_REQUEST, "unreadable", "The body cannot be read"),
        Error::Preflight { .. } => Row(S::UNPROCESSABLE_ENTITY, "preflight_failed", "Preflight found errors"),
        Error::Expired(_) => Row(S::GONE, "expired", "It was kept for its time and is gone"),
        Error::TooLarge(_) => Row(S::PAYLOAD_TOO_LARGE, "body_too_large", "The body is too large"),
        Error::DigestMismatch => Row(
            S::UNPROCESSABLE_ENTITY,
            "digest_mismatch",
            "The content is not what its digest says",
        ),
        Error::Forbidden(denial) => Row(S::FORBIDDEN, denial_code(*denial), "The caller may not do this"),
        Error::Busy { .. } => Row(S::TOO_MANY_REQUESTS, "busy", "Too much waits already"),
        Error::QueueFull { .. } => Row(S::TOO_MANY_REQUESTS, "queue_full", "Too many runs of the project wait"),
        Error::Unavailable(..) => Row(
            S::SERVICE_UNAVAILABLE,
            "unavailable",
            "A part that is needed does not answer",
        ),
        Error::Internal(..) => Row(S::INTERNAL_SERVER_ERROR, "internal", "Pond itself failed"),
    }
}

fn denial_code(denial: Denial) -> &'static str {
    match denial {
        Denial::CodeInvalid => "code_invalid",
        Denial::ProofInvalid => "proof_invalid",
        Denial::ClaimRequired => "claim_required",
        Denial::ForeignWorker => "foreign_worker",
    }
}

fn conflict_row(kind: Conflict) -> Row {
    let (code, title) = match kind {
        Conflict::NotTerminal => ("not_terminal", "It has not ended yet"),
        Conflict::AlreadyTerminal => ("already_terminal", "It has ended already"),
        Conflict::StaleClaim => ("stale_claim", "The claim is no longer live"),
        Conflict::InUse => ("in_use", "Others use it"),
        Conflict::Taken => ("taken", "The name is taken"),
        Conflict::ChunkGap { .. } => ("chunk_gap", "A chunk before this one is missing"),
        Conflict::Resync => ("resync", "The list of workers is not known up to here"),
        Conflict::FingerprintMismatch => ("fingerprint_mismatch", "The keys are not the expected ones"),
        Conflict::WorkerNotPinned => ("worker_not_pinned", "The worker has no pinned key"),
        Conflict::TokenUsed => ("token_used", "The token is another claim's"),
    };
    Row(StatusCode::CONFLICT, code, title)
}

fn engine_detail(error: &Error) -> String {
    match error {
        Error::Invalid(faults) => match faults.as_slice() {
            [one] => format!("{}: {}", place(&one.pointer), one.message),
            many => format!("{} fields are not valid; see errors", many.len()),
        },
        Error::Preflight { .. } => "nothing was created; see problems".into(),
        Error::Unavailable(..) => "try again in a moment".into(),
        Error::Internal(..) => INTERNAL.into(),
        Error::NotFound(_)
        | Error::Conflict { .. }
        | Error::ResendRequired(_)
        | Error::Unreadable(_)
        | Error::Expired(_)
        | Error::TooLarge(_)
        | Error::DigestMismatch
        | Error::Forbidden(_)
        | Error::Busy { .. }
        | Error::QueueFull { .. } => error.to_string(),
    }
}

fn place(pointer: &str) -> &str {
    if pointer.is_empty() { "the body" } else { pointer }
}

fn resend(field: &str) -> Fault {
    Fault::new(
        format!("/{field}"),
        "changed, which would send the stored secrets to a new place: send the secrets again with it",
    )
}

fn field_error(fault: &Fault) -> api::FieldError {
    api::FieldError {
        pointer: fault.pointer.clone(),
        message: fault.message.clone(),
    }
}

fn user(user: &User) -> api::ProblemUser {
    api::ProblemUser {
        kind: user.kind.to_owned(),
        key: user.key.clone(),
        project_id: user.project.map(|project| project.to_string()),
    }
}

/// A problem of preflight as the API tells it.
pub(crate) fn found(problem: &Found) -> api::PreflightProblem {
    api::PreflightProblem {
        stage: problem.stage.clone(),
        severity: problem.severity.as_str().into(),
        code: problem.code.to_owned(),
        message: problem.message.clone(),
        fix: problem.fix.clone(),
        pointer: problem.pointer.clone(),
        estimate_usd: problem.estimate.as_ref().map(|estimate| api::CostEstimate {
            low: estimate.low.to_string(),
            high: estimate.high.to_string(),
        }),
        basis: problem.estimate.as_ref().map(|estimate| estimate.basis.to_owned()),
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// A refusal on its way out.
#[derive(Debug, Clone)]
pub(crate) struct Refused(pub(crate) Arc<Refusal>);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.row().0;
        let headers = response.headers_mut();
        if matches!(self, Self::NoToken(_)) {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"pond\""),
            );
        }
        if let Some(after) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        if let Self::Range(size) = self
            && let Ok(value) = HeaderValue::from_str(&format!("bytes */{size}"))
        {
            headers.insert(header::CONTENT_RANGE, value);
        }
        response.extensions_mut().insert(Refused(Arc::new(self)));
        response
    }
}

/// A record of this kind that is not there.
pub(crate) fn no_such(kind: EntryKind) -> Refusal {
    Error::NotFound(kind.as_str()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(error: Error) -> Refusal {
        Refusal::Engine(error)
    }

    fn every_meaning() -> Vec<Refusal> {
        let conflict = |kind| engine(Error::conflict(kind, "told"));
        let secret = || Some("sk-secret".into());
        vec![
            engine(Error::NotFound("run")),
            conflict(Conflict::NotTerminal),
            conflict(Conflict::AlreadyTerminal),
            conflict(Conflict::StaleClaim),
            conflict(Conflict::InUse),
            conflict(Conflict::Taken),
            conflict(Conflict::ChunkGap { expected: 3 }),
            conflict(Conflict::Resync),
            conflict(Conflict::FingerprintMismatch),
            conflict(Conflict::WorkerNotPinned),
            conflict(Conflict::TokenUsed),
            engine(Error::invalid("/a", "is required")),
            engine(Error::ResendRequired("hosts")),
            engine(Error::Unreadable("line 1 column 2".into())),
            engine(Error::Preflight {
                problems: vec![],
                faults: vec![],
            }),
            engine(Error::Expired("log")),
            engine(Error::TooLarge(5)),
            engine(Error::DigestMismatch),
            engine(Error::Forbidden(Denial::CodeInvalid)),
            engine(Error::Forbidden(Denial::ProofInvalid)),
            engine(Error::Forbidden(Denial::ClaimRequired)),
            engine(Error::Forbidden(Denial::ForeignWorker)),
            engine(Error::Busy {
                message: "full".into(),
                retry_after: Duration::from_secs(5),
            }),
            engine(Error::QueueFull {
                message: "full".into(),
                retry_after: Duration::from_secs(5),
            }),
            engine(Error::Unavailable("the store", secret())),
            engine(Error::Internal("sk-secret".into(), secret())),
            Refusal::NoToken("send a token"),
            Refusal::UnknownToken,
            Refusal::MissingScope("runs:read"),
            Refusal::UnderWay,
            Refusal::OtherBody,
            Refusal::AlreadyCreated("one".into()),
            Refusal::NoRoute,
            Refusal::MethodNotAllowed,
            Refusal::EmptyBody,
            Refusal::BrokenBody,
            Refusal::MediaType("send JSON"),
            Refusal::Misdirected,
            Refusal::Range(7),
            Refusal::Panicked,
        ]
    }

    #[test]
    fn the_whole_table() {
        let table: Vec<(u16, &str)> = every_meaning()
            .iter()
            .map(|refusal| (refusal.row().0.as_u16(), refusal.row().1))
            .collect();
        assert_eq!(
            table,
            [
                (404, "not_found"),
                (409, "not_terminal"),
                (409, "already_terminal"),
                (409, "stale_claim"),
                (409, "in_use"),
                (409, "taken"),
                (409, "chunk_gap"),
                (409, "resync"),
                (409, "fingerprint_mismatch"),
                (409, "worker_not_pinned"),
                (409, "token_used"),
                (422, "invalid"),
                (422, "credential_resend_required"),
                (400, "unreadable"),
                (422, "preflight_failed"),
                (410, "expired"),
                (413, "body_too_large"),
                (422, "digest_mismatch"),
                (403, "code_invalid"),
                (403, "proof_invalid"),
                (403, "claim_required"),
                (403, "foreign_worker"),
                (429, "busy"),
                (429, "queue_full"),
                (503, "unavailable"),
                (500, "internal"),
                (401, "unauthenticated"),
                (403, "forbidden"),
                (403, "missing_scope"),
                (409, "idempotency_in_flight"),
                (422, "idempotency_mismatch"),
                (409, "already_created"),
                (404, "not_found"),
                (405, "method_not_allowed"),
                (400, "unreadable"),
                (400, "unreadable"),
                (415, "unsupported_media_type"),
                (421, "misdirected"),
                (416, "range_not_satisfiable"),
                (500, "internal"),
            ]
        );
    }

    #[test]
    fn internal_text_stays_inside_and_busy_says_when_to_come_back() {
        for refusal in every_meaning() {
            let row = refusal.row();
            let body = serde_json::to_string(&refusal.problem("req-1")).unwrap();
            assert!(!body.contains("sk-secret"), "{body}");
            assert!(body.contains("\"request_id\":\"req-1\"") && body.contains(&format!("urn:pond:problem:{}", row.1)));
            let answer = refusal.into_response();
            let retries = answer.headers().contains_key(header::RETRY_AFTER);
            let waits = matches!(row.0.as_u16(), 429 | 503) || row.1 == "idempotency_in_flight";
            assert_eq!(retries, waits, "{}", row.1);
        }
    }
}
