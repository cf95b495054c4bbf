//! The port that fetches a source, and what it may cost.

use std::path::Path;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Excess, Limits, Source, SourceKey, TreeError};
use crate::error::Fault;
use crate::id::ProjectId;
use crate::runs::FailureCode;

/// Which folders a caller may name as a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FolderScope {
    /// Any beneath the root: the service token.
    #[serde(rename = "r")]
    Root,
    /// Those beneath the project's own folder.
    #[serde(rename = "p")]
    Project {
        /// The project, `<root>/<id>/`.
        id: ProjectId,
        /// Its short name, `<root>/<slug>/`.
        slug: Option<String>,
    },
}

/// What exactly was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resolved {
    /// A git commit, in lower-case hex.
    #[serde(rename = "c")]
    Commit(String),
    /// SHA-256, in lower-case hex: of a tarball as it was sent, else of the fetched tree's bundle.
    #[serde(rename = "d")]
    Digest(String),
}

impl Resolved {
    /// The hex text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Commit(hex) | Self::Digest(hex) => hex,
        }
    }
}

/// Why a source was not fetched. The text is for the run's log: no secret, no path of this host, no inner address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// It cannot be fetched.
    #[error("{0}")]
    Failed(String),
    /// It goes over a cap.
    #[error("the source is {0}")]
    TooLarge(Excess),
}

impl SourceError {
    /// The stable error code.
    pub fn code(&self) -> &'static str {
        self.failure_code().as_str()
    }

    /// The code of a run that fails with it.
    pub fn failure_code(&self) -> FailureCode {
        match self {
            Self::Failed(_) => FailureCode::SourceFailed,
            Self::TooLarge(_) => FailureCode::SourceTooLarge,
        }
    }
}

impl From<TreeError> for SourceError {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::TooLarge(excess) => Self::TooLarge(excess),
            TreeError::Unsafe(_) | TreeError::Malformed(_) => Self::Failed(format!("the source {error}")),
            // The system's text may name a path of this host.
            TreeError::Io(error) => Self::Failed(format!("the source cannot be stored: {}", error.kind())),
        }
    }
}

/// Fetches sources. All network access is held to the outbound rule.
#[async_trait]
pub trait SourceFetch: Send + Sync + 'static {
    /// Checks at submit what needs this host but no network: a folder's place. The fault's pointer is relative to the
    /// source (`/config/path`).
    async fn admit(&self, source: &Source, scope: &FolderScope) -> Result<(), Fault>;

    /// Fetches into `into`, which must not exist or be empty. `key` is the opened credential that the source names, already
    /// found to cover it; it goes to the place that the source names and to none that a redirect leads to. With `pin` (what an
    /// earlier fetch resolved to) it fetches exactly that or fails. After an error nothing is left in `into`.
    async fn fetch(
        &self,
        source: &Source,
        key: Option<&SourceKey>,
        pin: Option<&str>,
        scope: &FolderScope,
        into: &Path,
    ) -> Result<Resolved, SourceError>;

    /// Whether the source seems to be there. Dials at most once and fetches nothing.
    async fn reachable(&self, source: &Source, key: Option<&SourceKey>, scope: &FolderScope) -> bool;
}

/// The largest source of each kind, in bytes, and how many entries any of them may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Of a git source, as transferred and again as files.
    pub git: u64,
    /// Of a tarball, as transferred and again unpacked.
    pub tarball: u64,
    /// Of objects.
    pub s3: u64,
    /// Of a folder.
    pub folder: u64,
    /// Of the bundle of all sources.
    pub bundle: u64,
    /// Files, folders and links of one source, and of the bundle.
    pub files: u64,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            git: 1 << 30,
            tarball: 512 << 20,
            s3: 1 << 30,
            folder: 1 << 30,
            bundle: 2 << 30,
            files: 200_000,
        }
    }
}

impl Caps {
    /// The limits of a git tree.
    pub fn git(&self) -> Limits {
        Limits {
            bytes: self.git,
            files: self.files,
        }
    }

    /// The limits of a tarball.
    pub fn tarball(&self) -> Limits {
        Limits {
            bytes: self.tarball,
            files: self.files,
        }
    }

    /// The limits of a bucket's objects.
    pub fn s3(&self) -> Limits {
        Limits {
            bytes: self.s3,
            files: self.files,
        }
    }

    /// The limits of a folder.
    pub fn folder(&self) -> Limits {
        Limits {
            bytes: self.folder,
            files: self.files,
        }
    }

    /// The limits of a bundle.
    pub fn bundle(&self) -> Limits {
        Limits {
            bytes: self.bundle,
            files: self.files,
        }
    }
}
