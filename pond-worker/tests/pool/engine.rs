//! A hand-played engine: the calls under `/v1/orch`, written from their description alone.

#![expect(
    clippy::result_large_err,
    reason = "a refusal is the answer itself, as axum takes it"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt as _;
use pond_core::clock::{Clock, SystemClock, Timestamp};
use pond_core::dispatch::{BundleOffer, CredentialRequest, Job, SignedCommand, SignedJob, sign_box};
use pond_core::entropy::SystemEntropy;
use pond_core::id::{BootId, JobId, WorkerId};
use pond_core::pool::{ClaimToken, EngineKey, WorkerKeys};
use pond_core::runs::executors::{SandboxBlock, Tier};
use pond_core::sandbox::{Limits, Profile};
use pond_core::sealing::{BoxPlace, Purpose, SEALED_BOX, SealedBox};
use pond_core::secret::{Secret, SecretBytes};
use pond_core::workflow::Budget;
use pond_sdk::api;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use uuid::Uuid;

pub(super) const LEASE: Duration = Duration::from_secs(9);
const TOKEN: &str = "pond_ok_played";

/// What a job is to be.
#[derive(Clone)]
pub(super) struct Work {
    pub(super) script: String,
    pub(super) secrets: Option<Value>,
    /// Sealed sources and their key.
    pub(super) bundle: Option<(Vec<u8>, Vec<u8>)>,
}

impl Work {
    pub(super) fn script(text: impl Into<String>) -> Self {
        Self {
            script: text.into(),
            secrets: None,
            bundle: None,
        }
    }
}

/// A claim of a job.
#[derive(Clone)]
struct Claimed {
    worker: WorkerId,
    boot: BootId,
    token: String,
    until: Timestamp,
    digest: [u8; 32],
}

/// A job, and all that was told of it.
#[derive(Default)]
pub(super) struct Told {
    work: Option<Work>,
    claim: Option<Claimed>,
    pub(super) attempts: u32,
    /// Per stream: the lines, in order.
    pub(super) lines: Vec<String>,
    next: BTreeMap<String, u64>,
    pub(super) artifacts: BTreeMap<String, Vec<u8>>,
    pub(super) events: BTreeSet<String>,
    pub(super) began: u32,
    /// Each terminal report that was taken.
    pub(super) ends: Vec<Value>,
    cancel: bool,
    pub(super) acknowledged: u64,
}

#[derive(Default)]
pub(super) struct Engine {
    codes: BTreeMap<String, ()>,
    keys: BTreeMap<WorkerId, WorkerKeys>,
    pub(super) generation: u64,
    rooms: BTreeMap<WorkerId, (BootId, u32)>,
    boots: BTreeMap<WorkerId, BootId>,
    pub(super) seen: BTreeMap<String, Value>,
    /// Entries of each list that came, with the generation it was on.
    pub(super) lists: Vec<(u64, usize)>,
    polls: u64,
    pub(super) jobs: BTreeMap<JobId, Told>,
    pub(super) revoked: BTreeSet<WorkerId>,
    /// Other commands than cancel, told with each poll as they are.
    pub(super) extra: Vec<Value>,
    pub(super) stale: u32,
}

/// The engine, and where it listens.
#[derive(Clone)]
pub(super) struct Played {
    pub(super) engine: Arc<Mutex<Engine>>,
    pub(super) wake: Arc<Notify>,
    key: Arc<EngineKey>,
    pub(super) addr: SocketAddr,
}

type Answer = Result<Json<Value>, Response>;

