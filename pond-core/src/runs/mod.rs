//! Runs: everything that executes is one. The records, their state machines, and the one way to change them.

mod areas;
pub mod executors;
mod failure;
mod filter;
mod follow;
mod host;
mod parse;
mod plan;
mod reach;
mod retention;
mod run;
mod service;
mod state;
mod status;
mod store;
mod submission;
mod unit;
mod wall;

pub(crate) use areas::{Area, AreaMap, MAX_MAP_BYTES, read_areas};
pub use failure::{Failure, FailureCode};
pub use filter::RunFilter;
pub use host::{AreaPatch, HostTools, MergedPatch, ShellRun};
pub use parse::ParseCount;
pub use plan::{KnownArtifacts, Plan, Situation, plan};
pub use retention::{Emptied, Retention, RetentionStore, first_id};
pub use run::{Inputs, Run, RunHead, StoredDefinition};
pub use service::{Reach, Runs};
pub use state::{AreaState, BundleRef, Progress, RunState, StageState, StateRow, Transition, Tries};
pub use status::{
    Illegal, RunEvent, RunOutcome, RunPhase, RunStatus, StageEvent, StageOutcome, StagePhase, StageStatus,
};
pub use store::{Append, Appended, Commit, Committed, EngineStore, FIRST_REVISION, Guard, NewRun, RunCursor, RunStore};
pub use unit::{Unit, area_key};
pub(crate) use wall::Wall;
