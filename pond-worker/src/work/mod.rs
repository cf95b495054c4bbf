//! The worker: probes what its host can do, asks for jobs, and takes each of them to its end.
//!
//! A job's way: its sources and secrets are asked for and its folder is made ([`crate::prepare`]); broker and sandbox start,
//! and its program or the built-in agent runs (`agent`) until it ends or is ended; the sandbox is killed, what it left is
//! taken out ([`crate::collect`]), and its end is told (`job`). Meanwhile its lines (`lines`) and model calls (`calls`)
//! are sent on, without secrets, and its lease is kept (`leases`). A job whose lease is lost is killed, and nothing more is
//! told of it (`switch`).

mod agent;
mod calls;
mod claimed;
pub(crate) mod disk;
mod embed;
mod identity;
mod job;
mod late;
mod leases;
mod lines;
mod probe;
mod settings;
mod switch;
mod watched;
mod worker;

pub(crate) use agent::limit_message;
pub(crate) use claimed::{Claimed, Refused};
pub use embed::{EmbeddedPool, embed};
pub use identity::StateFolder;
pub(crate) use identity::lock as lock_state;
pub(crate) use job::not_started;
pub(crate) use lines::{Lines, Writer};
pub use settings::{WorkerError, WorkerSettings};
pub use worker::Worker;
