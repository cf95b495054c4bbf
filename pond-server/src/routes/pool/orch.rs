//! What an orchestrator asks for itself and its workers: pairing, polls, heartbeats, snapshots, enrolment.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use pond_core::dispatch::BeatAnswer;
use pond_core::id::JobId;
use pond_core::outbound::{HostPattern, MAX_PATTERNS};
use pond_core::pool::{
    Claim, ClaimToken, Enrolment, RemoteBeat, RemoteLease, RemotePoll, RemoteSnapshot, Room, WorkerKeys, WorkerSeen,
};
use pond_core::secret::Secret;
use pond_core::{Conflict, Denial, Error};
use pond_sdk::api;

use super::read::{Caller, MAX_BEATS, MAX_WORKERS, at_most, base64, bytes, id, typed};
use crate::error::{Answer, Refusal};
use crate::extract::{JsonBody, MaybeJson};
use crate::peer::{Connection, client};
use crate::routes::carry::{Audited, orchestrator};
use crate::state::AppState;

/// The versions of the protocol that this server speaks.
const PROTOCOL: api::Protocol = api::Protocol { min: 1, max: 1 };
const MAX_JOBS: u32 = 64;
const MAX_WAIT_MS: u32 = 30_000;

pub(in crate::routes) async fn pair(
    State(state): State<AppState>,
    connection: Option<Extension<Connection>>,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Answer<(StatusCode, Extension<Audited>, Json<api::Paired>)> {
    let api::Pair { code, name } = typed(&body)?;
    let address = client(state.proxies(), connection.map(|Extension(peer)| peer), &headers);
    state.admit_try(address)?;
    let paired = state.pond().pool().pair(&Secret::new(code.expose()), name).await;
    if let Err(Error::Forbidden(Denial::CodeInvalid)) = &paired {
        state.failed_try(address);
    }
    let (paired, token) = paired?;
    let audited = Audited::new("orchestrator.pair", paired.id.to_string())
        .by(orchestrator(paired.id))
        .fields(&body);
    let paired = api::Paired {
        orch_id: paired.id.to_string(),
        token: pond_sdk::Secret::new(token.expose()),
        protocol: PROTOCOL,
    };
    Ok((StatusCode::CREATED, Extension(audited), Json(paired)))
}

pub(in crate::routes) async fn whoami(
    State(state): State<AppState>,
    Caller(remote): Caller,
) -> Answer<Json<api::OrchWhoami>> {
    let own = remote.own().await?;
    Ok(Json(api::OrchWhoami {
        orch_id: own.id.to_string(),
        name: own.name,
        protocol: PROTOCOL,
        paired_at: own.paired_at.to_string(),
        server_time: state.pond().now().to_string(),
    }))
}

pub(in crate::routes) async fn poll(
    Caller(remote): Caller,
    MaybeJson(body): MaybeJson,
) -> Answer<Json<api::OrchPolled>> {
    let poll = read_poll(typed(&body)?)?;
    let polled = remote.poll(poll).await?;
    Ok(Json(api::OrchPolled {
        generation: polled.generation,
        jobs: polled.jobs,
        commands: polled.commands,
        leases: polled.leases.into_iter().map(shown_lease).collect(),
    }))
}

fn read_poll(poll: api::OrchPoll) -> Result<RemotePoll, Error> {
    let (max, wait) = (poll.max.unwrap_or(1), poll.wait_ms.unwrap_or(0));
    if !(1..=MAX_JOBS).contains(&max) {
        return Err(Error::invalid("/max", format!("expected 1 to {MAX_JOBS}")));
    }
    if wait > MAX_WAIT_MS {
        return Err(Error::invalid("/wait_ms", format!("expected at most {MAX_WAIT_MS}")));
    }
    let rooms = poll.workers.map(read_rooms).transpose()?;
    Ok(RemotePoll {
        max,
        wait: Duration::from_millis(wait.into()),
        generation: poll.generation,
        workers: rooms,
        beats: read_beats("/heartbeats", poll.heartbeats.unwrap_or_default())?,
    })
}

fn read_rooms(workers: Vec<api::PollWorker>) -> Result<Vec<Room>, Error> {
    at_most("/workers", workers.len(), MAX_WORKERS)?;
    let room = |(index, worker): (usize, api::PollWorker)| {
        Ok(Room {
            worker: id(&format!("/workers/{index}/worker_id"), &worker.worker_id)?,
            boot: id(&format!("/workers/{index}/boot_id"), &worker.boot_id)?,
            free: worker.free_slots,
        })
    };
    workers.into_iter().enumerate().map(room).collect()
}

fn read_beats(pointer: &str, beats: Vec<api::Heartbeat>) -> Result<Vec<RemoteBeat>, Error> {
    at_most(pointer, beats.len(), MAX_BEATS)?;
    let beat = |(index, beat): (usize, api::Heartbeat)| {
        let job = id(&format!("{pointer}/{index}/job_id"), &beat.job_id)?;
        let token = ClaimToken::from_text(beat.claim_token.expose());
        Ok(RemoteBeat {
            claim: Claim { job, token },
            ack: beat.ack,
        })
    };
    beats.into_iter().enumerate().map(beat).collect()
}

fn shown_lease((job, lease): (JobId, RemoteLease)) -> api::Lease {
    let (lease_expires_at, cancel, code) = match lease {
        RemoteLease::Of(BeatAnswer::Until { lease_until, cancel }) => {
            (Some(lease_until.to_string()), Some(cancel), None)
        }
        RemoteLease::Of(BeatAnswer::Stale) => (None, None, Some("stale_claim".to_owned())),
        RemoteLease::Foreign => (None, None, Some("not_found".to_owned())),
    };
    api::Lease {
        job_id: job.to_string(),
        lease_expires_at,
        cancel,
        code,
    }
}

pub(in crate::routes) async fn heartbeats(
    Caller(remote): Caller,
    JsonBody(body): JsonBody,
) -> Answer<Json<api::Leases>> {
    let api::Heartbeats { jobs } = typed(&body)?;
    let leases = remote.heartbeats(read_beats("/jobs", jobs)?).await?;
    Ok(Json(api::Leases {
        jobs: leases.into_iter().map(shown_lease).collect(),
    }))
}

/// Host rules in a body.
fn patterns(pointer: &str, texts: &[String]) -> Result<Vec<HostPattern>, Error> {
    at_most(pointer, texts.len(), MAX_PATTERNS)?;
    let read = texts.iter().enumerate().map(|(index, text)| {
        HostPattern::parse(text).map_err(|bad| Error::invalid(format!("{pointer}/{index}"), bad.to_string()))
    });
    read.collect()
}

pub(in crate::routes) async fn snapshot(
    Caller(remote): Caller,
    JsonBody(body): JsonBody,
) -> Answer<Json<api::SnapshotTaken>> {
    let api::Snapshot {
        generation,
        workers,
        gone,
    } = typed(&body)?;
    at_most("/workers", workers.len() + gone.len(), MAX_WORKERS)?;
    let seen = |(index, worker): (usize, api::SnapshotWorker)| {
        let seen = WorkerSeen {
            at: None,
            connected: worker.status != api::WorkerStatus::Offline,
            running: worker.running,
            concurrency: worker.concurrency,
            version: worker.version,
            problems: worker.capability_problems,
            egress_defaults: patterns(&format!("/workers/{index}/egress_defaults"), &worker.egress_defaults)?,
        };
        Ok::<_, Error>((id(&format!("/workers/{index}/worker_id"), &worker.worker_id)?, seen))
    };
    let gone = gone
        .iter()
        .enumerate()
        .map(|(index, text)| id(&format!("/gone/{index}"), text));
    let snapshot = RemoteSnapshot {
        generation,
        workers: workers.into_iter().enumerate().map(seen).collect::<Result<_, _>>()?,
        gone: gone.collect::<Result<_, _>>()?,
    };
    let taken = remote.snapshot(snapshot).await?;
    Ok(Json(api::SnapshotTaken {
        generation: taken.generation,
        revoked: taken.revoked.iter().map(ToString::to_string).collect(),
        draining: taken.draining.iter().map(ToString::to_string).collect(),
    }))
}

pub(in crate::routes) async fn consume(
    State(state): State<AppState>,
    Caller(remote): Caller,
    JsonBody(body): JsonBody,
) -> Answer<Response> {
    let enroll: api::Enroll = typed(&body)?;
    let proof: [u8; 64] = bytes("/proof", &enroll.proof)?;
    let flags = |list: Option<Vec<String>>| list.map(|list| list.into_iter().collect::<BTreeSet<_>>());
    let enrolment = Enrolment {
        code: Secret::new(enroll.code.expose()),
        name: enroll.name,
        keys: WorkerKeys {
            x25519: bytes("/public_keys/x25519", &enroll.public_keys.x25519)?,
            ed25519: bytes("/public_keys/ed25519", &enroll.public_keys.ed25519)?,
        },
        proof: proof.to_vec(),
        tags: flags(enroll.tags),
        capabilities: flags(enroll.capabilities),
    };
    let pool = state.pond().pool();
    let worker = match pool.enrol(remote.id(), enrolment).await {
        Ok(worker) => worker,
        // Somebody else's keys came with a code that was meant for these.
        Err(
            error @ Error::Conflict {
                kind: Conflict::FingerprintMismatch,
                ..
            },
        ) => {
            let audited = Audited::new("worker.fingerprint_mismatch", remote.id().to_string()).fields(&body);
            return Ok((Extension(audited), Refusal::from(error)).into_response());
        }
        Err(error) => return Err(error.into()),
    };
    let audited = Audited::new("worker.enroll", worker.id.to_string()).fields(&body);
    let enrolled = api::Enrolled {
        worker_id: worker.id.to_string(),
        tags: worker.tags.into_iter().collect(),
        capabilities: worker.capabilities.into_iter().collect(),
        engine_key: base64(&pool.engine_key()),
        token: None,
    };
    Ok((Extension(audited), Json(enrolled)).into_response())
}
