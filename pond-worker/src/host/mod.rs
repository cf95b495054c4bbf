//! What the engine has done by programs of its own host: `shell` stages, and the merge of what areas changed.
//!
//! A `shell` stage is the caller's code on the engine's host. It runs in a sandbox of the worker's kind, without any network,
//! on a copy of the sources that is thrown away, and sees nothing of the host but its programs.

mod merge;
mod shell;

use std::fs::File;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use nix::fcntl::Flock;
use pond_core::artifacts::ByteStream;
use pond_core::clock::Clock;
use pond_core::runs::{AreaPatch, Failure, FailureCode, HostTools, MergedPatch, ShellRun, StageOutcome};
use pond_core::sandbox::{Limits, Sandbox, SandboxError};
use pond_core::sources::{self, Caps, TreeError};
use tokio_util::sync::CancellationToken;

use crate::prepare::{WorkFolder, remove_leftovers};
use crate::sandbox::{Bubblewrap, BubblewrapSettings, Host, HostSettings, NoSandbox};
use crate::work::{WorkerError, lock_state};

/// How `shell` stages are confined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ShellSandbox {
    /// By bubblewrap; without it on the host, such stages are refused.
    #[default]
    Bubblewrap,
    /// Not at all: on the host's files and network, as the engine's own user. The operator's own choice only.
    None,
}

/// How the engine's host is to be used.
#[derive(Debug, Clone)]
pub struct HostToolsSettings {
    /// A folder for this alone, kept from one life to the next.
    pub state_dir: PathBuf,
    /// How `shell` stages are confined.
    pub shell: ShellSandbox,
    /// The program that confines them.
    pub bwrap: PathBuf,
    /// What one of them may use.
    pub limits: Limits,
    /// Host uids for them, where the engine runs as root.
    pub uid_range: Option<RangeInclusive<u32>>,
    /// What the sources of a run may hold.
    pub sources: sources::Limits,
}

impl HostToolsSettings {
    /// The usual settings, in a folder.
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            shell: ShellSandbox::default(),
            bwrap: BubblewrapSettings::default().bwrap,
            limits: Limits::default(),
            uid_range: Some(200_000..=265_535),
            sources: Caps::default().bundle(),
        }
    }
}

/// The tools of this host. Dropped, what still runs is killed.
pub struct LocalTools {
    bench: Arc<Bench>,
    /// Ends what runs when the tools are let go of.
    stop: tokio_util::sync::DropGuard,
    token: CancellationToken,
}

/// What all calls use.
struct Bench {
    settings: HostToolsSettings,
    host: Arc<Host>,
    sandbox: Arc<dyn Sandbox>,
    number: AtomicU64,
    _lock: Flock<File>,
}

impl LocalTools {
    /// Takes the state folder, and ends and removes what an earlier life left there.
    ///
    /// # Errors
    /// When the folder is used by another process or cannot be used, or what was left cannot be ended.
    pub async fn open(settings: HostToolsSettings, clock: &dyn Clock) -> Result<Self, WorkerError> {
        let lock = lock_state(&settings.state_dir, clock).await?;
        let opened = tokio::task::spawn_blocking(move || {
            let host = Host::open(HostSettings {
                state: settings.state_dir.clone(),
                uid_range: settings.uid_range.clone(),
                means: None,
            })?;
            host.recover()?;
            remove_leftovers(&settings.state_dir)
                .map_err(|error| SandboxError::io("the folders of former stages stay", error))?;
            let sandbox: Arc<dyn Sandbox> = match settings.shell {
                ShellSandbox::Bubblewrap => Arc::new(Bubblewrap::new(
                    Arc::clone(&host),
                    BubblewrapSettings {
                        bwrap: settings.bwrap.clone(),
                        ..BubblewrapSettings::default()
                    },
                )),
                ShellSandbox::None => Arc::new(NoSandbox::new(Arc::clone(&host))),
            };
            Ok::<_, SandboxError>(Bench {
                settings,
                host,
                sandbox,
                number: AtomicU64::new(1),
                _lock: lock,
            })
        });
        let bench = opened
            .await
            .map_err(|_| SandboxError::failed("opening the host panicked"))??;
        let token = CancellationToken::new();
        Ok(Self {
            bench: Arc::new(bench),
            stop: token.clone().drop_guard(),
            token,
        })
    }

    /// Kills what runs, and waits until nothing of it is left.
    ///
    /// # Errors
    /// When something cannot be ended.
    pub async fn close(self) -> Result<(), SandboxError> {
        drop(self.stop);
        let host = Arc::clone(&self.bench.host);
        let closed = tokio::task::spawn_blocking(move || host.close()).await;
        closed.map_err(|_| SandboxError::failed("closing the host panicked"))?
    }
}

#[async_trait]
impl HostTools for LocalTools {
    async fn shell(&self, shell: ShellRun) -> StageOutcome {
        let stop = self.token.child_token();
        // In a task of its own, which ends what it began in order though nobody waits for it any more.
        let _dropped = stop.clone().drop_guard();
        let running = tokio::spawn(shell::run(Arc::clone(&self.bench), shell, stop));
        running
            .await
            .unwrap_or_else(|panic| StageOutcome::Failed(internal("a shell stage", &panic)))
    }

    async fn merge(&self, bundle: ByteStream, areas: Vec<AreaPatch>) -> Result<MergedPatch, Failure> {
        merge::run(&self.bench, bundle, areas).await
    }
}

impl Bench {
    /// A folder of its own for one call.
    async fn folder(&self, what: &str) -> Result<WorkFolder, Failure> {
        let name = format!("{what}-{}", self.number.fetch_add(1, Ordering::Relaxed));
        let made = WorkFolder::create(&self.settings.state_dir, &name).await;
        made.map_err(|error| internal("a folder for it", &error))
    }

    /// Keeps the bundle of the sources in a folder.
    async fn keep(&self, folder: &mut WorkFolder, bundle: ByteStream) -> Result<(), Failure> {
        let limits = self.settings.sources;
        // A tar file takes a head and some filling for each entry.
        let cap = limits.bytes.saturating_add(limits.files.saturating_mul(4096));
        let kept = folder.keep_bundle(bundle, cap).await;
        kept.map_err(|error| Failure::new(FailureCode::SourceFailed, format!("the sources did not come: {error}")))
    }

    /// Lays the sources out.
    async fn unpack(&self, folder: &WorkFolder, into: PathBuf) -> Result<(), Failure> {
        let unpacked = folder.unpack(into, self.settings.sources).await;
        unpacked.map_err(|error| {
            let code = match error {
                TreeError::TooLarge(_) => FailureCode::SourceTooLarge,
                _ => FailureCode::SourceFailed,
            };
            Failure::new(code, format!("the bundle of the sources {error}"))
        })
    }
}

fn internal(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(FailureCode::Internal, format!("{what}: {error}"))
}
