//! What `pond demo`, tests and examples play with: a small repository with a bug, and a scripted model that fixes it.
//!
//! The scripted model speaks the providers' wires over real HTTP on loopback and keeps its own bill; nothing in the engine
//! knows about it.

mod run;
mod sample;
mod script;
mod scripted;
mod toolbox;
mod wire;

pub use run::run;
pub use sample::{SAMPLE_PROMPT, Sample, SampleError, fixing_script};
pub use script::{Counts, Fault, Script, ToolUse, Turn};
pub use scripted::{Bill, Recorded, ScriptedModel};

#[cfg(test)]
mod tests;
