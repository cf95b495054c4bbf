//! What is taken out of a job when it has ended: so far its patch.

mod git;
pub mod patch;
mod tree;

pub use patch::{ChangedFile, Changes, CollectError, Status, changes};
