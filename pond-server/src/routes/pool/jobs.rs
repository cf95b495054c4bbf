//! What comes of a job behind an orchestrator, and what its worker needs for it. Every call shows the job's claim.

use std::ops::Range;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures::{StreamExt, TryStreamExt};
use pond_core::Error;
use pond_core::artifacts::{ArtifactName, BlobError, ByteStream};
use pond_core::clock::Timestamp;
use pond_core::dispatch::{Chunk, Report, Upload};
use pond_core::logs::{LogSource, LogStream};
use pond_core::pool::{JobEnd, SignedBox};
use pond_core::runs::{Failure, FailureCode, ParseCount};
use pond_core::sealing::SEALED_BOX;
use pond_core::secret::Secret;
use pond_sdk::api;

use super::read::{Caller, Claimed, Shown, base64, id, typed};
use super::spend::amounts;
use crate::error::{Answer, Refusal};
use crate::extract::{JobPath, JsonBody, Param, Query};
use crate::routes::carry::{Audited, worker};

/// Who may write lines of a job: the engine's own words are not put into its mouth.
const JOB_SOURCES: [LogSource; 3] = [LogSource::Agent, LogSource::Proxy, LogSource::Broker];
/// Characters of a failure's message that are kept.
const MAX_MESSAGE: usize = 4096;

pub(in crate::routes) const ARTIFACT: &[Param] = &[
    Param {
        name: "name",
        about: "Name of the artifact",
    },
    Param {
        name: "redacted",
        about: "true when a secret was cut from it",
    },
];

pub(in crate::routes) async fn state(
    Caller(remote): Caller,
    Claimed(claim): Claimed,
    JsonBody(body): JsonBody,
) -> Answer<Response> {
    let state: api::JobState = typed(&body)?;
    let end = match state.state {
        api::JobStatus::Running => {
            remote.running(&claim).await?;
            return Ok(Json(api::Acknowledged { ok: true }).into_response());
        }
        api::JobStatus::Done => JobEnd::Done,
        api::JobStatus::Cancelled => JobEnd::Cancelled,
        api::JobStatus::Failed => JobEnd::Failed(failure(state.error)?),
        _ => return Err(Error::invalid("/state", "expected running, done, failed or cancelled").into()),
    };
    let parse = state.parse.map(|told| ParseCount {
        blocks: told.blocks,
        records: told.records,
        invalid: told.invalid,
    });
    let refused = matches!(&end, JobEnd::Failed(failure) if failure.code == FailureCode::JobInvalid);
    let report = Report {
        end,
        parse,
        spent: state.spent.as_ref().map(|spent| amounts("/spent", spent)).transpose()?,
    };
    let finished = remote.finish(&claim, &report).await?;
    let mut answer = Json(api::Acknowledged { ok: true }).into_response();
    // What came to its worker was not what the engine had made: somebody on the way has tried.
    if let Some(finished) = finished.filter(|_| refused) {
        let audited = Audited::new("job.invalid", claim.job.to_string()).of(Some(finished.project));
        answer.extensions_mut().insert(audited);
    }
    Ok(answer)
}

fn failure(told: Option<api::JobFailure>) -> Result<Failure, Error> {
    let told = told.ok_or_else(|| Error::invalid("/error", "is required of a failed job"))?;
    let code = FailureCode::ALL.iter().find(|code| code.as_str() == told.code);
    let code = *code.ok_or_else(|| Error::invalid("/error/code", "is no failure code"))?;
    let message: String = told.message.chars().take(MAX_MESSAGE).collect();
    Ok(Failure::new(code, message))
}

pub(in crate::routes) async fn chunk(
    Caller(remote): Caller,
    Claimed(claim): Claimed,
    JsonBody(body): JsonBody,
) -> Answer<Json<api::Acknowledged>> {
    let chunk: api::LogChunk = typed(&body)?;
    let known = |pointer: &str| Error::invalid(pointer, "is none that is known");
    let chunk = Chunk {
        stream: LogStream::parse(&chunk.stream).ok_or_else(|| known("/stream"))?,
        source: LogSource::parse(&chunk.source)
            .filter(|source| JOB_SOURCES.contains(source))
            .ok_or_else(|| known("/source"))?,
        seq: chunk.seq,
        lines: chunk
            .lines
            .into_iter()
            .map(|(at, line)| (Timestamp::from_millis(at), line))
            .collect(),
    };
    remote.chunk(&claim, chunk).await?;
    Ok(Json(api::Acknowledged { ok: true }))
}

