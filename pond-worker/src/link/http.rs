//! The worker's port over HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{StreamExt, TryStreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::Method;
use hyper::body::Frame;
use hyper::header::CONTENT_LENGTH;
use pond_core::Conflict;
use pond_core::artifacts::ByteStream;
use pond_core::clock::{Clock, Timestamp};
use pond_core::dispatch::{
    Beat, BeatAnswer, Chunk, Command, Grant, Job, Poll, Polled, Report, SignedJob, Telemetry, Upload, WorkerInfo,
    WorkerLink, verify_box,
};
use pond_core::egress::{EgressDecision, Verdict};
use pond_core::error::{Error, Result};
use pond_core::id::JobId;
use pond_core::pool::{Claim, ClaimToken, JobEnd, WorkerSecretKeys};
use pond_core::runs::{FailureCode, ParseCount};
use pond_core::sealing::{Purpose, SEALED_BOX, SealedBox};
use pond_core::secret::{Secret, SecretBytes};
use pond_core::sources::BundleKey;
use pond_core::usage::{Amounts, Granted, ModelCall, Slice};
use pond_sdk::api;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;

use super::bundle::Reading;
use super::chunks::split;
use super::held::{Came, Jobs, Order};
use super::identity::{Identity, Standing};
use super::meaning::meaning;
use super::peer::{Ask, CLAIM_TOKEN, CONTENT_SHA256, Peer, PeerError, claim_header};
use super::skew::Skew;

/// How long an ordinary call may take.
const WITHIN: Duration = Duration::from_secs(30);
/// How long renewing a lease may take: a lost answer must leave time for the next try.
const BEAT_WITHIN: Duration = Duration::from_secs(5);
/// What a held poll may take beyond its time.
const LATE: Duration = Duration::from_secs(10);
/// How long an artifact may take; the job's lease is what bounds it.
const UPLOAD_WITHIN: Duration = Duration::from_secs(1800);
/// Events in one call.
const MAX_EVENTS: usize = 500;
/// Bytes read at once from a file that is sent.
const PIECE: usize = 64 << 10;
/// Bytes of a chunk, as the refusal of a larger one means it.
const MAX_CHUNK: u64 = 256 << 10;

/// A worker's link to its orchestrator. Cheap to clone.
#[derive(Clone)]
pub struct HttpLink(Arc<Parts>);

struct Parts {
    peer: Peer,
    standing: Standing,
    keys: WorkerSecretKeys,
    info: WorkerInfo,
    clock: Arc<dyn Clock>,
    /// Artifacts are kept here while they are hashed and sent.
    scratch: PathBuf,
    skew: Mutex<Skew>,
    jobs: Mutex<Jobs>,
    shut_out: CancellationToken,
}

impl HttpLink {
    /// The link of an enrolled worker; none for one that is not. `scratch` is a folder of its own that is on disk.
    pub fn new(
        peer: &Peer,
        identity: &Identity,
        info: WorkerInfo,
        clock: Arc<dyn Clock>,
        scratch: PathBuf,
    ) -> Option<Self> {
        let standing = identity.standing()?.clone();
        Some(Self(Arc::new(Parts {
            peer: peer.with_token(&standing.token),
            standing,
            keys: identity.keys().clone(),
            info,
            clock,
            scratch,
            skew: Mutex::default(),
            jobs: Mutex::default(),
            shut_out: CancellationToken::new(),
        })))
    }

    /// Asks who the orchestrator takes this worker for, and what time it is there.
    ///
    /// # Errors
    /// When there is no answer, or it is a refusal.
    pub async fn greet(&self) -> Result<api::WorkerWhoami, PeerError> {
        let asked = self.0.clock.now();
        let whoami: api::WorkerWhoami = self.0.peer.get("/v1/worker/whoami", WITHIN).await?;
        let told = Timestamp::parse(&whoami.server_time);
        let told = told.map_err(|_| PeerError::Malformed("server_time is no time".into()))?;
        let skew = Skew::measured(asked, told, self.0.clock.now());
        if !skew.size().is_zero() {
            tracing::warn!(
                seconds = skew.size().as_secs(),
                "the clocks of this host and of the engine differ"
            );
        }
        *self.0.skew.lock().expect("no holder of this lock panics") = skew;
        Ok(whoami)
    }

