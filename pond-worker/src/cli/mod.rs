//! The command lines of orchestrator and worker, as a library: the programs mount them, and give the environment.

mod args;
mod exit;
mod hide;
mod orchestrator;
mod settings;
mod worker;

pub use args::{OrchestratorVerb, PairArgs, ServeArgs, SwarmVerb, WorkerArgs};
pub use exit::Exit;
pub use hide::hide_token;
pub use orchestrator::{pair, serve};
pub use settings::Environment;
pub use worker::work;
