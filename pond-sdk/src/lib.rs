//! Pond for programs that talk to it: the wire types, a typed client and the client verbs of the command line.
//!
//! Without features the crate is the wire types of [`api`] and nothing that does I/O, so that server and worker can share them.
//! `client` adds the HTTP client, `cli` the client verbs as a library, `openapi` the JSON schemas of the wire types.

pub mod api;
pub mod secret;

pub use secret::Secret;
