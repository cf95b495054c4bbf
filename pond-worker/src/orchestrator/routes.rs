//! What workers call, and the page that shows how it goes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequestParts, MatchedPath, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::{BodyExt, Limited};
use pond_core::clock::Timestamp;
use pond_core::id::{BootId, JobId, WorkerId};
use pond_sdk::api;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use super::beats::{Beat, MAX_BEATS};
use super::hub::Hub;
use super::refusal::Refusal;
use super::relay::{Call, UPLOAD_WITHIN, WITHIN, relay};
use super::roster::{Sent, Standing, Visit};
use crate::link::peer::Ask;

/// Bytes of an ordinary body, and of one that carries lines.
const MAX_BODY: usize = 1 << 20;
/// Bytes of an artifact; the engine's own cap is lower.
const MAX_ARTIFACT: usize = 1 << 40;
const MAX_WAIT: Duration = Duration::from_secs(30);
/// How long a body that is read whole may take.
const BODY_WITHIN: Duration = Duration::from_secs(20);

type Hubbed = State<Arc<Hub>>;

/// All routes.
pub(super) fn router(hub: Arc<Hub>) -> Router {
    Router::new()
        .route("/v1/worker/enroll", post(enroll))
        .route("/v1/worker/whoami", get(whoami))
        .route("/v1/worker/poll", post(poll))
        .route("/v1/worker/heartbeats", post(heartbeats))
        .route("/v1/worker/jobs/{id}/state", post(state))
        .route("/v1/worker/jobs/{id}/chunk", post(pass_on))
        .route("/v1/worker/jobs/{id}/budget", post(pass_on))
        .route("/v1/worker/jobs/{id}/telemetry", post(pass_on))
        .route("/v1/worker/jobs/{id}/artifacts", post(artifact))
        .route("/v1/worker/seal", post(seal))
        .route("/v1/worker/bundle/redeem", post(redeem))
        .route("/v1/worker/bundles/{id}", get(bundle))
        .route("/status", get(status))
        .route("/health/live", get(async || Json(json!({"ok": true}))))
        .fallback(async || Refusal::NoRoute)
        .method_not_allowed_fallback(async || Refusal::Method)
        .layer(middleware::from_fn(log))
        // Bodies are bounded where they are read.
        .layer(DefaultBodyLimit::disable())
        .with_state(hub)
}

/// Says what was asked, by the route's template: ids and codes are in no log.
async fn log(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned());
    let route = route.unwrap_or_else(|| "(none)".into());
    let response = next.run(request).await;
    let status = response.status().as_u16();
    match status {
        0..400 => tracing::debug!(%method, route, status, "answered"),
        _ => tracing::info!(%method, route, status, "refused"),
    }
    response
}

/// The worker that calls.
struct Caller(WorkerId);

