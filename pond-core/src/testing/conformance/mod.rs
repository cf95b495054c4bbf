//! What every implementation of a port must do, as functions that run against any of them.

pub mod store;
