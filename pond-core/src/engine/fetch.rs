//! Fetches a run's sources into one bundle.

use std::io::Write;
use std::path::Path;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};
use tokio_util::io::ReaderStream;

use super::Parts;
use crate::artifacts::{BlobError, ByteStream};
use crate::id::{ProjectId, RunId};
use crate::runs::{BundleRef, Failure, FailureCode, Inputs};
use crate::sealing::{Place, Sealed};
use crate::sources::{
    self, BundleKey, FolderScope, KeyRefused, Kind, Resolved, Source, SourceError, SourceFetch, SourceKey, TreeError,
};

/// What was fetched, and what to log of it.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) bundle: BundleRef,
    pub(super) lines: Vec<String>,
}

/// Fetches all sources of a run.
pub(super) async fn fetch(parts: &Parts, run: RunId, project: ProjectId, inputs: &Inputs) -> Result<Fetched, Failure> {
    let failed = |what: String| Failure::new(FailureCode::SourceFailed, what);
    let fetcher = parts
        .sources
        .as_ref()
        .ok_or_else(|| failed("this engine was built without sources".into()))?;
    let sources = stored_sources(parts, inputs).map_err(failed)?;
    // Sources are never stored without it; what lost it must not read more than its submitter might.
    let folders = inputs.folders.as_ref();
    let folders = folders.ok_or_else(|| failed("the stored sources do not say whose they are".into()))?;
    let folder = work_folder(parts).map_err(|error| failed(format!("no folder to fetch to: {}", error.kind())))?;
    let tree = folder.path().join("tree");
    let mut resolved = Vec::with_capacity(sources.len());
    let mut lines = Vec::with_capacity(sources.len());
    for (index, source) in sources.iter().enumerate() {
        let into = if sources.len() == 1 {
            tree.clone()
        } else {
            tree.join(&source.label)
        };
        let pin = pin(inputs, &sources, index);
        let key = key(parts, project, source).await?;
        let how = How { pin, folders };
        let found = one(&**fetcher, source, key.as_ref(), how, &into).await?;
        lines.push(format!("{}: {}", source.label, found.as_str()));
        resolved.push(found);
    }
    let bundle = store(parts, run, &tree, folder.path(), resolved).await?;
    Ok(Fetched { bundle, lines })
}

/// What a source is fetched with, opened just before: what was good at submit may have been changed since.
async fn key(parts: &Parts, project: ProjectId, source: &Source) -> Result<Option<SourceKey>, Failure> {
    let key = parts.config.source_key(project, source).await.map_err(|error| {
        tracing::warn!(%error, "a source's credential cannot be opened");
        Failure::new(
            FailureCode::SourceFailed,
            format!("source {}: its credential cannot be opened", source.label),
        )
    })?;
    key.map_err(|refused| {
        let code = match refused {
            KeyRefused::Place => FailureCode::SourceFailed,
            KeyRefused::Missing | KeyRefused::Provider(_) | KeyRefused::Lacks(_) => FailureCode::CredentialMissing,
        };
        let name = source.credential().unwrap_or_default();
        Failure::new(code, format!("source {}: credential '{name}' {refused}", source.label))
    })
}

/// What to hold a source to: what the run that it repeats resolved, or the `sha` that was sent with the only git source. A
/// folder is read as it is now.
fn pin<'a>(inputs: &'a Inputs, sources: &[Source], index: usize) -> Option<&'a str> {
    match (&sources[index].kind, inputs.pins.get(index)) {
        (Kind::GitHttps(_), Some(Resolved::Commit(hex)))
        | (Kind::Tarball(_) | Kind::S3(_), Some(Resolved::Digest(hex))) => return Some(hex),
        _ => {}
    }
    let is_git = |source: &&Source| matches!(source.kind, Kind::GitHttps(_));
    let only = sources.iter().filter(is_git).count() == 1 && is_git(&&sources[index]);
    inputs.sha.as_deref().filter(|_| only)
}

/// How a source is fetched.
struct How<'a> {
    pin: Option<&'a str>,
    folders: &'a FolderScope,
}

async fn one(
    fetcher: &dyn SourceFetch,
    source: &Source,
    key: Option<&SourceKey>,
    how: How<'_>,
    into: &Path,
) -> Result<Resolved, Failure> {
    fetcher
        .fetch(source, key, how.pin, how.folders, into)
        .await
        .map_err(|error| Failure::new(error.failure_code(), format!("source {}: {error}", source.label)))
}

