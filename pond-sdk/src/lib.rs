//! Pond for programs that talk to it: the wire types, a typed client and the client verbs of the command line.
//!
//! Without features the crate is the wire types of [`api`] and nothing that does I/O, so that server and worker can share them.
//! `client` adds the HTTP client, `cli` the client verbs as a library, `openapi` the JSON schemas of the wire types.
//!
#![cfg_attr(feature = "client", doc = "```no_run")]
#![cfg_attr(not(feature = "client"), doc = "```ignore")]
//! # async fn example() -> Result<(), pond_sdk::Error> {
//! use pond_sdk::api::{CreateRun, Definition, Executor, RunStatus, StageDefinition};
//! use pond_sdk::{Client, Secret};
//!
//! let client = Client::new("http://127.0.0.1:8001", Secret::new("the token"))?;
//! let run = client.runs().create(&CreateRun::new(Definition::new([StageDefinition::new("x", Executor::noop())]))).await?;
//! let ended = client.runs().wait(&run.id).await?;
//! assert_eq!(ended.run.status, RunStatus::Done);
//! # Ok(())
//! # }
//! ```

pub mod api;
#[cfg(feature = "client")]
mod artifacts;
#[cfg(feature = "client")]
mod audit;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "client")]
mod client;
#[cfg(feature = "client")]
mod config;
#[cfg(feature = "client")]
mod egress;
#[cfg(feature = "client")]
mod error;
#[cfg(feature = "client")]
mod events;
#[cfg(feature = "client")]
mod keys;
#[cfg(feature = "client")]
mod logs;
#[cfg(feature = "client")]
mod pages;
#[cfg(feature = "client")]
mod pool;
#[cfg(feature = "client")]
mod projects;
#[cfg(feature = "client")]
mod request;
#[cfg(feature = "client")]
mod retry;
#[cfg(feature = "client")]
mod runs;
pub mod secret;
#[cfg(feature = "client")]
mod sse;

#[cfg(feature = "client")]
pub use self::{
    artifacts::{ArtifactPlace, Download},
    audit::{Audit, AuditQuery},
    client::{Client, ClientBuilder},
    config::{Entries, Entry, Selection},
    error::{Error, Refusal, Result},
    events::Events,
    keys::Keys,
    logs::{LogQuery, LogStream},
    pages::Pages,
    pool::Pool,
    projects::Projects,
    retry::RetryPolicy,
    runs::{RunFilter, Runs},
};
pub use secret::Secret;
