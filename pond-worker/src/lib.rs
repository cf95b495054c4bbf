//! All that runs on a Pond worker host.

pub mod collect;
pub mod sandbox;
