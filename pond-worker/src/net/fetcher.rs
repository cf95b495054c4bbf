//! The port `SourceFetch`: each kind of source to whoever fetches it.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use pond_core::Fault;
use pond_core::sources::{
    Caps, Folder, FolderScope, Kind, Resolved, Source, SourceError, SourceFetch, TreeError, digest,
};

use super::folder::{FolderRoot, copy_folder};
use super::git::GitFetcher;
use super::{Dialer, DialerSettings, SetupError};

/// Fetches sources of every kind.
#[derive(Debug)]
pub struct Fetcher {
    git: GitFetcher,
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
        pin: Option<&str>,
        scope: &FolderScope,
        into: &Path,
    ) -> Result<Resolved, SourceError> {
        match &source.kind {
            // Credentials of sources are not served yet; until then a private repository fails.
            Kind::GitHttps(git) => self.git.fetch(git, pin, None, into).await.map(Resolved::Commit),
            Kind::Folder(folder) => self.copy(folder, scope, into).await,
            Kind::Tarball(_) | Kind::S3(_) => {
                Err(SourceError::Failed("sources of this kind are not served yet".into()))
            }
        }
    }

    async fn reachable(&self, source: &Source, scope: &FolderScope) -> bool {
        match &source.kind {
            Kind::GitHttps(git) => self.git.reachable(git, None).await,
            Kind::Folder(folder) => self.folders.admit(&folder.path, scope).is_ok(),
            Kind::Tarball(_) | Kind::S3(_) => false,
        }
    }
}
