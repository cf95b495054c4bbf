//! The orchestrator: a relay between the engine and the workers that dial it. It dials up only, and nothing dials down.
//!
//! It sees jobs, which the engine has signed, and ciphertext, which only a worker opens; it can change neither. What it keeps
//! on disk is its own handle and the digests of its workers' tokens; all else is in memory, and is built again from what
//! workers and engine say when it comes back.

mod address;
mod beats;
mod handle;
mod hub;
mod lists;
mod refusal;
mod relay;
mod roster;
mod routes;
mod seat;
mod serve;
mod state_dir;
mod tokens;
mod upstream;

pub use address::TrustedProxies;
pub use handle::{Handle, HandleError, PairError, pair};
pub use serve::{Orchestrator, OrchestratorSettings, ServeError};
