//! Reads requests: bodies within their limit, strict queries, path ids.

mod body;
mod cursor;
mod path;
mod query;
mod range;

pub(crate) use body::{JsonBody, JsonText, MaybeJson, NoBody, whole_body};
pub(crate) use cursor::write_cursor;
pub(crate) use path::{ArtifactPath, EntryName, JobPath, KeyPath, OrchestratorPath, ProjectPath, RunPath, WorkerPath};
pub(crate) use query::{Param, Query};
pub(crate) use range::byte_range;
