//! API keys, and what each caller may do.
//!
//! A key is 256 random bits that open one project, as far as its scopes go. [`may`] is the only place that decides: everything
//! that asks for a right asks there, with who calls ([`Principal`]), what is to be done ([`Action`]) and whose records it
//! touches ([`crate::scope::Scope`]). Nothing of a key is cached, so a revoked one is refused by every server on the store
//! from the next request on.

mod may;
mod principal;
mod record;
mod scopes;
mod service;
mod store;

pub use may::{Action, Refused, may};
pub use principal::{KeyHolder, Principal};
pub use record::{ApiKey, KeyOfProject};
pub use scopes::{Area, KeyScope, KeyScopes};
pub use service::{Keys, MintedKey};
pub use store::KeyStore;
