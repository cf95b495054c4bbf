//! Conformance suites for implementations of Pond's ports.

pub mod sandbox;
pub mod store;
