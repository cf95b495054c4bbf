//! Pond's core: domain records, state machines, ports and the engine.

pub mod artifacts;
pub mod body;
pub mod clock;
pub mod config;
pub mod dispatch;
pub mod engine;
pub mod entropy;
pub mod error;
pub mod event;
pub mod id;
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
pub mod sources;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod usage;
pub mod workflow;

pub use engine::{EngineSettings, Takeover};
pub use error::{Conflict, Error, Fault, Result};
pub use pond::{Pond, PondBuilder};
