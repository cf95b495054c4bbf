//! What a stage can run. One file per kind and one line in [`KINDS`].

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::body::Object;

mod builtin;
mod noop;
mod shell;
mod sink;
mod swarm;

pub use sink::{Findings, FoundLine, StageSink};
pub use swarm::{Fanout, Parse, SandboxBlock, Shape, Swarm, Tier};

use super::{HostTools, StageOutcome};
use crate::artifacts::{ArtifactName, BlobError, ByteStream};
use crate::clock::Clock;

/// Reads the fields of one kind.
pub type Read = fn(&mut Object<'_>) -> Option<Arc<dyn Executor>>;

/// The kinds, as definitions name them.
pub const KINDS: &[(&str, Read)] = &[
    ("noop", noop::read),
    ("builtin", builtin::read),
    ("shell", shell::read),
    ("swarm", swarm::read),
];

/// A stage's executor, with its fields read.
pub trait Executor: Debug + Send + Sync {
    /// Its kind, as definitions name it.
    fn kind(&self) -> &'static str;

    /// Where its work is done.
    fn work(&self) -> Work<'_>;

    /// Whether it can leave an artifact of this name.
    fn leaves(&self, name: &ArtifactName) -> bool;
}

/// Where work is done.
#[derive(Debug, Clone, Copy)]
pub enum Work<'a> {
    /// In the engine's process.
    Engine(&'a dyn EngineWork),
    /// By a worker of the pool.
    Pool(&'a Swarm),
}

/// Whether an attempt that a crash cut off may be run again from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// It may: its start need not be durable before it begins, and is written together with its end.
    Safe,
    /// It must not: its start is durable before anything happens.
    Once,
}

/// Work done in the engine's process.
#[async_trait]
pub trait EngineWork: Debug + Send + Sync {
    /// Whether it may be run again.
    fn replay(&self) -> Replay;

    /// How long it may take by its own fields; the stage's limit holds beside it.
    fn timeout(&self) -> Option<Duration>;

    /// Does the work. Dropping the future cancels it: nothing goes on after that.
    async fn run(&self, stage: &StageContext) -> StageOutcome;
}

/// What engine work has at hand.
pub struct StageContext {
    /// The fetched sources, when the run has any.
    pub bundle: Option<Box<dyn OpenBundle>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Where log lines, progress and artifacts go.
    pub sink: StageSink,
    /// What runs programs on the engine's host, where that is allowed.
    pub host: Option<Arc<dyn HostTools>>,
    /// How long the attempt may take yet. Work that keeps to it itself can end in order.
    pub timeout: Duration,
    /// How long a program may go on after it was asked to end.
    pub grace: Duration,
    /// Bytes that the artifacts of the stage may have.
    pub artifact_cap: u64,
}

/// Opens the fetched sources: a tar file.
#[async_trait]
pub trait OpenBundle: Send + Sync {
    /// The bytes from the start.
    ///
    /// # Errors
    /// When the blob is not there.
    async fn open(&self) -> Result<ByteStream, BlobError>;
}
