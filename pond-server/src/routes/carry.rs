//! What happens around a write: one that carries a key is carried out once, and one that matters leaves a row in the audit log.
//!
//! Such a write runs in a task of its own, to its end: a caller who goes away leaves neither a change without its row nor a
//! key that nobody gives free.

use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use pond_core::Error;
use pond_core::audit::Entry;
use pond_core::id::{OrchestratorId, ProjectId, WorkerId};
use pond_core::idempotency::{Content, Entered, Keeping, Kept, OnceKey, Repeatable};
use pond_core::keys::Principal;
use pond_core::pool::Remote;
use serde_json::Value;

use super::Endpoint;
use crate::error::{Answer, Refusal};
use crate::extract::whole_body;
use crate::state::AppState;
use crate::telemetry::RequestId;

const KEY: &str = "idempotency-key";
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Bytes of an answer to a creating request; far above what any of them has.
const MAX_ANSWER: usize = 64 << 20;

/// Which answers of an endpoint leave a row in the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    /// None.
    Never,
    /// Those of which the handler says something, whatever their status.
    Told,
    /// These, and every other one of success.
    Always,
}

/// What a handler says of what it did, as an extension of its answer. Names of fields and records, no values.
#[derive(Debug, Clone)]
pub(super) struct Audited {
    /// Who did it, where the token does not say.
    pub(super) by: Option<String>,
    pub(super) action: String,
    pub(super) target: String,
    pub(super) project: Option<ProjectId>,
    pub(super) changed: Vec<String>,
}

impl Audited {
    /// A change of this kind to a record of this name.
    pub(super) fn new(action: impl Into<String>, target: impl Into<String>) -> Self {
        Self {
            by: None,
            action: action.into(),
            target: target.into(),
            project: None,
            changed: Vec::new(),
        }
    }

    /// Done by another one than who holds the token of the request.
    pub(super) fn by(mut self, actor: impl Into<String>) -> Self {
        self.by = Some(actor.into());
        self
    }

    /// Of a project; none for the org.
    pub(super) fn of(mut self, project: Option<ProjectId>) -> Self {
        self.project = project;
        self
    }

    /// By the fields of a body that was found good.
    pub(super) fn fields(mut self, body: &Value) -> Self {
        self.changed = body
            .as_object()
            .map(|body| body.keys().cloned().collect())
            .unwrap_or_default();
        self
    }
}

/// As the audit log names an orchestrator.
pub(super) fn orchestrator(id: OrchestratorId) -> String {
    format!("orchestrator:{id}")
}

/// As the audit log names a worker.
pub(super) fn worker(id: WorkerId) -> String {
    format!("worker:{id}")
}

/// Carries a write out.
pub(super) async fn carry_out(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let found = request.extensions();
    let Some(endpoint) = found.get::<Arc<Endpoint>>() else {
        return next.run(request).await;
    };
    let principal = found.get::<Principal>();
    let actor = match (principal, found.get::<Remote>()) {
        (Some(principal), _) => principal.actor(),
        (None, Some(remote)) => orchestrator(remote.id()),
        (None, None) => "nobody".into(),
    };
    let write = Write {
        state,
        endpoint: endpoint.clone(),
        principal: principal.cloned(),
        actor,
        path: request.uri().path().to_owned(),
        request_id: found.get::<RequestId>().map(|id| id.0.clone()),
    };
    let entered = match write.enter(request).await {
        Ok(entered) => entered,
        Err(refusal) => return refusal.into_response(),
    };
    let (request, keeping) = match entered {
        Go::On(request, keeping) => (request, keeping),
        Go::Answered(answer) => return answer,
    };
    if keeping.is_none() && write.endpoint.rows == Rows::Never {
        return next.run(request).await;
    }
    let carried = tokio::spawn(async move { write.run(request, next, keeping).await });
    match carried.await {
        Ok(answer) => answer,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Refusal::Panicked.into_response(),
    }
}

/// A write and who makes it.
struct Write {
    state: AppState,
    endpoint: Arc<Endpoint>,
    /// None where an orchestrator calls, or anyone may.
    principal: Option<Principal>,
    actor: String,
    path: String,
    request_id: Option<String>,
}

