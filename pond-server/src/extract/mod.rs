//! Reads requests: bodies within their limit, strict queries, path ids.

mod body;
mod cursor;
mod path;
mod query;

pub(crate) use body::{JsonBody, JsonText, NoBody};
pub(crate) use cursor::write_cursor;
pub(crate) use path::{ArtifactPath, EntryName, KeyPath, ProjectPath, RunPath};
pub(crate) use query::{Param, Query};
