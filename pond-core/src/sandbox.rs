//! The port to sandboxes: what is asked of a backend, and what it promises. No backend lives here.
//!
//! A sandbox is started empty, around the in-sandbox init; programs are then run in it by [`Running::exec`], as often as
//! needed. All of them die with it. A confined sandbox has no network but loopback, on which the init offers the spec's
//! [`Bridge`]s; there is no other way out.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::secret::Secret;

/// How far a job is confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Not at all: the host's files and network. Needs the operator's leave on server and worker.
    None,
    /// Read-only checkout; the network is the broker alone.
    UntrustedCodeRead,
    /// Throw-away writable copy; the network is broker and egress proxy.
    UntrustedCodeWrite,
}

impl Profile {
    /// All of them, as the API spells them.
    pub const ALL: [(&'static str, Self); 3] = [
        ("none", Self::None),
        ("untrusted-code-read", Self::UntrustedCodeRead),
        ("untrusted-code-write", Self::UntrustedCodeWrite),
    ];

    /// Whether it confines.
    pub fn is_confined(self) -> bool {
        self != Self::None
    }

    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, profile)| *profile == self)
            .map_or("none", |(name, _)| name)
    }
}

/// The kinds of backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// No sandbox.
    None,
    /// `bwrap`, namespaces without a daemon.
    Bubblewrap,
    /// Docker Engine.
    Docker,
}

impl BackendKind {
    /// All of them, as the API spells them.
    pub const ALL: [(&'static str, Self); 3] = [
        ("none", Self::None),
        ("bubblewrap", Self::Bubblewrap),
        ("docker", Self::Docker),
    ];

    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, kind)| *kind == self)
            .map_or("none", |(name, _)| name)
    }

    /// The capability that a worker advertises for it.
    pub fn capability(self) -> &'static str {
        match self {
            Self::None => "sandbox.none",
            Self::Bubblewrap => "sandbox.bubblewrap",
            Self::Docker => "sandbox.docker",
        }
    }
}

/// What a sandbox may use at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory in bytes, of all its processes together.
    pub memory: u64,
    /// CPU time per wall time, in thousandths of a core.
    pub millicpus: u32,
    /// Processes and threads.
    pub pids: u32,
    /// Bytes that `/tmp` and the home folder may hold, each.
    pub tmpfs: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 4 << 30,
            millicpus: 2000,
            pids: 512,
            tmpfs: 512 << 20,
        }
    }
}

/// A loopback port inside that leads to a Unix socket of the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// The port on 127.0.0.1 inside the sandbox.
    pub port: u16,
    /// The worker's socket outside.
    pub socket: PathBuf,
}

/// How programs inside may use a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read only.
    Read,
    /// Read and write.
    Write,
}

/// A folder of the host that is shown inside, or a single file to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The folder outside. One to be written is given to the job's own uid, with all it holds; one to be read must be
    /// readable by everyone (its parents need not be), because the job's uid is not the worker's.
    pub host: PathBuf,
    /// Its path inside.
    pub inside: PathBuf,
    /// How it may be used.
    pub access: Access,
}

/// A file laid into the home folder, mode 0600.
#[derive(Debug, Clone)]
pub struct HomeFile {
    /// Relative path below the home folder.
    pub path: PathBuf,
    /// Its content, which under profile `none` may hold a secret.
    pub content: Secret,
}

/// What to start.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Names the sandbox on this host, for clean-up after a crash: lower-case letters, digits and dashes.
    pub name: String,
    /// How far it is confined. A confined spec needs a confining backend.
    pub profile: Profile,
    /// Folders shown inside; the first one is the working folder.
    pub mounts: Vec<Mount>,
    /// Files of the home folder.
    pub home: Vec<HomeFile>,
    /// Ways out.
    pub bridges: Vec<Bridge>,
    /// What it may use.
    pub limits: Limits,
    /// Docker image, where the backend takes one.
    pub image: Option<String>,
}

/// A program to run inside.
#[derive(Debug, Clone, Default)]
pub struct Exec {
    /// Program and arguments; the first is looked up in the sandbox's `PATH`. Never holds a secret.
    pub argv: Vec<String>,
    /// Environment beside the fixed minimal one; reaches the program through the init's socket, never through arguments.
    pub env: BTreeMap<String, Secret>,
    /// What it reads from its standard input, which is then closed.
    pub stdin: Bytes,
    /// Working folder inside; the first mount when absent.
    pub cwd: Option<PathBuf>,
}

/// Which of its two streams a program wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

impl Exit {
    /// The code a shell would show: 128 + n for a signal.
    pub fn rc(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// What a program in the sandbox sends: output in order per stream, then exactly one end.
#[derive(Debug)]
pub enum Output {
    /// Bytes it wrote.
    Bytes(Stream, Bytes),
    /// It ended, and all of its output was sent before.
    Exited(Exit),
}

/// A program running in a sandbox. Dropping it does not end the program; ending the sandbox does.
#[derive(Debug)]
pub struct Process {
    /// Its output; bounded, so a reader that is slow slows the program and not the worker's memory.
    pub output: mpsc::Receiver<Output>,
    /// Signals to send it and the processes of its session.
    pub signals: mpsc::Sender<Signal>,
}

/// A signal that may be sent into a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ask it to end.
    Term,
    /// End it.
    Kill,
}

/// Which limit a sandbox ran into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LimitKind {
    /// Memory.
    Memory,
    /// Processes.
    Pids,
    /// Space in `/tmp` or home.
    Disk,
}

