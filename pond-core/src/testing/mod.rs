//! For tests of embedding programs and of Pond itself: clock and entropy by hand, strict fakes, conformance suites.

mod clock;
pub mod conformance;
mod entropy;
mod samples;

pub use clock::ManualClock;
pub use entropy::SeededEntropy;
pub use samples::Samples;
