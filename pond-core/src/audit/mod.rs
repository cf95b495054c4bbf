//! The audit log: who changed what, in a chain that shows every later edit.
//!
//! A row holds the hash of the one before it, and an HMAC under a key that is kept sealed: who can write to the database but
//! does not have the root key can neither change a row nor build the chain anew. A tail that is cut off leaves a good chain;
//! against that stand signed heads, kept where the database's owner cannot reach.

mod chain;
mod head;
mod record;
mod service;
mod store;

pub use chain::{Checked, Flaw, Walk};
pub use head::SignedHead;
pub use record::{AuditRow, Entry};
pub use service::{Audit, Verification};
pub use store::{AuditFilter, AuditHead, AuditStore};