fn problem(status: u16, code: &str) -> Response {
    let body = json!({"code": code, "status": status, "detail": code, "title": code, "type": ""});
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

fn now() -> Timestamp {
    SystemClock.now()
}

impl Played {
    pub(super) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let played = Self {
            engine: Arc::default(),
            wake: Arc::default(),
            key: Arc::new(EngineKey::new(&SecretBytes::new(vec![7; 32])).unwrap()),
            addr: listener.local_addr().unwrap(),
        };
        let router = Router::new()
            .route("/v1/orch/pair", post(pair))
            .route("/v1/orch/whoami", get(whoami))
            .route("/v1/orch/poll", post(poll))
            .route("/v1/orch/heartbeats", post(heartbeats))
            .route("/v1/orch/workers/snapshot", post(snapshot))
            .route("/v1/orch/enrollment/consume", post(consume))
            .route("/v1/orch/seal", post(seal))
            .route("/v1/orch/bundle/redeem", post(redeem))
            .route("/v1/orch/bundles/{id}", get(bundle))
            .route("/v1/orch/jobs/{id}/state", post(state))
            .route("/v1/orch/jobs/{id}/chunk", post(chunk))
            .route("/v1/orch/jobs/{id}/telemetry", post(telemetry))
            .route("/v1/orch/jobs/{id}/artifacts", post(artifact))
            .with_state(played.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        played
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap()
    }

    pub(super) fn code(&self) -> String {
        let code = format!("pond_ec_{}", Uuid::from_u128(now().micros() as u128).simple());
        self.lock().codes.insert(code.clone(), ());
        format!("{code}.{}", self.key.public().digest())
    }

    pub(super) fn submit(&self, work: Work) -> JobId {
        let id = JobId::mint(&SystemClock, &SystemEntropy);
        let told = Told {
            work: Some(work),
            ..Told::default()
        };
        self.lock().jobs.insert(id, told);
        self.wake.notify_waiters();
        id
    }

    pub(super) fn cancel(&self, job: JobId) {
        self.lock().jobs.get_mut(&job).unwrap().cancel = true;
        self.wake.notify_waiters();
    }

    /// A command signed for the job's live claim.
    pub(super) fn command(&self, job: JobId, n: u64, kind: &str) -> Value {
        let engine = self.lock();
        let told = &engine.jobs[&job];
        let worker = told.claim.as_ref().unwrap().worker;
        sign(&self.key, job, n, kind, worker, told.attempts)
    }

    /// What is known of a job.
    pub(super) fn told<T>(&self, job: JobId, look: impl FnOnce(&Told) -> T) -> T {
        look(&self.lock().jobs[&job])
    }

    /// Waits until something is so.
    pub(super) async fn until(&self, what: &str, so: impl Fn(&Engine) -> bool) {
        let waited = async {
            while !so(&self.lock()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(super::world::PATIENCE, waited).await.is_err() {
            let engine = self.lock();
            let jobs: Vec<_> = engine
                .jobs
                .values()
                .map(|told| (told.attempts, &told.lines, &told.ends))
                .collect();
            panic!("{what} did not come: {jobs:?}");
        }
    }

    pub(super) async fn ended(&self, job: JobId) -> Value {
        self.until("an end", |engine| !engine.jobs[&job].ends.is_empty()).await;
        self.told(job, |told| told.ends[0].clone())
    }

    /// Waits until the job is done well.
    pub(super) async fn is_done(&self, job: JobId) {
        let end = self.ended(job).await;
        let lines = self.told(job, |told| told.lines.clone());
        assert_eq!(end["state"], "done", "{end} {lines:?}");
    }

    /// A claim that holds, or how it does not.
    fn claim<'e>(&self, engine: &'e mut Engine, job: JobId, headers: &HeaderMap) -> Result<&'e mut Told, Response> {
        authorized(headers)?;
        let token = headers.get("x-claim-token").and_then(|value| value.to_str().ok());
        let token = token.ok_or_else(|| problem(403, "claim_required"))?;
        let live = engine
            .jobs
            .get(&job)
            .and_then(|told| told.claim.as_ref())
            .is_some_and(|claim| claim.token == token && claim.until > now());
        if !live {
            engine.stale += 1;
            return Err(problem(409, "stale_claim"));
        }
        Ok(engine.jobs.get_mut(&job).unwrap())
    }

    /// Hands out what waits, to whoever has room.
    fn hand_out(&self, engine: &mut Engine, max: usize) -> Vec<Value> {
        let mut out = Vec::new();
        let waiting: Vec<JobId> = engine
            .jobs
            .iter()
            .filter(|(_, told)| told.ends.is_empty() && told.claim.as_ref().is_none_or(|claim| claim.until < now()))
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            let room = engine.rooms.iter_mut().find(|(_, (_, free))| *free > 0);
            let (Some((worker, (boot, free))), true) = (room, out.len() < max) else {
                break;
            };
            *free -= 1;
            let (worker, boot) = (*worker, *boot);
            let told = engine.jobs.get_mut(&id).unwrap();
            told.attempts += 1;
            told.next.clear();
            let (signed, claim) = self.sign(id, told, worker, boot);
            told.claim = Some(claim);
            out.push(signed);
        }
        out
    }

    fn sign(&self, id: JobId, told: &Told, worker: WorkerId, boot: BootId) -> (Value, Claimed) {
        let work = told.work.clone().unwrap();
        let (token, until) = (format!("claim-{id}-{}", told.attempts), now().plus(LEASE));
        let uuid = Uuid::from_u128(5);
        let job = Job {
            egress: Vec::new(),
            sealed: Vec::new(),
            id,
            run: uuid.into(),
            project: uuid.into(),
            stage: "a".into(),
            substage: None,
            attempt: told.attempts,
            claim: ClaimToken::from_text(token.clone()),
            lease_until: until,
            worker,
            harness: "shell".into(),
            command: vec!["/bin/sh".into(), "-s".into()],
            prompt: work.script,
            files: Vec::new(),
            env: BTreeMap::new(),
            sandbox: SandboxBlock {
                profile: match work.secrets {
                    Some(_) => Profile::None,
                    None => Profile::UntrustedCodeWrite,
                },
                tier: Tier::Trusted,
                backend: None,
                allow_hosts: Vec::new(),
                limits: Limits::default(),
                image: None,
            },
            model: None,
            cred_request: work.secrets.map(|_| CredentialRequest {
                name: "c".into(),
                project_id: None,
            }),
            source_bundle: work.bundle.map(|(sealed, _)| BundleOffer {
                token: Secret::new(format!("pond_bt_{id}_{}", told.attempts)),
                sha256: hex::encode(Sha256::digest(&sealed)),
                size: sealed.len() as u64,
            }),
            base: None,
            budget: Budget::default(),
            parse: None,
            writes_artifact: None,
            timeout: Duration::from_secs(120),
            cancel_grace: Duration::from_secs(1),
            artifact_cap: 64 << 20,
        };
        let signed = SignedJob::sign(&job, &self.key).unwrap();
        let claim = Claimed {
            worker,
            boot,
            token,
            until,
            digest: signed.digest,
        };
        (signed.json, claim)
    }

    fn commands(&self, engine: &Engine) -> Vec<Value> {
        let due = engine
            .jobs
            .iter()
            .filter(|(_, told)| told.cancel && told.acknowledged < 1 && told.ends.is_empty());
        let cancels = due.filter_map(|(id, told)| {
            let claim = told.claim.as_ref()?;
            Some(sign(&self.key, *id, 1, "cancel", claim.worker, told.attempts))
        });
        cancels.chain(engine.extra.iter().cloned()).collect()
    }

    fn seal_for(&self, engine: &Engine, job: JobId, purpose: Purpose, clear: &[u8]) -> (SealedBox, Value) {
        let told = &engine.jobs[&job];
        let claim = told.claim.as_ref().unwrap();
        let place = BoxPlace {
            job: claim.digest,
            worker: claim.worker,
            attempt: told.attempts,
            purpose,
        };
        let sealed = SealedBox::seal(&engine.keys[&claim.worker].x25519, &place, clear, &SystemEntropy).unwrap();
        let signature = sign_box(&sealed, &place, &self.key);
        (sealed, signature)
    }
}

