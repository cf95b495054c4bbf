//! Public conformance suites: what every implementation of a port must do, as one named test per function and backend.

pub mod sandbox;
pub mod store;
