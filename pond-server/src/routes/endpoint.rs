//! One endpoint of the table, and the guard before its handler: caller, then query, then the handler.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::handler::Handler;
use axum::http::request::Parts;
use axum::http::{Method, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use pond_core::idempotency::Repeatable;
use pond_core::keys::{Action, Area, Principal, may};
use tower::ServiceBuilder;
use tower_http::compression::predicate::Predicate;
use tower_http::decompression::RequestDecompressionLayer;
use tower_http::map_request_body::MapRequestBodyLayer;
use tower_http::timeout::RequestBodyTimeoutLayer;
use utoipa::ToSchema;

use super::carry::{Rows, carry_out};
use crate::auth::{Access, Need, admits, identify, orchestrator_token};
use crate::error::Refusal;
use crate::extract::{Param, Query, RunPath};
use crate::openapi::Shape;
use crate::state::AppState;

/// How long the sender of a body may be silent.
const SILENCE: Duration = Duration::from_secs(60);
/// Bytes of a body where the table says nothing.
const LIMIT: u64 = 1 << 20;

/// One line of the table.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    pub(crate) params: &'static [Param],
    /// Bytes that the body may have.
    pub(crate) limit: u64,
    pub(crate) takes: Option<Shape>,
    /// Whether it creates, and so is carried out once for an `Idempotency-Key`; and what may be answered again.
    pub(crate) once: Option<Repeatable>,
    /// Which of its answers leave a row in the audit log; of a write of admin, every one of success.
    pub(crate) rows: Rows,
    pub(crate) status: u16,
    pub(crate) gives: Given,
    pub(crate) about: &'static str,
}

/// What an endpoint answers.
#[derive(Debug, Clone)]
pub(crate) enum Given {
    /// Nothing.
    Nothing,
    /// JSON of this shape.
    Json(Shape),
    /// Bytes of this media type.
    Bytes(&'static str),
}

/// What is said of an endpoint beside path, access and handler.
impl Endpoint {
    pub(crate) fn method_name(&self) -> &'static str {
        match self.method {
            Method::POST => "POST",
            Method::DELETE => "DELETE",
            _ => "GET",
        }
    }

    pub(crate) fn query(&mut self, params: &'static [Param]) -> &mut Self {
        self.params = params;
        self
    }

    pub(crate) fn takes<T: ToSchema + 'static>(&mut self) -> &mut Self {
        self.takes = Some(Shape::of::<T>());
        self
    }

    /// It creates something: a repeat gets the first answer.
    pub(crate) fn creates(&mut self) -> &mut Self {
        self.once = Some(Repeatable::Whole);
        self
    }

    /// It creates something whose answer holds a secret that is shown once.
    pub(crate) fn creates_secret(&mut self) -> &mut Self {
        self.once = Some(Repeatable::IdAlone);
        self
    }

    /// Though no admin calls it, it leaves rows in the audit log.
    pub(crate) fn audited(&mut self, rows: Rows) -> &mut Self {
        self.rows = rows;
        self
    }

    pub(crate) fn up_to(&mut self, limit: u64) -> &mut Self {
        self.limit = limit;
        self
    }

    pub(crate) fn gives<T: ToSchema + 'static>(&mut self, status: u16) -> &mut Self {
        self.status = status;
        self.gives = Given::Json(Shape::of::<T>());
        self
    }

    pub(crate) fn streams(&mut self, media: &'static str) -> &mut Self {
        self.status = 200;
        self.gives = Given::Bytes(media);
        self
    }

    pub(crate) fn about(&mut self, text: &'static str) -> &mut Self {
        self.about = text;
        self
    }
}

/// The table while it is written.
#[derive(Default)]
pub(crate) struct Routes {
    lines: Vec<(Endpoint, MethodRouter<AppState>)>,
}

