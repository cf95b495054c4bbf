//! Tests of the stores: one binary.

mod conformance;