pub(crate) fn stored_sources(parts: &Parts, inputs: &Inputs) -> Result<Vec<Source>, String> {
    let unreadable = || "the stored sources do not read".to_owned();
    let raw = inputs.sources.as_deref().ok_or_else(unreadable)?;
    let value = serde_json::from_str(raw.get()).map_err(|_| unreadable())?;
    // What was admitted at submit may have been taken off the operator's list since: that is told as it is.
    sources::parse(&value, "/sources", &parts.settings.outbound).map_err(|faults| {
        faults
            .into_iter()
            .next()
            .map_or_else(unreadable, |fault| format!("{} {}", fault.pointer, fault.message))
    })
}

fn work_folder(parts: &Parts) -> std::io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("pond-fetch-");
    match &parts.settings.work_dir {
        Some(folder) => {
            std::fs::create_dir_all(folder)?;
            builder.tempdir_in(folder)
        }
        None => builder.tempdir(),
    }
}

async fn store(
    parts: &Parts,
    run: RunId,
    tree: &Path,
    folder: &Path,
    resolved: Vec<Resolved>,
) -> Result<BundleRef, Failure> {
    let failed = |what: String| Failure::new(FailureCode::SourceFailed, what);
    let limits = parts.settings.source_caps.bundle();
    let (tree, path) = (tree.to_owned(), folder.join("bundle.tar"));
    let file = path.clone();
    let written = tokio::task::spawn_blocking(move || {
        let out = std::io::BufWriter::new(std::fs::File::create(&file)?);
        let mut out = Digesting::new(out);
        sources::write_bundle(&tree, &mut out, limits)?;
        Ok::<_, TreeError>(out.hex())
    });
    let digest = written
        .await
        .map_err(|error| failed(error.to_string()))?
        .map_err(|error| {
            let error = SourceError::from(error);
            Failure::new(error.failure_code(), format!("the bundle of all sources: {error}"))
        })?;
    let file = tokio::fs::File::open(&path)
        .await
        .map_err(|error| failed(error.kind().to_string()))?;
    // A key of its own: an engine that lost the run meanwhile must not write over its heir's bundle.
    let key = format!("bundles/{run}/{}", hex::encode(parts.entropy.draw::<8>()));
    let bytes: ByteStream = ReaderStream::new(file).map_ok(Bytes::from).map_err(unreadable).boxed();
    let bundle_key = BundleKey::draw(&*parts.entropy);
    let sealed_key = seal_key(parts, run, &bundle_key).map_err(failed)?;
    let (size, sha256) = parts
        .blobs
        .put(&key, bundle_key.seal(bytes, &*parts.entropy), u64::MAX)
        .await
        .map_err(|error| failed(error.to_string()))?;
    Ok(BundleRef {
        key,
        size,
        sha256: hex::encode(sha256),
        digest,
        sealed_key,
        resolved,
    })
}

/// Where a bundle's key is sealed for.
fn key_place(run: &str) -> Place<'_> {
    Place {
        scope: "run",
        kind: "bundle",
        record: run,
        field: "key",
    }
}

fn seal_key(parts: &Parts, run: RunId, key: &BundleKey) -> Result<(u32, String), String> {
    let run = run.to_string();
    let sealed = parts.sealer.seal(key_place(&run), key.expose());
    let sealed = sealed.map_err(|error| format!("the bundle's key: {error}"))?;
    Ok((sealed.key_version, hex::encode(sealed.bytes)))
}

/// The key of a run's bundle.
pub(crate) fn bundle_key(parts: &Parts, run: RunId, bundle: &BundleRef) -> crate::Result<BundleKey> {
    let corrupt = || crate::Error::internal(format!("the bundle key of run {run} does not open"));
    let (key_version, bytes) = &bundle.sealed_key;
    let sealed = Sealed {
        key_version: *key_version,
        bytes: hex::decode(bytes).map_err(|_| corrupt())?,
    };
    let run = run.to_string();
    let key = parts.sealer.open(key_place(&run), &sealed).map_err(|_| corrupt())?;
    BundleKey::new(key).ok_or_else(corrupt)
}

/// Passes bytes on and takes their digest.
struct Digesting<W> {
    out: W,
    digest: Sha256,
}

impl<W> Digesting<W> {
    fn new(out: W) -> Self {
        Self {
            out,
            digest: Sha256::new(),
        }
    }

    fn hex(self) -> String {
        hex::encode(self.digest.finalize())
    }
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.digest.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

fn unreadable(error: std::io::Error) -> BlobError {
    BlobError::Unavailable(Box::new(error))
}
