//! What is taken out of a job when it has ended: its patch, and the files of its output folder.

mod artifacts;
mod git;
mod halt;
pub mod patch;
mod tree;

pub(crate) use artifacts::{Collecting, collect};
pub use patch::{ChangedFile, Changes, CollectError, Status, changes};
