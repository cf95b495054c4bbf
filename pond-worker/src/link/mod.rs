//! The worker's end of the hop to its orchestrator: who it is, how it comes in, and the link over HTTP.
//!
//! A worker makes its keys once, comes in with a code that carries the digest of the engine's key, and from then on believes
//! what that key has signed and nothing else: the orchestrator between them relays, and can change nothing.

mod bundle;
mod chunks;
mod enroll;
mod held;
mod http;
mod identity;
mod meaning;
pub mod peer;
mod skew;

pub use enroll::{EnrollError, EnrollRequest, enroll};
pub use http::HttpLink;
pub use identity::{Identity, IdentityError, Standing};
pub(crate) use skew::Skew;