fn sign(key: &EngineKey, job: JobId, n: u64, kind: &str, worker: WorkerId, attempt: u32) -> Value {
    let command = SignedCommand {
        job,
        n,
        kind: kind.into(),
        body: json!({}),
    };
    command.sign(worker, attempt, key).unwrap()
}

fn authorized(headers: &HeaderMap) -> Result<(), Response> {
    match headers.get("authorization").and_then(|value| value.to_str().ok()) {
        Some(value) if value == format!("Bearer {TOKEN}") => Ok(()),
        _ => Err(problem(403, "forbidden")),
    }
}

async fn pair(Json(_): Json<api::Pair>) -> (StatusCode, Json<Value>) {
    let answer = json!({"orch_id": Uuid::from_u128(1), "token": TOKEN, "protocol": {"min": 1, "max": 1}});
    (StatusCode::CREATED, Json(answer))
}

async fn whoami(headers: HeaderMap) -> Answer {
    authorized(&headers)?;
    let at = now().to_string();
    let protocol = json!({"min": 1, "max": 1});
    Ok(Json(
        json!({"orch_id": Uuid::from_u128(1), "name": "o", "protocol": protocol, "paired_at": at, "server_time": at}),
    ))
}

/// One list for polls and snapshots: on generation 0 it begins anew, else it goes on from the one that was answered.
fn base(engine: &mut Engine, generation: u64, entries: usize) -> Result<(), Response> {
    match generation {
        0 => {
            engine.rooms.clear();
            engine.seen.clear();
        }
        on if on == engine.generation => {}
        _ => return Err(problem(409, "resync")),
    }
    engine.generation = engine.generation.max(100) + 1;
    engine.lists.push((generation, entries));
    Ok(())
}

