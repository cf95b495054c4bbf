//! Pond's core: domain records, state machines, ports and the engine.

pub mod clock;
pub mod entropy;
pub mod error;
pub mod id;
pub mod outbound;
pub mod preflight;
pub mod sandbox;
pub mod scope;
pub mod secret;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod usage;

pub use error::{Conflict, Error, Fault, Result};
