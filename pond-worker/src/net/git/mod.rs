//! Git sources, fetched with the git program under a closed configuration.
//!
//! The program only transfers objects: into a bare repository of its own, through a relay on loopback that dials for it and
//! holds the credential, with every other protocol, redirects, helpers, hooks and prompts off. Files are then written by [`TreeWriter`] from the objects
//! themselves, so no attribute, filter, hook or submodule of the repository ever takes effect.
//!
//! [`TreeWriter`]: pond_core::sources::TreeWriter

mod checkout;
mod command;
mod failure;
mod relay;
mod transfer;

use std::path::{Path, PathBuf};
use std::time::Duration;

use pond_core::sources::{Git, GitKey, Limits, SourceError};
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use super::Dialer;
use command::Workshop;
use transfer::Depth;

/// How long fetching one source may take, from the first question to the last file.
pub const GIT_TIMEOUT: Duration = Duration::from_secs(300);

/// How long asking whether a repository is there may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(20);

/// The first git that takes settings from its environment. Older ones ignore them, so they must not be used.
const OLDEST: (u32, u32) = (2, 31);

/// Fetches git sources.
#[derive(Debug)]
pub struct GitFetcher {
    dialer: Dialer,
    program: PathBuf,
    scratch: PathBuf,
    limits: Limits,
    patience: Duration,
    version: OnceCell<()>,
}

impl GitFetcher {
    /// Fetches through `dialer`, with the program `git`, working in folders beneath `scratch`.
    pub fn new(dialer: Dialer, scratch: impl Into<PathBuf>, limits: Limits) -> Self {
        Self {
            dialer,
            program: "git".into(),
            scratch: scratch.into(),
            limits,
            patience: GIT_TIMEOUT,
            version: OnceCell::new(),
        }
    }

    /// Another git program.
    #[must_use]
    pub fn with_program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = program.into();
        self
    }

    /// Less or more time for one source than [`GIT_TIMEOUT`].
    #[must_use]
    pub fn with_timeout(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Fetches the source's reference, or exactly the commit `pin`, and writes its tree to `into`. Returns the commit.
    ///
    /// After an error nothing is left in `into`; dropped halfway, the removal follows as soon as the writer notices.
    pub async fn fetch(
        &self,
        git: &Git,
        pin: Option<&str>,
        key: Option<&GitKey>,
        into: &Path,
    ) -> Result<String, SourceError> {
        let until = Instant::now() + self.patience;
        let late = || SourceError::Failed(format!("fetching took longer than {} seconds", self.patience.as_secs()));
        let transfer = self.transfer(git, pin, key);
        let (workshop, commit) = timeout_at(until, transfer).await.unwrap_or_else(|_| Err(late()))?;
        workshop
            .check_out(&commit, into, self.limits, until)
            .await?
            .ok_or_else(late)?;
        Ok(commit)
    }

    /// Gets the objects of a commit; nothing is written to where the source goes.
    async fn transfer(
        &self,
        git: &Git,
        pin: Option<&str>,
        key: Option<&GitKey>,
    ) -> Result<(Workshop, String), SourceError> {
        let workshop = self.workshop(git, key).await?;
        let commit = match pin {
            None => {
                workshop.transfer(wanted(git), Depth::One, self.limits).await?;
                workshop.commit(transfer::FETCHED).await?
            }
            Some(pin) => self.pinned(&workshop, git, pin).await?,
        };
        Ok((workshop, commit))
    }

    /// Whether the repository answers and has the reference.
    pub async fn reachable(&self, git: &Git, key: Option<&GitKey>) -> bool {
        let work = async { self.workshop(git, key).await?.has(wanted(git)).await };
        matches!(tokio::time::timeout(PROBE_TIMEOUT, work).await, Ok(Ok(true)))
    }

    /// Servers may refuse to hand out a commit that no reference names; its branch still has it in its history.
    async fn pinned(&self, workshop: &Workshop, git: &Git, pin: &str) -> Result<String, SourceError> {
        if !matches!(pin.len(), 40 | 64) || !pin.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(SourceError::Failed("the recorded commit is not one".into()));
        }
        let exact = workshop.transfer(pin, Depth::One, self.limits).await;
        if let Err(error @ SourceError::TooLarge(_)) = exact {
            return Err(error);
        }
        if exact.is_err() {
            workshop.transfer(wanted(git), Depth::All, self.limits).await?;
        }
        workshop
            .commit(pin)
            .await
            .map_err(|_| SourceError::Failed(format!("commit {pin} cannot be fetched from the repository any more")))
    }

    async fn workshop(&self, git: &Git, key: Option<&GitKey>) -> Result<Workshop, SourceError> {
        self.version
            .get_or_try_init(|| command::check_version(&self.program, OLDEST))
            .await?;
        Workshop::open(&self.program, &self.scratch, &self.dialer, self.limits, git, key).await
    }
}

fn wanted(git: &Git) -> &str {
    git.reference.as_ref().map_or("HEAD", |reference| reference.as_str())
}