impl FromRequestParts<Arc<Hub>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, hub: &Arc<Hub>) -> Result<Self, Refusal> {
        let worker = hub
            .tokens
            .worker(bearer(&parts.headers)?)
            .ok_or(Refusal::UnknownToken)?;
        match hub.roster().is_revoked(worker) {
            true => Err(Refusal::UnknownToken),
            false => Ok(Self(worker)),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (scheme, token) = value.and_then(|text| text.split_once(' ')).ok_or(Refusal::NoToken)?;
    match scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() {
        true => Ok(token.trim()),
        false => Err(Refusal::NoToken),
    }
}

/// All of a body, when the caller is known.
async fn whole(body: Body) -> Result<bytes::Bytes, Refusal> {
    let read = tokio::time::timeout(BODY_WITHIN, Limited::new(body, MAX_BODY).collect()).await;
    match read {
        Ok(Ok(read)) => Ok(read.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Refusal::TooLarge(MAX_BODY)),
        Ok(Err(_)) | Err(_) => Err(Refusal::Unreadable("it broke off".into())),
    }
}

async fn typed<T: DeserializeOwned>(body: Body) -> Result<T, Refusal> {
    let bytes = whole(body).await?;
    // The library's text may quote a value, which may be a secret: only the place is told.
    let faulty = |error: serde_json::Error| format!("line {} column {}", error.line(), error.column());
    serde_json::from_slice(&bytes).map_err(|error| Refusal::Unreadable(faulty(error)))
}

async fn enroll(
    State(hub): Hubbed,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<api::Enrolled>, Refusal> {
    let from = hub.proxies.client(peer.ip(), &headers);
    if let Some(wait) = hub.tries.wait(from, hub.now()) {
        return Err(Refusal::Tries(wait));
    }
    let enroll: api::Enroll = typed(body).await?;
    let ask = Ask {
        path: "/v1/orch/enrollment/consume",
        claim: None,
        within: WITHIN,
    };
    let answer: Result<api::Enrolled, _> = hub.engine.post(ask, &enroll).await;
    let mut enrolled = answer.map_err(|error| {
        let refusal = Refusal::from(error);
        if refusal != Refusal::Unavailable {
            hub.tries.failed(from, hub.now());
        }
        refusal
    })?;
    let worker = enrolled.worker_id.parse().map_err(|_| Refusal::Internal)?;
    let token = hub.tokens.mint(worker, &*hub.entropy).map_err(|error| {
        tracing::error!(%error, "a worker's token could not be written down");
        Refusal::Internal
    })?;
    tracing::info!(%worker, "a worker came in");
    enrolled.token = Some(pond_sdk::Secret::new(token.expose()));
    Ok(Json(enrolled))
}

async fn whoami(State(hub): Hubbed, Caller(worker): Caller) -> Json<api::WorkerWhoami> {
    Json(api::WorkerWhoami {
        worker_id: worker.to_string(),
        orch_id: hub.id.to_string(),
        // Leases are told by the engine's clock, so that is the time that counts.
        server_time: hub.skew.theirs(hub.now()).to_string(),
    })
}

async fn poll(State(hub): Hubbed, Caller(worker): Caller, body: Body) -> Result<Json<api::WorkerPolled>, Refusal> {
    let poll: api::WorkerPoll = typed(body).await?;
    let boot: BootId = poll
        .boot_id
        .parse()
        .map_err(|_| Refusal::Invalid("/boot_id", "expected a UUID"))?;
    let wait = Duration::from_millis(poll.wait_ms.unwrap_or(0).into());
    if wait > MAX_WAIT {
        return Err(Refusal::Invalid("/wait_ms", "expected at most 30000"));
    }
    let leases = renew(&hub, worker, poll.heartbeats.clone().unwrap_or_default()).await?;
    let visit = hub.roster().arrive(worker, boot, &poll);
    hub.changed.notify_one();
    let staying = Staying {
        hub: &hub,
        worker,
        number: visit.number,
        sent: Sent::No,
    };
    let handed = staying.wait(&visit, hub.now().plus(wait)).await;
    Ok(Json(api::WorkerPolled {
        jobs: handed.jobs,
        commands: handed.commands,
        leases,
    }))
}

/// A poll that is held. When its worker hangs up, what it was to get waits for the next one.
struct Staying<'a> {
    hub: &'a Hub,
    worker: WorkerId,
    number: u64,
    sent: Sent,
}

impl Staying<'_> {
    async fn wait(mut self, visit: &Visit, until: Timestamp) -> super::seat::Handed {
        loop {
            // Registered before looking, so that nothing is missed in between.
            let woken = visit.wake.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            let now = self.hub.now();
            let standing = self.hub.roster().look(self.worker, self.number, now);
            let next = match standing {
                Standing::Answer(handed) => {
                    self.sent = Sent::Yes;
                    return handed;
                }
                Standing::Wait(next) => next.map_or(until, |next| next.min(until)),
            };
            if now >= until || self.hub.stop.is_cancelled() {
                self.sent = Sent::Yes;
                return Default::default();
            }
            tokio::select! {
                biased;
                () = woken => {}
                () = self.hub.stop.cancelled() => {}
                () = self.hub.clock.sleep(next.since(now)) => {}
            }
        }
    }
}

impl Drop for Staying<'_> {
    fn drop(&mut self) {
        self.hub
            .roster()
            .leave(self.worker, self.number, self.sent, self.hub.now());
        self.hub.left.notify_one();
    }
}

async fn heartbeats(State(hub): Hubbed, Caller(worker): Caller, body: Body) -> Result<Json<api::Leases>, Refusal> {
    let api::Heartbeats { jobs } = typed(body).await?;
    renew(&hub, worker, jobs).await.map(|jobs| Json(api::Leases { jobs }))
}

/// Renews leases of a worker, together with those of all others.
async fn renew(hub: &Hub, worker: WorkerId, beats: Vec<api::Heartbeat>) -> Result<Vec<api::Lease>, Refusal> {
    if beats.len() > MAX_BEATS {
        return Err(Refusal::Invalid("/jobs", "expected at most 500"));
    }
    let mut waiting = Vec::new();
    for beat in beats {
        let job: JobId = beat
            .job_id
            .parse()
            .map_err(|_| Refusal::Invalid("/jobs", "a job_id that is none"))?;
        let (told, answer) = oneshot::channel();
        match hub.speaks(worker, job, beat.ack) {
            true => hub
                .beats
                .send(Beat { beat, told })
                .await
                .map_err(|_| Refusal::Unavailable)?,
            false => drop(told.send(Ok(not_found(job)))),
        }
        waiting.push((job, answer));
    }
    let mut leases = Vec::new();
    for (job, answer) in waiting {
        let lease = answer.await.map_err(|_| Refusal::Unavailable)??;
        if lease.code.is_some() && hub.roster().worker_of(job) == Some(worker) {
            hub.over(job);
        }
        leases.push(lease);
    }
    Ok(leases)
}

