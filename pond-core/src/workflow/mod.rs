//! The workflow language: what a definition may say, and every check of it, with pointers.

mod budget;
mod definition;
mod digest;
mod order;
mod read;
mod retries;
mod template;
mod when;

pub use budget::Budget;
pub use definition::{Definition, Stage};
pub use digest::digest;
pub use read::{MAX_DEFINITION_BYTES, MAX_STAGES, read};
pub use retries::Retries;
pub use template::{Insert, Part, at_path, inserts, parts, render, shown};
pub use when::{Facts, When, WhenFault};
