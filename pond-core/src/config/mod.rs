//! What orgs and projects store: credentials, harnesses, models, variables.
//!
//! A project's entry shadows the org's of the same name, for that project only.

mod entry;
mod store;

pub use entry::{Entry, EntryKind, Owner};
pub use store::{ConfigChange, ConfigCommitted, ConfigRevision, ConfigSnapshot, ConfigStore};