async fn poll(State(played): State<Played>, headers: HeaderMap, Json(poll): Json<api::OrchPoll>) -> Answer {
    authorized(&headers)?;
    let number = {
        let mut engine = played.lock();
        let generation = poll.generation.unwrap_or(0);
        match &poll.workers {
            Some(workers) => {
                base(&mut engine, generation, workers.len())?;
                for room in workers {
                    let (worker, boot): (WorkerId, BootId) =
                        (room.worker_id.parse().unwrap(), room.boot_id.parse().unwrap());
                    engine.rooms.insert(worker, (boot, room.free_slots));
                    if engine.boots.insert(worker, boot).is_some_and(|former| former != boot) {
                        // Another life: what the former one held is given back.
                        let of_it = |claim: &mut Claimed| claim.worker == worker && claim.boot != boot;
                        engine
                            .jobs
                            .values_mut()
                            .for_each(|told| drop(told.claim.take_if(of_it)));
                    }
                }
            }
            None if generation != engine.generation => return Err(problem(409, "resync")),
            None => {}
        }
        engine.polls += 1;
        played.wake.notify_waiters();
        engine.polls
    };
    let until = now().plus(Duration::from_millis(poll.wait_ms.unwrap_or(0).into()));
    loop {
        let woken = played.wake.notified();
        tokio::pin!(woken);
        woken.as_mut().enable();
        let (jobs, commands, generation, over) = {
            let mut engine = played.lock();
            let newest = engine.polls == number;
            let jobs = match newest {
                true => played.hand_out(&mut engine, poll.max.unwrap_or(1) as usize),
                false => Vec::new(),
            };
            let commands = if newest { played.commands(&engine) } else { Vec::new() };
            (jobs, commands, engine.generation, !newest)
        };
        if over || !jobs.is_empty() || !commands.is_empty() || now() >= until {
            return Ok(Json(
                json!({"generation": generation, "jobs": jobs, "commands": commands, "leases": []}),
            ));
        }
        let left = until.since(now()).min(Duration::from_millis(500));
        let _ = tokio::time::timeout(left, woken).await;
    }
}

