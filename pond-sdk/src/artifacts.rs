//! Files that a run left: the list, and their bytes as a stream.

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use reqwest::header::ETAG;

use crate::api::{Artifact, ArtifactList};
use crate::error::Result;
use crate::pages::{Page, Pages, pages};
use crate::request::Call;
use crate::runs::Runs;

/// Which stage, and which of its areas, an artifact is of. Empty: for the list, any; for a download, the last stage that
/// has one of that name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArtifactPlace {
    /// The stage's key.
    pub stage: Option<String>,
    /// The area's key.
    pub substage: Option<String>,
}

impl ArtifactPlace {
    /// Where this artifact is.
    pub fn of(artifact: &Artifact) -> Self {
        Self {
            stage: Some(artifact.stage.clone()),
            substage: artifact.substage.clone(),
        }
    }
}

/// An artifact on its way.
pub struct Download {
    /// SHA-256 of the content in hex, as the server tells it.
    pub sha256: Option<String>,
    /// Its size in bytes, where the server tells it.
    pub size: Option<u64>,
    /// The content.
    pub bytes: BoxStream<'static, Result<Bytes>>,
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download")
            .field("sha256", &self.sha256)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Runs {
    /// The run's artifacts.
    pub fn artifacts(&self, id: impl Into<String>, place: ArtifactPlace) -> Pages<Artifact> {
        let (client, id) = (self.client().clone(), id.into());
        pages(move |cursor| {
            let call = Call::get(&["v1", "runs", &id, "artifacts"])
                .query("stage", place.stage.as_ref())
                .query("substage", place.substage.as_ref())
                .query("cursor", cursor);
            let client = client.clone();
            async move {
                let list: ArtifactList = client.read("list of artifacts", call).await?;
                Ok(Page {
                    entries: list.artifacts,
                    next: list.next_cursor,
                })
            }
        })
    }

    /// The bytes of one artifact.
    pub async fn download(&self, id: &str, name: &str, place: &ArtifactPlace) -> Result<Download> {
        let call = Call::get(&["v1", "runs", id, "artifacts", name])
            .query("stage", place.stage.as_ref())
            .query("substage", place.substage.as_ref())
            .accept("*/*");
        let client = self.client().clone();
        let response = client.send(call).await?;
        let etag = response.headers().get(ETAG).and_then(|value| value.to_str().ok());
        let sha256 = etag.map(|etag| etag.trim_matches('"').to_owned());
        let size = response.content_length();
        let bytes = response
            .bytes_stream()
            .map_err(move |error| client.unreachable(error))
            .boxed();
        Ok(Download { sha256, size, bytes })
    }
}
