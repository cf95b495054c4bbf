//! What happens around a write: one that carries a key is carried out once, and one of admin leaves a row in the audit log.
//!
//! Such a write runs in a task of its own, to its end: a caller who goes away leaves neither a change without its row nor a
//! key that nobody gives free.

use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use pond_core::Error;
use pond_core::audit::Entry;
use pond_core::id::ProjectId;
use pond_core::idempotency::{Content, Entered, Keeping, Kept, OnceKey, Repeatable};
use pond_core::keys::Principal;
use serde_json::Value;

use super::Endpoint;
use crate::auth::Access;
use crate::error::{Answer, Refusal};
use crate::extract::whole_body;
use crate::state::AppState;
use crate::telemetry::RequestId;

const KEY: &str = "idempotency-key";
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Bytes of an answer to a creating request; far above what any of them has.
const MAX_ANSWER: usize = 64 << 20;

/// What a handler says of the change that it made, as an extension of its answer. Names of fields and records, no values.
#[derive(Debug, Clone)]
pub(super) struct Audited {
    pub(super) action: String,
    pub(super) target: String,
    pub(super) project: Option<ProjectId>,
    pub(super) changed: Vec<String>,
}

impl Audited {
    /// A change of this kind to a record of this name.
    pub(super) fn new(action: impl Into<String>, target: impl Into<String>) -> Self {
        Self {
            action: action.into(),
            target: target.into(),
            project: None,
            changed: Vec::new(),
        }
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

/// Carries a write out.
pub(super) async fn carry_out(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let found = request.extensions();
    let (Some(endpoint), Some(principal)) = (found.get::<Arc<Endpoint>>(), found.get::<Principal>()) else {
        return next.run(request).await;
    };
    let write = Write {
        state,
        endpoint: endpoint.clone(),
        principal: principal.clone(),
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
    if keeping.is_none() && !write.is_audited() {
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
    principal: Principal,
    path: String,
    request_id: Option<String>,
}

enum Go {
    On(Request, Option<Keeping>),
    Answered(Response),
}

impl Write {
    fn is_audited(&self) -> bool {
        self.endpoint.access == Access::Admin && self.endpoint.method != Method::GET
    }

    /// Looks whether the request was carried out before.
    async fn enter(&self, request: Request) -> Answer<Go> {
        let Some(key) = request.headers().get(KEY).filter(|_| self.endpoint.once.is_some()) else {
            return Ok(Go::On(request, None));
        };
        let key = OnceKey::new(key.to_str().unwrap_or_default())?;
        let (head, body) = whole_body(request).await?;
        let route = format!("{} {}", self.endpoint.method, self.path);
        let idempotency = self.state.pond().idempotency();
        match idempotency.enter(self.principal.scope(), &route, &key, &body).await? {
            Entered::First(keeping) => Ok(Go::On(Request::from_parts(head, Body::from(body)), Some(keeping))),
            Entered::UnderWay => Err(Refusal::UnderWay),
            Entered::Mismatch => Err(Refusal::OtherBody),
            Entered::Done(kept) => again(kept).map(Go::Answered),
        }
    }

    async fn run(self, request: Request, next: Next, keeping: Option<Keeping>) -> Response {
        let answer = next.run(request).await;
        let well = answer.status().is_success();
        let audited = match well && self.is_audited() {
            true => self.audit(answer.extensions().get().cloned()).await,
            false => Ok(()),
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
    async fn audit(&self, told: Option<Audited>) -> pond_core::Result<()> {
        let told = told.unwrap_or_else(|| {
            let action = format!("{} {}", self.endpoint.method, self.endpoint.path);
            Audited::new(action, self.path.clone())
        });
        let entry = Entry {
            actor: self.principal.actor(),
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
