//! What stands in paths. What is not well-formed is not there: 404, with the very answer of an unknown one.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use pond_core::Error;
use pond_core::artifacts::ArtifactName;
use pond_core::id::{JobId, KeyId, OrchestratorId, ProjectId, RunId, WorkerId};

use crate::error::Refusal;

macro_rules! id_paths {
    ($($(#[$doc:meta])* $name:ident($id:ty, $kind:literal);)+) => {$(
        $(#[$doc])*
        pub(crate) struct $name(pub(crate) $id);

        impl<S: Send + Sync> FromRequestParts<S> for $name {
            type Rejection = Refusal;

            async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
                let id = part(parts, state, "id").await.and_then(|id| id.parse().ok());
                id.map(Self).ok_or(Error::NotFound($kind).into())
            }
        }
    )+};
}

id_paths! {
    /// The run of a path.
    RunPath(RunId, "run");
    /// The project of a path.
    ProjectPath(ProjectId, "project");
    /// The API key of a path.
    KeyPath(KeyId, "key");
    /// The job of a path.
    JobPath(JobId, "job");
    /// The worker of a path.
    WorkerPath(WorkerId, "worker");
    /// The orchestrator of a path.
    OrchestratorPath(OrchestratorId, "orchestrator");
}

/// The name of an admin entry.
pub(crate) struct EntryName(pub(crate) String);

/// A run and the name of an artifact.
pub(crate) struct ArtifactPath(pub(crate) RunId, pub(crate) ArtifactName);

impl<S: Send + Sync> FromRequestParts<S> for EntryName {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        part(parts, state, "name").await.map(Self).ok_or(Refusal::NoRoute)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ArtifactPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let RunPath(run) = RunPath::from_request_parts(parts, state).await?;
        let name = part(parts, state, "name")
            .await
            .and_then(|name| ArtifactName::new(name).ok());
        name.map(|name| Self(run, name))
            .ok_or(Error::NotFound("artifact").into())
    }
}

/// A part of the path, decoded; none when it does not decode.
async fn part<S: Send + Sync>(parts: &mut Parts, state: &S, name: &str) -> Option<String> {
    let params = RawPathParams::from_request_parts(parts, state).await.ok()?;
    params
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value.to_owned())
}
