//! What orgs and projects store: credentials, egress rules, harnesses, models, variables.
//!
//! A project's entry shadows the org's of the same name, for that project only. One file per kind, and one line in
//! [`EntryKind`]; a preset is one file and one line in [`presets`].

mod credential;
mod credential_host;
mod egress;
mod entry;
mod harness;
mod model;
mod name;
pub mod presets;
mod provider;
mod resolve;
mod service;
mod store;
mod variable;

pub use credential::{Credential, CredentialSecrets, MIN_REDACTABLE};
pub use credential_host::{BadCredentialHost, CredentialHost};
pub use egress::{EgressAction, EgressRule};
pub use entry::{Entry, EntryKind, Owner};
pub use harness::{Harness, HarnessFile, Placeholder, placeholders};
pub use model::Model;
pub(crate) use name::{env_name_fault, env_value_fault};
pub use provider::{ANTHROPIC, GEMINI, OPENAI, OPENAI_COMPATIBLE, OPENROUTER, PROVIDERS, Provider};
pub use resolve::{Effective, Named, Resolution};
pub use service::{Config, Listing, Put, Record, Stored, project_field};
pub use store::{ConfigChange, ConfigCommitted, ConfigRevision, ConfigSnapshot, ConfigStore};
pub use variable::Variable;