enum Go {
    On(Request, Option<Keeping>),
    Answered(Response),
}

impl Write {
    /// Looks whether the request was carried out before.
    async fn enter(&self, request: Request) -> Answer<Go> {
        let key = request.headers().get(KEY).filter(|_| self.endpoint.once.is_some());
        let Some((key, principal)) = key.zip(self.principal.as_ref()) else {
            return Ok(Go::On(request, None));
        };
        let key = OnceKey::new(key.to_str().unwrap_or_default())?;
        let (head, body) = whole_body(request).await?;
        let route = format!("{} {}", self.endpoint.method, self.path);
        let idempotency = self.state.pond().idempotency();
        match idempotency.enter(principal.scope(), &route, &key, &body).await? {
            Entered::First(keeping) => Ok(Go::On(Request::from_parts(head, Body::from(body)), Some(keeping))),
            Entered::UnderWay => Err(Refusal::UnderWay),
            Entered::Mismatch => Err(Refusal::OtherBody),
            Entered::Done(kept) => again(kept).map(Go::Answered),
        }
    }

    async fn run(self, request: Request, next: Next, keeping: Option<Keeping>) -> Response {
        let answer = next.run(request).await;
        let told = answer.extensions().get::<Audited>().cloned();
        let audited = match (self.endpoint.rows, told) {
            (Rows::Told | Rows::Always, Some(told)) => self.audit(told).await,
            (Rows::Always, None) if answer.status().is_success() => self.audit(self.untold()).await,
            _ => Ok(()),
        };
        let answer = match keeping {
            Some(keeping) => self.keep(keeping, answer).await,
            None => answer,
        };
        match audited {
            Ok(()) => answer,
            Err(error) => Refusal::Engine(error).into_response(),
        }
    }

    /// A write whose handler says nothing is told by its address: none goes without a row.
    fn untold(&self) -> Audited {
        let action = format!("{} {}", self.endpoint.method, self.endpoint.path);
        Audited::new(action, self.path.clone())
    }

    async fn audit(&self, told: Audited) -> pond_core::Result<()> {
        let entry = Entry {
            actor: told.by.unwrap_or_else(|| self.actor.clone()),
            action: told.action,
            target: told.target,
            project: told.project,
            changed: told.changed,
            request_id: self.request_id.clone(),
        };
        self.state.pond().audit().record(entry).await
    }

    /// Keeps an answer for repeats, or forgets a request that made nothing. What cannot be kept is answered all the same.
    async fn keep(&self, keeping: Keeping, answer: Response) -> Response {
        let idempotency = self.state.pond().idempotency();
        if !answer.status().is_success() {
            if let Err(error) = idempotency.forget(keeping).await {
                tracing::warn!(%error, "a refused request could not be forgotten; its key is blocked for minutes");
            }
            return answer;
        }
        let (head, body) = answer.into_parts();
        let Ok(body) = to_bytes(body, MAX_ANSWER).await else {
            return Refusal::Panicked.into_response();
        };
        let location = head.headers.get(header::LOCATION);
        let location = location
            .and_then(|location| location.to_str().ok())
            .map(ToOwned::to_owned);
        let (status, repeatable) = (head.status.as_u16(), self.endpoint.once.unwrap_or(Repeatable::IdAlone));
        let kept = idempotency.keep(keeping, status, location, &body, repeatable).await;
        if let Err(error) = kept {
            tracing::warn!(%error, "an answer could not be kept for repeats");
        }
        Response::from_parts(head, Body::from(body))
    }
}

/// The first answer, once more.
fn again(kept: Kept) -> Answer<Response> {
    let body = match kept.content {
        Content::Whole(body) => Bytes::from(body),
        Content::Id(id) => return Err(Refusal::AlreadyCreated(id)),
    };
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = kept.status.try_into().map_err(|_| Error::internal("a kept status"))?;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    if let Some(location) = kept.location.and_then(|location| location.try_into().ok()) {
        headers.insert(header::LOCATION, location);
    }
    Ok(answer)
}
