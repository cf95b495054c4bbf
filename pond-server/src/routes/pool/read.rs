//! Reads what orchestrators send: typed bodies with the place of a fault, ids, base64, and the claim of a job.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pond_core::id::JobId;
use pond_core::pool::{Claim, ClaimToken, Remote};
use pond_core::{Denial, Error};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::Refusal;
use crate::extract::JobPath;

/// Entries of a list of workers in one call.
pub(super) const MAX_WORKERS: usize = 1000;
/// Leases renewed in one call.
pub(super) const MAX_BEATS: usize = 500;

/// A body of a closed type.
pub(super) fn typed<T: DeserializeOwned>(body: &Value) -> Result<T, Error> {
    serde_path_to_error::deserialize(body).map_err(|error| {
        let pointer: String = error
            .path()
            .iter()
            .filter_map(|segment| match segment {
                serde_path_to_error::Segment::Seq { index } => Some(format!("/{index}")),
                serde_path_to_error::Segment::Map { key } => Some(format!("/{}", pond_core::body::escape(key))),
                _ => None,
            })
            .collect();
        // The library's text may quote the value, which may be a secret.
        let message = match error.inner().to_string() {
            text if text.starts_with("unknown field") || text.starts_with("missing field") => text,
            _ => "has another type or value than is expected here".to_owned(),
        };
        Error::invalid(pointer, message)
    })
}

/// An id in a body.
pub(super) fn id<I: std::str::FromStr>(pointer: &str, text: &str) -> Result<I, Error> {
    text.parse().map_err(|_| Error::invalid(pointer, "expected a UUID"))
}

/// A list within its bound.
pub(super) fn at_most(pointer: &str, length: usize, most: usize) -> Result<(), Error> {
    match length > most {
        true => Err(Error::invalid(
            pointer,
            format!("expected at most {most} entries, found {length}"),
        )),
        false => Ok(()),
    }
}

/// Bytes in base64.
pub(super) fn bytes<const N: usize>(pointer: &str, text: &str) -> Result<[u8; N], Error> {
    let decoded = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    decoded.ok_or_else(|| Error::invalid(pointer, format!("expected {N} bytes in base64")))
}

/// Base64 of bytes.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The claim that a call shows, of the job in the path.
pub(in crate::routes) struct Claimed(pub(super) Claim);

/// The claim that a call shows; the job stands in the body.
pub(in crate::routes) struct Shown(Option<ClaimToken>);

impl Shown {
    /// The claim on a job.
    pub(super) fn claim(self, job: JobId) -> Result<Claim, Error> {
        let token = self.0.ok_or(Error::Forbidden(Denial::ClaimRequired))?;
        Ok(Claim { job, token })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Shown {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let token = parts.headers.get("x-claim-token").and_then(|value| value.to_str().ok());
        Ok(Self(token.map(ClaimToken::from_text)))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Claimed {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let shown = Shown::from_request_parts(parts, state).await?;
        let JobPath(job) = JobPath::from_request_parts(parts, state).await?;
        Ok(Self(shown.claim(job)?))
    }
}

/// The orchestrator that calls: the guard let it in.
pub(in crate::routes) struct Caller(pub(super) Remote);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let remote = parts.extensions.get::<Remote>().cloned();
        remote.map(Self).ok_or(Refusal::UnknownToken)
    }
}
