//! All that runs on a Pond worker host.

pub mod sandbox;
