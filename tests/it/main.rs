//! Whole-system stories, one file per domain.

mod audit;
mod config;
mod dialing;
mod fuzz;
mod http;
mod idempotency;
mod idle;
mod keys;
mod orchestrators;
mod pool;
mod preflight;
mod process;
mod recovery;
mod runs;
mod sources;
mod tenants;
