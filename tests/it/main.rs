//! Whole-system stories, one file per domain.

mod config;
mod http;
mod pool;
mod preflight;
mod recovery;
mod runs;
mod sources;
