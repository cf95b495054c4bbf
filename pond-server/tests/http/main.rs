//! The API over HTTP, on the store in memory. Whole-system stories live in the `tests` crate.

mod admin;
mod artifacts;
mod events;
mod general;
mod once;
mod programs;
mod runs;
mod world;
