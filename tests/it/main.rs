//! Whole-system stories, one file per domain.

mod config;
mod http;
mod pool;
mod preflight;
mod process;
mod recovery;
mod runs;
mod sources;
