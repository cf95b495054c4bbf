//! Pond's core: domain records, state machines, ports and the engine.
//!
//! # Tour
//!
//! Everything that executes is a **run** ([`runs`]). A run executes a checked [`workflow`]: its [`runs::plan`] says, as a pure
//! function of definition and state, what is to be done next. Stages of some kinds run in the [`engine`]'s process; those of
//! others become jobs of the [`pool`], handed to workers over the one port that a worker sees, [`dispatch::WorkerLink`].
//!
//! Data goes one way: submit, [`preflight`], [`store`], plan, work, [`event`]s, and again the plan. Each change of a run is one
//! compare-and-set on its revision, committed together with the events that tell of it. States are total functions
//! ([`runs::RunPhase`], [`runs::StagePhase`], [`pool::JobPhase`]) shared by the live engine, recovery and the tests.
//!
//! No HTTP, no SQL and no environment here: all of that comes in through ports ([`store::Store`], [`artifacts::BlobStore`],
//! [`sealing::Sealer`], [`sandbox::Sandbox`], [`sources::SourceFetch`], [`dispatch::WorkerLink`], [`clock::Clock`],
//! [`entropy::Entropy`]). [`Pond`] puts them together.
//!
//! # To add one more
//!
//! | to add | touch |
//! |---|---|
//! | an executor | one file in `runs/executors/`, one line in [`runs::executors::KINDS`] |
//! | a sandbox backend | one file in `pond-worker/src/sandbox/`, one line in its list; the conformance suite runs by macro |
//! | a preflight check | one file in `preflight/`, one line in its list |
//! | a harness preset | one file in `config/presets/`, one line in [`config::presets::PRESETS`] |
//! | a model provider | one line in [`config::PROVIDERS`], one wire in `pond-worker/src/broker/wire/` |
//! | a store method | the trait, memory, sql, and one conformance function; the compiler asks for the first three |
//! | an error meaning | one variant of [`Error`]; the table in `pond-server/src/error.rs` demands its status |

pub mod artifacts;
pub mod audit;
pub mod body;
pub mod clock;
pub mod config;
pub mod dispatch;
pub mod egress;
pub mod engine;
pub mod entropy;
pub mod error;
pub mod event;
pub mod id;
pub mod idempotency;
pub mod keys;
pub mod logs;
pub mod outbound;
pub mod page;
mod pond;
pub mod pool;
pub mod preflight;
pub mod projects;
pub mod runs;
pub mod sandbox;
pub mod scope;
pub mod sealing;
pub mod secret;
pub mod secret_file;
pub mod sources;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod token;
pub mod usage;
pub mod workflow;

pub use engine::{EngineSettings, Takeover};
pub use error::{Conflict, Denial, Error, Fault, Result};
pub use pond::{Pond, PondBuilder};
