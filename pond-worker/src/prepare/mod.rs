//! What a job needs before it starts: a folder with its sources, and how it is launched.

mod folder;
mod launch;
mod removal;

pub(crate) use folder::WorkFolder;
pub use folder::remove_leftovers;
pub(crate) use launch::{Agent, Inside, broker_grant, launch, seal};
pub(crate) use removal::remove;
