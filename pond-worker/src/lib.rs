//! All that runs on a Pond worker host: sandboxes, the broker, the one dialer, the built-in agent loop.

pub mod broker;
pub mod collect;
pub mod mini;
pub mod net;
pub mod sandbox;
