//! Reads what stages of a run left, for the stages behind them.

use futures::TryStreamExt;

use super::Parts;
use crate::artifacts::{Artifact, ArtifactName, BlobError};
use crate::error::Result;
use crate::id::RunId;
use crate::runs::{Failure, FailureCode};
use crate::scope::Scope;
use crate::workflow::Definition;

/// All that a run has left so far.
pub(super) async fn left(parts: &Parts, run: RunId) -> Result<Vec<Artifact>> {
    // The engine works on every project's runs.
    Ok(parts.store.artifacts(Scope::Org, run).await?)
}

/// The artifact of this name that a stage sees: a stage's own, of the last stage before it that left one.
pub(super) fn seen_by<'a>(
    left: &'a [Artifact],
    definition: &Definition,
    stage: usize,
    name: &ArtifactName,
) -> Option<&'a Artifact> {
    let before = definition.before(stage);
    let order = definition.topological();
    let place = |artifact: &Artifact| order.iter().position(|&index| is_of(artifact, index));
    let seen = left.iter().filter(|artifact| {
        artifact.name == *name && artifact.substage.is_none() && before.iter().any(|&stage| is_of(artifact, stage))
    });
    seen.max_by_key(|artifact| place(artifact))
}

/// Whether an artifact is of the stage at this place.
pub(super) fn is_of(artifact: &Artifact, stage: usize) -> bool {
    usize::try_from(artifact.stage) == Ok(stage)
}

/// The bytes of an artifact of at most `cap` bytes, or why the stage that asks for it cannot go on.
pub(super) async fn bytes_of(parts: &Parts, artifact: &Artifact, cap: u64) -> Result<Result<Vec<u8>, Failure>> {
    let name = &artifact.name;
    if artifact.size > cap {
        let message = format!("artifact '{name}' is larger than the {cap} bytes that are read of it");
        return Ok(Err(Failure::new(FailureCode::ArtifactTooLarge, message)));
    }
    let bytes = match parts.blobs.get(&artifact.blob, None).await {
        Ok(bytes) => bytes,
        Err(BlobError::NotFound) => {
            let message = format!("artifact '{name}' is not kept any more");
            return Ok(Err(Failure::new(FailureCode::ArtifactMissing, message)));
        }
        Err(error) => return Err(error.into()),
    };
    let pieces: Vec<bytes::Bytes> = bytes.try_collect().await?;
    Ok(Ok(pieces.concat()))
}