fn not_found(job: JobId) -> api::Lease {
    api::Lease {
        job_id: job.to_string(),
        lease_expires_at: None,
        cancel: None,
        code: Some("not_found".into()),
    }
}

/// The job of a path, when it is the worker's own.
fn own(hub: &Hub, worker: WorkerId, id: &str) -> Result<JobId, Refusal> {
    let job: JobId = id.parse().map_err(|_| Refusal::NotFound)?;
    match hub.speaks(worker, job, None) {
        true => Ok(job),
        false => Err(Refusal::NotFound),
    }
}

async fn state(
    State(hub): Hubbed,
    Caller(worker): Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let job = own(&hub, worker, &id)?;
    let bytes = whole(body).await?;
    let told: Value = serde_json::from_slice(&bytes).map_err(|_| Refusal::Unreadable("no JSON".into()))?;
    let call = Call {
        method: Method::POST,
        path: format!("/v1/orch/jobs/{job}/state"),
        headers,
        body: bytes.into(),
        most: MAX_BODY,
        within: WITHIN,
    };
    let response = relay(&hub, call).await?;
    let last = told.get("state").and_then(Value::as_str) != Some("running");
    if last && (response.status().is_success() || response.status().as_u16() == 409) {
        hub.over(job);
    }
    Ok(response)
}

/// Passes a small call about a job on.
async fn pass_on(
    State(hub): Hubbed,
    Caller(worker): Caller,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    own(&hub, worker, &id)?;
    let call = Call {
        method: Method::POST,
        path: upstream(&uri),
        headers,
        body,
        most: MAX_BODY,
        within: WITHIN,
    };
    relay(&hub, call).await
}

async fn artifact(
    State(hub): Hubbed,
    Caller(worker): Caller,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    own(&hub, worker, &id)?;
    let call = Call {
        method: Method::POST,
        path: upstream(&uri),
        headers,
        body,
        most: MAX_ARTIFACT,
        within: UPLOAD_WITHIN,
    };
    relay(&hub, call).await
}

/// The same path on the engine's side.
fn upstream(uri: &Uri) -> String {
    let path = uri.path_and_query().map_or("/", axum::http::uri::PathAndQuery::as_str);
    path.replacen("/v1/worker/", "/v1/orch/", 1)
}

async fn seal(State(hub): Hubbed, Caller(worker): Caller, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    let bytes = whole(body).await?;
    let of: api::OfJob = serde_json::from_slice(&bytes).map_err(|_| Refusal::Unreadable("expected {job_id}".into()))?;
    own(&hub, worker, &of.job_id)?;
    let call = Call {
        method: Method::POST,
        path: "/v1/orch/seal".into(),
        headers,
        body: bytes.into(),
        most: MAX_BODY,
        within: WITHIN,
    };
    relay(&hub, call).await
}

async fn redeem(
    State(hub): Hubbed,
    Caller(worker): Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let bytes = whole(body).await?;
    let asked: api::RedeemBundle = serde_json::from_slice(&bytes).map_err(|_| Refusal::Unreadable("no JSON".into()))?;
    if asked.worker_id != worker.to_string() {
        return Err(Refusal::Invalid("/worker_id", "is another worker's"));
    }
    let call = Call {
        method: Method::POST,
        path: "/v1/orch/bundle/redeem".into(),
        headers,
        body: bytes.into(),
        most: MAX_BODY,
        within: WITHIN,
    };
    let response = relay(&hub, call).await?;
    if !response.status().is_success() {
        return Ok(response);
    }
    let mut redeemed: api::RedeemedBundle = typed(response.into_body()).await.map_err(|_| Refusal::Internal)?;
    // A path on the hop that answers.
    redeemed.url = redeemed.url.replacen("/v1/orch/", "/v1/worker/", 1);
    Ok(Json(redeemed).into_response())
}

async fn bundle(State(hub): Hubbed, Caller(_): Caller, uri: Uri, headers: HeaderMap) -> Result<Response, Refusal> {
    let call = Call {
        method: Method::GET,
        path: upstream(&uri),
        headers,
        body: Body::empty(),
        most: 0,
        within: WITHIN,
    };
    relay(&hub, call).await
}

/// How it goes, for whoever knows the pool secret.
async fn status(State(hub): Hubbed, headers: HeaderMap) -> Result<Json<Value>, Refusal> {
    let told = bearer(&headers)?;
    // Digests are compared, so that how long it takes says nothing of the secret.
    if Sha256::digest(told.as_bytes()) != Sha256::digest(hub.secret.expose().as_bytes()) {
        return Err(Refusal::UnknownToken);
    }
    let roster = hub.roster();
    let (workers, running) = roster.count();
    Ok(Json(json!({
        "orch_id": hub.id.to_string(),
        "version": env!("CARGO_PKG_VERSION"),
        "engine_knows_the_list": roster.generation > 0,
        "workers": workers,
        "running": running,
    })))
}