    /// Completes when the orchestrator refuses the worker's token: it was revoked.
    pub async fn shut_out(&self) {
        self.0.shut_out.cancelled().await;
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.0.jobs.lock().expect("no holder of this lock panics")
    }

    fn ours(&self, theirs: Timestamp) -> Timestamp {
        self.0.skew.lock().expect("no holder of this lock panics").ours(theirs)
    }

    /// The meaning of an error; one that shuts the worker out is remembered.
    fn meaning(&self, error: PeerError, cap: u64) -> Error {
        if error.is_shut_out() {
            self.0.shut_out.cancel();
        }
        meaning(error, cap)
    }

    async fn post<Q: Serialize + Sync, A: DeserializeOwned>(&self, ask: Ask<'_>, body: &Q) -> Result<A> {
        let answer = self.0.peer.post(ask, body).await;
        answer.map_err(|error| self.meaning(error, MAX_CHUNK))
    }

    /// A call about a job.
    async fn of_job<Q: Serialize + Sync, A: DeserializeOwned>(&self, claim: &Claim, what: &str, body: &Q) -> Result<A> {
        let path = format!("/v1/worker/jobs/{}/{what}", claim.job);
        let ask = Ask {
            path: &path,
            claim: Some(&claim.token),
            within: WITHIN,
        };
        self.post(ask, body).await
    }

    /// Takes a job that came; nothing when it may not be started, which is told then.
    fn take(&self, json: &Value) -> Option<Job> {
        let Parts { standing, .. } = &*self.0;
        match SignedJob::open(json, &standing.engine, standing.worker) {
            Ok((mut job, digest)) => {
                job.lease_until = self.ours(job.lease_until);
                let came = self.jobs().take(&job, digest);
                (came == Came::New).then_some(job)
            }
            Err(invalid) => {
                tracing::error!(job = ?named(json), why = %invalid, "a job that the engine did not make for this worker is refused");
                self.refuse(json, invalid.to_string());
                None
            }
        }
    }

    /// Reports a job that is not started. Its claim is believed for that alone: it proves itself to the engine.
    fn refuse(&self, json: &Value, why: String) {
        let token = json.get("claim_token").and_then(Value::as_str);
        let Some((job, token)) = named(json).zip(token) else {
            return;
        };
        let claim = Claim {
            job,
            token: ClaimToken::from_text(token),
        };
        let link = self.clone();
        tokio::spawn(async move {
            let state = failed(FailureCode::JobInvalid, why);
            let told: Result<Value> = link.of_job(&claim, "state", &state).await;
            if let Err(error) = told {
                tracing::warn!(%job, %error, "that a job was refused could not be told");
            }
        });
    }

    /// Tells that jobs have begun: the orchestrator then knows that they arrived.
    fn begun(&self, jobs: &[Job]) {
        for job in jobs {
            let (link, claim) = (self.clone(), claim_of(job));
            tokio::spawn(async move {
                let told: Result<Value> = link.of_job(&claim, "state", &state(api::JobStatus::Running)).await;
                if let Err(error) = told {
                    tracing::debug!(job = %claim.job, %error, "that a job has begun could not be told");
                }
            });
        }
    }

