//! Whole-system stories, one file per domain.

mod audit;
mod blobs;
mod cli;
mod config;
mod dialing;
mod egress;
mod egress_config;
mod flow;
mod fuzz;
mod guides;
mod http;
mod idempotency;
mod idle;
mod keys;
mod orchestrators;
mod pool;
mod pool_faults;
mod preflight;
mod process;
mod recovery;
mod retention;
mod runs;
mod secret_canary;
mod sources;
mod tenants;