impl Routes {
    pub(crate) fn get<H, T>(&mut self, path: &'static str, access: Access, handler: H) -> &mut Endpoint
    where
        H: Handler<T, AppState>,
        T: 'static,
    {
        self.add(Method::GET, path, access, on(MethodFilter::GET, handler))
    }

    pub(crate) fn post<H, T>(&mut self, path: &'static str, access: Access, handler: H) -> &mut Endpoint
    where
        H: Handler<T, AppState>,
        T: 'static,
    {
        self.add(Method::POST, path, access, on(MethodFilter::POST, handler))
    }

    pub(crate) fn delete<H, T>(&mut self, path: &'static str, access: Access, handler: H) -> &mut Endpoint
    where
        H: Handler<T, AppState>,
        T: 'static,
    {
        self.add(Method::DELETE, path, access, on(MethodFilter::DELETE, handler))
    }

    fn add(
        &mut self,
        method: Method,
        path: &'static str,
        access: Access,
        handler: MethodRouter<AppState>,
    ) -> &mut Endpoint {
        let rows = match (access, &method) {
            (Access::Admin, &Method::POST | &Method::DELETE) => Rows::Always,
            _ => Rows::Never,
        };
        let endpoint = Endpoint {
            method,
            path,
            access,
            params: &[],
            limit: LIMIT,
            takes: None,
            once: None,
            rows,
            status: 204,
            gives: Given::Nothing,
            about: "",
        };
        self.lines.push((endpoint, handler));
        let (endpoint, _) = self.lines.last_mut().expect("it was just pushed");
        endpoint
    }

    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        self.lines.iter().map(|(endpoint, _)| endpoint.clone()).collect()
    }

    /// The router, each handler behind its guard.
    pub(crate) fn into_router(self, state: &AppState) -> Router<AppState> {
        self.lines
            .into_iter()
            .fold(Router::new(), |router, (endpoint, handler)| {
                let path = endpoint.path;
                let handler = match endpoint.method {
                    Method::GET => handler,
                    _ => handler.route_layer(from_fn_with_state(state.clone(), carry_out)),
                };
                // Inside the guard: what a stranger sends is neither unpacked nor waited for. Only a POST has a body.
                let handler = match endpoint.method {
                    Method::POST => handler.route_layer(
                        ServiceBuilder::new()
                            .layer(RequestBodyTimeoutLayer::new(SILENCE))
                            .layer(RequestDecompressionLayer::new())
                            .layer(MapRequestBodyLayer::new(Body::new)),
                    ),
                    _ => handler,
                };
                let guard = from_fn_with_state((state.clone(), Arc::new(endpoint)), guard);
                router.route(path, handler.route_layer(guard))
            })
    }
}

/// Before a body is read or anything looked up: whether the caller may, then whether the query is one.
async fn guard(State((state, endpoint)): State<(AppState, Arc<Endpoint>)>, request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    let mut answer = match admitted(&state, &endpoint, &mut head).await {
        Ok(caller) => pass(caller, &endpoint, Request::from_parts(head, body), next).await,
        Err(refusal) => refusal.into_response(),
    };
    answer.extensions_mut().insert(endpoint);
    answer
}

/// An admitted request on its way to its handler, and the answer on its way back: what must see each of them, with the caller
/// and the route, stands here. No caller: the route is open.
async fn pass(caller: Option<Principal>, endpoint: &Arc<Endpoint>, mut request: Request, next: Next) -> Response {
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller);
    }
    request.extensions_mut().insert(endpoint.clone());
    next.run(request).await
}

async fn admitted(state: &AppState, endpoint: &Endpoint, head: &mut Parts) -> Result<Option<Principal>, Refusal> {
    let need = endpoint.access.need(state.open_metrics());
    let caller = match need {
        Need::Nothing => None,
        Need::Orchestrator => {
            let token = orchestrator_token(&head.headers, &head.uri)?;
            let remote = state.pond().pool().remote(&token).await?.ok_or(Refusal::UnknownToken)?;
            // Its way into the engine is handed on.
            head.extensions.insert(remote);
            None
        }
        Need::Action(_) | Need::OfRun(_) => {
            let keys = state.pond().keys();
            let caller = identify(state.tokens(), keys, &head.headers, &head.uri).await?;
            admits(&caller, need)?;
            Some(caller)
        }
    };
    if let (Some(caller), Need::OfRun(of)) = (&caller, need) {
        may_touch_run(state, caller, of, head).await?;
    }
    Query::check(&head.uri, endpoint.params)?;
    Ok(caller)
}

/// Whether a caller may do this to the run of the path. One who may to all runs of its project need not wait for a look-up; of
/// all others, a run that is not there is told as such before the scope that it would need.
async fn may_touch_run(
    state: &AppState,
    caller: &Principal,
    of: fn(Area) -> Action,
    head: &mut Parts,
) -> Result<(), Refusal> {
    let may = |area| may(caller, of(area), caller.scope());
    if Area::OF_RUNS.into_iter().all(|area| may(area).is_ok()) {
        return Ok(());
    }
    let RunPath(id) = RunPath::from_request_parts(head, state).await?;
    let run = state.pond().runs().get(caller.scope(), id).await?;
    Ok(may(run.head.area())?)
}

/// Text of ours is compressed; downloads and live streams go as they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Compressible;

impl Predicate for Compressible {
    fn should_compress<B: http_body::Body>(&self, response: &axum::http::Response<B>) -> bool {
        let headers = response.headers();
        let kind = headers
            .get(header::CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .unwrap_or_default();
        let text = [
            "application/json",
            "application/problem+json",
            "text/html",
            "text/plain",
        ];
        let small = response.body().size_hint().exact().is_some_and(|size| size < 256);
        !small && !headers.contains_key(header::CONTENT_DISPOSITION) && text.iter().any(|text| kind.starts_with(text))
    }
}