    /// Carries commands out in the order of their numbers, each once, and acknowledges what was done.
    fn obey(&self, mut commands: Vec<Value>) -> Vec<Command> {
        commands.sort_by_key(|json| json.get("n").and_then(Value::as_u64));
        let (mut orders, mut heard) = (Vec::new(), BTreeMap::new());
        for json in &commands {
            let Parts { standing, .. } = &*self.0;
            let mut jobs = self.jobs();
            match jobs.order(json, &standing.engine, standing.worker) {
                Ok((order, claim)) => {
                    heard.extend(claim.map(|claim| (claim.job, claim)));
                    if let Order::Obey(command) = order {
                        match command.kind.as_str() {
                            "cancel" => orders.push(Command::Cancel(command.job)),
                            other => {
                                tracing::info!(job = %command.job, kind = other, "a command that this worker does not know");
                            }
                        }
                        jobs.carried_out(&command);
                    }
                }
                Err(invalid) => {
                    tracing::error!(job = ?named(json), why = %invalid, "a command that the engine did not sign for this attempt is not obeyed");
                }
            }
        }
        if !heard.is_empty() {
            let (link, beats) = (self.clone(), heard.into_values().map(|claim| Beat { claim }).collect());
            // The next heartbeat may be far; until then they would be repeated.
            tokio::spawn(async move {
                if let Err(error) = link.heartbeat(beats).await {
                    tracing::debug!(%error, "commands are acknowledged with the next heartbeat");
                }
            });
        }
        orders
    }

    /// Opens a box that the engine sealed for a job: one that a relay sealed itself would open too, so its signature is what
    /// counts.
    fn open(&self, claim: &Claim, purpose: Purpose, told: &api::SealedBox) -> Result<SecretBytes> {
        let place = self
            .jobs()
            .place(claim, self.0.standing.worker, purpose)
            .ok_or_else(stale)?;
        let decoded = STANDARD
            .decode(&told.enc)
            .ok()
            .zip(STANDARD.decode(&told.ciphertext).ok());
        let (enc, ciphertext) = decoded.ok_or_else(|| foreign_box(claim, "it is not base64"))?;
        let sealed = SealedBox { enc, ciphertext };
        verify_box(&sealed, &place, &told.signature, &self.0.standing.engine)
            .map_err(|error| foreign_box(claim, &error.to_string()))?;
        let opened = self.0.keys.open(&sealed, &place);
        opened.map_err(|error| foreign_box(claim, &error.to_string()))
    }

    /// Keeps a stream in a file without a name, and gives its digest and size.
    async fn spool(&self, mut bytes: ByteStream) -> Result<(tokio::fs::File, [u8; 32], u64)> {
        let lost = |error: io::Error| Error::Unavailable("the worker's disk", Some(Box::new(error)));
        let file = tempfile::tempfile_in(&self.0.scratch).map_err(lost)?;
        let mut file = tokio::fs::File::from_std(file);
        let (mut digest, mut size) = (Sha256::new(), 0u64);
        while let Some(piece) = bytes.try_next().await? {
            digest.update(&piece);
            size += piece.len() as u64;
            file.write_all(&piece).await.map_err(lost)?;
        }
        file.flush().await.map_err(lost)?;
        file.rewind().await.map_err(lost)?;
        Ok((file, digest.finalize().into(), size))
    }
}

#[async_trait]
impl WorkerLink for HttpLink {
    async fn poll(&self, poll: Poll) -> Result<Polled> {
        let Parts { info, .. } = &*self.0;
        let wait_ms = u32::try_from(poll.wait.as_millis()).unwrap_or(u32::MAX);
        let body = api::WorkerPoll {
            boot_id: info.boot.to_string(),
            free_slots: poll.free,
            running: u32::try_from(self.jobs().len()).unwrap_or(u32::MAX),
            concurrency: info.concurrency,
            version: env!("CARGO_PKG_VERSION").into(),
            wait_ms: Some(wait_ms),
            heartbeats: None,
            capability_problems: info.problems.clone(),
            egress_defaults: info.egress_defaults.iter().map(ToString::to_string).collect(),
        };
        let ask = Ask {
            path: "/v1/worker/poll",
            claim: None,
            within: poll.wait + LATE,
        };
        let polled: api::WorkerPolled = self.post(ask, &body).await?;
        let jobs: Vec<Job> = polled.jobs.iter().filter_map(|json| self.take(json)).collect();
        self.begun(&jobs);
        let commands = self.obey(polled.commands);
        Ok(Polled { jobs, commands })
    }

