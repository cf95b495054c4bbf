//! Checks that tell before a run is created what would stop it.

mod problem;

pub use problem::{Problem, Severity};
