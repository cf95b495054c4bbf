//! All that runs on a Pond worker host: sandboxes, broker, sources, the mini agent loop.

pub mod broker;
pub mod mini;
pub mod net;
