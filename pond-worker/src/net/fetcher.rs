//! The port `SourceFetch`: each kind of source to whoever fetches it.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use pond_core::Fault;
use pond_core::sources::{
    Caps, Folder, FolderScope, GitKey, Kind, Resolved, S3Key, Source, SourceError, SourceFetch, SourceKey, TreeError,
    digest,
};

use super::folder::{FolderRoot, copy_folder};
use super::git::GitFetcher;
use super::s3::S3Fetcher;
use super::tarball::TarballFetcher;
use super::{Dialer, DialerSettings, SetupError};

/// Fetches sources of every kind.
pub struct Fetcher {
    git: GitFetcher,
    tarballs: TarballFetcher,
    s3: S3Fetcher,
    folders: FolderRoot,
    caps: Caps,
}

/// What a fetcher is built from.
#[derive(Debug, Clone, Default)]
pub struct FetcherSettings {
    /// The operator's root of folder sources.
    pub folder_root: Option<PathBuf>,
    /// An existing folder to work in, on the disk that holds checkouts.
    pub scratch: PathBuf,
    /// The caps per kind.
    pub caps: Caps,
}

impl Fetcher {
    /// Fetches with the usual settings: public repositories, and folders beneath `root`.
    ///
    /// # Errors
    /// When the system's resolver or TLS cannot be used.
    pub fn with_folders(root: &Path) -> Result<Self, SetupError> {
        let dialer = Dialer::new(DialerSettings::default())?;
        let settings = FetcherSettings {
            folder_root: Some(root.to_owned()),
            scratch: std::env::temp_dir(),
            caps: Caps::default(),
        };
        Ok(Self::new(dialer, settings))
    }

    /// Fetches through `dialer`.
    pub fn new(dialer: Dialer, settings: FetcherSettings) -> Self {
        let FetcherSettings {
            folder_root,
            scratch,
            caps,
        } = settings;
        Self {
            tarballs: TarballFetcher::new(dialer.clone(), scratch.clone(), caps.tarball()),
            s3: S3Fetcher::new(dialer.clone(), caps.s3()),
            git: GitFetcher::new(dialer, scratch, caps.git()),
            folders: FolderRoot::new(folder_root),
            caps,
        }
    }

    async fn copy(&self, folder: &Folder, scope: &FolderScope, into: &Path) -> Result<Resolved, SourceError> {
        let (folders, path, scope) = (self.folders.clone(), folder.path.clone(), scope.clone());
        let (into, limits) = (into.to_owned(), self.caps.folder());
        let work = move || {
            // Admitted again: what was a folder at submit may be a link by now.
            let real = folders
                .admit(&path, &scope)
                .map_err(|_| SourceError::Failed("the folder cannot be read".into()))?;
            copy_folder(&real, &into, limits)?;
            digest(&into, limits)
                .map(Resolved::Digest)
                .map_err(|error: TreeError| error.into())
        };
        tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|_| Err(SourceError::Failed("the folder cannot be read".into())))
    }
}

#[async_trait]
impl SourceFetch for Fetcher {
    async fn admit(&self, source: &Source, scope: &FolderScope) -> Result<(), Fault> {
        let Kind::Folder(folder) = &source.kind else {
            return Ok(());
        };
        self.folders
            .admit(&folder.path, scope)
            .map(drop)
            .map_err(|refused| Fault::new("/config/path", refused.to_string()))
    }

    async fn fetch(
        &self,
        source: &Source,
        key: Option<&SourceKey>,
        pin: Option<&str>,
        scope: &FolderScope,
        into: &Path,
    ) -> Result<Resolved, SourceError> {
        match &source.kind {
            Kind::GitHttps(git) => {
                let key = git_key(source, key)?;
                self.git.fetch(git, pin, key, into).await.map(Resolved::Commit)
            }
            Kind::Folder(folder) => self.copy(folder, scope, into).await,
            Kind::Tarball(tarball) => self.tarballs.fetch(tarball, pin, into).await.map(Resolved::Digest),
            Kind::S3(s3) => {
                let key = s3_key(source, key)?;
                self.s3.fetch(s3, key, pin, into).await.map(Resolved::Digest)
            }
        }
    }

    async fn reachable(&self, source: &Source, key: Option<&SourceKey>, scope: &FolderScope) -> bool {
        match &source.kind {
            Kind::GitHttps(git) => match git_key(source, key) {
                Ok(key) => self.git.reachable(git, key).await,
                Err(_) => false,
            },
            Kind::Folder(folder) => self.folders.admit(&folder.path, scope).is_ok(),
            Kind::Tarball(tarball) => self.tarballs.reachable(tarball).await,
            Kind::S3(s3) => match s3_key(source, key) {
                Ok(key) => self.s3.reachable(s3, key).await,
                Err(_) => false,
            },
        }
    }
}

/// A source that names a credential is not tried without it, nor with one of another kind.
fn git_key<'k>(source: &Source, key: Option<&'k SourceKey>) -> Result<Option<&'k GitKey>, SourceError> {
    match (source.credential(), key) {
        (None, None) => Ok(None),
        (Some(_), Some(SourceKey::Git(key))) => Ok(Some(key)),
        _ => Err(not_opened()),
    }
}

fn s3_key<'k>(source: &Source, key: Option<&'k SourceKey>) -> Result<Option<&'k S3Key>, SourceError> {
    match (source.credential(), key) {
        (None, None) => Ok(None),
        (Some(_), Some(SourceKey::S3(key))) => Ok(Some(key)),
        _ => Err(not_opened()),
    }
}

fn not_opened() -> SourceError {
    SourceError::Failed("the source's credential was not opened".into())
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher")
            .field("caps", &self.caps)
            .finish_non_exhaustive()
    }
}
