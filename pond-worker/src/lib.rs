//! All that runs on a Pond worker host: sandboxes, the broker, the one dialer, the built-in agent loop, and the worker loop
//! that takes a job to its end; and what the engine has done by programs of its own host.

pub mod attest;
pub mod broker;
pub mod cli;
pub mod collect;
mod core_dumps;
pub mod egress;
pub mod host;
pub mod link;
pub mod mini;
pub mod net;
pub mod orchestrator;
pub mod prepare;
pub mod sandbox;
pub mod work;

pub use core_dumps::refuse_core_dumps;
