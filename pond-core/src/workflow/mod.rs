//! The workflow language: what a definition may say, and every check of it, with pointers.

mod budget;
mod definition;
mod digest;
mod order;
mod read;

pub use budget::Budget;
pub use definition::{Definition, Stage};
pub use digest::digest;
pub use read::{MAX_DEFINITION_BYTES, MAX_STAGES, read};