pub(in crate::routes) async fn artifact(
    Caller(remote): Caller,
    Claimed(claim): Claimed,
    mut query: Query,
    request: Request,
) -> Answer<Json<api::Acknowledged>> {
    let name = query.text("name").map(ArtifactName::new);
    let redacted = query
        .parsed::<bool>("redacted", "expected true or false")
        .unwrap_or(false);
    query.done()?;
    let name = name
        .and_then(Result::ok)
        .ok_or_else(|| Error::invalid("name", "expected an artifact name"))?;
    let sent = request
        .headers()
        .get("x-content-sha256")
        .and_then(|value| value.to_str().ok());
    let sha256 = sent
        .and_then(|text| hex::decode(text).ok())
        .and_then(|bytes| bytes.try_into().ok());
    if sha256.is_none() {
        return Err(Error::invalid("X-Content-SHA256", "expected 64 hexadecimal digits").into());
    }
    let upload = Upload { name, redacted, sha256 };
    let bytes = request.into_body().into_data_stream();
    let bytes: ByteStream = bytes.map_err(|error| BlobError::Unavailable(Box::new(error))).boxed();
    remote.artifact(&claim, upload, bytes).await?;
    Ok(Json(api::Acknowledged { ok: true }))
}

pub(in crate::routes) async fn seal(
    Caller(remote): Caller,
    shown: Shown,
    JsonBody(body): JsonBody,
) -> Answer<(Extension<Audited>, Json<api::SealedBox>)> {
    let api::OfJob { job_id } = typed(&body)?;
    let job = id("/job_id", &job_id)?;
    let made = remote.seal(&shown.claim(job)?).await?;
    let target = match &made.credential {
        Some(name) => format!("credential {name} for job {job}"),
        None => format!("no credential for job {job}"),
    };
    let audited = Audited {
        changed: made.secrets,
        ..Audited::new("credential.seal", target)
            .by(worker(made.worker))
            .of(Some(made.project))
    };
    let SignedBox { sealed, signature } = made.sealed;
    let sealed = api::SealedBox {
        alg: SEALED_BOX.to_owned(),
        enc: base64(&sealed.enc),
        ciphertext: base64(&sealed.ciphertext),
        signature,
    };
    Ok((Extension(audited), Json(sealed)))
}

pub(in crate::routes) async fn bundle_token(
    Caller(remote): Caller,
    shown: Shown,
    JsonBody(body): JsonBody,
) -> Answer<Json<api::BundleToken>> {
    let api::OfJob { job_id } = typed(&body)?;
    let offered = remote.bundle_token(&shown.claim(id("/job_id", &job_id)?)?).await?;
    Ok(Json(api::BundleToken {
        token: pond_sdk::Secret::new(offered.token.expose()),
        sha256: offered.sha256,
        size: offered.size,
    }))
}

pub(in crate::routes) async fn redeem(
    Caller(remote): Caller,
    shown: Shown,
    JsonBody(body): JsonBody,
) -> Answer<(Extension<Audited>, Json<api::RedeemedBundle>)> {
    let api::RedeemBundle { token, worker_id } = typed(&body)?;
    let token = Secret::new(token.expose());
    let job = pond_core::pool::job_of_bundle_token(&token).ok_or(Error::NotFound("bundle token"))?;
    let redeemer = id("/worker_id", &worker_id)?;
    let redeemed = remote.redeem(&shown.claim(job)?, &token, redeemer).await?;
    let audited = Audited::new("bundle.redeem", format!("sources of job {job}"))
        .by(worker(redeemer))
        .of(Some(redeemed.project));
    let redeemed = api::RedeemedBundle {
        enc: base64(&redeemed.key.sealed.enc),
        ciphertext: base64(&redeemed.key.sealed.ciphertext),
        signature: redeemed.key.signature,
        url: format!("/v1/orch/bundles/{job}"),
        expires_at: redeemed.until.to_string(),
    };
    Ok((Extension(audited), Json(redeemed)))
}

pub(in crate::routes) async fn bundle(
    Caller(remote): Caller,
    shown: Shown,
    JobPath(job): JobPath,
    headers: HeaderMap,
) -> Answer<Response> {
    let claim = shown.claim(job)?;
    let (size, sha256) = remote.bundle_size(&claim).await?;
    let asked = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let range = match asked {
        Some(text) => crate::extract::byte_range(text, size)?,
        None => None,
    };
    let bytes = remote.bundle_bytes(&claim, range.clone()).await?;
    let length = range.as_ref().map_or(size, |range| range.end - range.start);
    let fixed = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::ETAG, format!("\"{sha256}\"")),
        (header::CONTENT_LENGTH, length.to_string()),
    ];
    let mut answer = (fixed, Body::from_stream(bytes)).into_response();
    if let Some(Range { start, end }) = range {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        let value = format!("bytes {start}-{}/{size}", end - 1);
        let value = value.parse().map_err(|_| Refusal::Panicked)?;
        answer.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    Ok(answer)
}