    async fn heartbeat(&self, beats: Vec<Beat>) -> Result<Vec<BeatAnswer>> {
        let beat = |beat: &Beat| api::Heartbeat {
            job_id: beat.claim.job.to_string(),
            claim_token: pond_sdk::Secret::new(beat.claim.token.expose()),
            ack: self.jobs().obeyed(&beat.claim),
        };
        let jobs = beats.iter().map(beat).collect();
        let ask = Ask {
            path: "/v1/worker/heartbeats",
            claim: None,
            within: BEAT_WITHIN,
        };
        let leases: api::Leases = self.post(ask, &api::Heartbeats { jobs }).await?;
        if leases.jobs.len() != beats.len() {
            return Err(Error::internal("another number of leases than were renewed"));
        }
        let answers = beats.iter().zip(&leases.jobs);
        answers.map(|(beat, lease)| self.renewed(&beat.claim, lease)).collect()
    }

    async fn chunk(&self, claim: &Claim, chunk: Chunk) -> Result<()> {
        let of = (chunk.source, chunk.stream);
        let pieces = split(chunk.lines);
        let first = self
            .jobs()
            .first_chunk(claim, of, chunk.seq, pieces.len() as u64)
            .ok_or_else(stale)?;
        for (seq, lines) in (first..).zip(pieces) {
            let body = api::LogChunk {
                stream: chunk.stream.as_str().into(),
                source: chunk.source.as_str().into(),
                seq,
                lines,
            };
            let told: Result<Value> = self.of_job(claim, "chunk", &body).await;
            match told {
                Ok(_) => {}
                Err(error @ (Error::Unavailable(..) | Error::Busy { .. })) => return Err(error),
                Err(error) => {
                    self.jobs().chunk_refused(claim, of, seq);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    async fn telemetry(&self, claim: &Claim, telemetry: Telemetry) -> Result<()> {
        let calls = telemetry.calls.iter().map(call_event);
        let decisions = telemetry.decisions.iter().map(decision_event);
        let events: Vec<_> = calls.chain(decisions).collect();
        for events in events.chunks(MAX_EVENTS) {
            let batch = api::TelemetryBatch {
                events: events.to_vec(),
            };
            let _told: Value = self.of_job(claim, "telemetry", &batch).await?;
        }
        Ok(())
    }

    async fn draw(&self, claim: &Claim, want: Amounts) -> Result<Granted> {
        let body = api::DrawBudget { want: spend(&want) };
        let drawn: api::DrawnBudget = self.of_job(claim, "budget", &body).await?;
        let slice = |told: &api::Spend| slice(told).ok_or_else(|| Error::internal("a slice that is no amount"));
        Ok(Granted {
            granted: slice(&drawn.granted)?,
            remaining: slice(&drawn.remaining)?,
        })
    }

    async fn artifact(&self, claim: &Claim, upload: Upload, bytes: ByteStream) -> Result<()> {
        // Its digest goes ahead of it.
        let (file, sha256, size) = self.spool(bytes).await?;
        let frames = ReaderStream::with_capacity(file, PIECE).map(|piece| piece.map(Frame::data).map_err(Into::into));
        let body = BodyExt::boxed_unsync(StreamBody::new(frames));
        if upload.sha256.is_some_and(|told| told != sha256) {
            return Err(Error::DigestMismatch);
        }
        let path = format!(
            "/v1/worker/jobs/{}/artifacts?name={}&redacted={}",
            claim.job, upload.name, upload.redacted
        );
        let internal = |error: PeerError| meaning(error, 0);
        let builder = self
            .0
            .peer
            .request(Method::POST, &path)
            .header(CLAIM_TOKEN, claim_header(&claim.token).map_err(internal)?)
            .header(CONTENT_SHA256, hex::encode(sha256))
            .header(CONTENT_LENGTH, size)
            .header("content-type", "application/octet-stream");
        let kept: Result<Value, PeerError> = self.0.peer.ask(builder, body, UPLOAD_WITHIN).await;
        let cap = self.jobs().artifact_cap(claim);
        kept.map(drop).map_err(|error| self.meaning(error, cap))
    }

    async fn seal(&self, claim: &Claim) -> Result<Grant> {
        let ask = Ask {
            path: "/v1/worker/seal",
            claim: Some(&claim.token),
            within: WITHIN,
        };
        let body = api::OfJob {
            job_id: claim.job.to_string(),
        };
        let sealed: api::SealedBox = self.post(ask, &body).await?;
        if sealed.alg != SEALED_BOX {
            return Err(foreign_box(claim, "its algorithm is not known"));
        }
        let clear = self.open(claim, Purpose::Credential, &sealed)?;
        grant(&clear).ok_or_else(|| foreign_box(claim, "what it holds does not read"))
    }

    async fn bundle(&self, claim: &Claim) -> Result<ByteStream> {
        let (token, sha256, size) = self.jobs().bundle(claim).ok_or_else(stale)?;
        let ask = Ask {
            path: "/v1/worker/bundle/redeem",
            claim: Some(&claim.token),
            within: WITHIN,
        };
        let body = api::RedeemBundle {
            token: pond_sdk::Secret::new(token.expose()),
            worker_id: self.0.standing.worker.to_string(),
        };
        let redeemed: api::RedeemedBundle = self.post(ask, &body).await?;
        let sealed = api::SealedBox {
            alg: SEALED_BOX.to_owned(),
            enc: redeemed.enc,
            ciphertext: redeemed.ciphertext,
            signature: redeemed.signature,
        };
        let key = self.open(claim, Purpose::Bundle, &sealed)?;
        let key = BundleKey::new(key).ok_or_else(|| foreign_box(claim, "it holds no bundle key"))?;
        // The claim goes along with it, so it goes nowhere else.
        let own = redeemed.url.strip_prefix("/v1/worker/bundles/");
        let id = own.filter(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
        let id = id.ok_or_else(|| Error::internal("the sources are said to be at another place"))?;
        let reading = Reading {
            peer: self.0.peer.clone(),
            path: format!("/v1/worker/bundles/{id}"),
            claim: claim.token.clone(),
            sha256,
            size,
            clock: Arc::clone(&self.0.clock),
        };
        Ok(key.open(reading.stream()))
    }

    async fn finish(&self, claim: &Claim, report: Report) -> Result<()> {
        let told = match report.end {
            JobEnd::Done => state(api::JobStatus::Done),
            JobEnd::Cancelled => state(api::JobStatus::Cancelled),
            JobEnd::Failed(failure) => failed(failure.code, failure.message),
        };
        let body = api::JobState {
            parse: report.parse.map(found),
            spent: report.spent.as_ref().map(spend),
            ..told
        };
        let told: Result<Value> = self.of_job(claim, "state", &body).await;
        if !matches!(told, Err(Error::Unavailable(..) | Error::Busy { .. })) {
            self.jobs().forget(claim);
        }
        told.map(drop)
    }
}

impl HttpLink {
    fn renewed(&self, claim: &Claim, lease: &api::Lease) -> Result<BeatAnswer> {
        if lease.job_id != claim.job.to_string() {
            return Err(Error::internal("leases in another order than they were renewed"));
        }
        match (&lease.lease_expires_at, lease.code.as_deref()) {
            (Some(until), None) => {
                let until = Timestamp::parse(until).map_err(|_| Error::internal("lease_expires_at is no time"))?;
                Ok(BeatAnswer::Until {
                    lease_until: self.ours(until),
                    // Not signed, but who relays this could as well not relay it, and end the job by that.
                    cancel: lease.cancel.unwrap_or(false),
                })
            }
            (_, Some("stale_claim" | "not_found" | "forbidden" | "already_terminal")) => {
                self.jobs().forget(claim);
                Ok(BeatAnswer::Stale)
            }
            _ => Err(Error::Unavailable("the orchestrator", None)),
        }
    }
}

/// The job that JSON names, before anything of it is believed.
fn named(json: &Value) -> Option<JobId> {
    json.get("job_id")?.as_str()?.parse().ok()
}

fn claim_of(job: &Job) -> Claim {
    Claim {
        job: job.id,
        token: job.claim.clone(),
    }
}

fn state(state: api::JobStatus) -> api::JobState {
    api::JobState {
        state,
        rc: None,
        error: None,
        parse: None,
        receipt: None,
        spent: None,
    }
}

fn failed(code: FailureCode, message: String) -> api::JobState {
    api::JobState {
        error: Some(api::JobFailure {
            code: code.as_str().into(),
            message,
        }),
        ..state(api::JobStatus::Failed)
    }
}

fn spend(amounts: &Amounts) -> api::Spend {
    api::Spend {
        usd: Some(amounts.usd.to_string()),
        tokens: Some(amounts.tokens),
        calls: Some(amounts.calls),
    }
}

fn slice(told: &api::Spend) -> Option<Slice> {
    Some(Slice {
        usd: told.usd.as_deref().map(str::parse).transpose().ok()?,
        tokens: told.tokens,
        calls: told.calls,
    })
}

fn stale() -> Error {
    Error::conflict(Conflict::StaleClaim, "the claim is not one that this worker holds")
}

fn found(count: ParseCount) -> api::JobParse {
    api::JobParse {
        blocks: count.blocks,
        records: count.records,
        invalid: count.invalid,
    }
}

/// A box that is not the engine's for this job: the job is not to go on.
fn foreign_box(claim: &Claim, why: &str) -> Error {
    tracing::error!(job = %claim.job, why, "a sealed box is not the engine's for this job");
    Error::invalid(
        "/ciphertext",
        format!("a sealed box is not the engine's for this job: {why}"),
    )
}

/// What is in the box of a credential.
fn grant(clear: &SecretBytes) -> Option<Grant> {
    #[derive(Deserialize)]
    struct Clear {
        env: BTreeMap<String, String>,
        /// Which of them are secrets; left out: all.
        secrets: Option<BTreeSet<String>>,
    }
    let Clear { env, secrets } = serde_json::from_slice(clear.expose()).ok()?;
    let mut grant = Grant::default();
    for (name, value) in env {
        match secrets.as_ref().is_none_or(|secrets| secrets.contains(&name)) {
            true => drop(grant.secrets.insert(name, Secret::new(value))),
            false => drop(grant.env.insert(name, value)),
        }
    }
    Some(grant)
}

/// A model call as it travels.
fn call_event(call: &ModelCall) -> api::TelemetryEvent {
    api::TelemetryEvent::ModelCall(api::ModelCallEvent {
        id: call.id.to_string(),
        ts: call.at.to_string(),
        provider: call.provider.clone(),
        model: call.model.clone(),
        status: call.status,
        latency_ms: call.latency_ms,
        input_tokens: call.tokens.input,
        output_tokens: call.tokens.output,
        cache_read_tokens: call.tokens.cache_read,
        cache_write_tokens: call.tokens.cache_write,
        estimated: call.estimated,
    })
}

/// An egress decision as it travels.
fn decision_event(decision: &EgressDecision) -> api::TelemetryEvent {
    api::TelemetryEvent::EgressDecision(api::EgressDecisionEvent {
        id: decision.id.to_string(),
        ts: decision.at.to_string(),
        host: decision.host.clone(),
        port: decision.port,
        ip: decision.ip.map(|ip| ip.to_string()),
        decision: match decision.verdict {
            Verdict::Allowed => api::EgressVerdict::Allowed,
            Verdict::Denied => api::EgressVerdict::Denied,
        },
        rule: decision.rule.clone(),
        reason: decision.reason.clone(),
        bytes_up: decision.bytes_up,
        bytes_down: decision.bytes_down,
    })
}