/// By what a sandbox's limits hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enforcement {
    /// Control groups, version 2.
    CgroupV2,
    /// Control groups, version 1.
    CgroupV1,
    /// Resource limits of each process, and a supervisor that ends the sandbox when the sum is too much. The share of CPU
    /// time is not held.
    Rlimits,
    /// The container engine.
    Engine,
}

impl Enforcement {
    /// As receipts spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CgroupV2 => "cgroup-v2",
            Self::CgroupV1 => "cgroup-v1",
            Self::Rlimits => "rlimits",
            Self::Engine => "engine",
        }
    }
}

/// What a sandbox has used so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Memory in use, bytes.
    pub memory: Option<u64>,
    /// CPU time used.
    pub cpu: Option<Duration>,
    /// Processes and threads.
    pub pids: Option<u32>,
    /// The limits it has run into.
    pub breached: Vec<LimitKind>,
}

/// Why a sandbox was refused or lost.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// This host or backend cannot enforce what the spec asks for. Nothing was started.
    #[error("{reason}; {fix}")]
    Unsupported {
        /// What is missing.
        reason: String,
        /// What to do about it.
        fix: String,
    },
    /// The sandbox could not be started or has gone.
    #[error("{what}")]
    Failed {
        /// What failed.
        what: String,
        /// Why, where the host said so.
        #[source]
        source: Option<std::io::Error>,
    },
}

impl SandboxError {
    /// A failure told in words.
    pub fn failed(what: impl Into<String>) -> Self {
        Self::Failed {
            what: what.into(),
            source: None,
        }
    }

    /// A failure of the host.
    pub fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        Self::Failed {
            what: what.into(),
            source: Some(source),
        }
    }
}

/// A way to confine programs on this host.
#[async_trait]
pub trait Sandbox: Send + Sync + 'static {
    /// Which backend this is.
    fn kind(&self) -> BackendKind;

    /// Starts a sandbox, runs a program in it and ends it, as a job would: what fails here must not be advertised.
    ///
    /// # Errors
    /// What is missing on this host, and the fix.
    async fn probe(&self) -> Result<(), SandboxError>;

    /// Starts an empty sandbox. On return its limits are in force and its bridges listen.
    ///
    /// # Errors
    /// [`SandboxError::Unsupported`] when anything the spec asks for cannot be enforced. Nothing is left behind on an error.
    async fn start(&self, spec: Spec) -> Result<Box<dyn Running>, SandboxError>;

    /// Ends whatever sandboxes an earlier life of this worker left on the host, with their processes and files, and says
    /// how many there were.
    ///
    /// # Errors
    /// When something was found and could not be ended.
    async fn recover(&self) -> Result<usize, SandboxError>;
}

/// A sandbox that runs. Dropping it ends it, as [`Running::kill`] does but without waiting.
#[async_trait]
pub trait Running: Send + Sync {
    /// Runs a program inside.
    ///
    /// # Errors
    /// When the sandbox has gone, or the program is not there ([`Exit::Code`] 127 is a program's own answer, not this).
    async fn exec(&self, exec: Exec) -> Result<Process, SandboxError>;

    /// By what its limits hold.
    fn enforcement(&self) -> Enforcement;

    /// What it uses now.
    ///
    /// # Errors
    /// When the sandbox has gone.
    async fn stats(&self) -> Result<Stats, SandboxError>;

    /// Stops all of its processes where they stand; they keep their memory.
    ///
    /// # Errors
    /// When this host cannot, or the sandbox has gone.
    async fn freeze(&self) -> Result<(), SandboxError>;

    /// Lets frozen processes go on.
    ///
    /// # Errors
    /// As [`Running::freeze`].
    async fn thaw(&self) -> Result<(), SandboxError>;

    /// Lets the sandbox live until then and no longer: it then ends all of its processes by itself, whatever has become of
    /// this one, also if it hangs or is stopped. A later call puts another time in place of this one; a time that has passed
    /// ends it at once. Without any call it has no such end. One that is frozen then stands still, and ends as it is thawed.
    ///
    /// On return the time is on its way ahead of whatever is asked of the sandbox later. A confined program cannot change
    /// it, nor stop or end what watches over it; under a backend that does not confine it can.
    ///
    /// # Errors
    /// When the sandbox has gone.
    async fn keep(&self, until: Instant) -> Result<(), SandboxError>;

    /// Ends every process of the sandbox, also those in sessions of their own, and removes its home folder. On return none
    /// is left. A second call does nothing.
    ///
    /// # Errors
    /// When a process could not be ended.
    async fn kill(&self) -> Result<(), SandboxError>;
}
