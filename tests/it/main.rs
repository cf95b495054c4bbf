//! Whole-system stories, one file per domain.

mod config;
mod dialing;
mod fuzz;
mod http;
mod idle;
mod orchestrators;
mod pool;
mod preflight;
mod process;
mod recovery;
mod runs;
mod sources;
