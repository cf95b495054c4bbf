//! Tests of the stores: one binary.

mod blobs;
mod conformance;
mod idle;
mod migrations;
mod model;
mod names;
mod plans;
mod turns;
mod wake;
