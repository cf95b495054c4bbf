//! What an operator may set about the engine.

use std::path::PathBuf;
use std::time::Duration;

use crate::id::EngineId;
use crate::outbound::AllowPrivate;
use crate::runs::Retention;
use crate::sources::Caps;
use crate::usage::Pico;

/// Whose runs an engine takes over when it starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Takeover {
    /// Everyone's: no other engine uses this store.
    #[default]
    All,
    /// Those of engines that no longer give a sign of life, and at once those of its own former life.
    Silent(Option<EngineId>),
}

/// Settings of the engine; the defaults are those of the server.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// Whose runs to take over at start.
    pub takeover: Takeover,
    /// Jobs of one run at once.
    pub run_max_parallel: usize,
    /// Jobs of one project that may be in line or on workers at once.
    pub project_max_parallel: u32,
    /// Runs of one project that may wait or run.
    pub project_max_queued: u32,
    /// How long a stage may take that does not say.
    pub stage_timeout: Duration,
    /// How long a stage waits for a worker that fits to come online.
    pub no_worker_grace: Duration,
    /// How long a cancelled process may go on.
    pub cancel_grace: Duration,
    /// How long a claim lives without a heartbeat.
    pub lease: Duration,
    /// Claims a job may have.
    pub max_attempts: u32,
    /// After this long without a word a worker is offline.
    pub worker_offline: Duration,
    /// Bytes of log lines that a run may store.
    pub log_cap: u64,
    /// How long logs and artifacts outlive their run.
    pub retention: Retention,
    /// Bytes that the artifacts of a stage may have.
    pub artifact_cap: u64,
    /// Whether profile `none` is refused.
    pub require_sandbox: bool,
    /// Whether `shell` stages may run on the engine's host.
    pub allow_shell: bool,
    /// What a run may spend whose model stages are bounded by nothing.
    pub default_budget_usd: Option<Pico>,
    /// The harness of stages that name none.
    pub default_harness: Option<String>,
    /// The model of stages that name none.
    pub default_model: Option<String>,
    /// Private addresses that sources may be fetched from.
    pub outbound: AllowPrivate,
    /// Caps of sources.
    pub source_caps: Caps,
    /// Where sources are fetched to; the system's temporary folder when absent.
    pub work_dir: Option<PathBuf>,
    /// The file that signed heads of the audit log are appended to, beside the log.
    pub audit_head_file: Option<PathBuf>,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            takeover: Takeover::All,
            run_max_parallel: 8,
            project_max_parallel: 32,
            project_max_queued: 10_000,
            stage_timeout: Duration::from_secs(3600),
            no_worker_grace: Duration::from_secs(90),
            cancel_grace: Duration::from_secs(10),
            lease: Duration::from_secs(30),
            max_attempts: 2,
            worker_offline: Duration::from_secs(45),
            log_cap: 256 << 20,
            retention: Retention::default(),
            artifact_cap: 256 << 20,
            require_sandbox: true,
            allow_shell: false,
            default_budget_usd: None,
            default_harness: None,
            default_model: None,
            outbound: AllowPrivate::default(),
            source_caps: Caps::default(),
            work_dir: None,
            audit_head_file: None,
        }
    }
}
