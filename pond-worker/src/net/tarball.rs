//! Tarball sources: one download into an unnamed file, then the safe unpacking of `pond-core`.

use std::io::{BufReader, Seek};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Method, Response};
use pond_core::outbound::{OutboundUrl, Purpose};
use pond_core::sources::{Excess, Limits, SourceError, Tarball, TreeError, extract_compressed};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::follow::{FollowError, follow, request};
use super::{Dialer, HttpClient, Protocols, client};

/// How long one download may take.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(300);

/// How long nothing may come.
const SILENCE: Duration = Duration::from_secs(60);

/// Fetches tarballs.
pub(super) struct TarballFetcher {
    dialer: Dialer,
    client: HttpClient,
    scratch: PathBuf,
    limits: Limits,
}

impl TarballFetcher {
    pub(super) fn new(dialer: Dialer, scratch: PathBuf, limits: Limits) -> Self {
        Self {
            client: client(dialer.clone(), Purpose::Tarball, Protocols::Http2OrHttp1),
            dialer,
            scratch,
            limits,
        }
    }

    /// Fetches and unpacks; returns the SHA-256 of what was sent, in hex. What is not what was asked for is not unpacked.
    pub(super) async fn fetch(&self, tarball: &Tarball, pin: Option<&str>, into: &Path) -> Result<String, SourceError> {
        let late = |_| {
            SourceError::Failed(format!(
                "fetching took longer than {} seconds",
                DOWNLOAD_TIMEOUT.as_secs()
            ))
        };
        let (file, found) = timeout(DOWNLOAD_TIMEOUT, self.download(tarball))
            .await
            .map_err(late)??;
        if tarball.sha256.as_deref().is_some_and(|wanted| wanted != found) {
            return Err(SourceError::Failed(format!(
                "the archive's sha256 is {found}, which is not the one asked for"
            )));
        }
        if pin.is_some_and(|wanted| wanted != found) {
            return Err(SourceError::Failed(
                "the archive is not the one that was fetched before".into(),
            ));
        }
        let (into, limits) = (into.to_owned(), self.limits);
        let unpack = move || extract_compressed(BufReader::new(file), &into, limits);
        tokio::task::spawn_blocking(unpack)
            .await
            .map_err(|_| SourceError::Failed("the archive cannot be unpacked".into()))??;
        Ok(found)
    }

    /// Whether something answers there. One request, for the headers alone.
    pub(super) async fn reachable(&self, tarball: &Tarball) -> bool {
        let answer = self.ask(&Method::HEAD, &tarball.url).await;
        // Some services know no HEAD for what they do serve.
        answer.is_ok_and(|answer| answer.status().is_success() || answer.status().as_u16() == 405)
    }

    async fn ask(&self, method: &Method, url: &OutboundUrl) -> Result<Response<Incoming>, FollowError> {
        // Settings may have changed since the source was accepted.
        let url = OutboundUrl::parse(url.as_str(), Purpose::Tarball, self.dialer.allow())?;
        follow(
            &self.client,
            &self.dialer,
            Purpose::Tarball,
            &url,
            request(method, &url)?,
        )
        .await
    }

    /// Downloads to a file that has no name, so that nothing is left of it whatever happens.
    async fn download(&self, tarball: &Tarball) -> Result<(std::fs::File, String), SourceError> {
        let failed = |error: FollowError| SourceError::Failed(format!("the archive cannot be fetched: {error}"));
        let answer = self.ask(&Method::GET, &tarball.url).await.map_err(failed)?;
        if !answer.status().is_success() {
            let status = answer.status().as_u16();
            return Err(SourceError::Failed(format!(
                "the archive cannot be fetched: the host answers {status}"
            )));
        }
        let mut file = tokio::fs::File::from_std(tempfile::tempfile_in(&self.scratch).map_err(disk)?);
        let digest = self.save(answer.into_body(), &mut file).await?;
        let mut file = file.into_std().await;
        file.rewind().map_err(disk)?;
        Ok((file, digest))
    }

    async fn save(&self, mut body: Incoming, file: &mut tokio::fs::File) -> Result<String, SourceError> {
        let broken = || SourceError::Failed("the archive cannot be fetched: the connection broke".into());
        let (mut size, mut hash) = (0u64, Sha256::new());
        while let Some(frame) = timeout(SILENCE, body.frame()).await.map_err(|_| broken())? {
            let Ok(bytes) = frame.map_err(|_| broken())?.into_data() else {
                continue;
            };
            size = size.saturating_add(bytes.len() as u64);
            if size > self.limits.bytes {
                return Err(SourceError::TooLarge(Excess::Bytes(self.limits.bytes)));
            }
            hash.update(&bytes);
            file.write_all(&bytes).await.map_err(disk)?;
        }
        file.flush().await.map_err(disk)?;
        Ok(hex::encode(hash.finalize()))
    }
}

fn disk(error: std::io::Error) -> SourceError {
    TreeError::Io(error).into()
}
