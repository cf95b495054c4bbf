//! What an operator sets about a worker, and why one does not start.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use pond_core::outbound::AllowPrivate;
use pond_core::sandbox::SandboxError;
use pond_core::sources::{Caps, Limits};
use rustls::pki_types::CertificateDer;

use crate::egress::EgressDefaults;
use crate::net::SetupError;
use crate::sandbox::BackendSettings;

/// Settings of a worker.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// Its state folder: its identity, the folders of its jobs. Made with mode 0700 if it is not there; one worker at a time.
    pub state_dir: PathBuf,
    /// Where the folders of its jobs are made; a folder of this worker's alone.
    pub work_dir: PathBuf,
    /// Its name for people.
    pub name: String,
    /// Its tags.
    pub tags: BTreeSet<String>,
    /// Capabilities beside those that it finds out, such as those that models ask for.
    pub capabilities: BTreeSet<String>,
    /// Jobs it takes at once.
    pub concurrency: u32,
    /// Host uids for jobs, where it runs as root.
    pub uid_range: Option<RangeInclusive<u32>>,
    /// How its sandboxes are made.
    pub backends: BackendSettings,
    /// Whether it takes jobs of profile `none`, which are not confined.
    pub allow_unconfined: bool,
    /// Private addresses at which model providers may be.
    pub model_allow_private: AllowPrivate,
    /// Private places that sandboxes may reach, where their rules allow them too.
    pub egress_allow_private: AllowPrivate,
    /// What sandboxes may reach beside their rules.
    pub egress_defaults: EgressDefaults,
    /// The DNS server to ask; the system's resolver if none.
    pub resolver: Option<SocketAddr>,
    /// CA certificates trusted beside the system's.
    pub extra_ca: Vec<CertificateDer<'static>>,
    /// What the sources of one job may hold.
    pub bundle: Limits,
}

impl WorkerSettings {
    /// The usual settings, in a state folder.
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        let state_dir = state_dir.into();
        Self {
            work_dir: state_dir.clone(),
            state_dir,
            name: "worker".into(),
            tags: BTreeSet::from(["pool:trusted".into()]),
            capabilities: BTreeSet::new(),
            concurrency: 4,
            uid_range: Some(200_000..=265_535),
            backends: BackendSettings::default(),
            allow_unconfined: false,
            model_allow_private: AllowPrivate::default(),
            egress_allow_private: AllowPrivate::default(),
            egress_defaults: EgressDefaults::default(),
            resolver: None,
            extra_ca: Vec::new(),
            bundle: Caps::default().bundle(),
        }
    }
}

/// Why a worker does not start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Its state folder.
    #[error("the worker's state folder cannot be used: {what}")]
    State {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// Another worker has the state folder.
    #[error("another worker uses this state folder")]
    InUse,
    /// The host, or what an earlier life left on it.
    #[error(transparent)]
    Host(#[from] SandboxError),
    /// The way out.
    #[error(transparent)]
    Setup(#[from] SetupError),
}

impl WorkerError {
    pub(super) fn state(what: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::State { what, source }
    }
}