async fn heartbeats(State(played): State<Played>, headers: HeaderMap, Json(beats): Json<api::Heartbeats>) -> Answer {
    authorized(&headers)?;
    let mut engine = played.lock();
    let mut leases = Vec::new();
    for beat in beats.jobs {
        let told = engine.jobs.get_mut(&beat.job_id.parse().unwrap()).unwrap();
        if let Some(ack) = beat.ack {
            told.acknowledged = told.acknowledged.max(ack);
        }
        let cancel = told.cancel;
        let live = told
            .claim
            .as_mut()
            .filter(|claim| claim.token == beat.claim_token.expose() && claim.until > now());
        leases.push(match live {
            Some(claim) => {
                claim.until = now().plus(LEASE);
                json!({"job_id": beat.job_id, "lease_expires_at": claim.until.to_string(), "cancel": cancel})
            }
            None => json!({"job_id": beat.job_id, "code": "stale_claim"}),
        });
    }
    Ok(Json(json!({"jobs": leases})))
}

async fn snapshot(State(played): State<Played>, headers: HeaderMap, Json(list): Json<api::Snapshot>) -> Answer {
    authorized(&headers)?;
    let mut engine = played.lock();
    base(&mut engine, list.generation, list.workers.len() + list.gone.len())?;
    let mut revoked = Vec::new();
    for worker in list.workers {
        let id: WorkerId = worker.worker_id.parse().unwrap();
        if engine.revoked.contains(&id) {
            revoked.push(worker.worker_id.clone());
        }
        let entry = serde_json::to_value(&worker).unwrap();
        engine.seen.insert(worker.worker_id, entry);
    }
    for gone in list.gone {
        engine.seen.remove(&gone);
        engine.rooms.remove(&gone.parse().unwrap());
    }
    Ok(Json(
        json!({"generation": engine.generation, "revoked": revoked, "draining": []}),
    ))
}

async fn consume(State(played): State<Played>, headers: HeaderMap, Json(body): Json<api::Enroll>) -> Answer {
    authorized(&headers)?;
    let key = |text: &str| -> [u8; 32] { STANDARD.decode(text).unwrap().try_into().unwrap() };
    let keys = WorkerKeys {
        x25519: key(&body.public_keys.x25519),
        ed25519: key(&body.public_keys.ed25519),
    };
    let code = body.code.expose();
    if !keys.proves(code, &STANDARD.decode(&body.proof).unwrap()) {
        return Err(problem(403, "proof_invalid"));
    }
    let mut engine = played.lock();
    let first = code.split('.').next().unwrap();
    engine.codes.remove(first).ok_or_else(|| problem(403, "code_invalid"))?;
    let id = WorkerId::mint(&SystemClock, &SystemEntropy);
    engine.keys.insert(id, keys);
    let engine_key = STANDARD.encode(played.key.public().as_bytes());
    Ok(Json(
        json!({"worker_id": id, "tags": ["pool:trusted"], "capabilities": ["harness.shell"], "engine_key": engine_key}),
    ))
}

async fn seal(State(played): State<Played>, headers: HeaderMap, Json(of): Json<api::OfJob>) -> Answer {
    let job: JobId = of.job_id.parse().unwrap();
    let mut engine = played.lock();
    let work = played.claim(&mut engine, job, &headers)?.work.clone().unwrap();
    let secrets = work.secrets.unwrap();
    let clear = json!({"env": secrets}).to_string();
    let (sealed, signature) = played.seal_for(&engine, job, Purpose::Credential, clear.as_bytes());
    Ok(Json(json!({
        "alg": SEALED_BOX, "enc": STANDARD.encode(sealed.enc), "ciphertext": STANDARD.encode(sealed.ciphertext),
        "signature": signature,
    })))
}

async fn redeem(State(played): State<Played>, headers: HeaderMap, Json(body): Json<api::RedeemBundle>) -> Answer {
    let token = body.token.expose().to_owned();
    let job: JobId = token["pond_bt_".len()..].split('_').next().unwrap().parse().unwrap();
    let mut engine = played.lock();
    let told = played.claim(&mut engine, job, &headers)?;
    if token != format!("pond_bt_{job}_{}", told.attempts) {
        return Err(problem(409, "token_used"));
    }
    let (_, key) = told.work.clone().unwrap().bundle.unwrap();
    let until = told.claim.as_ref().unwrap().until;
    let (sealed, signature) = played.seal_for(&engine, job, Purpose::Bundle, &key);
    Ok(Json(json!({
        "enc": STANDARD.encode(sealed.enc), "ciphertext": STANDARD.encode(sealed.ciphertext),
        "signature": signature,
        "url": format!("/v1/orch/bundles/{job}"), "expires_at": until.to_string(),
    })))
}

