//! The workflow language: what a definition may say, and every check of it, with pointers.

mod definition;
mod digest;
mod order;
mod read;

pub use definition::{Definition, Stage};
pub use digest::digest;
pub use read::{MAX_DEFINITION_BYTES, MAX_STAGES, read};
