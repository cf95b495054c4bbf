//! API keys of projects, who a caller is, and the one function that says what a caller may do.

mod permission;
mod principal;
mod record;
mod scope;
mod service;
mod store;

pub use permission::{Action, Area, Verdict, may};
pub use principal::{KeyHolder, Principal};
pub use record::{ApiKey, KEY_PREFIX, NewKey};
pub use scope::{KeyScope, Right};
pub use service::{IssuedKey, Keys};
pub use store::{KeyStore, KnownKey};