/// Breaks off after a part, until it is asked for the rest.
async fn bundle(
    State(played): State<Played>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let job: JobId = id.parse().unwrap();
    let mut engine = played.lock();
    let told = played.claim(&mut engine, job, &headers)?;
    let (sealed, _) = told.work.clone().unwrap().bundle.unwrap();
    let range = headers.get("range").and_then(|value| value.to_str().ok());
    let from = range.map_or(0, |text| {
        text["bytes=".len()..].trim_end_matches('-').parse::<usize>().unwrap()
    });
    let rest = sealed[from..].to_vec();
    let part = rest.len().min(100_000);
    let piece = Bytes::copy_from_slice(&rest[..part]);
    // What was sent must be on its way before the connection breaks.
    let cut = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Err(std::io::Error::other("cut"))
    };
    let pieces = futures::stream::once(async { Ok(piece) }).chain(futures::stream::once(cut));
    let body = match part == rest.len() {
        true => axum::body::Body::from(rest.clone()),
        false => axum::body::Body::from_stream(pieces),
    };
    let mut response = body.into_response();
    let head = response.headers_mut();
    head.insert("content-length", rest.len().into());
    if from > 0 {
        let range = format!("bytes {from}-{}/{}", sealed.len() - 1, sealed.len());
        head.insert("content-range", range.parse().unwrap());
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

async fn state(
    State(played): State<Played>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(state): Json<Value>,
) -> Answer {
    serde_json::from_value::<api::JobState>(state.clone()).unwrap();
    let mut engine = played.lock();
    let told = played.claim(&mut engine, id.parse().unwrap(), &headers)?;
    match state["state"].as_str() {
        Some("running") => told.began += 1,
        // The worker leaves, and another one takes it on.
        Some("cancelled") if !told.cancel => told.claim = None,
        _ => {
            told.ends.push(state);
            told.claim = None;
        }
    }
    Ok(Json(json!({"ok": true})))
}

async fn chunk(
    State(played): State<Played>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(chunk): Json<api::LogChunk>,
) -> Answer {
    let mut engine = played.lock();
    let told = played.claim(&mut engine, id.parse().unwrap(), &headers)?;
    let next = told
        .next
        .entry(format!("{}/{}", chunk.source, chunk.stream))
        .or_default();
    if chunk.seq > *next {
        return Err(problem(409, "chunk_gap"));
    }
    if chunk.seq == *next {
        *next += 1;
        told.lines.extend(chunk.lines.into_iter().map(|(_, line)| line));
    }
    Ok(Json(json!({"ok": true})))
}

async fn telemetry(
    State(played): State<Played>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(batch): Json<api::TelemetryBatch>,
) -> Answer {
    let mut engine = played.lock();
    let told = played.claim(&mut engine, id.parse().unwrap(), &headers)?;
    told.events.extend(batch.events.into_iter().map(|event| match event {
        api::TelemetryEvent::ModelCall(call) => call.id,
        api::TelemetryEvent::EgressDecision(decision) => decision.id,
    }));
    Ok(Json(json!({"ok": true})))
}

async fn artifact(
    State(played): State<Played>,
    Path(id): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let mut engine = played.lock();
    let told = played.claim(&mut engine, id.parse().unwrap(), &headers)?;
    if headers["x-content-sha256"] != hex::encode(Sha256::digest(&body)) {
        return Err(problem(422, "digest_mismatch"));
    }
    told.artifacts.insert(query["name"].clone(), body.to_vec());
    Ok(Json(json!({"ok": true})))
}
