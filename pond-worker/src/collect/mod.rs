//! What is taken out of a job when it has ended: its patch, and the files of its output folder.

mod artifacts;
mod fences;
mod git;
mod halt;
mod merge;
mod output;
mod parse;
pub mod patch;
mod tree;

pub(crate) use artifacts::{Collecting, collect};
pub(crate) use halt::blocking;
pub(crate) use merge::{Edit, Merged, merge};
pub(crate) use output::{Output, look, without_secrets};
pub(crate) use parse::{Listener, Said};
pub use patch::{ChangedFile, Changes, CollectError, Status, changes};
